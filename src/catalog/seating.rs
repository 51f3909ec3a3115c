//! The catalog's one writer: from the channels that are wanted to the changes
//! that get there.
//!
//! Called by the daemon's control loop at start and on every reload. A change is
//! refused whole or takes effect whole. A member is known by its channel, group,
//! host and port: as long as these and its check stay, so do its verdict, counts
//! and phase.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::balancing::{Balancing, set_health};
use super::change::{Changes, DriverCommand, MemberProbe, ReloadSummary};
use super::resuming::Resuming;
use super::slots::{Occupant, Pool, Slots};
use super::snapshot::{ChannelSlot, Channels, Entry, MemberSlot, Source};
use crate::balance::UpdateError;
use crate::channel::{Channel, Member, MemberIdentity};
use crate::health::schedule::{AllottedOffset, OffsetAllotter, OffsetNumber, start_window};
use crate::health::{CheckTiming, NewMember, Thresholds};
use crate::probe::{Plan, PlanError, Reference, Resolver, Target};
use crate::store::Recall;

/// A channel that should exist.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The channel.
    pub channel: Arc<Channel>,
    /// Who wants it.
    pub source: Source,
}

/// What one channel's part of a change fails on.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Its probes cannot be prepared.
    #[error(transparent)]
    Probe(#[from] PlanError),
    /// Its members cannot be balanced.
    #[error(transparent)]
    Balance(#[from] UpdateError),
}

/// What one channel is to become.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The name it is known by; none for a channel that is not there yet. A
    /// channel that changes its name keeps its slots and verdicts.
    pub was: Option<String>,
    /// What it is to be; none removes it.
    pub wanted: Option<Wanted>,
}

/// Edits with everything made that could fail. Good only as long as the catalog
/// stays as it was.
pub struct Prepared {
    edits: Vec<Edit>,
    ready: Vec<Option<Ready>>,
}

impl Prepared {
    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("edits", &self.edits.len()).finish_non_exhaustive()
    }
}

/// Why a change was refused; nothing of it took effect.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(channel, error)| format!("channel \"{channel}\": {error}")).collect::<Vec<_>>().join("\n"))]
pub struct CatalogError(pub Vec<(String, ChannelError)>);

/// Which channels exist and where their members sit.
#[derive(Debug)]
pub struct Catalog {
    held: BTreeMap<String, Held>,
    channel_slots: Pool,
    /// By channel slot: who has it, or had it last.
    slot_names: Vec<Arc<str>>,
    drivers: Vec<Slots>,
    phases: OffsetAllotter,
    resolver: Resolver,
    resuming: Option<Resuming>,
    reference: Arc<Reference>,
}

#[derive(Debug)]
struct Held {
    entry: Arc<Entry>,
    /// In the order of the members, for the interval of the channel's check.
    phases: Box<[Option<OffsetNumber>]>,
}

/// What a wanted channel needs before anything changes. `None`: it is as it was.
struct Ready {
    plan: Option<Arc<Plan>>,
    /// Whether members are asked the same as before.
    asks_the_same: bool,
    balancing: Balancing,
}

/// Changes being collected, removals apart so that a freed slot can be reused.
struct Ledger {
    removals: Vec<Vec<DriverCommand<MemberProbe>>>,
    assignments: Vec<Vec<DriverCommand<MemberProbe>>>,
    summary: ReloadSummary,
}

impl Catalog {
    /// An empty catalog over so many drivers. `seed` shifts all phases.
    #[must_use]
    pub fn new(drivers: usize, seed: u64, resolver: Resolver) -> Self {
        Self {
            held: BTreeMap::new(),
            channel_slots: Pool::default(),
            slot_names: Vec::new(),
            drivers: (0..drivers.max(1)).map(|_| Slots::default()).collect(),
            phases: OffsetAllotter::new(seed),
            resolver,
            resuming: None,
            reference: Arc::default(),
        }
    }

    /// What the prober's own network is judged by, for all channels.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Lets members that come from now on go on with what was kept of them;
    /// none ends that.
    pub fn set_recall(&mut self, recall: Option<Arc<Recall>>) {
        self.resuming = recall.map(Resuming);
    }

