//! The channels and the drivers' snapshots, joined for readers.
//!
//! Rotation is computed here, from the verdicts in the very snapshot that is
//! shown, so an answer never contradicts itself.

use std::path::PathBuf;
use std::sync::Arc;

use super::balancing::Balancing;
use crate::balance::{Balancer, MemberId, UpdateError};
use crate::channel::{Channel, Health, Member, MemberAddress, MemberStatus, Standing, Tier};
use crate::health::time::{Histogram, LAG_BOUNDS};
use crate::health::{ChannelStats, DriverSnapshot, MemberState, Timestamp};
use crate::store::{StoredKind, WriteState};

/// Where a channel comes from; only its own source may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A configuration file.
    File(PathBuf),
    /// The management API; kept in the store.
    Api,
}

/// The position of a channel's counters in every driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelSlot(pub u32);

/// Where a member's state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberSlot {
    /// Which driver.
    pub driver: u16,
    /// Which slot of that driver.
    pub index: u32,
    /// Which of the members that used the slot one after another.
    pub generation: u32,
}

/// One of the channels.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The channel.
    pub channel: Arc<Channel>,
    /// Where it comes from.
    pub source: Source,
    /// Where its counters are.
    pub slot: ChannelSlot,
    /// Where its members' states are, in the order of `channel.members()`.
    pub members: Vec<MemberSlot>,
    /// Picks among its members; shared by all entries the channel has over time,
    /// as long as its strategy stays.
    pub balancer: ChannelBalancer,
    /// What the balancer calls the members, in the order of `channel.members()`.
    pub balancer_ids: Vec<Option<MemberId>>,
}

impl Entry {
    /// An entry with a balancer of its own.
    ///
    /// # Errors
    /// The members cannot be balanced.
    pub fn new(
        channel: Arc<Channel>,
        source: Source,
        slot: ChannelSlot,
        members: Vec<MemberSlot>,
    ) -> Result<Self, UpdateError> {
        let (balancer, balancer_ids) = Balancing::prepare(&channel, None)?.settle(&channel);
        Ok(Self { channel, source, slot, members, balancer, balancer_ids })
    }
}

/// A channel's balancer: a pick hands out `host:port`.
pub type ChannelBalancer = Balancer<MemberAddress>;

/// All channels, in name order. Replaced whole, never edited.
#[derive(Debug, Clone, Default)]
pub struct Channels {
    /// The channels.
    pub entries: Vec<Arc<Entry>>,
}

impl Channels {
    /// The channel of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        let position = self.entries.binary_search_by(|entry| entry.channel.name().cmp(name)).ok()?;
        self.entries.get(position)
    }
}

/// How the last reload of the configuration went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadState {
    /// Whether the last load or reload was accepted.
    pub successful: bool,
    /// When one was last accepted.
    pub last_success: Timestamp,
}

/// Everything the daemon shows, at one instant.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// Every member has a verdict, or `ready_within` has passed.
    pub ready: bool,
    /// The channels.
    pub channels: Arc<Channels>,
    /// The drivers, in the order of [`MemberSlot::driver`].
    pub drivers: Vec<DriverSnapshot>,
    /// The last reload.
    pub reload: ReloadState,
    /// How writes into the state directory fare, by what is written.
    pub writes: Vec<(StoredKind, WriteState)>,
}

impl Snapshot {
    /// One channel with its members' states and rotation.
    #[must_use]
    pub fn channel<'a>(&'a self, entry: &'a Entry) -> ChannelSnapshot<'a> {
        let tier = Tier::of(
            self.states(entry).map(|(member, state)| standing(member, state)),
            entry.channel.balance().fail_open,
        );
        ChannelSnapshot { snapshot: self, entry, tier }
    }

    /// The lateness of probe starts, over all drivers.
    #[must_use]
    pub fn lag(&self) -> Histogram {
        let mut sum = Histogram::new(&LAG_BOUNDS);
        for driver in &self.drivers {
            sum.merge(&driver.lag);
        }
        sum
    }

    /// Probes running now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.drivers.iter().map(|driver| driver.in_flight).sum()
    }

    /// Slots skipped so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.drivers.iter().map(|driver| driver.skipped).sum()
    }

    fn states<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> impl Iterator<Item = (&'a Member, Option<&'a MemberState>)> + 'a {
        entry.channel.members().iter().zip(&entry.members).map(|(member, slot)| (member, self.state(slot)))
    }

    fn state(&self, slot: &MemberSlot) -> Option<&MemberState> {
        self.drivers.get(usize::from(slot.driver))?.member(slot.index, slot.generation)
    }
}

