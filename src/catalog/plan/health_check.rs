//! Update the health check: how the members of a channel are checked.

use std::sync::Arc;

use super::super::body::Body;
use super::super::draft::Draft;
use super::super::fault::Fault;
use super::super::resource::Resource;
use super::matching::new_tag;
use super::{ChannelPath, Context, Planned, Reply, checked};
use crate::channel::Channel;
use crate::channel::reader::read_health_check;

/// Replaces the whole health check; makes one where there was none.
pub(super) fn update(context: &mut Context<'_>, at: &ChannelPath, body: &Body) -> Result<Planned, Fault> {
    let old = context.writable(at)?;
    let object = body.object()?;
    let around = context.around(&old.instance)?;
    let check = checked(|dialect, violations| {
        read_health_check(object, dialect, old.configured.probe(), &around, violations)
    })?;
    let configured = Arc::new(Channel::clone(&old.configured).with_health_check(Some(check)));
    let tag = old.check.unwrap_or_else(|| new_tag(context.fresh));
    let mut draft = Draft::new(context.registry, context.surroundings);
    let changed =
        Resource { effective: Arc::clone(&configured), configured, check: Some(tag), ..Resource::clone(old) };
    let resource = draft.put(changed)?;
    Ok(Planned { delta: draft.finish(), outcome: Reply::HealthCheck(resource) })
}