    /// Makes exactly these channels exist.
    ///
    /// # Errors
    /// A channel whose probes cannot be prepared; then nothing changes.
    pub fn replace_all(&mut self, wanted: Vec<Wanted>) -> Result<Changes, CatalogError> {
        let prepared = self.prepare_all(wanted.iter().map(|wanted| {
            let held = self.held.get(wanted.channel.name());
            (&*wanted.channel, held)
        }))?;
        let mut ledger = Ledger::new(self.drivers.len());
        let mut before = std::mem::take(&mut self.held);
        let mut arrivals = Vec::with_capacity(wanted.len());
        for (wanted, prepared) in wanted.into_iter().zip(prepared) {
            let old = before.remove(wanted.channel.name());
            arrivals.push((wanted, prepared, old));
        }
        for held in before.into_values() {
            self.remove_channel(&held, &mut ledger);
        }
        for (wanted, prepared, old) in arrivals {
            self.arrive(wanted, prepared, old, &mut ledger);
        }
        Ok(self.close(ledger))
    }

    /// Changes these channels and leaves the others alone: the cost is that of
    /// the channels named, and of publishing a list of all. A channel may stand
    /// there once.
    ///
    /// # Errors
    /// A channel whose probes cannot be prepared; then nothing changes.
    pub fn apply(&mut self, edits: Vec<Edit>) -> Result<Changes, CatalogError> {
        let prepared = self.prepare(edits)?;
        Ok(self.commit(prepared))
    }

    /// The first half of [`Catalog::apply`]: whatever can fail, and no change.
    /// In between a change can be made durable.
    ///
    /// # Errors
    /// A channel whose probes cannot be prepared.
    pub fn prepare(&self, edits: Vec<Edit>) -> Result<Prepared, CatalogError> {
        let ready = self.prepare_all(edits.iter().filter_map(|edit| {
            let held = edit.was.as_ref().and_then(|name| self.held.get(name));
            edit.wanted.as_ref().map(|wanted| (&*wanted.channel, held))
        }))?;
        Ok(Prepared { edits, ready })
    }

