//! `POST I/features`: what an instance is told to do (docs/vendor-api.md, "Features").

use std::sync::Arc;

use super::super::body::{Body, field};
use super::super::draft::Draft;
use super::super::fault::Fault;
use super::super::instance::{FeatureName, FeatureSetting};
use super::{Context, Planned, Reply};
use crate::channel::document::Kind;

pub(super) fn set(context: &mut Context<'_>, instance: &str, body: &Body) -> Result<Planned, Fault> {
    let instance = context.registry.instance(instance)?;
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
    let name = FeatureName::of_word(word).ok_or(Fault::FeatureOff(
        "vitald has vpc_name_modifiable, vpc_health_status, backend_client_certificate, vpc_backup",
    ))?;
    if name == FeatureName::VpcBackup {
        return Err(Fault::FeatureOff("vpc_backup is always on"));
    }
    let setting = FeatureSetting::read(name, enable, config)?;
    let changed = Arc::new(instance.with_feature(setting, context.fresh.now()));
    let mut draft = Draft::new(context.registry, context.surroundings);
    draft.put_instance(Arc::clone(&changed))?;
    Ok(Planned { delta: draft.finish(), outcome: Reply::Feature(changed, name) })
}
