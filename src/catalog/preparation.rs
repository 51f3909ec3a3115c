//! A change with everything made that could fail: the plans of probes, new balancers, and
//! which members stay. The writer puts it into effect.

use std::sync::Arc;

use super::continuation::{DriverKnowledge, Pairing};
use super::entry::{Change, ChannelBalancer, Entry, Resource};
use super::requester::Requesters;
use super::resources::Resources;
use super::snapshot::Channels;
use super::transaction::ChangeSet;
use crate::balance::{HashOptions, Member as BalancedMember, Options, SlowStart, UpdateError};
use crate::channel::{BalanceOptions, Channel, Health, Member, MemberAddress};
use crate::probe::{Plan, PlanError, Reference};

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
    pub(super) steps: Vec<ChannelStep>,
    pub(super) resources: Resources,
    pub(super) known: Option<DriverKnowledge>,
}

impl Prepared {
    /// Makes whatever can fail. `channels` are in effect.
    pub(super) fn new(
        channels: &Channels,
        reference: &Arc<Reference>,
        changes: &ChangeSet,
        resources: Resources,
    ) -> Result<Self, CatalogError> {
        let mut errors = Vec::new();
        let mut steps = Vec::new();
        for change in changes.channels() {
            match step_of(change, channels, reference) {
                Ok(step) => steps.push(step),
                Err(error) => errors.push((change.name().to_owned(), error)),
            }
        }
        if errors.is_empty() { Ok(Self { steps, resources, known: None }) } else { Err(CatalogError(errors)) }
    }

    /// Whether what the drivers know matters: members move, or are asked again.
    #[must_use]
    pub fn asks_drivers(&self) -> bool {
        let (mut leave, mut appear) = (false, false);
        for step in &self.steps {
            match step {
                ChannelStep::Keep(..) => {}
                ChannelStep::Remove(old) => leave |= !old.rows.is_empty(),
                ChannelStep::Place(old, ready) => {
                    leave |= !ready.pairing.leaving.is_empty();
                    appear |= ready.pairing.appears();
                    let was_off = old.as_ref().is_some_and(|old| old.channel().active_check().is_none());
                    if was_off && ready.plan.is_some() && ready.pairing.stays() {
                        return true;
                    }
                }
            }
        }
        leave && appear
    }

    /// Takes what the drivers know. Without it, members that move or are asked again begin
    /// as if nobody knew them.
    pub fn learn(&mut self, known: DriverKnowledge) {
        self.known = Some(known);
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// What becomes of one channel.
pub(super) enum ChannelStep {
    /// What is in effect stays.
    Keep(Arc<Entry>, Arc<Resource>),
    /// It comes, or something about it changes.
    Place(Option<Arc<Entry>>, Ready),
    Remove(Arc<Entry>),
}

/// What a channel is to be, with what could fail to be made.
pub(super) struct Ready {
    pub(super) resource: Arc<Resource>,
    /// None: its members are not probed.
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) balancer: ChannelBalancer,
    /// Whether the balancer has the new members already.
    pub(super) is_new_balancer: bool,
    pub(super) pairing: Pairing,
    pub(super) asked_by: Requesters,
}

fn step_of(
    change: &Change,
    channels: &Channels,
    reference: &Arc<Reference>,
) -> Result<ChannelStep, ChannelError> {
    let held = |before: &Arc<Resource>| channels.entry(before.id).ok_or(ChannelError::Outdated);
    let old = change.before.as_ref().map(held).transpose()?;
    match (old, &change.after) {
        (Some(old), None) => Ok(ChannelStep::Remove(Arc::clone(old))),
        (Some(old), Some(after)) if *old.channel() == after.effective => {
            Ok(ChannelStep::Keep(Arc::clone(old), Arc::clone(after)))
        }
        (old, Some(after)) => ready(old, after, reference, &change.asked_by),
        (None, None) => Err(ChannelError::Outdated),
    }
}

fn ready(
    old: Option<&Arc<Entry>>,
    resource: &Arc<Resource>,
    reference: &Arc<Reference>,
    asked_by: &Requesters,
) -> Result<ChannelStep, ChannelError> {
    let channel = &resource.effective;
    let plan = match channel.active_check() {
        Some(check) => {
            let plan = Plan::new(check, channel.probe())?;
            plan.prepare();
            Some(Arc::new(plan.with_reference(Arc::clone(reference))))
        }
        None => None,
    };
    let options = balancer_options(channel.balance());
    // It lives as long as the channel keeps its strategy and options, so that open
    // picks and the phase of the rotation survive every other change.
    let goes_on = old
        .map(|old| &old.balancer)
        .filter(|balancer| balancer.strategy() == channel.strategy() && *balancer.options() == options);
    let is_new_balancer = goes_on.is_none();
    let balancer = match goes_on {
        Some(balancer) => balancer.clone(),
        None => ChannelBalancer::new(channel.strategy(), options, balanced_members(channel))?,
    };
    let pairing = Pairing::of(old.map(|old| &**old.channel()), channel);
    let ready = Ready {
        resource: Arc::clone(resource),
        plan,
        balancer,
        is_new_balancer,
        pairing,
        asked_by: asked_by.clone(),
    };
    Ok(ChannelStep::Place(old.cloned(), ready))
}

/// What a `balance` table means to a balancer.
fn balancer_options(balance: &BalanceOptions) -> Options {
    let hash = HashOptions {
        seed: balance.hash_seed.0,
        function: balance.hash_function,
        source_prefix: balance.source_prefix,
        uri: balance.uri,
        bounded_load: balance.bounded_load_percent.map(|percent| f64::from(percent) / 100.0),
        ..HashOptions::default()
    };
    Options {
        fail_open: balance.fail_open,
        slow_start: balance.slow_start.map(SlowStart::linear),
        least: balance.least,
        hash,
    }
}

/// What new members count as before their first verdict; those that are not probed are
/// unknown.
pub(super) fn initial_health(channel: &Channel) -> Health {
    channel.active_check().map_or(Health::Unknown, |_| channel.probe().initial_state)
}

/// The members as their balancer takes them.
pub(super) fn balanced_members(channel: &Channel) -> Vec<BalancedMember<MemberAddress>> {
    let balanced = |member: &Member| {
        BalancedMember::named(balancer_identity(channel, member), channel.member_address(member))
            .weight(channel.effective_weight(member))
            .role(member.role())
            .status(member.status())
            .health(initial_health(channel))
    };
    channel.members().iter().map(balanced).collect()
}

/// What the channel's balancer calls a member.
pub(super) fn balancer_identity(channel: &Channel, member: &Member) -> String {
    channel.host_identity(member).to_string()
}
