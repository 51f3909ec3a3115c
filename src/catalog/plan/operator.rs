//! An operator's change of one member: enable, disable, drain, weigh, reset.
//!
//! Of a channel that a file describes it becomes an override, which the state directory
//! keeps. A channel of the API is changed by the API's own rules: the change is a part of
//! the channel from then on, as if a client had made it. docs/config.md, "Overrides".

use std::sync::Arc;

use super::super::entry::{Resource, Source};
use super::super::fault::{Fault, MemberChangeError};
use super::super::ids::Id;
use super::super::overrides::{KeptOverride, MOST_OVERRIDES};
use super::{Planner, Reply};
use crate::channel::{Channel, ChannelKind, Member, MemberIdentity, MemberStatus, OverrideState};

/// Members that an error lists at most.
const MOST_NAMED: usize = 20;

/// What an operator wants of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// The name that the channel is known by.
    pub channel: String,
    /// Which member: its id, `group/host:port`, `host:port`, its host, `ecs_id` or
    /// `ecs_name`.
    pub member: String,
    /// What is to become of it.
    pub action: MemberAction,
    /// Who wants it, for people.
    pub who: String,
}

/// What is to become of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberAction {
    /// It takes traffic again: neither disabled nor drained.
    Enable,
    /// It is switched off.
    Disable,
    /// It takes no new traffic.
    Drain,
    /// It has this weight, 0 to 10000.
    Weigh(u16),
    /// It is as its file says.
    Reset,
}

/// A member after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChanged {
    /// The name that the channel is known by.
    pub channel: String,
    /// Which member.
    pub member: MemberIdentity,
    /// As it is in effect: its switch and effective weight. None when it is gone.
    pub in_effect: Option<(MemberStatus, u16)>,
    /// What is said of it over its file; none when nothing is, and for channels of the API.
    pub kept: Option<Arc<KeptOverride>>,
}

pub(super) fn change(planner: &mut Planner<'_, '_>, change: &MemberChange) -> Result<Reply, Fault> {
    if matches!(change.action, MemberAction::Weigh(weight) if weight > 10_000) {
        return Err(MemberChangeError::Weight.into());
    }
    let resource = planner.state().known_as(&change.channel).cloned();
    if change.action == MemberAction::Reset {
        return reset(planner, change, resource.as_deref());
    }
    let resource = resource.ok_or_else(|| MemberChangeError::NoChannel(change.channel.clone()))?;
    if resource.configured.kind() == ChannelKind::Reference {
        return Err(MemberChangeError::Reference(change.channel.clone()).into());
    }
    let place = find(&resource, change)?;
    match resource.source {
        Source::File(_) => of_file(planner, change, &resource, place),
        Source::Api => of_api(planner, change, &resource, place),
    }
}

/// A member of a file channel gets or changes its override.
fn of_file(
    planner: &mut Planner<'_, '_>,
    change: &MemberChange,
    resource: &Resource,
    place: usize,
) -> Result<Reply, Fault> {
    let channel = &resource.configured;
    let member = at(channel, place)?;
    let identity = channel.host_identity(member);
    let held = planner.state().overrides_of(resource).and_then(|overrides| overrides.get(&identity));
    let before = held.map(|kept| kept.said).unwrap_or_default();
    let mut said = before;
    match change.action {
        MemberAction::Enable => {
            said.state = (member.status() == MemberStatus::Disabled).then_some(OverrideState::Enabled);
        }
        MemberAction::Disable => said.state = Some(OverrideState::Disabled),
        MemberAction::Drain => said.state = Some(OverrideState::Drained),
        MemberAction::Weigh(weight) => said.weight = Some(weight),
        MemberAction::Reset => said = Default::default(),
    }
    // Saying the same again changes nothing, not even who said it.
    if said != before {
        let mut overrides = planner.state().overrides().clone();
        if said.is_empty() {
            overrides.remove(channel.name(), &identity);
        } else {
            let now = planner.fresh.now();
            overrides.put(KeptOverride::new(channel.name(), identity.clone(), said, &change.who, now));
        }
        if overrides.len() > MOST_OVERRIDES {
            return Err(MemberChangeError::TooMany.into());
        }
        planner.transaction.set_overrides(overrides, Some(resource.id))?;
    }
    let state = planner.state();
    let kept = state.overrides().of(channel.name()).and_then(|overrides| overrides.get(&identity)).cloned();
    let after = state.resource(resource.id).and_then(|after| in_effect(&after.effective, place));
    Ok(changed(change, identity, after, kept))
}

