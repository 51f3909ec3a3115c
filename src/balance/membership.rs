//! Who is a member: the writer's entry of each row, and the row of each identity.
//!
//! A row is a member's number in every table. It is given out again only when the
//! member has left and its last open pick has ended. Strategies build their tables
//! from the entries of a pool.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "rows and positions come from this file's own tables, and are counted before they are made"
)]

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::hash::Hashing;
use super::member::{Drain, FULL_RAMP, MAX_WEIGHT, Member, MemberId, UnknownMember};
use super::pool::{MemberPool, pools_of};
use crate::channel::{Health, MemberStatus, Role, Standing};

/// Why a list of members was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// Two members have one identity.
    #[error("two members have the identity {0:?}; give each its own")]
    DuplicateIdentity(String),
    /// More members than weights of 32 bits can be added up for.
    #[error("{0} members are too many for one balancer; the limit is {MAX_MEMBERS}")]
    TooManyMembers(usize),
}

/// The most members of one balancer; 16 million.
pub const MAX_MEMBERS: usize = 1 << 24;

/// What the writer knows of a row.
#[derive(Debug)]
pub(super) struct MemberEntry<A> {
    pub(super) identity: Box<str>,
    /// The hash of the identity: places the member, and finds it here.
    pub(super) hash: u64,
    pub(super) address: A,
    pub(super) serial: u32,
    /// How much of its weight it takes, in steps of `FULL_RAMP`.
    pub(super) ramp: u32,
    pub(super) weight: u16,
    presence: Presence,
    pub(super) role: Role,
    pub(super) status: MemberStatus,
    pub(super) drain: Drain,
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
    pub(super) fn standing(&self) -> Standing {
        let status = match self.drain {
            Drain::Off => self.status,
            Drain::Draining => MemberStatus::Disabled,
        };
        Standing { role: self.role, status, health: self.health }
    }

    /// The share of its weight that slow start lets it take, in percent.
    pub(super) fn ramp_percent(&self) -> u8 {
        (self.ramp * 100 / FULL_RAMP) as u8
    }

    /// What it weighs now, in steps.
    pub(super) fn effective(&self) -> u32 {
        u32::from(self.weight) * self.ramp
    }

    /// What it weighs without slow start, in steps.
    pub(super) fn full(&self) -> u32 {
        u32::from(self.weight) * FULL_RAMP
    }

    /// What it weighs in its pools, in steps: those without a weight count as equal.
    pub(super) fn weight_in_pool(&self) -> u32 {
        let weight = self.effective();
        if weight == 0 { FULL_RAMP } else { weight }
    }

    /// Its own pool and its fail-open pool, as far as it may take picks from them.
    pub(super) fn pools(&self) -> [Option<MemberPool>; 2] {
        pools_of(self.standing(), self.effective())
    }

    /// The pools that it belongs to, whether it may take picks from them or not.
    pub(super) fn pools_if_able(&self) -> [MemberPool; 2] {
        [MemberPool::of(self.role, self.effective()), MemberPool::open_of(self.effective())]
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

    /// Rows and entries of the members of a pool, able or not, in the order of rows.
    pub(super) fn pooled(&self, pool: MemberPool) -> impl Iterator<Item = (u32, &MemberEntry<A>)> {
        self.members().filter(move |(_, entry)| entry.pools_if_able().contains(&pool))
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
            .map(|((member, hash), row)| self.enter(member, hash, row, &mut free))
            .collect();
        self.left.extend(free);
        for position in &mut index {
            *position = rows[*position as usize];
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
        kept.iter().flatten().for_each(|row| stays[*row as usize] = true);
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

    /// Gives a member its row: the one it has, a free one, or a new one.
    fn enter(&mut self, member: Member<A>, hash: u64, row: Option<u32>, free: &mut Vec<u32>) -> u32 {
        if let Some(row) = row {
            self.entries[row as usize].keep(member);
            return row;
        }
        if let Some(row) = free.pop() {
            let entry = &mut self.entries[row as usize];
            *entry = MemberEntry::new(member, hash, entry.serial.wrapping_add(1));
            return row;
        }
        self.entries.push(MemberEntry::new(member, hash, 0));
        // Far below 2^32: there are `MAX_MEMBERS` and those that left with picks open.
        (self.entries.len() - 1) as u32
    }
}

/// Positions of members, by the hash of their identity; or who is there twice.
fn index_of<A>(members: &[Member<A>], hashes: &[u64]) -> Result<HashTable<u32>, UpdateError> {
    let mut index = HashTable::with_capacity(members.len());
    let hash_at = |position: &u32| hashes[*position as usize];
    for (position, (member, &hash)) in (0..).zip(members.iter().zip(hashes)) {
        let is_same =
            |other: &u32| hash_at(other) == hash && members[*other as usize].identity == member.identity;
        match index.entry(hash, is_same, hash_at) {
            Entry::Vacant(place) => place.insert(position),
            Entry::Occupied(_) => return Err(UpdateError::DuplicateIdentity(member.identity.clone())),
        };
    }
    Ok(index)
}
