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
use super::change::{Change, Changes, MemberProbe, ReloadSummary};
use super::observation::{ChannelSeat, Directory, Entry, MemberSeat, Source};
use super::resuming::Resuming;
use super::slots::{Occupant, Pool, Slots};
use crate::balance::UpdateError;
use crate::channel::{Channel, CheckStatus, HealthCheck, Host, Member};
use crate::health::schedule::{AllottedPhase, PhaseAllotter, PhaseNumber, start_window};
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
    /// channel that changes its name keeps its seats and verdicts.
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
    channel_seats: Pool,
    /// By channel seat: who has it, or had it last.
    seated: Vec<Arc<str>>,
    drivers: Vec<Slots>,
    phases: PhaseAllotter,
    resolver: Resolver,
    resuming: Option<Resuming>,
    reference: Arc<Reference>,
}

#[derive(Debug)]
struct Held {
    entry: Arc<Entry>,
    /// In the order of the members, for the interval of the channel's check.
    phases: Box<[Option<PhaseNumber>]>,
}

/// What a wanted channel needs before anything changes. `None`: it is as it was.
struct Ready {
    plan: Option<Arc<Plan>>,
    balancing: Balancing,
}

/// A member's identity within its channel.
type Key<'a> = (Option<&'a str>, &'a Host, u16);

/// What a kept member asks of its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continuity {
    SameCheck,
    NewCheck,
}

/// Changes being collected, removals apart so that a freed slot can be reused.
struct Ledger {
    removals: Vec<Vec<Change<MemberProbe>>>,
    assignments: Vec<Vec<Change<MemberProbe>>>,
    summary: ReloadSummary,
}

