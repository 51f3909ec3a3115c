//! What readers get: the channels as published, and the drivers' states beside them.
//!
//! Rotation is computed here, from the verdicts in the very snapshot that is
//! shown, so an answer never contradicts itself.

use std::net::SocketAddr;
use std::sync::Arc;

use super::change_log::ChangeCounts;
use super::entry::{Entry, MemberSlot};
use super::ids::Id;
use super::resources::Resources;
use super::sorted_map::SortedMap;
use crate::channel::{
    Channel, Health, Host, Member, MemberAddress, MemberIdentity, MemberStatus, OutOfRotation, Standing, Tier,
};
use crate::health::snapshot::{Histogram, LAG_BOUNDS};
use crate::health::{ChannelStats, DriverSnapshot, MemberState, Timestamp};
use crate::store::{StoredKind, WriteState};

/// Every channel, by its id and by the name it is known by. What is published is
/// replaced whole, never changed.
#[derive(Debug, Clone)]
pub struct Channels {
    /// As they are configured, and the instances they belong to.
    pub resources: Resources,
    /// As they run, by the name of the channel in effect; one for each resource.
    entries: SortedMap<Arc<str>, Arc<Entry>>,
    /// How often members have gone to other drivers: slots of before and after do not go
    /// together.
    relocations: u64,
}

impl Channels {
    /// Nothing runs yet.
    pub(super) fn of(resources: Resources) -> Self {
        Self { resources, entries: SortedMap::default(), relocations: 0 }
    }

    /// The channels in the order of their names.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// The channel that is known by that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get_by(|held| (**held).cmp(name))
    }

    /// The channel of that id.
    #[must_use]
    pub fn entry(&self, id: Id) -> Option<&Arc<Entry>> {
        self.find(self.resources.resource(id)?.effective.name())
    }

    /// The same channels running, for resources that changed.
    pub(super) fn with_resources(&self, resources: Resources) -> Self {
        Self { resources, entries: self.entries.clone(), relocations: self.relocations }
    }

    /// The same channels, some of whose members are about to go to other drivers.
    pub(super) fn moved(&self) -> Self {
        Self { relocations: self.relocations + 1, ..self.clone() }
    }

    /// Whether members have gone to other drivers since `before`.
    #[must_use]
    pub fn has_relocated_since(&self, before: &Self) -> bool {
        self.relocations != before.relocations
    }

    pub(super) fn insert(&mut self, entry: Arc<Entry>) {
        self.entries.insert(entry.channel().name().into(), entry);
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        self.entries.remove_by(|held| (**held).cmp(entry.channel().name()));
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
    /// The drivers, in the order of `MemberSlot::driver`.
    pub drivers: Vec<DriverSnapshot>,
    /// The last reload.
    pub reload: ReloadState,
    /// Changes of members and tiers so far.
    pub changes: ChangeCounts,
    /// How often the addresses of a name have changed.
    pub address_changes: u64,
    /// How writes into the state directory fare, by what is written.
    pub writes: Vec<(StoredKind, WriteState)>,
}

impl Snapshot {
    /// One channel with its members' states and rotation.
    #[must_use]
    pub fn channel<'a>(&'a self, entry: &'a Entry) -> ChannelSnapshot<'a> {
        let channel = entry.channel();
        let standings = self.states(entry).map(|(member, state)| standing(channel, member, state));
        let tier = Tier::of(standings, channel.balance().fail_open);
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

    /// How many probes may run at once.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.drivers.iter().map(|driver| driver.concurrency).sum()
    }

    /// Members that are due and wait until another probe may run.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.drivers.iter().map(|driver| driver.waiting).sum()
    }

    /// Slots skipped so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.drivers.iter().map(|driver| driver.skipped).sum()
    }

    /// What a driver knows of a member; none in the turn before the driver has seen it.
    #[must_use]
    pub fn state(&self, slot: MemberSlot) -> Option<&MemberState> {
        self.drivers.get(usize::from(slot.driver))?.member(slot.index, slot.generation)
    }

    fn states<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> impl Iterator<Item = (&'a Member, Option<&'a MemberState>)> + 'a {
        entry.members().map(|(member, row)| (member, self.state(row.slot)))
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
    /// The members, in the order of the channel.
    pub fn members(self) -> impl Iterator<Item = MemberSnapshot<'a>> + 'a {
        self.entry.members().map(move |(member, row)| MemberSnapshot {
            channel: self,
            member,
            state: self.snapshot.state(row.slot),
        })
    }

    /// The channel's counters, summed over drivers.
    #[must_use]
    pub fn stats(self) -> ChannelStats {
        let mut sum = ChannelStats::default();
        let slot = self.entry.slot.0 as usize;
        for stats in self.snapshot.drivers.iter().filter_map(|driver| driver.channels.get(slot)) {
            sum.merge(stats);
        }
        sum
    }

    /// How many members are disabled, and of the enabled ones how many are in
    /// each health of [`Health::ALL`].
    #[must_use]
    pub fn member_counts(self) -> HealthCounts {
        let mut counts = HealthCounts::default();
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
pub struct HealthCounts {
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
    /// The member in effect.
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
        self.channel.entry.channel().member_address(self.member)
    }

    /// What makes it the same member.
    #[must_use]
    pub fn identity(&self) -> MemberIdentity {
        self.channel.entry.channel().host_identity(self.member)
    }

    /// Where the last probe went: the address and the port that is checked. None before
    /// the first, and where the member's name had no address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        let last = self.state?.last.as_ref()?;
        let ip = match self.member.host() {
            Host::Ip(ip) => *ip,
            Host::Name(_) => **last.address.as_ref()?,
        };
        Some(SocketAddr::new(ip, self.channel.entry.channel().check_port(self.member).get()))
    }

    /// The effective weight.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.channel.entry.channel().effective_weight(self.member)
    }

    /// Whether it takes traffic.
    #[must_use]
    pub fn in_rotation(&self) -> bool {
        self.out_of_rotation().is_none()
    }

    /// Why it takes no traffic; none if it does.
    #[must_use]
    pub fn out_of_rotation(&self) -> Option<OutOfRotation> {
        self.channel.tier.excludes(standing(self.channel.entry.channel(), self.member, self.state))
    }
}

fn health_of(state: Option<&MemberState>) -> Health {
    state.map_or(Health::Unknown, |state| state.health)
}

fn standing(channel: &Channel, member: &Member, state: Option<&MemberState>) -> Standing {
    let weight = channel.effective_weight(member);
    Standing { role: member.role(), status: member.status(), health: health_of(state), weight }
}