    /// Builds everything that can fail, before anything changes; nothing for a
    /// channel that is as it was.
    fn prepare_all<'a>(
        &self,
        channels: impl Iterator<Item = (&'a Channel, Option<&'a Held>)>,
    ) -> Result<Vec<Option<Ready>>, CatalogError> {
        let mut errors = Vec::new();
        let mut prepared = Vec::new();
        for (channel, old) in channels {
            if old.is_some_and(|held| *held.entry.channel == *channel) {
                prepared.push(None);
                continue;
            }
            match self.prepare_one(channel, old) {
                Ok(ready) => prepared.push(Some(ready)),
                Err(error) => errors.push((channel.name().to_owned(), error)),
            }
        }
        if errors.is_empty() { Ok(prepared) } else { Err(CatalogError(errors)) }
    }

    fn prepare_one(&self, channel: &Channel, old: Option<&Held>) -> Result<Ready, ChannelError> {
        let plan = match channel.active_check() {
            Some(check) => {
                let plan = Plan::new(check, channel.probe())?;
                Some(Arc::new(plan.with_reference(Arc::clone(&self.reference))))
            }
            None => None,
        };
        let balancing = Balancing::prepare(channel, old.map(|held| &*held.entry))?;
        let asks_the_same =
            old.is_some_and(|held| held.entry.channel.check_definition() == channel.check_definition());
        Ok(Ready { plan, asks_the_same, balancing })
    }

    /// The second half: what [`Catalog::prepare`] gave, with no other change
    /// between the two.
    pub fn commit(&mut self, prepared: Prepared) -> Changes {
        let Prepared { edits, ready } = prepared;
        let mut ready = ready.into_iter();
        let mut ledger = Ledger::new(self.drivers.len());
        // Taken out first, so that one channel may take another's name.
        let before: Vec<Option<Held>> =
            edits.iter().map(|edit| edit.was.as_ref().and_then(|name| self.held.remove(name))).collect();
        for (edit, old) in edits.into_iter().zip(before) {
            match edit.wanted {
                Some(wanted) => self.arrive(wanted, ready.next().flatten(), old, &mut ledger),
                None => {
                    if let Some(old) = old {
                        self.remove_channel(&old, &mut ledger);
                    }
                }
            }
        }
        self.close(ledger)
    }

    /// The channel and the position of the member in a slot, if it still sits there.
    #[must_use]
    pub fn occupant(&self, slot: MemberSlot) -> Option<(&Entry, usize)> {
        let slots = self.drivers.get(usize::from(slot.driver))?;
        let occupant = slots.occupant(slot.index).filter(|it| it.generation == slot.generation)?;
        let name = self.slot_names.get(occupant.channel as usize)?;
        let entry = &self.held.get(&**name)?.entry;
        Some((entry, usize::try_from(occupant.position).ok()?))
    }

    /// Takes a wanted channel in, or leaves it where nothing had to be prepared.
    fn arrive(&mut self, wanted: Wanted, prepared: Option<Ready>, old: Option<Held>, ledger: &mut Ledger) {
        let held = match (prepared, old) {
            (None, Some(old)) => self.leave_channel(wanted, old, ledger),
            (Some(prepared), old) => self.place_channel(wanted, prepared, old, ledger),
            // Only a channel that is held is left as it was.
            (None, None) => return,
        };
        self.held.insert(held.entry.channel.name().to_owned(), held);
    }

    /// A channel that is as it was, but for who wants it.
    fn leave_channel(&self, wanted: Wanted, held: Held, ledger: &mut Ledger) -> Held {
        ledger.summary.members += held.entry.members.len();
        if held.entry.source == wanted.source {
            return held;
        }
        let entry = Entry { source: wanted.source, ..Entry::clone(&held.entry) };
        Held { entry: Arc::new(entry), ..held }
    }

    fn remove_channel(&mut self, held: &Held, ledger: &mut Ledger) {
        for (slot, phase) in held.entry.members.iter().zip(&held.phases) {
            self.remove_member(&held.entry.channel, *slot, *phase, ledger);
        }
        self.channel_slots.give_back(held.entry.slot.0);
    }

    fn remove_member(
        &mut self,
        channel: &Channel,
        slot: MemberSlot,
        phase: Option<OffsetNumber>,
        ledger: &mut Ledger,
    ) {
        self.release_phase(channel, phase);
        if let Some(slots) = self.drivers.get_mut(usize::from(slot.driver)) {
            slots.give_back(slot.index);
        }
        ledger.remove(slot);
    }

    fn place_channel(
        &mut self,
        wanted: Wanted,
        prepared: Ready,
        old: Option<Held>,
        ledger: &mut Ledger,
    ) -> Held {
        let Wanted { channel, source } = wanted;
        let Ready { plan, asks_the_same, balancing } = prepared;
        ledger.summary.members += channel.members().len();
        let slot = match &old {
            Some(held) => held.entry.slot,
            None => {
                let slot = ChannelSlot(self.channel_slots.take());
                ledger.reset_channel(slot);
                slot
            }
        };
        let (balancer, balancer_ids) = balancing.settle(&channel);
        let mut leaving = old.as_ref().map(places_by_identity).unwrap_or_default();
        let mut members = Vec::with_capacity(channel.members().len());
        let mut phases = Vec::with_capacity(channel.members().len());
        self.name_slot(slot, channel.name());
        let mut restarted = Vec::new();
        let mut added = Vec::new();
        for (position, member) in channel.members().iter().enumerate() {
            let kept = leaving.remove(&channel.host_identity(member)).zip(old.as_ref());
            let (member_slot, phase) = match kept {
                Some((place, held)) => {
                    let before = held.entry.members.get(place).copied();
                    let (now, phase) =
                        self.keep(&channel, slot, member, (&plan, asks_the_same), held, place, ledger);
                    if before != Some(now) {
                        restarted.push(position);
                    }
                    (now, phase)
                }
                None => {
                    added.push(position);
                    self.add(&channel, slot, member, &plan, ledger)
                }
            };
            self.occupy(member_slot, slot, position);
            members.push(member_slot);
            phases.push(phase);
        }
        for place in leaving.into_values() {
            let held = old.as_ref();
            let slot = held.and_then(|held| held.entry.members.get(place));
            let phase = held.and_then(|held| held.phases.get(place));
            if let (Some(held), Some(slot), Some(phase)) = (held, slot, phase) {
                self.remove_member(&held.entry.channel, *slot, *phase, ledger);
            }
        }
        let entry = Entry { channel, source, slot, members, balancer, balancer_ids };
        for position in restarted {
            set_health(&entry, position, entry.channel.probe().initial_state);
        }
        for (position, resumed) in self.resuming.iter().flat_map(|it| it.of_members(&entry.channel, &added)) {
            if let Some(slot) = entry.members.get(position) {
                ledger.push(*slot, DriverCommand::Resume(slot.index, slot.generation, resumed));
            }
            set_health(&entry, position, resumed.health);
        }
        Held { entry: Arc::new(entry), phases: phases.into() }
    }

    #[expect(clippy::too_many_arguments, reason = "the two sides of one member, before and after")]
    fn keep(
        &mut self,
        channel: &Channel,
        channel_slot: ChannelSlot,
        member: &Member,
        (plan, asks_the_same): (&Option<Arc<Plan>>, bool),
        held: &Held,
        place: usize,
        ledger: &mut Ledger,
    ) -> (MemberSlot, Option<OffsetNumber>) {
        let before = held.entry.channel.members().get(place);
        let (Some(before), Some(slot), Some(phase)) =
            (before, held.entry.members.get(place).copied(), held.phases.get(place).copied())
        else {
            return self.add(channel, channel_slot, member, plan, ledger);
        };
        let probe = plan.as_ref().map(|plan| self.probe(channel, member, plan));
        if asks_the_same && is_asked_alike(&held.entry.channel, before, channel, member) {
            if let Some(probe) = probe {
                ledger.push(slot, DriverCommand::Refresh(slot.index, probe));
            }
            return (slot, phase);
        }
        ledger.summary.restarted += 1;
        let slot = MemberSlot { generation: slot.generation.wrapping_add(1), ..slot };
        self.release_phase(&held.entry.channel, phase);
        let phase = self.allot_phase(channel);
        ledger.push(slot, DriverCommand::Assign(new_member(channel, channel_slot, slot, phase), probe));
        (slot, phase.map(|phase| phase.number))
    }

    fn add(
        &mut self,
        channel: &Channel,
        channel_slot: ChannelSlot,
        member: &Member,
        plan: &Option<Arc<Plan>>,
        ledger: &mut Ledger,
    ) -> (MemberSlot, Option<OffsetNumber>) {
        let driver = self.driver_of(channel, member);
        let slots = self.drivers.get_mut(usize::from(driver));
        let (slot, generation) = slots.map_or((0, 0), Slots::take);
        let slot = MemberSlot { driver, index: slot, generation };
        let phase = self.allot_phase(channel);
        let probe = plan.as_ref().map(|plan| self.probe(channel, member, plan));
        ledger.summary.added += 1;
        ledger.push(slot, DriverCommand::Assign(new_member(channel, channel_slot, slot, phase), probe));
        (slot, phase.map(|phase| phase.number))
    }

    /// Takes back the phase that a member of this channel had.
    fn release_phase(&mut self, channel: &Channel, phase: Option<OffsetNumber>) {
        if let (Some(check), Some(phase)) = (channel.active_check(), phase) {
            self.phases.release(check.interval(), phase);
        }
    }

    fn allot_phase(&mut self, channel: &Channel) -> Option<AllottedOffset> {
        channel.active_check().map(|check| self.phases.allot(check.interval()))
    }

    fn probe(&self, channel: &Channel, member: &Member, plan: &Arc<Plan>) -> MemberProbe {
        let target = Target::new(member.host(), channel.check_port(member).get(), &self.resolver);
        MemberProbe { plan: Arc::clone(plan), target }
    }

    /// A hash of the identity, so that a member stays with its driver whatever
    /// happens to the others.
    fn driver_of(&self, channel: &Channel, member: &Member) -> u16 {
        let mut hasher = DefaultHasher::new();
        channel.name().hash(&mut hasher);
        channel.host_identity(member).hash(&mut hasher);
        let drivers = self.drivers.len() as u64;
        u16::try_from(hasher.finish() % drivers).unwrap_or(0)
    }

    fn name_slot(&mut self, slot: ChannelSlot, name: &str) {
        let index = slot.0 as usize;
        if self.slot_names.len() <= index {
            self.slot_names.resize_with(index + 1, Arc::default);
        }
        if let Some(place) = self.slot_names.get_mut(index) {
            *place = name.into();
        }
    }

    fn occupy(&mut self, slot: MemberSlot, channel: ChannelSlot, position: usize) {
        if let Some(slots) = self.drivers.get_mut(usize::from(slot.driver)) {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            slots.occupy(slot.index, Occupant { generation: slot.generation, channel: channel.0, position });
        }
    }

    fn close(&self, mut ledger: Ledger) -> Changes {
        let channels = Channels { entries: self.held.values().map(|held| Arc::clone(&held.entry)).collect() };
        ledger.summary.channels = channels.entries.len();
        let window = start_window(ledger.summary.added + ledger.summary.restarted);
        let mut drivers = ledger.removals;
        for (changes, assignments) in drivers.iter_mut().zip(ledger.assignments) {
            changes.extend(assignments);
            for change in changes {
                if let DriverCommand::Assign(NewMember { timing: Some(timing), .. }, _) = change {
                    timing.window = window;
                }
            }
        }
        Changes { channels: Arc::new(channels), drivers, summary: ledger.summary }
    }
}

