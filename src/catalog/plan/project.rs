//! The project calls (ROMA): one channel on several instances at once.
//!
//! All or nothing over all instances. Every instance gets ids of its own
//! (docs/vendor-api.md, "Project calls"). The calls need `vpc_name_modifiable` to be off, because the
//! name is what keeps the channels of the instances together.

use std::sync::Arc;

use super::super::body::{Body, field};
use super::super::draft::Draft;
use super::super::fault::Fault;
use super::super::ids::Id;
use super::super::instance::{FeatureName, Instance};
use super::super::microservice::Microservice;
use super::super::resource::{Members, Resource};
use super::channels::{Renaming, change, make, refuse_full_instance};
use super::matching::{OldMembers, group_tags, new_tag, new_tags};
use super::{Context, PathFamily, Planned, Reply, refuse_file, shared_id};
use crate::catalog::Source;
use crate::channel::ChannelKind;
use crate::channel::document::{Kind, Value};

/// Most instances in one call (docs/vendor-api.md, "Project objects").
const MOST_INSTANCES: usize = 10;

pub(super) fn create(context: &mut Context<'_>, body: &Body) -> Result<Planned, Fault> {
    let object = body.object()?;
    let instances = instances_of(context, object)?;
    let mut draft = Draft::new(context.registry, context.surroundings);
    let mut made = Vec::with_capacity(instances.len());
    for instance in &instances {
        made.push(make(context, instance, object)?);
    }
    // Unique in the project, not only on these instances.
    for resource in &made {
        let name = resource.configured.name();
        if context.registry.instances().any(|any| context.registry.by_name(&any.id, name).is_some()) {
            return Err(Fault::NameTaken(name.to_owned()));
        }
    }
    for instance in &instances {
        refuse_full_instance(context, instance)?;
    }
    let put: Result<Vec<_>, Fault> = made.into_iter().map(|resource| draft.put(resource)).collect();
    let outcome = Reply::ProjectChannels(put?);
    Ok(Planned { delta: draft.finish(), outcome })
}

pub(super) fn update(context: &mut Context<'_>, body: &Body) -> Result<Planned, Fault> {
    let object = body.object()?;
    let instances = instances_of(context, object)?;
    let mut draft = Draft::new(context.registry, context.surroundings);
    let mut put = Vec::with_capacity(instances.len());
    for instance in &instances {
        let name = super::super::body::text_field(object, "name").unwrap_or_default();
        let resource = match context.registry.by_name(&instance.id, name) {
            Some(old) => change(context, PathFamily::Roma, old, object, Renaming::Never)?,
            None => {
                let made = make(context, instance, object)?;
                refuse_full_instance(context, instance)?;
                made
            }
        };
        put.push(draft.put(resource)?);
    }
    Ok(Planned { delta: draft.finish(), outcome: Reply::ProjectChannels(put) })
}

pub(super) fn sync(context: &mut Context<'_>, body: &Body) -> Result<Planned, Fault> {
    let object = body.object()?;
    let id = match field(object, "vpc_channel_id").map(|value| &value.kind) {
        Some(Kind::String(id)) if !id.is_empty() => id,
        Some(Kind::String(_)) | None => return Err(Fault::Missing("vpc_channel_id")),
        Some(_) => return Err(Fault::Invalid("vpc_channel_id", "it must be a string".to_owned())),
    };
    let overwrite = match field(object, "force_sync").map(|value| &value.kind) {
        None | Some(Kind::Boolean(false)) => false,
        Some(Kind::Boolean(true)) => true,
        Some(_) => return Err(Fault::Invalid("force_sync", "it must be true or false".to_owned())),
    };
    let instances = instances_of(context, object)?;
    let source = Id::parse(id)
        .and_then(|id| context.registry.resource(id))
        .ok_or_else(|| Fault::NoChannel(id.clone()))?;
    if source.configured.kind() == ChannelKind::Reference {
        return Err(Fault::WrongKind("a reference channel stands for channels of its own instance"));
    }
    let mut draft = Draft::new(context.registry, context.surroundings);
    let mut put = Vec::with_capacity(instances.len());
    for instance in &instances {
        if instance.id == source.instance {
            put.push(Arc::clone(source));
            continue;
        }
        let resource = match context.registry.by_name(&instance.id, source.configured.name()) {
            Some(_) if !overwrite => return Err(Fault::NameTaken(source.configured.name().to_owned())),
            Some(old) => {
                refuse_file(old)?;
                if old.configured.kind() != source.configured.kind() {
                    return Err(Fault::WrongKind("the channel of that name is of another kind"));
                }
                copy(context, source, instance, Some(old))
            }
            None => {
                refuse_full_instance(context, instance)?;
                copy(context, source, instance, None)
            }
        };
        put.push(draft.put(resource)?);
    }
    Ok(Planned { delta: draft.finish(), outcome: Reply::ProjectChannels(put) })
}

/// The same channel on another instance; what was there keeps its ids.
fn copy(
    context: &mut Context<'_>,
    source: &Resource,
    instance: &Instance,
    old: Option<&Arc<Resource>>,
) -> Resource {
    let fresh = &mut *context.fresh;
    let now = fresh.now();
    let configured = Arc::clone(&source.configured);
    let members = match old {
        Some(old) => OldMembers::of(old).tags(&configured, fresh),
        None => new_tags(&configured, fresh),
    };
    let microservice = source.microservice.as_ref().map(|held| {
        let service = held.service.clone();
        Arc::new(match old.and_then(|old| old.microservice.as_ref()) {
            Some(before) => Microservice { updated: now, service, ..Microservice::clone(before) },
            None => Microservice { id: fresh.id(), created: now, updated: now, service },
        })
    });
    let old_check = old.and_then(|old| old.check);
    Resource {
        id: old.map_or_else(|| fresh.id(), |old| old.id),
        instance: shared_id(instance),
        source: Source::Api,
        created: old.map_or(now, |old| old.created),
        effective: Arc::clone(&configured),
        microservice,
        groups: group_tags(old.map(|old| &**old), configured.groups(), fresh),
        members: Arc::new(Members::new(members)),
        check: configured.health_check().map(|_| old_check.unwrap_or_else(|| new_tag(fresh))),
        configured,
    }
}

/// `instance_ids`: 1 to 10 instances of this project with fixed names. One that
/// is listed twice counts once.
fn instances_of<'c>(context: &Context<'c>, object: &Value) -> Result<Vec<&'c Arc<Instance>>, Fault> {
    let value = field(object, "instance_ids").ok_or(Fault::Missing("instance_ids"))?;
    let invalid = |why: String| Fault::Invalid("instance_ids", why);
    let Kind::Array(items) = &value.kind else { return Err(invalid("it must be a list".to_owned())) };
    if items.is_empty() || items.len() > MOST_INSTANCES {
        return Err(invalid(format!("list 1 to {MOST_INSTANCES} instances")));
    }
    let mut instances: Vec<&Arc<Instance>> = Vec::with_capacity(items.len());
    for item in items {
        let Kind::String(id) = &item.kind else {
            return Err(invalid("every entry must be a string".to_owned()));
        };
        let instance = context.registry.instance(id)?;
        if instances.iter().any(|listed| listed.id == instance.id) {
            continue;
        }
        if instance.has(FeatureName::VpcNameModifiable) {
            return Err(Fault::FeatureOff("vpc_name_modifiable must be off for project-level calls"));
        }
        instances.push(instance);
    }
    Ok(instances)
}
