//! Verdicts that were kept over a restart, found again by the members they are on.
//!
//! Called by `seating` for members that come while the catalog has a recall.

use std::sync::Arc;

use crate::channel::Channel;
use crate::health::Resumed;
use crate::store::{DefinitionHash, Recall, VerdictKey};

/// What was kept, as `seating` asks for it.
#[derive(Debug, Clone)]
pub(super) struct Resuming(pub(super) Arc<Recall>);

impl Resuming {
    /// Those of a channel's members, by position, of whom something is known.
    pub(super) fn of_members(&self, channel: &Channel, positions: &[usize]) -> Vec<(usize, Resumed)> {
        let Some(definition) = DefinitionHash::of(channel) else { return Vec::new() };
        let known = positions.iter().filter_map(|position| {
            let member = channel.members().get(*position)?;
            let record = self.0.records.get(&VerdictKey::of(definition, channel, member))?;
            Some((*position, record.resumed))
        });
        known.collect()
    }
}