impl Ledger {
    fn new(drivers: usize) -> Self {
        let empty = || (0..drivers).map(|_| Vec::new()).collect::<Vec<_>>();
        Self { removals: empty(), assignments: empty(), summary: ReloadSummary::default() }
    }

    fn remove(&mut self, slot: MemberSlot) {
        self.summary.removed += 1;
        if let Some(changes) = self.removals.get_mut(usize::from(slot.driver)) {
            changes.push(DriverCommand::Remove(slot.index));
        }
    }

    fn push(&mut self, slot: MemberSlot, change: DriverCommand<MemberProbe>) {
        if let Some(changes) = self.assignments.get_mut(usize::from(slot.driver)) {
            changes.push(change);
        }
    }

    fn reset_channel(&mut self, slot: ChannelSlot) {
        for changes in &mut self.assignments {
            changes.push(DriverCommand::ResetChannel(slot.0));
        }
    }
}

fn places_by_identity(held: &Held) -> HashMap<MemberIdentity, usize> {
    let channel = &held.entry.channel;
    channel
        .members()
        .iter()
        .enumerate()
        .map(|(place, member)| (channel.host_identity(member), place))
        .collect()
}

/// A host name in another case is the same member, but other bytes are sent to it.
fn is_asked_alike(old: &Channel, old_member: &Member, new: &Channel, new_member: &Member) -> bool {
    old_member.host() == new_member.host() && old.check_port(old_member) == new.check_port(new_member)
}

fn new_member(
    channel: &Channel,
    channel_slot: ChannelSlot,
    slot: MemberSlot,
    phase: Option<AllottedOffset>,
) -> NewMember {
    let timing = channel.active_check().zip(phase).map(|(check, phase)| CheckTiming {
        interval: check.interval(),
        thresholds: Thresholds::from(check),
        offset: phase.offset,
        // Set when the change is complete and its size known.
        window: std::time::Duration::ZERO,
    });
    NewMember {
        slot: slot.index,
        generation: slot.generation,
        channel: channel_slot.0,
        timing,
        initial: channel.probe().initial_state,
    }
}

#[cfg(test)]
#[path = "seating/tests.rs"]
mod tests;
