//! Add, update and delete the groups of a channel.

use std::sync::Arc;

use super::super::body::{Body, field};
use super::super::entry::{GroupTag, Resource, new_tag, updated};
use super::super::fault::Fault;
use super::super::ids::Id;
use super::{ChannelPath, Planner, Reply, checked};
use crate::channel::reader::{read_group, read_groups};

/// Only a group's port can make two addresses one.
const BLAMED: &str = "microservice_port";

/// Upsert by name: groups that are there are replaced in place, others join at
/// the end.
pub(super) fn add(planner: &mut Planner<'_, '_>, at: &ChannelPath, body: &Body) -> Result<Reply, Fault> {
    let old = planner.writable(at)?;
    let list = field(body.object()?, "member_groups").ok_or(Fault::Missing("member_groups"))?;
    let asked = checked(read_groups(list))?;
    if asked.is_empty() {
        return Err(Fault::Missing("member_groups"));
    }
    let mut parts = old.parts();
    let mut touched = Vec::with_capacity(asked.len());
    let now = planner.fresh.now();
    for group in asked {
        let place = parts.groups.iter().position(|(there, _)| there.name() == group.name());
        touched.push(place.unwrap_or(parts.groups.len()));
        match place.and_then(|place| parts.groups.get_mut(place)) {
            Some((there, tag)) => {
                tag.updated = updated(there, &group, *tag, now);
                *there = group;
            }
            None => parts.groups.push((group, GroupTag { tag: new_tag(planner.fresh), updated: now })),
        }
    }
    let resource = planner.put_parts(&old, parts, BLAMED)?;
    Ok(Reply::Groups(resource, touched))
}

/// Replaces a group; its members follow a new name.
pub(super) fn update(
    planner: &mut Planner<'_, '_>,
    at: &ChannelPath,
    group: &str,
    body: &Body,
) -> Result<Reply, Fault> {
    let old = planner.writable(at)?;
    let place = position(&old, group)?;
    let object = body.object()?;
    let asked = checked(read_group(object))?;
    let mut parts = old.parts();
    let mut others = parts.groups.iter().enumerate().filter(|(other, _)| *other != place);
    if others.any(|(_, (there, _))| there.name() == asked.name()) {
        let why = format!("another group is named \"{}\"", asked.name());
        return Err(Fault::Invalid("member_group_name", why));
    }
    let Some((there, tag)) = parts.groups.get_mut(place) else {
        return Err(Fault::NoGroup(group.to_owned()));
    };
    let before = std::mem::replace(there, asked);
    tag.updated = updated(&before, there, *tag, planner.fresh.now());
    if before.name() != there.name() {
        let name = Arc::<str>::from(there.name());
        for (member, _) in
            parts.members.iter_mut().filter(|(member, _)| member.group() == Some(before.name()))
        {
            *member = member.clone().with_group(Some(Arc::clone(&name)));
        }
    }
    let resource = planner.put_parts(&old, parts, BLAMED)?;
    Ok(Reply::Group(resource, place))
}

/// Removes a group and its members, as an update with fewer groups does
/// (docs/vendor-api.md, "Delete a group").
pub(super) fn delete(planner: &mut Planner<'_, '_>, at: &ChannelPath, group: &str) -> Result<Reply, Fault> {
    let old = planner.writable(at)?;
    let place = position(&old, group)?;
    let mut parts = old.parts();
    let (gone, _) = parts.groups.remove(place);
    parts.members.retain(|(member, _)| member.group() != Some(gone.name()));
    planner.put_parts(&old, parts, BLAMED).map(|_| Reply::Nothing)
}

fn position(old: &Resource, group: &str) -> Result<usize, Fault> {
    Id::parse(group).and_then(|id| old.group_position(id)).ok_or_else(|| Fault::NoGroup(group.to_owned()))
}
