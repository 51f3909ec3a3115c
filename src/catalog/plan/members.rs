//! Add, replace, delete, enable and disable the members of a channel.

use std::collections::HashSet;

use super::super::body::{Body, field};
use super::super::entry::{OldMembers, Resource, Tag, new_tag};
use super::super::fault::Fault;
use super::super::ids::Id;
use super::{ChannelPath, Planner, Reply, checked};
use crate::channel::document::{Kind, Value};
use crate::channel::reader::{MemberContext, read_members};
use crate::channel::{Member, MemberStatus};

/// Upsert: members that are there are updated in place, others join at the end.
pub(super) fn add(planner: &mut Planner<'_, '_>, at: &ChannelPath, body: &Body) -> Result<Reply, Fault> {
    let old = planner.with_own_members(at)?;
    let list = member_list(body)?;
    if matches!(&list.kind, Kind::Array(items) if items.is_empty()) {
        return Err(Fault::Missing("members"));
    }
    let asked = read(planner, &old, list)?;
    let mut parts = old.parts();
    let members = &mut parts.members;
    let mut known = OldMembers::of(&old);
    let mut touched = Vec::with_capacity(asked.len());
    for member in asked {
        match known.take(&old.configured, &member) {
            Some(place) => {
                if let Some((there, _)) = members.get_mut(place) {
                    // An absent weight stays what it was (docs/vendor-api.md, "Add members").
                    let weight = member.weight().or(there.weight());
                    *there = member.with_weight(weight);
                }
                touched.push(place);
            }
            None => {
                touched.push(members.len());
                members.push((member, new_tag(planner.fresh)));
            }
        }
    }
    let resource = planner.put_parts(&old, parts, "members")?;
    Ok(Reply::Members(resource, touched))
}

/// Replaces all members, or those of one group (docs/vendor-api.md, "Replace members").
pub(super) fn replace(planner: &mut Planner<'_, '_>, at: &ChannelPath, body: &Body) -> Result<Reply, Fault> {
    let old = planner.with_own_members(at)?;
    let group = group_name(body, &old)?;
    let list = member_list(body)?;
    let asked = read(planner, &old, list)?;
    let is_replaced = |member: &Member| group.is_none() || member.group() == group.as_deref();
    let mut known = OldMembers::of(&old);
    let mut parts = old.parts();
    parts.members.retain(|(member, _)| !is_replaced(member));
    let kept = parts.members.len();
    for member in asked.into_iter().filter(is_replaced) {
        let place = known.take(&old.configured, &member);
        let tag = place.and_then(|place| old.members.tags().get(place).copied());
        parts.members.push((member, tag.unwrap_or_else(|| new_tag(planner.fresh))));
    }
    let touched = (kept..parts.members.len()).collect();
    let resource = planner.put_parts(&old, parts, "members")?;
    Ok(Reply::Members(resource, touched))
}

pub(super) fn delete(planner: &mut Planner<'_, '_>, at: &ChannelPath, member: &str) -> Result<Reply, Fault> {
    let old = planner.with_own_members(at)?;
    let unknown = || Fault::NoMember(member.to_owned());
    let id = Id::parse(member).ok_or_else(unknown)?;
    let place = old.members.position(id).ok_or_else(unknown)?;
    let mut parts = old.parts();
    parts.members.remove(place);
    planner.put_parts(&old, parts, "members").map(|_| Reply::Nothing)
}

/// Switches members on or off. Ids that no member has are passed over, so that a
/// client may repeat a call after members have gone (docs/vendor-api.md, "Enable and disable members").
pub(super) fn switch(
    planner: &mut Planner<'_, '_>,
    at: &ChannelPath,
    status: MemberStatus,
    body: &Body,
) -> Result<Reply, Fault> {
    let old = planner.with_own_members(at)?;
    let ids = member_ids(body)?;
    let mut parts = old.parts();
    let is_switched = |(member, tag): &&mut (Member, Tag)| ids.contains(&tag.id) && member.status() != status;
    let mut switched = parts.members.iter_mut().filter(is_switched).peekable();
    if switched.peek().is_none() {
        return Ok(Reply::Nothing);
    }
    switched.for_each(|(member, _)| *member = member.clone().with_status(status));
    planner.put_parts(&old, parts, "member_ids").map(|_| Reply::Nothing)
}

fn read(planner: &Planner<'_, '_>, old: &Resource, list: &Value) -> Result<Vec<Member>, Fault> {
    let context = planner.context(&old.instance)?;
    let channel = &old.configured;
    let rules = MemberContext {
        member_type: channel.member_type(),
        kind: channel.kind(),
        port: channel.port(),
        groups: channel.groups(),
    };
    checked(read_members(list, rules, &context))
}

fn member_list(body: &Body) -> Result<&Value, Fault> {
    field(body.object()?, "members").ok_or(Fault::Missing("members"))
}

/// `member_group_name` of a replacement; empty counts as absent.
fn group_name(body: &Body, old: &Resource) -> Result<Option<String>, Fault> {
    let Some(value) = field(body.object()?, "member_group_name") else { return Ok(None) };
    let invalid = |why: &str| Fault::Invalid("member_group_name", why.to_owned());
    match &value.kind {
        Kind::String(name) if name.is_empty() => Ok(None),
        Kind::String(name) if old.configured.group(name).is_some() => Ok(Some(name.clone())),
        Kind::String(_) => Err(invalid("this channel has no group of that name")),
        _ => Err(invalid("it must be a string")),
    }
}

fn member_ids(body: &Body) -> Result<HashSet<Id>, Fault> {
    let Some(value) = field(body.object()?, "member_ids") else { return Ok(HashSet::new()) };
    let invalid = |why: &str| Fault::Invalid("member_ids", why.to_owned());
    let Kind::Array(items) = &value.kind else { return Err(invalid("it must be a list of ids")) };
    let mut ids = HashSet::with_capacity(items.len());
    for item in items {
        let Kind::String(text) = &item.kind else { return Err(invalid("every entry must be a string")) };
        ids.extend(Id::parse(text));
    }
    Ok(ids)
}
