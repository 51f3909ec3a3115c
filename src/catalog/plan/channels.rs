//! Create, update and delete a channel.

use std::sync::Arc;

use super::super::body::{self, Body, field};
use super::super::draft::Draft;
use super::super::fault::Fault;
use super::super::ids::Id;
use super::super::instance::{FeatureName, Instance};
use super::super::microservice::{Microservice, Service};
use super::super::resource::{Members, Resource};
use super::matching::{OldMembers, group_tags, new_tag, new_tags};
use super::{ChannelPath, Context, PathFamily, Planned, Reply, blame, checked, refuse_file, shared_id};
use crate::catalog::Source;
use crate::channel::document::Value;
use crate::channel::reader::read_channel;
use crate::channel::{Channel, ChannelKind, MemberType};

/// Whether an update may give a channel another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renaming {
    /// As the instance's `vpc_name_modifiable` says.
    ByFeature,
    /// The channel was found by its name.
    Never,
}

pub(super) fn create(context: &mut Context<'_>, instance: &str, body: &Body) -> Result<Planned, Fault> {
    let instance = context.registry.instance(instance)?;
    let object = body.object()?;
    let mut draft = Draft::new(context.registry, context.surroundings);
    let made = make(context, instance, object)?;
    refuse_taken_name(context, instance, made.configured.name(), None)?;
    refuse_full_instance(context, instance)?;
    let resource = draft.put(made)?;
    Ok(Planned { delta: draft.finish(), outcome: Reply::Channel(resource) })
}

pub(super) fn update(
    context: &mut Context<'_>,
    family: PathFamily,
    at: &ChannelPath,
    body: &Body,
) -> Result<Planned, Fault> {
    let old = context.writable(at)?;
    let object = body.object()?;
    let mut draft = Draft::new(context.registry, context.surroundings);
    let changed = change(context, family, old, object, Renaming::ByFeature)?;
    refuse_taken_name(
        context,
        context.registry.instance(&at.instance)?,
        changed.configured.name(),
        Some(old.id),
    )?;
    let resource = draft.put(changed)?;
    Ok(Planned { delta: draft.finish(), outcome: Reply::Channel(resource) })
}

pub(super) fn delete(context: &mut Context<'_>, at: &ChannelPath) -> Result<Planned, Fault> {
    let old = context.writable(at)?;
    if let Some(referrer) = context.registry.referrers(old.id).find(|id| *id != old.id) {
        let name = context.registry.resource(referrer).map(|resource| resource.configured.name().to_owned());
        return Err(Fault::Referenced(name.unwrap_or_default()));
    }
    let mut draft = Draft::new(context.registry, context.surroundings);
    draft.remove(old.id);
    Ok(Planned { delta: draft.finish(), outcome: Reply::Nothing })
}

/// A new channel of an instance from a VpcCreate object.
pub(super) fn make(
    context: &mut Context<'_>,
    instance: &Instance,
    object: &Value,
) -> Result<Resource, Fault> {
    let around = context.around(&instance.id)?;
    let channel = checked(|dialect, violations| read_channel(object, dialect, &around, violations))?;
    check_sizes(context, &channel)?;
    let fresh = &mut *context.fresh;
    let now = fresh.now();
    let service = service_of(&channel, object);
    refuse_fixed_weights(&channel, service.as_ref())?;
    let microservice =
        service.map(|service| Arc::new(Microservice { id: fresh.id(), created: now, updated: now, service }));
    let configured = Arc::new(channel);
    Ok(Resource {
        id: fresh.id(),
        instance: shared_id(instance),
        source: Source::Api,
        created: now,
        effective: Arc::clone(&configured),
        microservice,
        groups: group_tags(None, configured.groups(), fresh),
        members: Arc::new(Members::new(new_tags(&configured, fresh))),
        check: configured.health_check().map(|_| new_tag(fresh)),
        configured,
    })
}

/// A channel after a VpcCreate object has replaced what it may replace: name,
/// port, strategy, groups and members; the health check if there is one in the
/// object. Kind and `member_type` stay (docs/vendor-api.md, "Update a channel").
pub(super) fn change(
    context: &mut Context<'_>,
    family: PathFamily,
    old: &Resource,
    object: &Value,
    renaming: Renaming,
) -> Result<Resource, Fault> {
    refuse_file(old)?;
    let instance = context.registry.instance(&old.instance)?;
    let around = context.around(&old.instance)?;
    let object = with_what_stays(old, object)?;
    let channel = checked(|dialect, violations| read_channel(&object, dialect, &around, violations))?;
    let channel = with_what_is_kept(family, old, channel, &object)?;
    let is_renamed = channel.name() != old.configured.name();
    if is_renamed && renaming == Renaming::ByFeature && !instance.has(FeatureName::VpcNameModifiable) {
        return Err(Fault::FeatureOff("vpc_name_modifiable is off: channels keep their names"));
    }
    check_sizes(context, &channel)?;
    let fresh = &mut *context.fresh;
    let now = fresh.now();
    let service = service_of(&channel, &object);
    refuse_fixed_weights(&channel, service.as_ref())?;
    let microservice = match (service, &old.microservice) {
        (Some(service), Some(before)) if before.service == service => Some(Arc::clone(before)),
        (Some(service), Some(before)) => {
            Some(Arc::new(Microservice { updated: now, service, ..Microservice::clone(before) }))
        }
        (Some(service), None) => {
            Some(Arc::new(Microservice { id: fresh.id(), created: now, updated: now, service }))
        }
        (None, before) => before.clone(),
    };
    let configured = Arc::new(channel);
    let members = OldMembers::of(old).tags(&configured, fresh);
    let check = match (configured.health_check(), old.check) {
        (Some(_), Some(tag)) => Some(tag),
        (Some(_), None) => Some(new_tag(fresh)),
        (None, _) => None,
    };
    Ok(Resource {
        groups: group_tags(Some(old), configured.groups(), fresh),
        members: Arc::new(Members::new(members)),
        check,
        microservice,
        effective: Arc::clone(&configured),
        configured,
        ..old.clone()
    })
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
    channel.with_parts(channel.groups().to_vec(), stay.cloned().collect()).map_err(blame("port"))
}

/// The quotas on the parts of a channel.
pub(super) fn check_sizes(context: &Context<'_>, channel: &Channel) -> Result<(), Fault> {
    let quotas = context.registry.quotas();
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
    context: &Context<'_>,
    instance: &Instance,
    name: &str,
    own: Option<Id>,
) -> Result<(), Fault> {
    match context.registry.by_name(&instance.id, name) {
        Some(other) if Some(other.id) != own => Err(Fault::NameTaken(name.to_owned())),
        _ => Ok(()),
    }
}

/// Refuses one more channel when the quota is reached.
pub(super) fn refuse_full_instance(context: &Context<'_>, instance: &Instance) -> Result<(), Fault> {
    let limit = context.registry.quotas().channels;
    if context.registry.made_by_api(&instance.id) >= limit {
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