impl Catalog {
    /// An empty catalog over so many drivers. `seed` shifts all phases.
    #[must_use]
    pub fn new(drivers: usize, seed: u64, resolver: Resolver) -> Self {
        Self {
            held: BTreeMap::new(),
            channel_seats: Pool::default(),
            seated: Vec::new(),
            drivers: (0..drivers.max(1)).map(|_| Slots::default()).collect(),
            phases: PhaseAllotter::new(seed),
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
        let plan = match active_check(channel) {
            Some(check) => {
                let plan = Plan::new(check, channel.probe())?;
                Some(Arc::new(plan.with_reference(Arc::clone(&self.reference))))
            }
            None => None,
        };
        let balancing = Balancing::prepare(channel, old.map(|held| &*held.entry))?;
        Ok(Ready { plan, balancing })
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

    /// The channel and the position of the member in a seat, if it still sits there.
    #[must_use]
    pub fn occupant(&self, seat: MemberSeat) -> Option<(&Entry, usize)> {
        let slots = self.drivers.get(usize::from(seat.driver))?;
        let occupant = slots.occupant(seat.slot).filter(|it| it.generation == seat.generation)?;
        let name = self.seated.get(occupant.channel as usize)?;
        let entry = &self.held.get(&**name)?.entry;
        Some((entry, usize::try_from(occupant.position).ok()?))
    }

    /// Takes a wanted channel in, or leaves it where nothing had to be prepared.
    fn arrive(&mut self, wanted: Wanted, prepared: Option<Ready>, old: Option<Held>, ledger: &mut Ledger) {
        let held = match (prepared, old) {
            (None, Some(old)) => self.leave_channel(wanted, old, ledger),
            (Some(prepared), old) => self.seat_channel(wanted, prepared, old, ledger),
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
        for (seat, phase) in held.entry.members.iter().zip(&held.phases) {
            self.remove_member(&held.entry.channel, *seat, *phase, ledger);
        }
        self.channel_seats.give_back(held.entry.seat.0);
    }

    fn remove_member(
        &mut self,
        channel: &Channel,
        seat: MemberSeat,
        phase: Option<PhaseNumber>,
        ledger: &mut Ledger,
    ) {
        self.release_phase(channel, phase);
        if let Some(slots) = self.drivers.get_mut(usize::from(seat.driver)) {
            slots.give_back(seat.slot);
        }
        ledger.remove(seat);
    }

    fn seat_channel(
        &mut self,
        wanted: Wanted,
        prepared: Ready,
        old: Option<Held>,
        ledger: &mut Ledger,
    ) -> Held {
        let Wanted { channel, source } = wanted;
        let Ready { plan, balancing } = prepared;
        ledger.summary.members += channel.members().len();
        let seat = match &old {
            Some(held) => held.entry.seat,
            None => {
                let seat = ChannelSeat(self.channel_seats.take());
                ledger.reset_channel(seat);
                seat
            }
        };
        let (balancer, balancer_ids) = balancing.settle(&channel);
        let mut leaving = old.as_ref().map(places_by_key).unwrap_or_default();
        let mut members = Vec::with_capacity(channel.members().len());
        let mut phases = Vec::with_capacity(channel.members().len());
        self.name_seat(seat, channel.name());
        let mut restarted = Vec::new();
        let mut added = Vec::new();
        for (position, member) in channel.members().iter().enumerate() {
            let kept = leaving.remove(&key(&channel, member)).zip(old.as_ref());
            let (member_seat, phase) = match kept {
                Some((place, held)) => {
                    let before = held.entry.members.get(place).copied();
                    let (now, phase) = self.keep(&channel, seat, member, &plan, held, place, ledger);
                    if before != Some(now) {
                        restarted.push(position);
                    }
                    (now, phase)
                }
                None => {
                    added.push(position);
                    self.add(&channel, seat, member, &plan, ledger)
                }
            };
            self.occupy(member_seat, seat, position);
            members.push(member_seat);
            phases.push(phase);
        }
        for place in leaving.into_values() {
            let held = old.as_ref();
            let seat = held.and_then(|held| held.entry.members.get(place));
            let phase = held.and_then(|held| held.phases.get(place));
            if let (Some(held), Some(seat), Some(phase)) = (held, seat, phase) {
                self.remove_member(&held.entry.channel, *seat, *phase, ledger);
            }
        }
        let entry = Entry { channel, source, seat, members, balancer, balancer_ids };
        for position in restarted {
            set_health(&entry, position, entry.channel.probe().initial_state);
        }
        for (position, resumed) in self.resuming.iter().flat_map(|it| it.of_members(&entry.channel, &added)) {
            if let Some(seat) = entry.members.get(position) {
                ledger.push(*seat, Change::Resume(seat.slot, seat.generation, resumed));
            }
            set_health(&entry, position, resumed.health);
        }
        Held { entry: Arc::new(entry), phases: phases.into() }
    }

    #[expect(clippy::too_many_arguments, reason = "the two sides of one member, before and after")]
    fn keep(
        &mut self,
        channel: &Channel,
        channel_seat: ChannelSeat,
        member: &Member,
        plan: &Option<Arc<Plan>>,
        held: &Held,
        place: usize,
        ledger: &mut Ledger,
    ) -> (MemberSeat, Option<PhaseNumber>) {
        let before = held.entry.channel.members().get(place);
        let (Some(before), Some(seat), Some(phase)) =
            (before, held.entry.members.get(place).copied(), held.phases.get(place).copied())
        else {
            return self.add(channel, channel_seat, member, plan, ledger);
        };
        let probe = plan.as_ref().map(|plan| self.probe(channel, member, plan));
        match continuity(&held.entry.channel, before, channel, member) {
            Continuity::SameCheck => {
                if let Some(probe) = probe {
                    ledger.push(seat, Change::Refresh(seat.slot, probe));
                }
                (seat, phase)
            }
            Continuity::NewCheck => {
                ledger.summary.restarted += 1;
                let seat = MemberSeat { generation: seat.generation.wrapping_add(1), ..seat };
                self.release_phase(&held.entry.channel, phase);
                let phase = self.allot_phase(channel);
                ledger.push(seat, Change::Assign(new_member(channel, channel_seat, seat, phase), probe));
                (seat, phase.map(|phase| phase.number))
            }
        }
    }

    fn add(
        &mut self,
        channel: &Channel,
        channel_seat: ChannelSeat,
        member: &Member,
        plan: &Option<Arc<Plan>>,
        ledger: &mut Ledger,
    ) -> (MemberSeat, Option<PhaseNumber>) {
        let driver = self.driver_of(channel, member);
        let slots = self.drivers.get_mut(usize::from(driver));
        let (slot, generation) = slots.map_or((0, 0), Slots::take);
        let seat = MemberSeat { driver, slot, generation };
        let phase = self.allot_phase(channel);
        let probe = plan.as_ref().map(|plan| self.probe(channel, member, plan));
        ledger.summary.added += 1;
        ledger.push(seat, Change::Assign(new_member(channel, channel_seat, seat, phase), probe));
        (seat, phase.map(|phase| phase.number))
    }

    /// Takes back the phase that a member of this channel had.
    fn release_phase(&mut self, channel: &Channel, phase: Option<PhaseNumber>) {
        if let (Some(check), Some(phase)) = (active_check(channel), phase) {
            self.phases.release(check.interval(), phase);
        }
    }

    fn allot_phase(&mut self, channel: &Channel) -> Option<AllottedPhase> {
        active_check(channel).map(|check| self.phases.allot(check.interval()))
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
        key(channel, member).hash(&mut hasher);
        let drivers = self.drivers.len() as u64;
        u16::try_from(hasher.finish() % drivers).unwrap_or(0)
    }

    fn name_seat(&mut self, seat: ChannelSeat, name: &str) {
        let index = seat.0 as usize;
        if self.seated.len() <= index {
            self.seated.resize_with(index + 1, Arc::default);
        }
        if let Some(place) = self.seated.get_mut(index) {
            *place = name.into();
        }
    }

    fn occupy(&mut self, seat: MemberSeat, channel: ChannelSeat, position: usize) {
        if let Some(slots) = self.drivers.get_mut(usize::from(seat.driver)) {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            slots.occupy(seat.slot, Occupant { generation: seat.generation, channel: channel.0, position });
        }
    }

    fn close(&self, mut ledger: Ledger) -> Changes {
        let directory =
            Directory { entries: self.held.values().map(|held| Arc::clone(&held.entry)).collect() };
        ledger.summary.channels = directory.entries.len();
        let window = start_window(ledger.summary.added + ledger.summary.restarted);
        let mut drivers = ledger.removals;
        for (changes, assignments) in drivers.iter_mut().zip(ledger.assignments) {
            changes.extend(assignments);
            for change in changes {
                if let Change::Assign(NewMember { timing: Some(timing), .. }, _) = change {
                    timing.window = window;
                }
            }
        }
        Changes { directory: Arc::new(directory), drivers, summary: ledger.summary }
    }
}

impl Ledger {
    fn new(drivers: usize) -> Self {
        let empty = || (0..drivers).map(|_| Vec::new()).collect::<Vec<_>>();
        Self { removals: empty(), assignments: empty(), summary: ReloadSummary::default() }
    }

    fn remove(&mut self, seat: MemberSeat) {
        self.summary.removed += 1;
        if let Some(changes) = self.removals.get_mut(usize::from(seat.driver)) {
            changes.push(Change::Remove(seat.slot));
        }
    }

    fn push(&mut self, seat: MemberSeat, change: Change<MemberProbe>) {
        if let Some(changes) = self.assignments.get_mut(usize::from(seat.driver)) {
            changes.push(change);
        }
    }

    fn reset_channel(&mut self, seat: ChannelSeat) {
        for changes in &mut self.assignments {
            changes.push(Change::ResetChannel(seat.0));
        }
    }
}

/// The check, if members are probed at all.
fn active_check(channel: &Channel) -> Option<&HealthCheck> {
    channel.health_check().filter(|check| check.status() == CheckStatus::On)
}

fn key<'a>(channel: &Channel, member: &'a Member) -> Key<'a> {
    (member.group(), member.host(), channel.traffic_port(member).get())
}

fn places_by_key(held: &Held) -> HashMap<Key<'_>, usize> {
    let channel = &held.entry.channel;
    channel.members().iter().enumerate().map(|(place, member)| (key(channel, member), place)).collect()
}

fn continuity(old: &Channel, old_member: &Member, new: &Channel, new_member: &Member) -> Continuity {
    let same = active_check(old) == active_check(new)
        && old.probe().asks_the_same(new.probe())
        && old.check_port(old_member) == new.check_port(new_member);
    if same { Continuity::SameCheck } else { Continuity::NewCheck }
}

fn new_member(
    channel: &Channel,
    channel_seat: ChannelSeat,
    seat: MemberSeat,
    phase: Option<AllottedPhase>,
) -> NewMember {
    let timing = active_check(channel).zip(phase).map(|(check, phase)| CheckTiming {
        interval: check.interval(),
        thresholds: Thresholds::from(check),
        phase: phase.phase,
        // Set when the change is complete and its size known.
        window: std::time::Duration::ZERO,
    });
    NewMember {
        slot: seat.slot,
        generation: seat.generation,
        channel: channel_seat.0,
        timing,
        initial: channel.probe().initial_state,
    }
}

#[cfg(test)]
#[path = "seating/tests.rs"]
mod tests;
