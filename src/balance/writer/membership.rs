//! Who is a member: entries by row, rows by identity. Part of the writer.
//!
//! A row is a member's number in every table. It is given back only when the
//! member has left and its last open pick has ended.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::super::key::Hashing;
use super::super::member::{Drain, FULL_RAMP, MAX_WEIGHT, Member, MemberId, UnknownMember};
use super::{MAX_MEMBERS, UpdateError};
use crate::channel::{Health, MemberStatus, Role, Standing};

/// What the writer knows of a row.
#[derive(Debug)]
pub(in crate::balance) struct MemberEntry<A> {
    pub(in crate::balance) identity: Box<str>,
    /// The hash of the identity: places the member, and finds it here.
    pub(super) hash: u64,
    pub(in crate::balance) address: A,
    pub(in crate::balance) serial: u32,
    /// How much of its weight it takes, in steps of `FULL_RAMP`.
    pub(in crate::balance) ramp: u32,
    pub(in crate::balance) weight: u16,
    presence: Presence,
    pub(super) role: Role,
    pub(super) status: MemberStatus,
    pub(in crate::balance) drain: Drain,
    pub(super) health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Member,
    /// Left; the row waits for its open picks to end.
    Left,
}

impl<A> MemberEntry<A> {
    fn new(member: Member<A>, hash: u64, serial: u32) -> Self {
        Self {
            identity: member.identity.into_boxed_str(),
            hash,
            address: member.address,
            serial,
            ramp: FULL_RAMP,
            weight: member.weight.min(MAX_WEIGHT),
            presence: Presence::Member,
            role: member.role,
            status: member.status,
            drain: Drain::Off,
            health: member.health,
        }
    }

    /// Takes what an update may change of a member that stays.
    fn keep(&mut self, member: Member<A>) {
        self.weight = member.weight.min(MAX_WEIGHT);
        self.role = member.role;
        self.status = member.status;
        self.address = member.address;
    }

    pub(super) fn is_member(&self) -> bool {
        self.presence == Presence::Member
    }

    /// A draining member stands as disabled.
    pub(in crate::balance) fn standing(&self) -> Standing {
        let status = match self.drain {
            Drain::Off => self.status,
            Drain::Draining => MemberStatus::Disabled,
        };
        Standing { role: self.role, status, health: self.health }
    }

    /// What it weighs now, in steps.
    pub(super) fn effective(&self) -> u32 {
        u32::from(self.weight) * self.ramp
    }

    /// What it weighs without slow start, in steps.
    pub(super) fn full(&self) -> u32 {
        u32::from(self.weight) * FULL_RAMP
    }

    /// What it weighs among the weightless, or by its weight.
    pub(super) fn weight_in_pool(weight: u32) -> u32 {
        if weight == 0 { FULL_RAMP } else { weight }
    }
}

/// All rows.
#[derive(Debug)]
pub(super) struct Membership<A> {
    entries: Vec<MemberEntry<A>>,
    /// The rows of members, by the hash of their identity.
    index: HashTable<u32>,
    /// Rows whose member has left.
    left: Vec<u32>,
}

