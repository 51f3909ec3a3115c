//! Create, update and delete a channel, and replace its health check.

use std::sync::Arc;

use super::super::body::{self, Body, field};
use super::super::entry::{Members, Resource, Source, group_tags, member_tags, new_tag};
use super::super::fault::{Fault, PathFamily};
use super::super::ids::Id;
use super::super::instance::{FeatureName, Instance};
use super::super::microservice::{Microservice, Service};
use super::{ChannelPath, Planner, Reply, checked, refuse_file};
use crate::channel::document::Value;
use crate::channel::reader::{Dialect, read_channel, read_health_check};
use crate::channel::{Channel, ChannelKind, MemberType};

/// Whether an update may give a channel another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renaming {
    /// As the instance's `vpc_name_modifiable` says.
    ByFeature,
    /// The channel was found by its name.
    Never,
}

pub(super) fn create(planner: &mut Planner<'_, '_>, instance: &str, body: &Body) -> Result<Reply, Fault> {
    let instance = planner.instance(instance)?;
    let object = body.object()?;
    let made = make(planner, &instance, object)?;
    refuse_taken_name(planner, &instance, made.configured.name(), None)?;
    refuse_full_instance(planner, &instance)?;
    planner.transaction.put(made).map(Reply::Channel)
}

pub(super) fn update(
    planner: &mut Planner<'_, '_>,
    family: PathFamily,
    at: &ChannelPath,
    body: &Body,
) -> Result<Reply, Fault> {
    let old = planner.writable(at)?;
    let object = body.object()?;
    let instance = planner.instance(&at.instance)?;
    let changed = change(planner, family, &instance, &old, object, Renaming::ByFeature)?;
    refuse_taken_name(planner, &instance, changed.configured.name(), Some(old.id))?;
    planner.transaction.put(changed).map(Reply::Channel)
}

pub(super) fn delete(planner: &mut Planner<'_, '_>, at: &ChannelPath) -> Result<Reply, Fault> {
    let old = planner.writable(at)?;
    let state = planner.state();
    let others = state.referrers(old.id).filter(|id| *id != old.id);
    if let Some(referrer) = others.filter_map(|id| state.resource(id)).next() {
        return Err(Fault::Referenced(referrer.configured.name().to_owned()));
    }
    planner.transaction.remove(old.id);
    Ok(Reply::Nothing)
}

/// Replaces the whole health check; makes one where there was none.
pub(super) fn update_health_check(
    planner: &mut Planner<'_, '_>,
    at: &ChannelPath,
    body: &Body,
) -> Result<Reply, Fault> {
    let old = planner.writable(at)?;
    let object = body.object()?;
    let context = planner.context(&old.instance)?;
    let check = checked(read_health_check(object, old.configured.probe(), &context))?;
    let configured = Channel::clone(&old.configured).with_health_check(Some(check));
    let check = Some(old.check.unwrap_or_else(|| new_tag(planner.fresh)));
    planner.transaction.put(Resource { check, ..old.reconfigured(configured) }).map(Reply::HealthCheck)
}

/// A new channel of an instance from a VpcCreate object.
pub(super) fn make(
    planner: &mut Planner<'_, '_>,
    instance: &Instance,
    object: &Value,
) -> Result<Resource, Fault> {
    let context = planner.context(&instance.id)?;
    let channel = checked(read_channel(object, Dialect::Api, &context))?;
    check_sizes(planner, &channel)?;
    let service = service_of(&channel, object);
    refuse_fixed_weights(&channel, service.as_ref())?;
    Ok(resource_of(planner, instance, Arc::new(channel), service, None))
}

/// A channel after a VpcCreate object has replaced what it may replace: name,
/// port, strategy, groups and members; the health check if there is one in the
/// object. Kind and `member_type` stay (docs/vendor-api.md, "Update a channel").
pub(super) fn change(
    planner: &mut Planner<'_, '_>,
    family: PathFamily,
    instance: &Instance,
    old: &Resource,
    object: &Value,
    renaming: Renaming,
) -> Result<Resource, Fault> {
    refuse_file(old)?;
    let context = planner.context(&old.instance)?;
    let object = with_what_stays(old, object)?;
    let channel = checked(read_channel(&object, Dialect::Api, &context))?;
    let channel = with_what_is_kept(family, old, channel, &object)?;
    let is_renamed = channel.name() != old.configured.name();
    if is_renamed && renaming == Renaming::ByFeature && !instance.has(FeatureName::VpcNameModifiable) {
        return Err(Fault::FeatureOff("vpc_name_modifiable is off: channels keep their names"));
    }
    check_sizes(planner, &channel)?;
    let service = service_of(&channel, &object);
    refuse_fixed_weights(&channel, service.as_ref())?;
    Ok(resource_of(planner, instance, Arc::new(channel), service, Some(old)))
}

