//! The writer's list of members: the entry of each row, and the row of each identity.
//!
//! A row is a member's number in every table. It is given out again only when the
//! member has left and its last open pick has ended. Strategies build their tables
//! from the entries of a pool.

#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "the rows are its own")]

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::hash::Hashing;
use super::member::{Drain, FULL_RAMP, MAX_WEIGHT, Member, MemberId, UnknownMember};
use super::member_table::RowBits;
use super::pool::{MemberPool, pools_if_able, pools_of};
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

/// What the writer knows of the member in a row.
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
    /// False once it has left, and the row waits for its open picks to end.
    pub(super) is_member: bool,
    pub(super) role: Role,
    pub(super) status: MemberStatus,
    pub(super) drain: Drain,
    pub(super) health: Health,
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
            is_member: true,
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

    /// A draining member stands as disabled.
    pub(super) fn standing(&self) -> Standing {
        let status = match self.drain {
            Drain::Off => self.status,
            Drain::Draining => MemberStatus::Disabled,
        };
        Standing { role: self.role, status, health: self.health, weight: self.weight }
    }

    pub(super) fn ramp_percent(&self) -> u8 {
        (self.ramp * 100 / FULL_RAMP) as u8
    }

    /// What it weighs now, in steps.
    pub(super) fn effective(&self) -> u32 {
        u32::from(self.weight) * self.ramp
    }

    pub(super) fn weight_in_pool(&self) -> u32 {
        weight_in_pool(self.effective())
    }

    /// Its own pool and its fail-open pool, as far as it may take picks from them.
    pub(super) fn pools(&self) -> [Option<MemberPool>; 2] {
        pools_of(self.standing())
    }

    /// The pools that it belongs to, whether it may take picks from them or not.
    pub(super) fn pools_if_able(&self) -> [Option<MemberPool>; 2] {
        pools_if_able(self.standing())
    }
}

#[derive(Debug)]
pub(super) struct Membership<A> {
    /// By row, also of members that have left.
    pub(super) entries: Vec<MemberEntry<A>>,
    /// The rows of members, by the hash of their identity.
    index: HashTable<u32>,
    /// Rows whose member has left.
    left: Vec<u32>,
}

impl<A> Default for Membership<A> {
    fn default() -> Self {
        Self { entries: Vec::new(), index: HashTable::new(), left: Vec::new() }
    }
}

impl<A> Membership<A> {
    pub(super) fn members(&self) -> impl Iterator<Item = (u32, &MemberEntry<A>)> {
        (0..).zip(&self.entries).filter(|(_, entry)| entry.is_member)
    }

    pub(super) fn entry(&self, row: u32) -> Option<&MemberEntry<A>> {
        self.entries.get(row as usize)
    }

    pub(super) fn entry_mut(&mut self, row: u32) -> Option<&mut MemberEntry<A>> {
        self.entries.get_mut(row as usize)
    }

    pub(super) fn entry_of(&mut self, id: MemberId) -> Result<&mut MemberEntry<A>, UnknownMember> {
        let entry = self.entries.get_mut(id.row as usize);
        entry.filter(|entry| entry.is_member && entry.serial == id.serial).ok_or(UnknownMember)
    }

    pub(super) fn id_of(&self, hashing: &Hashing, identity: &str) -> Option<MemberId> {
        let row = self.find(hashing.identity(identity), identity)?;
        Some(MemberId { row, serial: self.entries[row as usize].serial })
    }

    fn find(&self, hash: u64, identity: &str) -> Option<u32> {
        let entry = |row: &u32| &self.entries[*row as usize];
        let is_it = |row: &u32| entry(row).hash == hash && *entry(row).identity == *identity;
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
        // The rows that these members have already.
        let known = |(member, &hash): (&Member<A>, _)| self.find(hash, &member.identity);
        let rows: Vec<Option<u32>> = members.iter().zip(&hashes).map(known).collect();
        self.dismiss(&rows);
        let (mut free, left): (Vec<u32>, _) = self.left.drain(..).partition(|row| is_free(*row));
        self.left = left;
        // The last is the smallest, so that tables stay dense.
        free.sort_unstable_by_key(|row| std::cmp::Reverse(*row));
        let newcomers = rows.iter().filter(|row| row.is_none()).count();
        self.entries.reserve(newcomers.saturating_sub(free.len()));
        let placed = members.into_iter().zip(hashes).zip(rows);
        let rows: Vec<u32> =
            placed.map(|((member, hash), row)| self.enter(member, hash, row, &mut free)).collect();
        self.left.extend(free);
        index.iter_mut().for_each(|position| *position = rows[*position as usize]);
        self.index = index;
        Ok(())
    }

    /// Marks the members that keep none of these rows as left.
    fn dismiss(&mut self, kept: &[Option<u32>]) {
        let mut stays = vec![false; self.entries.len()];
        kept.iter().flatten().for_each(|row| stays[*row as usize] = true);
        for ((row, entry), stays) in (0..).zip(&mut self.entries).zip(stays) {
            if !stays && entry.is_member {
                entry.is_member = false;
                // Its health may change no more, and a successor starts anew.
                entry.ramp = FULL_RAMP;
                self.left.push(row);
            }
        }
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

/// What counts of a weight in its pools: those without a weight are equal in theirs.
pub(super) fn weight_in_pool(weight: u32) -> u32 {
    if weight == 0 { FULL_RAMP } else { weight }
}

/// The members of a pool, as its table is made of them.
pub(super) struct PoolMembers<'m, A> {
    pub(super) membership: &'m Membership<A>,
    pub(super) pool: MemberPool,
    /// Who of them may take picks.
    pub(super) able: &'m RowBits,
}

impl<A> PoolMembers<'_, A> {
    /// Rows and entries, able or not, in the order of rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &MemberEntry<A>)> {
        self.membership.members().filter(|(_, entry)| entry.pools_if_able().contains(&Some(self.pool)))
    }
}

/// Positions of members, by the hash of their identity; or the identity that is there twice.
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