impl<A> Membership<A> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), index: HashTable::new(), left: Vec::new() }
    }

    /// Rows given out so far, those of members that have left included.
    pub(super) fn rows(&self) -> usize {
        self.entries.len()
    }

    /// Every row's entry, in order, also of members that have left.
    pub(super) fn entries(&self) -> &[MemberEntry<A>] {
        &self.entries
    }

    /// Rows and entries of those who are members, in the order of rows.
    pub(super) fn members(&self) -> impl Iterator<Item = (u32, &MemberEntry<A>)> {
        (0..).zip(&self.entries).filter(|(_, entry)| entry.is_member())
    }

    pub(super) fn entry(&self, row: u32) -> Option<&MemberEntry<A>> {
        self.entries.get(row as usize)
    }

    pub(super) fn entry_mut(&mut self, row: u32) -> Option<&mut MemberEntry<A>> {
        self.entries.get_mut(row as usize)
    }

    pub(super) fn entry_of(&mut self, id: MemberId) -> Result<&mut MemberEntry<A>, UnknownMember> {
        let entry = self.entries.get_mut(id.row as usize);
        entry.filter(|entry| entry.is_member() && entry.serial == id.serial).ok_or(UnknownMember)
    }

    /// The id of an identity.
    pub(super) fn id_of(&self, hashing: &Hashing, identity: &str) -> Option<MemberId> {
        let row = self.find(hashing.identity(identity), identity)?;
        self.entry(row).map(|entry| MemberId { row, serial: entry.serial })
    }

    fn find(&self, hash: u64, identity: &str) -> Option<u32> {
        let is_it = |row: &u32| {
            self.entry(*row).is_some_and(|entry| entry.hash == hash && *entry.identity == *identity)
        };
        self.index.find(hash, is_it).copied()
    }

    /// Replaces the members; `is_free` tells whether a row has no open picks.
    pub(super) fn replace(
        &mut self,
        hashing: &Hashing,
        members: Vec<Member<A>>,
        is_free: impl Fn(u32) -> bool,
    ) -> Result<(), UpdateError> {
        if members.len() > MAX_MEMBERS {
            return Err(UpdateError::TooManyMembers(members.len()));
        }
        let hashes: Vec<u64> = members.iter().map(|member| hashing.identity(&member.identity)).collect();
        let mut index = index_of(&members, &hashes)?;
        let rows = self.rows_of(&members, &hashes);
        self.dismiss(&rows);
        let mut free = self.take_free(is_free);
        let newcomers = rows.iter().filter(|row| row.is_none()).count();
        self.entries.reserve(newcomers.saturating_sub(free.len()));
        let rows: Vec<u32> = members
            .into_iter()
            .zip(hashes)
            .zip(rows)
            .map(|((member, hash), row)| self.row(member, hash, row, &mut free))
            .collect();
        self.left.extend(free);
        for entry in &mut index {
            *entry = rows.get(*entry as usize).copied().unwrap_or(u32::MAX);
        }
        self.index = index;
        Ok(())
    }

    /// The rows that these members have already.
    fn rows_of(&self, members: &[Member<A>], hashes: &[u64]) -> Vec<Option<u32>> {
        if self.index.is_empty() {
            return vec![None; members.len()];
        }
        members.iter().zip(hashes).map(|(member, &hash)| self.find(hash, &member.identity)).collect()
    }

    /// Marks the members that keep none of these rows as left.
    fn dismiss(&mut self, kept: &[Option<u32>]) {
        let mut stays = vec![false; self.entries.len()];
        for row in kept.iter().flatten() {
            if let Some(stays) = stays.get_mut(*row as usize) {
                *stays = true;
            }
        }
        for ((row, entry), stays) in (0..).zip(&mut self.entries).zip(stays) {
            if !stays && entry.is_member() {
                entry.presence = Presence::Left;
                // Its health may change no more, and a successor starts anew.
                entry.ramp = FULL_RAMP;
                self.left.push(row);
            }
        }
    }

    /// Rows to give out again. The last is the smallest, so that tables stay dense.
    fn take_free(&mut self, is_free: impl Fn(u32) -> bool) -> Vec<u32> {
        let (mut free, waiting): (Vec<u32>, Vec<u32>) =
            std::mem::take(&mut self.left).into_iter().partition(|row| is_free(*row));
        free.sort_unstable_by(|left, right| right.cmp(left));
        self.left = waiting;
        free
    }

    /// Rows a member: where it sits, on a free row, or on a new one.
    fn row(&mut self, member: Member<A>, hash: u64, row: Option<u32>, free: &mut Vec<u32>) -> u32 {
        if let Some((row, entry)) = row.and_then(|row| Some((row, self.entry_mut(row)?))) {
            entry.keep(member);
            return row;
        }
        if let Some((row, entry)) = free.pop().and_then(|row| Some((row, self.entry_mut(row)?))) {
            *entry = MemberEntry::new(member, hash, entry.serial.wrapping_add(1));
            return row;
        }
        self.entries.push(MemberEntry::new(member, hash, 0));
        // `MAX_MEMBERS` and open picks of 32 bits keep rows far below 2^32.
        u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
    }
}

/// Positions of members, by the hash of their identity; or who is there twice.
fn index_of<A>(members: &[Member<A>], hashes: &[u64]) -> Result<HashTable<u32>, UpdateError> {
    let mut index = HashTable::with_capacity(members.len());
    let hash_at = |position: &u32| hashes.get(*position as usize).copied().unwrap_or(0);
    for (position, (member, &hash)) in (0..).zip(members.iter().zip(hashes)) {
        let is_same = |other: &u32| {
            hash_at(other) == hash
                && members.get(*other as usize).is_some_and(|other| other.identity == member.identity)
        };
        match index.entry(hash, is_same, hash_at) {
            Entry::Vacant(place) => place.insert(position),
            Entry::Occupied(_) => return Err(UpdateError::DuplicateIdentity(member.identity.clone())),
        };
    }
    Ok(index)
}