/// One channel at one instant.
#[derive(Debug, Clone, Copy)]
pub struct ChannelSnapshot<'a> {
    snapshot: &'a Snapshot,
    /// The channel.
    pub entry: &'a Entry,
    /// Which members take traffic.
    pub tier: Tier,
}

impl<'a> ChannelSnapshot<'a> {
    /// The members, in the order of the configuration.
    pub fn members(self) -> impl Iterator<Item = MemberSnapshot<'a>> + 'a {
        let ids = self.entry.balancer_ids.iter().copied();
        self.snapshot.states(self.entry).zip(ids).map(move |((member, state), id)| MemberSnapshot {
            channel: self,
            member,
            state,
            id,
        })
    }

    /// The member at a position of the configuration.
    #[must_use]
    pub fn member(self, position: usize) -> Option<MemberSnapshot<'a>> {
        let member = self.entry.channel.members().get(position)?;
        let state = self.snapshot.state(self.entry.members.get(position)?);
        let id = self.entry.balancer_ids.get(position).copied().flatten();
        Some(MemberSnapshot { channel: self, id, member, state })
    }

    /// The channel's counters, summed over drivers.
    #[must_use]
    pub fn stats(self) -> ChannelStats {
        let mut sum = ChannelStats::default();
        let slot = usize::try_from(self.entry.slot.0).unwrap_or(usize::MAX);
        for stats in self.snapshot.drivers.iter().filter_map(|driver| driver.channels.get(slot)) {
            sum.merge(stats);
        }
        sum
    }

    /// How many members are disabled, and of the enabled ones how many are in
    /// each health of [`Health::ALL`].
    #[must_use]
    pub fn member_counts(self) -> MemberCounts {
        let mut counts = MemberCounts::default();
        for (member, state) in self.snapshot.states(self.entry) {
            match (member.status(), health_of(state)) {
                (MemberStatus::Disabled, _) => counts.disabled += 1,
                (MemberStatus::Enabled, Health::Healthy) => counts.healthy += 1,
                (MemberStatus::Enabled, Health::Unhealthy) => counts.unhealthy += 1,
                (MemberStatus::Enabled, Health::Unknown) => counts.unknown += 1,
            }
        }
        counts
    }
}

/// Members by state; a disabled one counts only as disabled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Enabled and healthy.
    pub healthy: usize,
    /// Enabled and unhealthy.
    pub unhealthy: usize,
    /// Enabled and unknown.
    pub unknown: usize,
    /// Switched off by the user.
    pub disabled: usize,
}

/// One member at one instant. What it does not hold it works out when asked: a
/// scrape asks a hundred thousand members one question at a time.
#[derive(Debug, Clone, Copy)]
pub struct MemberSnapshot<'a> {
    channel: ChannelSnapshot<'a>,
    id: Option<MemberId>,
    /// The member as configured.
    pub member: &'a Member,
    /// What its driver knows; none in the turn before the driver has seen it.
    pub state: Option<&'a MemberState>,
}

impl MemberSnapshot<'_> {
    /// The verdict.
    #[must_use]
    pub fn health(&self) -> Health {
        health_of(self.state)
    }

    /// `host:port` with the traffic port.
    #[must_use]
    pub fn address(&self) -> MemberAddress {
        self.channel.entry.channel.member_address(self.member)
    }

    /// The effective weight.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.channel.entry.channel.effective_weight(self.member)
    }

    /// Whether it takes traffic.
    #[must_use]
    pub fn in_rotation(&self) -> bool {
        self.channel.tier.admits(standing(self.member, self.state))
    }

    /// Picks of the balancer that have begun and not ended.
    #[must_use]
    pub fn open_picks(&self) -> u32 {
        self.id.map_or(0, |id| self.channel.entry.balancer.open_picks(id))
    }
}

fn health_of(state: Option<&MemberState>) -> Health {
    state.map_or(Health::Unknown, |state| state.health)
}

fn standing(member: &Member, state: Option<&MemberState>) -> Standing {
    Standing { role: member.role(), status: member.status(), health: health_of(state) }
}