/// A channel of an instance with the ids of its parts. What the old one had, too,
/// keeps its ids and times.
pub(super) fn resource_of(
    planner: &mut Planner<'_, '_>,
    instance: &Instance,
    configured: Arc<Channel>,
    service: Option<Service>,
    old: Option<&Resource>,
) -> Resource {
    let fresh = &mut *planner.fresh;
    let now = fresh.now();
    let before = old.and_then(|old| old.microservice.as_ref());
    let microservice = match (service, before) {
        (Some(service), Some(before)) if before.service != service => {
            Some(Arc::new(Microservice { updated: now, service, ..Microservice::clone(before) }))
        }
        (Some(service), None) => {
            Some(Arc::new(Microservice { id: fresh.id(), created: now, updated: now, service }))
        }
        (_, before) => before.cloned(),
    };
    let check = configured.health_check();
    Resource {
        id: old.map_or_else(|| fresh.id(), |old| old.id),
        instance: Arc::clone(&instance.id),
        source: Source::Api,
        created: old.map_or(now, |old| old.created),
        effective: Arc::clone(&configured),
        microservice,
        groups: group_tags(old, configured.groups(), fresh),
        members: Arc::new(Members::new(member_tags(old, &configured, fresh))),
        check: check.map(|_| old.and_then(|old| old.check).unwrap_or_else(|| new_tag(fresh))),
        configured,
    }
}

/// The object with what an update cannot change set to what it is.
fn with_what_stays(old: &Resource, object: &Value) -> Result<Value, Fault> {
    let member_type = old.configured.member_type();
    if let Some(asked) = body::text_field(object, "member_type") {
        let is_other = [MemberType::Ip, MemberType::Ecs]
            .iter()
            .any(|other| *other != member_type && other.word() == asked);
        if is_other {
            let why = format!("it is \"{}\" and cannot be changed", member_type.word());
            return Err(Fault::Invalid("member_type", why));
        }
    }
    let mut fields =
        vec![("type", None), ("vpc_channel_type", Some(body::text(old.configured.kind().word())))];
    if body::text_field(object, "member_type").is_none() && is_text_or_absent(object, "member_type") {
        fields.push(("member_type", Some(body::text(member_type.word()))));
    }
    if old.configured.kind() != ChannelKind::Microservice {
        fields.push(("microservice_info", None));
    } else if let (None, Some(kept)) = (field(object, "microservice_info"), &old.microservice) {
        let json =
            serde_json::to_vec(&kept.service).map_err(|error| Fault::Unavailable(error.to_string()))?;
        let kept = body::parse(&json).map_err(Fault::Unavailable)?;
        fields.push(("microservice_info", Some(kept)));
    }
    Ok(body::with_fields(object, fields))
}

/// Whether a key may be filled in: absent, null or an empty text, but not a
/// value of another type, which is the client's mistake.
fn is_text_or_absent(object: &Value, key: &str) -> bool {
    use crate::channel::document::Kind;
    field(object, key).is_none_or(|value| matches!(&value.kind, Kind::String(_)))
}

/// The channel with what its new description left alone: the health check when
/// it has none, and in the ROMA family the members when it lists none.
fn with_what_is_kept(
    family: PathFamily,
    old: &Resource,
    channel: Channel,
    object: &Value,
) -> Result<Channel, Fault> {
    let channel = match field(object, "vpc_health_config") {
        Some(_) => channel,
        None => channel.with_health_check(old.configured.health_check().cloned()),
    };
    let lists_members = body::list_field(object, "members").is_some_and(|members| !members.is_empty());
    if family == PathFamily::Apig || lists_members || old.configured.members().is_empty() {
        return Ok(channel);
    }
    // Members of groups that are gone go with them.
    let stay = old
        .configured
        .members()
        .iter()
        .filter(|member| member.group().is_none_or(|name| channel.group(name).is_some()));
    let edited = channel.with_parts(channel.groups().to_vec(), stay.cloned().collect());
    edited.map_err(|error| Fault::Invalid("port", error.to_string()))
}

/// The quotas on the parts of a channel.
pub(super) fn check_sizes(planner: &Planner<'_, '_>, channel: &Channel) -> Result<(), Fault> {
    let quotas = planner.state().quotas();
    if channel.members().len() > quotas.members {
        return Err(Fault::MemberQuota(quotas.members));
    }
    if channel.groups().len() > quotas.groups {
        return Err(Fault::GroupQuota(quotas.groups));
    }
    Ok(())
}

/// Refuses a name that another channel of the instance has.
pub(super) fn refuse_taken_name(
    planner: &Planner<'_, '_>,
    instance: &Instance,
    name: &str,
    own: Option<Id>,
) -> Result<(), Fault> {
    match planner.state().by_name(&instance.id, name) {
        Some(other) if Some(other.id) != own => Err(Fault::NameTaken(name.to_owned())),
        _ => Ok(()),
    }
}

/// Refuses one more channel when the quota is reached.
pub(super) fn refuse_full_instance(planner: &Planner<'_, '_>, instance: &Instance) -> Result<(), Fault> {
    let limit = planner.state().quotas().channels;
    if planner.state().made_by_api(&instance.id)? >= limit {
        return Err(Fault::ChannelQuota(limit));
    }
    Ok(())
}

/// Groups of a channel that comes from Nacos take no weight by hand (docs/vendor-api.md, "Update a group").
pub(super) fn refuse_fixed_weights(channel: &Channel, service: Option<&Service>) -> Result<(), Fault> {
    let is_fixed = service.is_some_and(Service::fixes_group_weights);
    if is_fixed && channel.groups().iter().any(|group| group.weight().is_some()) {
        let why = "Nacos sets the weights of this channel's groups".to_owned();
        return Err(Fault::Invalid("member_group_weight", why));
    }
    Ok(())
}

fn service_of(channel: &Channel, object: &Value) -> Option<Service> {
    let is_microservice = channel.kind() == ChannelKind::Microservice;
    field(object, "microservice_info").filter(|_| is_microservice).map(Service::read)
}
