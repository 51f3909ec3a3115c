//! The calls about instances: one channel on several of them at once (ROMA's project
//! calls), and what an instance is told to do (docs/vendor-api.md, "Features").
//!
//! A project call is all or nothing over all instances. Every instance gets ids of its
//! own (docs/vendor-api.md, "Project calls"). These calls need `vpc_name_modifiable` to be off, because the
//! name is what keeps the channels of the instances together.

use std::sync::Arc;

use super::super::body::{Body, field, text_field};
use super::super::entry::{Cause, Resource};
use super::super::fault::{Fault, PathFamily};
use super::super::ids::Id;
use super::super::instance::{FeatureName, Instance, KnownFeature};
use super::channels::{Renaming, change, make, refuse_full_instance, resource_of};
use super::{Planner, Reply, refuse_file};
use crate::channel::ChannelKind;
use crate::channel::document::{Kind, Value};

/// Most instances in one call (docs/vendor-api.md, "Project objects").
const MOST_INSTANCES: usize = 10;

pub(super) fn create(planner: &mut Planner<'_, '_>, body: &Body) -> Result<Reply, Fault> {
    let object = body.object()?;
    let instances = instances_of(planner, object)?;
    let mut made = Vec::with_capacity(instances.len());
    for instance in &instances {
        made.push(make(planner, instance, object)?);
    }
    // Unique in the project, not only on these instances.
    for resource in &made {
        let (name, state) = (resource.configured.name(), planner.state());
        if state.instances().any(|any| state.by_name(&any.id, name).is_some()) {
            return Err(Fault::NameTaken(name.to_owned()));
        }
    }
    for instance in &instances {
        refuse_full_instance(planner, instance)?;
    }
    put_all(planner, made)
}

pub(super) fn update(planner: &mut Planner<'_, '_>, body: &Body) -> Result<Reply, Fault> {
    let object = body.object()?;
    let instances = instances_of(planner, object)?;
    let name = text_field(object, "name").unwrap_or_default();
    let mut changed = Vec::with_capacity(instances.len());
    for instance in &instances {
        changed.push(match planner.state().by_name(&instance.id, name).cloned() {
            Some(old) => change(planner, PathFamily::Roma, instance, &old, object, Renaming::Never)?,
            None => {
                let made = make(planner, instance, object)?;
                refuse_full_instance(planner, instance)?;
                made
            }
        });
    }
    put_all(planner, changed)
}

pub(super) fn sync(planner: &mut Planner<'_, '_>, body: &Body) -> Result<Reply, Fault> {
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
    let instances = instances_of(planner, object)?;
    let source = Id::parse(id).and_then(|id| planner.state().resource(id)).cloned();
    let source = source.ok_or_else(|| Fault::NoChannel(id.clone()))?;
    if source.configured.kind() == ChannelKind::Reference {
        return Err(Fault::WrongKind("a reference channel stands for channels of its own instance"));
    }
    let mut put = Vec::with_capacity(instances.len());
    for instance in &instances {
        if instance.id == source.instance {
            put.push(Arc::clone(&source));
            continue;
        }
        let old = planner.state().by_name(&instance.id, source.configured.name()).cloned();
        match &old {
            Some(_) if !overwrite => return Err(Fault::NameTaken(source.configured.name().to_owned())),
            Some(old) => {
                refuse_file(old)?;
                if old.configured.kind() != source.configured.kind() {
                    return Err(Fault::WrongKind("the channel of that name is of another kind"));
                }
            }
            None => refuse_full_instance(planner, instance)?,
        }
        let (configured, old) = (Arc::clone(&source.configured), old.as_deref());
        let service = source.microservice.as_ref().map(|held| held.service.clone());
        let copy = resource_of(planner, instance, configured, service, old);
        put.push(planner.transaction.put(copy)?);
    }
    Ok(Reply::ProjectChannels(put))
}

fn put_all(planner: &mut Planner<'_, '_>, resources: Vec<Resource>) -> Result<Reply, Fault> {
    let put = resources.into_iter().map(|resource| planner.transaction.put(resource));
    put.collect::<Result<_, _>>().map(Reply::ProjectChannels)
}

/// `instance_ids`: 1 to 10 instances of this project with fixed names. One that
/// is listed twice counts once.
fn instances_of(planner: &Planner<'_, '_>, object: &Value) -> Result<Vec<Arc<Instance>>, Fault> {
    let value = field(object, "instance_ids").ok_or(Fault::Missing("instance_ids"))?;
    let invalid = |why: String| Fault::Invalid("instance_ids", why);
    let Kind::Array(items) = &value.kind else { return Err(invalid("it must be a list".to_owned())) };
    if items.is_empty() || items.len() > MOST_INSTANCES {
        return Err(invalid(format!("list 1 to {MOST_INSTANCES} instances")));
    }
    let mut instances: Vec<Arc<Instance>> = Vec::with_capacity(items.len());
    for item in items {
        let Kind::String(id) = &item.kind else {
            return Err(invalid("every entry must be a string".to_owned()));
        };
        let instance = planner.instance(id)?;
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

pub(super) fn set_feature(
    planner: &mut Planner<'_, '_>,
    instance: &str,
    body: &Body,
) -> Result<Reply, Fault> {
    let instance = planner.instance(instance)?;
    let object = body.object()?;
    let text = |key: &'static str| match field(object, key).map(|value| &value.kind) {
        None => Ok(None),
        Some(Kind::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Fault::Invalid(key, "it must be a string".to_owned())),
    };
    let word = text("name")?.filter(|word| !word.is_empty()).ok_or(Fault::Missing("name"))?;
    let enable = match field(object, "enable").map(|value| &value.kind) {
        Some(Kind::Boolean(enable)) => *enable,
        Some(_) => return Err(Fault::Invalid("enable", "it must be true or false".to_owned())),
        None => return Err(Fault::Missing("enable")),
    };
    let config = text("config")?.unwrap_or_default();
    let name = KnownFeature::of_word(word).ok_or_else(|| Fault::NoFeature(word.to_owned()))?;
    if name == KnownFeature::Effective(FeatureName::VpcBackup) {
        return Err(Fault::FeatureOff("vpc_backup is always on"));
    }
    let changed = Arc::new(instance.with_feature(name, enable, config, planner.fresh.now())?);
    planner.transaction.put_instance(Arc::clone(&changed), Cause::Written);
    if changed.certificate != instance.certificate {
        planner.transaction.refresh(Some(&changed.id))?;
    }
    Ok(Reply::Feature(changed, name))
}
