//! The catalog's one writer: from changes to what runs.
//!
//! The daemon's control loop prepares a change, has it stored, and commits it: the
//! drivers are told, then readers. A change is refused whole or takes effect whole. A
//! member is known by its channel, group, host and port: as long as these stay, so does its
//! slot. docs/config.md, "Changes", says what of its verdict goes on when its check changes,
//! or when it moves.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::change_log::{ChangeCounters, ChangeLog, Compared};
use super::continuation::{Departures, DriverKnowledge, recalled};
use super::drivers::{CommandLists, DriverCommand, Drivers, MemberProbe, NumberPool, ReloadSummary};
use super::entry::{ChannelSlot, Entry, MemberRow, MemberSlot};
use super::ids::Id;
use super::preparation::{
    CatalogError, ChannelStep, Prepared, Ready, balanced_members, balancer_identity, initial_health,
};
use super::requester::Requesters;
use super::resources::Resources;
use super::snapshot::Channels;
use super::transaction::ChangeSet;
use crate::balance::MemberId;
use crate::channel::{
    Channel, CheckQuestion, Continuity, Health, Member, MemberIdentity, MemberQuestion, Tier,
};
use crate::health::schedule::{AllottedOffset, Cadence, OffsetAllotter, OffsetNumber};
use crate::health::{CheckTiming, NewMember, Resumed, Thresholds, VerdictFrom};
use crate::probe::{Plan, Reference, Resolver, Target};
use crate::store::Recall;

/// A change being made.
struct Changing {
    commands: CommandLists,
    known: Option<DriverKnowledge>,
    departures: Departures,
    /// Channels with members that appear, and where these stand.
    appeared: Vec<(Arc<Entry>, Vec<usize>)>,
    log: ChangeLog,
    /// Members that are the same in another group of their channel.
    regrouped: usize,
    /// Channels that stay: the tier that served before, and who asked.
    tiers: Vec<(Arc<Entry>, Tier, Requesters)>,
    /// Members that go on with a verdict of before the restart.
    recalled: usize,
}

/// A channel's check after a change, for the members that stay.
struct CheckAfter<'c> {
    channel: &'c Channel,
    slot: ChannelSlot,
    asked: Option<CheckQuestion>,
    /// What its members were asked before.
    asked_before: Option<CheckQuestion>,
}

/// A change that has been made: tell the drivers, then publish the channels.
#[derive(Debug)]
pub struct Committed {
    /// What each driver must do, in order.
    pub drivers: Vec<Vec<DriverCommand<MemberProbe>>>,
    /// The channels as they are from now on.
    pub channels: Arc<Channels>,
    /// What it did to members that stay, and to tiers.
    pub log: ChangeLog,
    /// Members that go on with a verdict of before the restart.
    pub recalled: usize,
    counts: ReloadSummary,
}

impl Committed {
    /// What the change amounts to. Counts all members there are.
    #[must_use]
    pub fn summary(&self) -> ReloadSummary {
        let entries = || self.channels.entries();
        let members = entries().map(|entry| entry.rows.len()).sum();
        ReloadSummary { channels: entries().count(), members, ..self.counts }
    }
}

/// Which channels exist and where their members' states are.
#[derive(Debug)]
pub struct Catalog {
    channels: Arc<Channels>,
    channel_slots: NumberPool,
    /// By channel slot: the channel that has it, or had it last.
    occupants: Vec<Id>,
    pub(super) drivers: Drivers,
    offsets: OffsetAllotter,
    resolver: Resolver,
    /// Verdicts of before the daemon's restart, for members that come.
    recall: Option<Arc<Recall>>,
    reference: Arc<Reference>,
    change_counters: Arc<ChangeCounters>,
}

