//! The catalog's one writer: from changes to what runs.
//!
//! The daemon's control loop prepares a change, has it stored, and commits it: the
//! drivers are told, then readers. A change is refused whole or takes effect whole. A
//! member is known by its channel, group, host and port: as long as these and its
//! check stay, so do its verdict, counts and offset.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::drivers::{CommandLists, DriverCommand, Drivers, MemberProbe, NumberPool, ReloadSummary};
use super::entry::{Change, ChannelBalancer, ChannelSlot, Entry, MemberRow, MemberSlot, Resource};
use super::ids::Id;
use super::resources::Resources;
use super::snapshot::Channels;
use super::transaction::ChangeSet;
use crate::balance::{Member as BalancedMember, Options, UpdateError};
use crate::channel::{Channel, Member, MemberAddress, MemberIdentity};
use crate::health::schedule::{AllottedOffset, OffsetAllotter, OffsetNumber};
use crate::health::{CheckTiming, NewMember, Thresholds};
use crate::probe::{Plan, PlanError, Reference, Resolver, Target};
use crate::store::{DefinitionHash, Recall, VerdictKey};

/// What one channel's part of a change fails on.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Its probes cannot be prepared.
    #[error(transparent)]
    Probe(#[from] PlanError),
    /// Its members cannot be balanced.
    #[error(transparent)]
    Balance(#[from] UpdateError),
    /// The change was planned on a catalog that is no more.
    #[error("it is not in effect as the change expects it; please report this")]
    Outdated,
}

/// Why a change was refused; nothing of it took effect.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(channel, error)| format!("channel \"{channel}\": {error}")).collect::<Vec<_>>().join("\n"))]
pub struct CatalogError(pub Vec<(String, ChannelError)>);

/// A change with everything made that could fail. Good only as long as no other
/// change is committed.
pub struct Prepared {
    steps: Vec<ChannelStep>,
    resources: Resources,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// What becomes of one channel.
enum ChannelStep {
    /// What is in effect stays.
    Keep(Arc<Entry>, Arc<Resource>),
    /// It comes, or something about it changes.
    Place(Option<Arc<Entry>>, Ready),
    Remove(Arc<Entry>),
}

/// What a channel is to be, with what could fail to be made.
struct Ready {
    resource: Arc<Resource>,
    /// None: its members are not probed.
    plan: Option<Arc<Plan>>,
    balancer: ChannelBalancer,
    /// Whether the balancer has the new members already.
    is_new_balancer: bool,
    /// Whether members are asked the same as before.
    asks_the_same: bool,
}

/// A change that has been made: tell the drivers, then publish the channels.
#[derive(Debug)]
pub struct Committed {
    /// What each driver must do, in order.
    pub drivers: Vec<Vec<DriverCommand<MemberProbe>>>,
    /// The channels as they are from now on.
    pub channels: Arc<Channels>,
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
    drivers: Drivers,
    offsets: OffsetAllotter,
    resolver: Resolver,
    /// Verdicts of before the daemon's restart, for members that come.
    recall: Option<Arc<Recall>>,
    reference: Arc<Reference>,
}

impl Catalog {
    /// An empty catalog over so many drivers. `seed` shifts all offsets.
    #[must_use]
    pub fn new(drivers: usize, seed: u64, resolver: Resolver) -> Self {
        Self {
            channels: Arc::new(Channels::of(Resources::without_api())),
            channel_slots: NumberPool::default(),
            occupants: Vec::new(),
            drivers: Drivers::new(drivers),
            offsets: OffsetAllotter::new(seed),
            resolver,
            recall: None,
            reference: Arc::default(),
        }
    }

    /// Everything that is in effect.
    #[must_use]
    pub fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// What the prober's own network is judged by, for all channels.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Lets members that come from now on go on with what was kept of them;
    /// none ends that.
    pub fn set_recall(&mut self, recall: Option<Arc<Recall>>) {
        self.recall = recall;
    }

    /// Makes whatever can fail, and changes nothing. Between this and
    /// [`Catalog::commit`] the change can be made durable.
    ///
    /// # Errors
    /// The channels whose probes or balancers cannot be prepared.
    pub fn prepare(&self, changes: &ChangeSet, resources: Resources) -> Result<Prepared, CatalogError> {
        let mut errors = Vec::new();
        let mut steps = Vec::new();
        for change in changes.channels() {
            match self.step_of(change) {
                Ok(step) => steps.push(step),
                Err(error) => errors.push((change.name().to_owned(), error)),
            }
        }
        if errors.is_empty() { Ok(Prepared { steps, resources }) } else { Err(CatalogError(errors)) }
    }

    fn step_of(&self, change: &Change) -> Result<ChannelStep, ChannelError> {
        let held = |before: &Arc<Resource>| self.channels.entry(before.id).ok_or(ChannelError::Outdated);
        let old = change.before.as_ref().map(held).transpose()?;
        match (old, &change.after) {
            (Some(old), None) => Ok(ChannelStep::Remove(Arc::clone(old))),
            (Some(old), Some(after)) if *old.channel() == after.effective => {
                Ok(ChannelStep::Keep(Arc::clone(old), Arc::clone(after)))
            }
            (old, Some(after)) => self.ready(old, after),
            (None, None) => Err(ChannelError::Outdated),
        }
    }

    fn ready(&self, old: Option<&Arc<Entry>>, resource: &Arc<Resource>) -> Result<ChannelStep, ChannelError> {
        let channel = &resource.effective;
        let plan = match channel.active_check() {
            Some(check) => {
                let plan = Plan::new(check, channel.probe())?;
                plan.prepare();
                Some(Arc::new(plan.with_reference(Arc::clone(&self.reference))))
            }
            None => None,
        };
        let options = Options { fail_open: channel.balance().fail_open, ..Options::default() };
        // It lives as long as the channel keeps its strategy and options, so that open
        // picks and the phase of the rotation survive every other change.
        let goes_on = old
            .map(|old| &old.balancer)
            .filter(|balancer| balancer.strategy() == channel.strategy() && *balancer.options() == options);
        let is_new_balancer = goes_on.is_none();
        let balancer = match goes_on {
            Some(balancer) => balancer.clone(),
            None => {
                let balancer = ChannelBalancer::new(channel.strategy(), options, balanced_members(channel))?;
                if let Some(old) = old {
                    carry_health(&balancer, &old.balancer);
                }
                balancer
            }
        };
        let asks_the_same =
            old.is_some_and(|old| old.channel().check_definition() == channel.check_definition());
        let ready = Ready { resource: Arc::clone(resource), plan, balancer, is_new_balancer, asks_the_same };
        Ok(ChannelStep::Place(old.cloned(), ready))
    }

    /// Puts a prepared change into effect.
    pub fn commit(&mut self, prepared: Prepared) -> Committed {
        let Prepared { steps, resources } = prepared;
        let mut channels = self.channels.with_resources(resources);
        let mut commands = CommandLists::new(self.drivers.count());
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
                    channels.insert(Arc::new(self.place(old.as_deref(), ready, &mut commands)));
                }
                ChannelStep::Remove(old) => {
                    for row in &*old.rows {
                        self.remove_member(old.channel(), row, &mut commands);
                    }
                    self.channel_slots.give_back(old.slot.0);
                }
            }
        }
        self.channels = Arc::new(channels);
        let counts = commands.counts;
        Committed { drivers: commands.finish(), channels: Arc::clone(&self.channels), counts }
    }

    /// The channel and the position of the member in a slot, if it still has it.
    #[must_use]
    pub fn occupant(&self, slot: MemberSlot) -> Option<(&Arc<Entry>, usize)> {
        let occupant = self.drivers.occupant(slot)?;
        let id = self.occupants.get(occupant.channel.0 as usize)?;
        Some((self.channels.entry(*id)?, occupant.position as usize))
    }

    /// Gives a channel and its members their slots.
    fn place(&mut self, old: Option<&Entry>, ready: Ready, commands: &mut CommandLists) -> Entry {
        let Ready { resource, plan, balancer, is_new_balancer, asks_the_same } = ready;
        let channel = &*resource.effective;
        let slot = match old {
            Some(old) => old.slot,
            None => self.take_channel_slot(resource.id, commands),
        };
        if !is_new_balancer && let Err(error) = balancer.update(balanced_members(channel)) {
            // The channel's rules allow one member per address and group, and a balancer
            // takes more members than a file can name.
            tracing::error!(channel = channel.name(), %error, "the balancer keeps its old members");
        }
        let mut leaving: HashMap<MemberIdentity, (&Member, &MemberRow)> = old
            .into_iter()
            .flat_map(|old| old.members().map(|held| (old.channel().host_identity(held.0), held)))
            .collect();
        let mut rows = Vec::with_capacity(channel.members().len());
        let (mut restarted, mut added) = (Vec::new(), Vec::new());
        for (position, member) in (0..).zip(channel.members()) {
            let probe = plan.as_ref().map(|plan| self.probe(channel, member, plan));
            let row = match leaving.remove(&channel.host_identity(member)).zip(old) {
                Some(((before, row), old))
                    if asks_the_same && is_asked_alike(old.channel(), before, channel, member) =>
                {
                    if let Some(probe) = probe {
                        commands.push(row.slot, DriverCommand::Refresh(row.slot.index, probe));
                    }
                    *row
                }
                Some(((_, row), old)) => {
                    restarted.push(rows.len());
                    self.release_offset(old.channel(), row.offset);
                    let generation = row.slot.generation.wrapping_add(1);
                    self.assign(channel, slot, MemberSlot { generation, ..row.slot }, probe, commands)
                }
                None => {
                    added.push(rows.len());
                    let taken = self.drivers.take(driver_hash(channel, member), slot, position);
                    self.assign(channel, slot, taken, probe, commands)
                }
            };
            self.drivers.occupy(row.slot, slot, position);
            rows.push(MemberRow { balancer_id: balancer.id_of(&balancer_identity(channel, member)), ..row });
        }
        commands.counts.restarted += restarted.len();
        commands.counts.added += added.len();
        if let Some(old) = old {
            leaving.into_values().for_each(|(_, row)| self.remove_member(old.channel(), row, commands));
        }
        let entry = Entry { rows: rows.into(), slot, balancer, resource: Arc::clone(&resource) };
        for position in restarted {
            entry.set_health(position, channel.probe().initial_state);
        }
        self.resume(&entry, &added, commands);
        entry
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
        slot: MemberSlot,
        probe: Option<MemberProbe>,
        commands: &mut CommandLists,
    ) -> MemberRow {
        let offset = channel.active_check().map(|check| self.offsets.allot(check.interval()));
        commands.push(slot, DriverCommand::Assign(new_member(channel, channel_slot, slot, offset), probe));
        MemberRow { slot, offset: offset.map(|offset| offset.number), balancer_id: None }
    }

    fn remove_member(&mut self, channel: &Channel, row: &MemberRow, commands: &mut CommandLists) {
        self.release_offset(channel, row.offset);
        self.drivers.give_back(row.slot);
        commands.remove(row.slot);
    }

    /// Takes back the offset that a member of this channel had.
    fn release_offset(&mut self, channel: &Channel, offset: Option<OffsetNumber>) {
        if let (Some(check), Some(offset)) = (channel.active_check(), offset) {
            self.offsets.release(check.interval(), offset);
        }
    }

    fn probe(&self, channel: &Channel, member: &Member, plan: &Arc<Plan>) -> MemberProbe {
        let target = Target::new(member.host(), channel.check_port(member).get(), &self.resolver);
        MemberProbe { plan: Arc::clone(plan), target }
    }

    /// Lets members that came go on with what was kept of them over a restart.
    fn resume(&self, entry: &Entry, added: &[usize], commands: &mut CommandLists) {
        let channel = entry.channel();
        let Some((recall, definition)) = self.recall.as_ref().zip(DefinitionHash::of(channel)) else {
            return;
        };
        for position in added {
            let (Some(member), Some(row)) = (channel.members().get(*position), entry.rows.get(*position))
            else {
                continue;
            };
            let Some(record) = recall.records.get(&VerdictKey::of(definition, channel, member)) else {
                continue;
            };
            let MemberSlot { index, generation, .. } = row.slot;
            commands.push(row.slot, DriverCommand::Resume(index, generation, record.resumed));
            entry.set_health(*position, record.resumed.health);
        }
    }
}

