//! Live verdicts: `health_status` of members and `status` of channels.

use std::sync::Arc;

use crate::catalog::{Entry, Resource, Snapshot};
use crate::channel::{Health, NobodyReason, Tier};

/// A snapshot, or none when nobody answered: then everything is unknown.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve::api) struct LiveVerdicts<'o> {
    snapshot: Option<&'o Snapshot>,
}

/// The verdicts on one channel's members.
pub(in crate::serve::api) struct ChannelVerdicts<'o> {
    observed: Option<(&'o Snapshot, &'o Arc<Entry>)>,
}

impl<'o> LiveVerdicts<'o> {
    pub(in crate::serve::api) fn of(snapshot: Option<&'o Snapshot>) -> Self {
        Self { snapshot }
    }

    pub(in crate::serve::api) fn channel(self, resource: &Resource) -> ChannelVerdicts<'o> {
        let entry = |snapshot: &'o Snapshot| Some((snapshot, snapshot.channels.entry(resource.id)?));
        ChannelVerdicts { observed: self.snapshot.and_then(entry) }
    }

    /// 2 when members are checked and every enabled one is unhealthy, else 1.
    /// A new channel, whose members are unknown and take traffic, is normal.
    pub(in crate::serve::api) fn status(self, resource: &Resource) -> u8 {
        let is_checked = resource.effective.active_check().is_some();
        let observed = self.channel(resource).observed.filter(|_| is_checked);
        match observed.map(|(snapshot, entry)| snapshot.channel(entry).tier) {
            Some(Tier::FailOpen | Tier::Nobody(NobodyReason::AllUnhealthy)) => 2,
            _ => 1,
        }
    }
}

impl ChannelVerdicts<'_> {
    /// The verdict on the member at a position; unknown as long as there is none.
    pub(in crate::serve::api) fn health(&self, resource: &Resource, place: usize) -> Health {
        self.look(resource, place).unwrap_or_default()
    }

    fn look(&self, resource: &Resource, place: usize) -> Option<Health> {
        let (snapshot, entry) = self.observed?;
        let place = if Arc::ptr_eq(&entry.resource.members, &resource.members) {
            place
        } else {
            // A later call of the same batch has changed the members since.
            entry.resource.members.position(resource.members.tags().get(place)?.id)?
        };
        Some(snapshot.state(entry.rows.get(place)?.slot)?.health)
    }
}