impl Catalog {
    /// An empty catalog over so many drivers. `seed` shifts all offsets.
    #[must_use]
    pub fn new(drivers: u16, seed: u64, resolver: Resolver) -> Self {
        Self {
            channels: Arc::new(Channels::of(Resources::without_api())),
            channel_slots: NumberPool::default(),
            occupants: Vec::new(),
            drivers: Drivers::new(drivers),
            offsets: OffsetAllotter::new(seed),
            resolver,
            recall: None,
            reference: Arc::default(),
            change_counters: Arc::default(),
        }
    }

    /// Everything that is in effect.
    #[must_use]
    pub fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    pub(super) fn publish(&mut self, channels: Channels) {
        self.channels = Arc::new(channels);
    }

    /// What the prober's own network is judged by, for all channels.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Counts the changes that are put into effect.
    #[must_use]
    pub fn change_counters(&self) -> &Arc<ChangeCounters> {
        &self.change_counters
    }

    /// Lets members that come from now on go on with what was kept of them;
    /// none ends that.
    pub fn set_recall(&mut self, recall: Option<Arc<Recall>>) {
        self.recall = recall;
    }

    /// What members go on with that come now.
    #[must_use]
    pub fn recall(&self) -> Option<&Recall> {
        self.recall.as_deref()
    }

    /// Makes whatever can fail, and changes nothing. Between this and
    /// [`Catalog::commit`] the change can be made durable.
    ///
    /// # Errors
    /// The channels whose probes or balancers cannot be prepared.
    pub fn prepare(&self, changes: &ChangeSet, resources: Resources) -> Result<Prepared, CatalogError> {
        Prepared::new(&self.channels, &self.reference, changes, resources)
    }

    /// Puts a prepared change into effect.
    pub fn commit(&mut self, prepared: Prepared) -> Committed {
        let moves = prepared.asks_drivers();
        let Prepared { steps, resources, known } = prepared;
        let mut channels = self.channels.with_resources(resources);
        let mut changing = Changing {
            commands: CommandLists::new(self.drivers.count()),
            known: known.filter(|_| moves),
            departures: Departures::default(),
            appeared: Vec::new(),
            log: ChangeLog::default(),
            regrouped: 0,
            tiers: Vec::new(),
            recalled: 0,
        };
        // Taken out first, so that one channel may take another's name.
        for step in &steps {
            if let ChannelStep::Keep(old, _) | ChannelStep::Place(Some(old), _) | ChannelStep::Remove(old) =
                step
            {
                channels.remove(old);
            }
        }
        for step in steps {
            match step {
                ChannelStep::Keep(old, resource) => {
                    channels.insert(Arc::new(Entry { resource, ..Entry::clone(&old) }));
                }
                ChannelStep::Place(old, ready) => {
                    match &old {
                        Some(_) => changing.commands.counts.channels_changed += 1,
                        None => changing.commands.counts.channels_added += 1,
                    }
                    channels.insert(self.place(old.as_deref(), ready, &mut changing));
                }
                ChannelStep::Remove(old) => {
                    changing.commands.counts.channels_removed += 1;
                    self.depart(&old, (0..old.rows.len()).collect(), &mut changing);
                    self.channel_slots.give_back(old.slot.0);
                }
            }
        }
        self.settle(&mut changing);
        let Changing { commands, mut log, regrouped, tiers, recalled, .. } = changing;
        for (entry, before, asked_by) in &tiers {
            log.compare_tier(entry.channel().name(), *before, entry.balancer.tier(), asked_by);
        }
        self.change_counters.add(&log);
        self.channels = Arc::new(channels);
        // To the drivers a member in another group is a new one, to people it is not.
        let mut counts = commands.counts;
        counts.added -= regrouped;
        counts.removed -= regrouped;
        let channels = Arc::clone(&self.channels);
        Committed { drivers: commands.finish(), channels, log, recalled, counts }
    }

    /// The channel and the position of the member in a slot, if it still has it.
    #[must_use]
    pub fn occupant(&self, slot: MemberSlot) -> Option<(&Arc<Entry>, usize)> {
        let occupant = self.drivers.occupant(slot)?;
        let id = self.occupants.get(occupant.channel.0 as usize)?;
        Some((self.channels.entry(*id)?, occupant.position as usize))
    }