/// A hash of the identity, so that a member stays with its driver whatever happens
/// to the others.
fn driver_hash(channel: &Channel, member: &Member) -> u64 {
    let mut hasher = DefaultHasher::new();
    channel.name().hash(&mut hasher);
    channel.host_identity(member).hash(&mut hasher);
    hasher.finish()
}

/// A host name in another case is the same member, but other bytes are sent to it.
fn is_asked_alike(old: &Channel, old_member: &Member, new: &Channel, new_member: &Member) -> bool {
    old_member.host() == new_member.host() && old.check_port(old_member) == new.check_port(new_member)
}

fn new_member(
    channel: &Channel,
    channel_slot: ChannelSlot,
    slot: MemberSlot,
    offset: Option<AllottedOffset>,
) -> NewMember {
    let timing = channel.active_check().zip(offset).map(|(check, offset)| CheckTiming {
        interval: check.interval(),
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
        initial: channel.probe().initial_state,
    }
}

fn balanced_members(channel: &Channel) -> Vec<BalancedMember<MemberAddress>> {
    let balanced = |member: &Member| {
        BalancedMember::named(balancer_identity(channel, member), channel.member_address(member))
            .weight(channel.effective_weight(member))
            .role(member.role())
            .status(member.status())
            .health(channel.probe().initial_state)
    };
    channel.members().iter().map(balanced).collect()
}

/// What the channel's balancer calls a member.
fn balancer_identity(channel: &Channel, member: &Member) -> String {
    channel.host_identity(member).to_string()
}

/// A new strategy makes no member healthier than it was.
fn carry_health(new: &ChannelBalancer, old: &ChannelBalancer) {
    for member in old.members() {
        if let Some(id) = new.id_of(&member.identity) {
            let _ = new.set_health(id, member.standing.health);
        }
    }
}
