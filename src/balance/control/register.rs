//! Who is a member: records by seat, seats by identity. Part of the writer.
//!
//! A seat is a member's number in every table. It is given back only when the
//! member has left and its last open pick has ended.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::super::key::Hashing;
use super::super::member::{Drain, FULL_RAMP, MAX_WEIGHT, Member, MemberId, UnknownMember};
use super::{MAX_MEMBERS, UpdateError};
use crate::channel::{Health, MemberStatus, Role, Standing};

/// What the writer knows of a seat.
#[derive(Debug)]
pub(in crate::balance) struct Record<A> {
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
    /// Left; the seat waits for its open picks to end.
    Left,
}

impl<A> Record<A> {
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

/// All seats.
#[derive(Debug)]
pub(super) struct Register<A> {
    records: Vec<Record<A>>,
    /// The seats of members, by the hash of their identity.
    index: HashTable<u32>,
    /// Seats whose member has left.
    left: Vec<u32>,
}

impl<A> Register<A> {
    pub(super) fn new() -> Self {
        Self { records: Vec::new(), index: HashTable::new(), left: Vec::new() }
    }

    /// Seats given out so far, those of members that have left included.
    pub(super) fn seats(&self) -> usize {
        self.records.len()
    }

    /// Every seat's record, in order, also of members that have left.
    pub(super) fn records(&self) -> &[Record<A>] {
        &self.records
    }

    /// Seats and records of those who are members, in the order of seats.
    pub(super) fn members(&self) -> impl Iterator<Item = (u32, &Record<A>)> {
        (0..).zip(&self.records).filter(|(_, record)| record.is_member())
    }

    pub(super) fn seated(&self, seat: u32) -> Option<&Record<A>> {
        self.records.get(seat as usize)
    }

    pub(super) fn seated_mut(&mut self, seat: u32) -> Option<&mut Record<A>> {
        self.records.get_mut(seat as usize)
    }

    pub(super) fn record_mut(&mut self, id: MemberId) -> Result<&mut Record<A>, UnknownMember> {
        let seated = self.records.get_mut(id.seat as usize);
        seated.filter(|record| record.is_member() && record.serial == id.serial).ok_or(UnknownMember)
    }

    /// The id of an identity.
    pub(super) fn id_of(&self, hashing: &Hashing, identity: &str) -> Option<MemberId> {
        let seat = self.find(hashing.identity(identity), identity)?;
        self.seated(seat).map(|record| MemberId { seat, serial: record.serial })
    }

    fn find(&self, hash: u64, identity: &str) -> Option<u32> {
        let is_it = |seat: &u32| {
            self.seated(*seat).is_some_and(|record| record.hash == hash && *record.identity == *identity)
        };
        self.index.find(hash, is_it).copied()
    }

    /// Replaces the members; `is_free` tells whether a seat has no open picks.
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
        let seats = self.seats_of(&members, &hashes);
        self.dismiss(&seats);
        let mut free = self.take_free(is_free);
        let newcomers = seats.iter().filter(|seat| seat.is_none()).count();
        self.records.reserve(newcomers.saturating_sub(free.len()));
        let seats: Vec<u32> = members
            .into_iter()
            .zip(hashes)
            .zip(seats)
            .map(|((member, hash), seat)| self.seat(member, hash, seat, &mut free))
            .collect();
        self.left.extend(free);
        for entry in &mut index {
            *entry = seats.get(*entry as usize).copied().unwrap_or(u32::MAX);
        }
        self.index = index;
        Ok(())
    }

    /// The seats that these members have already.
    fn seats_of(&self, members: &[Member<A>], hashes: &[u64]) -> Vec<Option<u32>> {
        if self.index.is_empty() {
            return vec![None; members.len()];
        }
        members.iter().zip(hashes).map(|(member, &hash)| self.find(hash, &member.identity)).collect()
    }

    /// Marks the members that keep none of these seats as left.
    fn dismiss(&mut self, kept: &[Option<u32>]) {
        let mut stays = vec![false; self.records.len()];
        for seat in kept.iter().flatten() {
            if let Some(stays) = stays.get_mut(*seat as usize) {
                *stays = true;
            }
        }
        for ((seat, record), stays) in (0..).zip(&mut self.records).zip(stays) {
            if !stays && record.is_member() {
                record.presence = Presence::Left;
                // Its health may change no more, and a successor starts anew.
                record.ramp = FULL_RAMP;
                self.left.push(seat);
            }
        }
    }

    /// Seats to give out again. The last is the smallest, so that tables stay dense.
    fn take_free(&mut self, is_free: impl Fn(u32) -> bool) -> Vec<u32> {
        let (mut free, waiting): (Vec<u32>, Vec<u32>) =
            std::mem::take(&mut self.left).into_iter().partition(|seat| is_free(*seat));
        free.sort_unstable_by(|left, right| right.cmp(left));
        self.left = waiting;
        free
    }

    /// Seats a member: where it sits, on a free seat, or on a new one.
    fn seat(&mut self, member: Member<A>, hash: u64, seat: Option<u32>, free: &mut Vec<u32>) -> u32 {
        if let Some((seat, record)) = seat.and_then(|seat| Some((seat, self.seated_mut(seat)?))) {
            record.keep(member);
            return seat;
        }
        if let Some((seat, record)) = free.pop().and_then(|seat| Some((seat, self.seated_mut(seat)?))) {
            *record = Record::new(member, hash, record.serial.wrapping_add(1));
            return seat;
        }
        self.records.push(Record::new(member, hash, 0));
        // `MAX_MEMBERS` and open picks of 32 bits keep seats far below 2^32.
        u32::try_from(self.records.len() - 1).unwrap_or(u32::MAX)
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