/// A member of an API channel is changed as its clients would.
fn of_api(
    planner: &mut Planner<'_, '_>,
    change: &MemberChange,
    old: &Resource,
    place: usize,
) -> Result<Reply, Fault> {
    let channel = &old.configured;
    let before = at(channel, place)?;
    let member = before.clone();
    let after = match change.action {
        MemberAction::Enable => member.with_status(MemberStatus::Enabled),
        MemberAction::Disable => member.with_status(MemberStatus::Disabled),
        MemberAction::Drain => member.with_weight(Some(0)),
        MemberAction::Weigh(weight) => member.with_weight(Some(weight)),
        MemberAction::Reset => member,
    };
    let is_weighed = matches!(change.action, MemberAction::Drain | MemberAction::Weigh(_));
    let group = before.group().and_then(|name| channel.group(name)).filter(|group| group.weight().is_some());
    if let Some(group) = group.filter(|_| is_weighed) {
        return Err(MemberChangeError::GroupWeighs(group.name().to_owned()).into());
    }
    let identity = channel.host_identity(before);
    let mut effect = in_effect(channel, place);
    if after != *before {
        let mut parts = old.parts();
        if let Some((held, _)) = parts.members.get_mut(place) {
            *held = after;
        }
        effect = in_effect(&planner.put_parts(old, parts, "members")?.configured, place);
    }
    Ok(changed(change, identity, effect, None))
}

/// Takes an override back, also of a member or a channel that is gone.
fn reset(
    planner: &mut Planner<'_, '_>,
    change: &MemberChange,
    resource: Option<&Resource>,
) -> Result<Reply, Fault> {
    let channel = &change.channel;
    let resource = resource.filter(|resource| resource.source != Source::Api);
    let kept = planner.state().overrides().of(channel);
    let identities: Vec<MemberIdentity> = kept.into_iter().flat_map(|kept| kept.keys().cloned()).collect();
    let named = best(identities.iter().map(|identity| host_names(identity, &change.member)));
    let identity = match named.as_deref() {
        Some([place]) => identities.get(*place).cloned(),
        Some(several @ [_, _, ..]) => {
            let meant = several.iter().filter_map(|place| identities.get(*place)).map(shown).take(MOST_NAMED);
            let (channel, asked) = (channel.clone(), change.member.clone());
            return Err(MemberChangeError::Ambiguous { channel, asked, meant: meant.collect() }.into());
        }
        // Not an override's own words: the member may be called otherwise.
        Some([]) | None => resource.and_then(|resource| {
            let place = find(resource, change).ok()?;
            let member = resource.configured.members().get(place)?;
            Some(resource.configured.host_identity(member))
        }),
    };
    let identity = identity.filter(|identity| identities.contains(identity)).ok_or_else(|| {
        let there = identities.iter().map(shown).take(MOST_NAMED).collect();
        MemberChangeError::NoOverride { channel: channel.clone(), asked: change.member.clone(), there }
    })?;
    let mut overrides = planner.state().overrides().clone();
    overrides.remove(channel, &identity);
    planner.transaction.set_overrides(overrides, resource.map(|resource| resource.id))?;
    let after = resource.and_then(|resource| {
        let members = resource.configured.members();
        let place = members.iter().position(|it| resource.configured.host_identity(it) == identity)?;
        in_effect(&planner.state().resource(resource.id)?.effective, place)
    });
    Ok(changed(change, identity, after, None))
}

fn changed(
    change: &MemberChange,
    member: MemberIdentity,
    in_effect: Option<(MemberStatus, u16)>,
    kept: Option<Arc<KeptOverride>>,
) -> Reply {
    Reply::MemberChanged(MemberChanged { channel: change.channel.clone(), member, in_effect, kept })
}

fn in_effect(channel: &Channel, place: usize) -> Option<(MemberStatus, u16)> {
    let member = channel.members().get(place)?;
    Some((member.status(), channel.effective_weight(member)))
}

