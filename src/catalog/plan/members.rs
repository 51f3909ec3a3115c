//! Add, replace, delete, enable and disable the members of a channel.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::body::{Body, field};
use super::super::entry::{Members, OldMembers, Resource, Tag, new_tag};
use super::super::fault::Fault;
use super::super::ids::Id;
use super::channels::check_sizes;
use super::{CallReply, ChannelPath, Planner, blame, checked};
use crate::channel::document::{Kind, Value};
use crate::channel::reader::{MemberContext, read_members};
use crate::channel::{Member, MemberStatus};

/// Upsert: members that are there are updated in place, others join at the end.
pub(super) fn add(planner: &mut Planner<'_, '_>, at: &ChannelPath, body: &Body) -> Result<CallReply, Fault> {
    let old = planner.with_own_members(at)?;
    let list = member_list(body)?;
    if matches!(&list.kind, Kind::Array(items) if items.is_empty()) {
        return Err(Fault::Missing("members"));
    }
    let asked = read(planner, &old, list)?;
    let mut parts: Vec<(Member, Tag)> = old.members().map(|(member, tag)| (member.clone(), tag)).collect();
    let mut known = OldMembers::of(&old);
    let mut touched = Vec::with_capacity(asked.len());
    for member in asked {
        match known.take(&old.configured, &member) {
            Some(place) => {
                if let Some((there, _)) = parts.get_mut(place) {
                    // An absent weight stays what it was (docs/vendor-api.md, "Add members").
                    let weight = member.weight().or(there.weight());
                    *there = member.with_weight(weight);
                }
                touched.push(place);
            }
            None => {
                touched.push(parts.len());
                parts.push((member, new_tag(planner.fresh)));
            }
        }
    }
    finish(planner, &old, parts, "members", |resource| CallReply::Members(resource, touched))
}

/// Replaces all members, or those of one group (docs/vendor-api.md, "Replace members").
pub(super) fn replace(
    planner: &mut Planner<'_, '_>,
    at: &ChannelPath,
    body: &Body,
) -> Result<CallReply, Fault> {
    let old = planner.with_own_members(at)?;
    let group = group_name(body, &old)?;
    let list = member_list(body)?;
    let asked = read(planner, &old, list)?;
    let is_replaced = |member: &Member| group.is_none() || member.group() == group.as_deref();
    let mut known = OldMembers::of(&old);
    let mut parts: Vec<(Member, Tag)> = old
        .members()
        .filter(|(member, _)| !is_replaced(member))
        .map(|(member, tag)| (member.clone(), tag))
        .collect();
    let kept = parts.len();
    for member in asked.into_iter().filter(is_replaced) {
        let place = known.take(&old.configured, &member);
        let tag = place.and_then(|place| old.members.tags().get(place).copied());
        parts.push((member, tag.unwrap_or_else(|| new_tag(planner.fresh))));
    }
    let touched = (kept..parts.len()).collect();
    finish(planner, &old, parts, "members", |resource| CallReply::Members(resource, touched))
}

pub(super) fn delete(
    planner: &mut Planner<'_, '_>,
    at: &ChannelPath,
    member: &str,
) -> Result<CallReply, Fault> {
    let old = planner.with_own_members(at)?;
    let unknown = || Fault::NoMember(member.to_owned());
    let id = Id::parse(member).ok_or_else(unknown)?;
    let place = old.members.position(id).ok_or_else(unknown)?;
    let mut parts: Vec<(Member, Tag)> = old.members().map(|(member, tag)| (member.clone(), tag)).collect();
    parts.remove(place);
    finish(planner, &old, parts, "members", |_| CallReply::Nothing)
}

/// Switches members on or off. Ids that no member has are passed over, so that a
/// client may repeat a call after members have gone (docs/vendor-api.md, "Enable and disable members").
pub(super) fn switch(
    planner: &mut Planner<'_, '_>,
    at: &ChannelPath,
    status: MemberStatus,
    body: &Body,
) -> Result<CallReply, Fault> {
    let old = planner.with_own_members(at)?;
    let places: HashSet<usize> =
        member_ids(body)?.into_iter().filter_map(|id| old.members.position(id)).collect();
    let is_switched = |place: &usize, member: &Member| places.contains(place) && member.status() != status;
    if !old.configured.members().iter().enumerate().any(|(place, member)| is_switched(&place, member)) {
        return Ok(CallReply::Nothing);
    }
    let parts = old.members().enumerate().map(|(place, (member, tag))| {
        let member = member.clone();
        let member = if places.contains(&place) { member.with_status(status) } else { member };
        (member, tag)
    });
    finish(planner, &old, parts.collect(), "member_ids", |_| CallReply::Nothing)
}

/// Puts the channel with other members.
fn finish(
    planner: &mut Planner<'_, '_>,
    old: &Resource,
    parts: Vec<(Member, Tag)>,
    blamed: &'static str,
    reply: impl FnOnce(Arc<Resource>) -> CallReply,
) -> Result<CallReply, Fault> {
    let (members, tags): (Vec<Member>, Vec<Tag>) = parts.into_iter().unzip();
    let configured =
        old.configured.with_parts(old.configured.groups().to_vec(), members).map_err(blame(blamed))?;
    if configured.members().len() > old.configured.members().len() {
        check_sizes(planner, &configured)?;
    }
    let members = Arc::new(Members::new(tags));
    planner.transaction.put(Resource { members, ..old.reconfigured(configured) }).map(reply)
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

fn member_ids(body: &Body) -> Result<Vec<Id>, Fault> {
    let Some(value) = field(body.object()?, "member_ids") else { return Ok(Vec::new()) };
    let invalid = |why: &str| Fault::Invalid("member_ids", why.to_owned());
    let Kind::Array(items) = &value.kind else { return Err(invalid("it must be a list of ids")) };
    let mut ids = Vec::with_capacity(items.len());
    for item in items {
        let Kind::String(text) = &item.kind else { return Err(invalid("every entry must be a string")) };
        ids.extend(Id::parse(text));
    }
    Ok(ids)
}
