//! Add, update and delete the groups of a channel.

use std::sync::Arc;

use super::super::body::{Body, field};
use super::super::entry::{GroupTag, Members, Resource, Tag, group_tags, updated};
use super::super::fault::Fault;
use super::super::ids::Id;
use super::channels::{check_sizes, refuse_fixed_weights};
use super::{CallReply, ChannelPath, Planner, blame, checked};
use crate::channel::reader::{read_group, read_groups};
use crate::channel::{Member, MemberGroup};

/// Upsert by name: groups that are there are replaced in place, others join at
/// the end.
pub(super) fn add(planner: &mut Planner<'_, '_>, at: &ChannelPath, body: &Body) -> Result<CallReply, Fault> {
    let old = planner.writable(at)?;
    let list = field(body.object()?, "member_groups").ok_or(Fault::Missing("member_groups"))?;
    let asked = checked(read_groups(list))?;
    if asked.is_empty() {
        return Err(Fault::Missing("member_groups"));
    }
    let mut groups = old.configured.groups().to_vec();
    let mut touched = Vec::with_capacity(asked.len());
    for group in asked {
        let place = groups.iter().position(|there| there.name() == group.name());
        touched.push(place.unwrap_or(groups.len()));
        match place.and_then(|place| groups.get_mut(place)) {
            Some(there) => *there = group,
            None => groups.push(group),
        }
    }
    let tags = group_tags(Some(&old), &groups, planner.fresh);
    let members = old.members().map(|(member, tag)| (member.clone(), tag)).collect();
    finish(planner, &old, (groups, tags), members, |resource| CallReply::Groups(resource, touched))
}

/// Replaces a group; its members follow a new name.
pub(super) fn update(
    planner: &mut Planner<'_, '_>,
    at: &ChannelPath,
    group: &str,
    body: &Body,
) -> Result<CallReply, Fault> {
    let old = planner.writable(at)?;
    let place = position(&old, group)?;
    let object = body.object()?;
    let asked = checked(read_group(object))?;
    let mut groups = old.configured.groups().to_vec();
    let mut tags = old.groups.clone();
    let is_taken =
        groups.iter().enumerate().any(|(other, there)| other != place && there.name() == asked.name());
    if is_taken {
        let why = format!("another group is named \"{}\"", asked.name());
        return Err(Fault::Invalid("member_group_name", why));
    }
    let (Some(there), Some(tag)) = (groups.get_mut(place), tags.get_mut(place)) else {
        return Err(Fault::NoGroup(group.to_owned()));
    };
    let before = std::mem::replace(there, asked);
    tag.updated = updated(&before, there, *tag, planner.fresh.now());
    let new_name = Arc::<str>::from(there.name());
    let members = old.members().map(|(member, tag)| {
        let member = member.clone();
        let follows = member.group() == Some(before.name()) && before.name() != &*new_name;
        (if follows { member.with_group(Some(Arc::clone(&new_name))) } else { member }, tag)
    });
    let members = members.collect();
    finish(planner, &old, (groups, tags), members, |resource| CallReply::Group(resource, place))
}

/// Removes a group and its members, as an update with fewer groups does
/// (docs/vendor-api.md, "Delete a group").
pub(super) fn delete(
    planner: &mut Planner<'_, '_>,
    at: &ChannelPath,
    group: &str,
) -> Result<CallReply, Fault> {
    let old = planner.writable(at)?;
    let place = position(&old, group)?;
    let mut groups = old.configured.groups().to_vec();
    let mut tags = old.groups.clone();
    let gone = groups.remove(place);
    tags.remove(place);
    let stay = old.members().filter(|(member, _)| member.group() != Some(gone.name()));
    let members = stay.map(|(member, tag)| (member.clone(), tag)).collect();
    finish(planner, &old, (groups, tags), members, |_| CallReply::Nothing)
}

fn position(old: &Resource, group: &str) -> Result<usize, Fault> {
    Id::parse(group).and_then(|id| old.group_position(id)).ok_or_else(|| Fault::NoGroup(group.to_owned()))
}

/// Puts the channel with other groups.
fn finish(
    planner: &mut Planner<'_, '_>,
    old: &Resource,
    (groups, group_tags): (Vec<MemberGroup>, Vec<GroupTag>),
    members: Vec<(Member, Tag)>,
    reply: impl FnOnce(Arc<Resource>) -> CallReply,
) -> Result<CallReply, Fault> {
    let (members, tags): (Vec<Member>, Vec<Tag>) = members.into_iter().unzip();
    // Only a group's port can make two addresses one.
    let configured = old.configured.with_parts(groups, members).map_err(blame("microservice_port"))?;
    refuse_fixed_weights(&configured, old.microservice.as_ref().map(|held| &held.service))?;
    if configured.groups().len() > old.groups.len() {
        check_sizes(planner, &configured)?;
    }
    let members = Arc::new(Members::new(tags));
    let resource = Resource { groups: group_tags, members, ..old.reconfigured(configured) };
    planner.transaction.put(resource).map(reply)
}