fn at(channel: &Channel, place: usize) -> Result<&Member, Fault> {
    let gone = || Fault::Unavailable("a member that was found is not there; please report this".to_owned());
    channel.members().get(place).ok_or_else(gone)
}

/// How well a text names a member, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Naming {
    Id,
    Identity,
    Address,
    Host,
}

/// The position of the member that is meant.
fn find(resource: &Resource, change: &MemberChange) -> Result<usize, Fault> {
    let channel = &resource.configured;
    let asked = &*change.member;
    let id = Id::parse(asked).and_then(|id| resource.members.position(id));
    let identities = || channel.members().iter().map(|member| channel.host_identity(member));
    let names = channel.members().iter().zip(identities()).enumerate().map(|(place, (member, identity))| {
        let is_ecs = |ecs: &crate::channel::EcsIdentity| ecs.id == asked || ecs.name == asked;
        if id == Some(place) {
            Some(Naming::Id)
        } else if member.ecs().is_some_and(is_ecs) {
            Some(host_names(&identity, asked).unwrap_or(Naming::Host))
        } else {
            host_names(&identity, asked)
        }
    });
    let found = best(names);
    let some = |places: &[usize]| {
        let listed =
            identities().enumerate().filter(|(place, _)| places.is_empty() || places.contains(place));
        listed.map(|(_, identity)| shown(&identity)).take(MOST_NAMED).collect::<Vec<_>>()
    };
    let (channel, asked) = (change.channel.clone(), change.member.clone());
    match found.as_deref() {
        Some([place]) => Ok(*place),
        Some(several @ [_, _, ..]) => {
            Err(MemberChangeError::Ambiguous { channel, asked, meant: some(several) }.into())
        }
        Some([]) | None => Err(MemberChangeError::NoMember { channel, asked, there: some(&[]) }.into()),
    }
}

/// The positions that are named best; none when nothing is named.
fn best(names: impl Iterator<Item = Option<Naming>>) -> Option<Vec<usize>> {
    let named: Vec<(Naming, usize)> =
        names.enumerate().filter_map(|(place, it)| Some((it?, place))).collect();
    let (first, _) = named.iter().min()?;
    Some(named.iter().filter(|(naming, _)| naming == first).map(|(_, place)| *place).collect())
}

/// Whether a text names a member by its address; host names compare without case.
fn host_names(identity: &MemberIdentity, asked: &str) -> Option<Naming> {
    let (address, server) = (identity.address(), identity.server());
    let of_group = match asked.split_once('/') {
        Some((group, rest)) => group == identity.group() && rest.eq_ignore_ascii_case(&address),
        None => false,
    };
    if of_group {
        Some(Naming::Identity)
    } else if asked.eq_ignore_ascii_case(&address) {
        Some(Naming::Address)
    } else {
        let host = asked.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case(&server).then_some(Naming::Host)
    }
}

/// `host:port`, with `group/` before it for a member of a group.
fn shown(identity: &MemberIdentity) -> String {
    if identity.group().is_empty() { identity.address() } else { identity.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(text: &str) -> MemberIdentity {
        let (group, host) = text.split_once('/').expect("a group");
        let group = Some(group).filter(|group| !group.is_empty()).map(Arc::from);
        let host =
            host.parse().map_or_else(|_| crate::channel::Host::Name(host.into()), crate::channel::Host::Ip);
        MemberIdentity::of_host(group, host, 80)
    }

    #[test]
    fn members_are_named_by_what_says_most() {
        let there = ["/10.0.0.1", "blue/10.0.0.1", "/2001:db8::7", "/App.Example"].map(identity);
        let named = |asked: &str| best(there.iter().map(|identity| host_names(identity, asked)));
        let rows: [(&str, Option<&[usize]>); 9] = [
            ("10.0.0.1", Some(&[0, 1])),
            ("10.0.0.1:80", Some(&[0, 1])),
            ("blue/10.0.0.1:80", Some(&[1])),
            ("/10.0.0.1:80", Some(&[0])),
            ("[2001:db8::7]:80", Some(&[2])),
            ("2001:db8::7", Some(&[2])),
            ("app.example", Some(&[3])),
            ("app.example:81", None),
            ("green/10.0.0.1:80", None),
        ];
        for (asked, expected) in rows {
            assert_eq!(named(asked).as_deref(), expected, "{asked}");
        }
    }
}