    /// Gives a channel and its members their slots.
    fn place(&mut self, old: Option<&Entry>, ready: Ready, changing: &mut Changing) -> Arc<Entry> {
        let Ready { resource, plan, balancer, is_new_balancer, pairing, asked_by } = ready;
        let tier_before = old.map(|old| old.balancer.tier());
        let channel = &*resource.effective;
        let slot = match old {
            Some(old) => old.slot,
            None => self.take_channel_slot(resource.id, &mut changing.commands),
        };
        // Looked up before the update, which forgets the names of before.
        let verdicts = old.filter(|_| is_new_balancer || pairing.is_respelled).map(balanced_health);
        if !is_new_balancer && let Err(error) = balancer.update(balanced_members(channel)) {
            // The channel's rules allow one member per address and group, and a balancer
            // takes more members than a file can name.
            tracing::error!(channel = channel.name(), %error, "the balancer keeps its old members");
        }
        let asked_before = old.and_then(|old| old.channel().check_question());
        let check = CheckAfter { channel, slot, asked: channel.check_question(), asked_before };
        let mut rows = Vec::with_capacity(channel.members().len());
        // What the balancer must be told of those that stay.
        let mut told = Vec::new();
        let mut appearing = Vec::new();
        for (position, (member, before)) in (0..).zip(channel.members().iter().zip(&pairing.before)) {
            let probe = plan.as_ref().map(|plan| self.probe(channel, member, plan));
            let row = match old.zip(*before).and_then(|(old, place)| Some((old, staying(old, place)?))) {
                Some((old, (there, row))) => {
                    let (was, is) = ((&**old.channel(), there), (channel, member));
                    if changing.log.compare(was, is, &asked_by) == Compared::Changed {
                        changing.commands.counts.changed += 1;
                    }
                    let carried = verdicts.as_ref().and_then(|known| known.get(&row.balancer_id?).copied());
                    let (kept, health) = self.stay(old, (there, row), (&check, member), probe, changing);
                    told.extend(health.or(carried).map(|health| (rows.len(), health)));
                    kept
                }
                None => {
                    appearing.push(rows.len());
                    let taken = self.drivers.take(driver_hash(channel, member), slot, position);
                    let begin = (taken, Continuity::NewMember);
                    self.assign(channel, slot, begin, probe, &mut changing.commands)
                }
            };
            self.drivers.occupy(row.slot, slot, position);
            rows.push(MemberRow { balancer_id: balancer.id_of(&balancer_identity(channel, member)), ..row });
        }
        changing.commands.counts.added += appearing.len();
        if let Some(old) = old {
            regroup(old.channel(), channel, (&pairing.leaving, &appearing), &asked_by, changing);
            self.depart(old, pairing.leaving.iter().map(|place| *place as usize).collect(), changing);
        }
        let entry = Arc::new(Entry { rows: rows.into(), slot, balancer, resource: Arc::clone(&resource) });
        for (position, health) in told {
            entry.set_health(position, health);
        }
        if let Some(tier) = tier_before {
            changing.tiers.push((Arc::clone(&entry), tier, asked_by));
        }
        if !appearing.is_empty() {
            changing.appeared.push((Arc::clone(&entry), appearing));
        }
        entry
    }

    /// Changes a member that stays in its channel; also says which health the balancer must
    /// be told of, where that changes.
    fn stay(
        &mut self,
        old: &Entry,
        (there, row): (&Member, &MemberRow),
        (check, member): (&CheckAfter<'_>, &Member),
        probe: Option<MemberProbe>,
        changing: &mut Changing,
    ) -> (MemberRow, Option<Health>) {
        let CheckAfter { channel, slot, asked, asked_before } = check;
        let before = asked_before.as_ref().map(|asked| MemberQuestion::of(asked, old.channel(), there));
        let after = asked.as_ref().map(|asked| MemberQuestion::of(asked, channel, member));
        // A member that stays has the same address.
        let continuity = Continuity::of((&(), before.as_ref()), (&(), after.as_ref()));
        let commands = &mut changing.commands;
        let interval = |channel: &Channel| channel.active_check().map(|check| check.interval());
        let next = MemberSlot { generation: row.slot.generation.wrapping_add(1), ..row.slot };
        match continuity {
            Continuity::Kept if interval(old.channel()) == interval(channel) => {
                if let Some((check, probe)) = channel.active_check().zip(probe) {
                    let refresh = DriverCommand::Refresh(row.slot.index, Thresholds::from(check), probe);
                    commands.push(row.slot, refresh);
                }
                return (*row, None);
            }
            Continuity::LastKnown if before.is_none() => return (*row, None),
            Continuity::Kept => commands.rescheduled += 1,
            _ => commands.counts.restarted += 1,
        }
        self.release_offset(old.channel(), row.offset);
        match continuity {
            Continuity::Kept | Continuity::CarriedOver if before.is_some() => {
                (self.assign(channel, *slot, (row.slot, continuity), probe, commands), None)
            }
            // Another generation: transitions that are under way are of no use.
            Continuity::LastKnown => {
                let kept = self.assign(channel, *slot, (next, continuity), probe, commands);
                (kept, Some(Health::Unknown))
            }
            Continuity::Kept | Continuity::CarriedOver | Continuity::NewMember => {
                let begin = (next, Continuity::NewMember);
                let again = self.assign(channel, *slot, begin, probe, commands);
                let known = changing.known.as_ref();
                let known = known.and_then(|known| known.through(known.of(row.slot)?, continuity));
                let verdict = known.filter(|known| known.from != VerdictFrom::InitialState);
                if let Some(known) = known {
                    commands.push(next, DriverCommand::Resume(next.index, next.generation, known));
                }
                (again, Some(verdict.map_or(initial_health(channel), |known| known.health)))
            }
        }
    }

    /// Removes members of a channel, by their positions.
    fn depart(&mut self, old: &Entry, positions: Vec<usize>, changing: &mut Changing) {
        for position in &positions {
            if let Some(row) = old.rows.get(*position) {
                self.release_offset(old.channel(), row.offset);
                self.drivers.give_back(row.slot);
                changing.commands.remove(row.slot);
            }
        }
        if let Some(known) = &changing.known {
            changing.departures.add(old, positions.into_iter(), known);
        }
    }

    /// Lets members that appear go on with what is known of them.
    fn settle(&self, changing: &mut Changing) {
        let Changing { commands, known, departures, appeared, recalled: count, .. } = changing;
        if let Some(recall) = &self.recall {
            let entries: Vec<&Entry> = appeared.iter().map(|(entry, _)| &**entry).collect();
            for (entry, members) in entries.iter().zip(recalled(recall, &entries)) {
                for (position, known) in members.into_iter().enumerate() {
                    *count += usize::from(known.is_some());
                    resume(entry, position, known, commands);
                }
            }
        }
        let Some(known) = known else { return };
        for (entry, positions) in appeared {
            let channel = entry.channel();
            let asked = channel.check_question();
            for position in positions {
                let member = channel.members().get(*position);
                let found = member.and_then(|member| departures.find(channel, member, asked.as_ref()));
                let found = found.and_then(|(continuity, found)| known.through(found, continuity));
                resume(entry, *position, found, commands);
            }
        }
    }

    fn take_channel_slot(&mut self, id: Id, commands: &mut CommandLists) -> ChannelSlot {
        let slot = ChannelSlot(self.channel_slots.take());
        commands.reset_channel(slot);
        match self.occupants.get_mut(slot.0 as usize) {
            Some(occupant) => *occupant = id,
            // Numbers come without gaps, so this is the next one.
            None => self.occupants.push(id),
        }
        slot
    }

    fn assign(
        &mut self,
        channel: &Channel,
        channel_slot: ChannelSlot,
        (slot, continuity): (MemberSlot, Continuity),
        probe: Option<MemberProbe>,
        commands: &mut CommandLists,
    ) -> MemberRow {
        let offset = channel.active_check().map(|check| self.offsets.allot(Cadence::from(check)));
        let member = NewMember { continuity, ..new_member(channel, channel_slot, slot, offset) };
        commands.push(slot, DriverCommand::Assign(member, probe));
        MemberRow { slot, offset: offset.map(|offset| offset.number), balancer_id: None }
    }

    /// Takes back the offset that a member of this channel had.
    fn release_offset(&mut self, channel: &Channel, offset: Option<OffsetNumber>) {
        if let (Some(check), Some(offset)) = (channel.active_check(), offset) {
            self.offsets.release(Cadence::from(check), offset);
        }
    }

    fn probe(&self, channel: &Channel, member: &Member, plan: &Arc<Plan>) -> MemberProbe {
        let target = Target::new(member.host(), channel.check_port(member).get(), &self.resolver);
        MemberProbe { plan: Arc::clone(plan), target }
    }
}

/// Finds the members that leave one group of the channel and appear in another.
fn regroup(
    old: &Channel,
    new: &Channel,
    (leaving, appearing): (&[u32], &[usize]),
    asked_by: &Requesters,
    changing: &mut Changing,
) {
    if leaving.is_empty() || appearing.is_empty() {
        return;
    }
    let mut gone: HashMap<MemberIdentity, Vec<&Member>> = HashMap::new();
    for member in leaving.iter().filter_map(|place| old.members().get(*place as usize)) {
        gone.entry(old.host_identity(member).outside_groups()).or_default().push(member);
    }
    for member in appearing.iter().filter_map(|place| new.members().get(*place)) {
        let address = new.host_identity(member).outside_groups();
        let Some(there) = gone.get_mut(&address).and_then(Vec::pop) else { continue };
        changing.log.compare((old, there), (new, member), asked_by);
        changing.commands.counts.changed += 1;
        changing.regrouped += 1;
    }
}

/// A member that is there already, and its row.
fn staying(old: &Entry, place: u32) -> Option<(&Member, &MemberRow)> {
    Some((old.channel().members().get(place as usize)?, old.rows.get(place as usize)?))
}

/// Lets a member that appeared go on.
fn resume(entry: &Entry, position: usize, known: Option<Resumed>, commands: &mut CommandLists) {
    let (Some(known), Some(row)) = (known, entry.rows.get(position)) else { return };
    let MemberSlot { index, generation, .. } = row.slot;
    commands.push(row.slot, DriverCommand::Resume(index, generation, known));
    if known.from != VerdictFrom::InitialState {
        entry.set_health(position, known.health);
    }
}

/// A hash of the identity, so that a member stays with its driver whatever happens
/// to the others.
pub(super) fn driver_hash(channel: &Channel, member: &Member) -> u64 {
    let mut hasher = DefaultHasher::new();
    channel.name().hash(&mut hasher);
    channel.host_identity(member).hash(&mut hasher);
    hasher.finish()
}

fn new_member(
    channel: &Channel,
    channel_slot: ChannelSlot,
    slot: MemberSlot,
    offset: Option<AllottedOffset>,
) -> NewMember {
    let timing = channel.active_check().zip(offset).map(|(check, offset)| CheckTiming {
        cadence: Cadence::from(check),
        thresholds: Thresholds::from(check),
        offset: offset.offset,
        // Set when the change is complete and its size known.
        window: Duration::ZERO,
    });
    NewMember {
        slot: slot.index,
        generation: slot.generation,
        channel: channel_slot.0,
        timing,
        initial: initial_health(channel),
        continuity: Continuity::NewMember,
    }
}

/// The health of each member as its balancer knows it: neither a new strategy nor another
/// spelling makes a member healthier than it was.
fn balanced_health(entry: &Entry) -> HashMap<MemberId, Health> {
    entry.balancer.members().into_iter().map(|member| (member.id, member.standing.health)).collect()
}
