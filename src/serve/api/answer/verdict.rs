//! Live verdicts: `health_status` of members and `status` of channels.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::Resource;
use crate::catalog::{Entry, Snapshot};
use crate::channel::{Health, MemberIdentity, NobodyReason, Tier};

/// A snapshot, or none when nobody answered: then everything is unknown.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve::api) struct LiveVerdicts<'o> {
    snapshot: Option<&'o Snapshot>,
}

/// The verdicts on one channel's members.
pub(in crate::serve::api) struct ChannelVerdicts<'o> {
    observed: Option<(&'o Snapshot, &'o Arc<Entry>)>,
    /// Where a member sits, when the channel observed is not the very one asked
    /// about: a change is between the registry and the drivers.
    places: Option<HashMap<MemberIdentity, usize>>,
}

impl<'o> LiveVerdicts<'o> {
    pub(in crate::serve::api) fn of(snapshot: Option<&'o Snapshot>) -> Self {
        Self { snapshot }
    }

    pub(in crate::serve::api) fn channel(self, resource: &Resource) -> ChannelVerdicts<'o> {
        let observed = self
            .snapshot
            .and_then(|snapshot| Some((snapshot, snapshot.channels.find(resource.effective.name())?)));
        let is_same = observed.is_none_or(|(_, entry)| Arc::ptr_eq(&entry.channel, &resource.effective));
        let places = observed.filter(|_| !is_same).map(|(_, entry)| {
            let members = entry.channel.members().iter().enumerate();
            members.map(|(place, member)| (entry.channel.identity(member), place)).collect()
        });
        ChannelVerdicts { observed, places }
    }

    /// 2 when members are checked and every enabled one is unhealthy, else 1.
    /// A new channel, whose members are unknown and take traffic, is normal.
    pub(in crate::serve::api) fn status(self, resource: &Resource) -> u8 {
        let is_checked = resource.effective.active_check().is_some();
        let tier = self.snapshot.filter(|_| is_checked).and_then(|snapshot| {
            let entry = snapshot.channels.find(resource.effective.name())?;
            Some(snapshot.channel(entry).tier)
        });
        match tier {
            Some(Tier::FailOpen | Tier::Nobody(NobodyReason::AllUnhealthy)) => 2,
            _ => 1,
        }
    }
}

impl ChannelVerdicts<'_> {
    /// The verdict on the member at a position.
    pub(in crate::serve::api) fn health(&self, resource: &Resource, place: usize) -> Health {
        self.look(resource, place).unwrap_or_default()
    }

    fn look(&self, resource: &Resource, place: usize) -> Option<Health> {
        let (snapshot, entry) = self.observed?;
        let place = match &self.places {
            None => place,
            Some(places) => {
                let channel = &resource.effective;
                *places.get(&channel.identity(channel.members().get(place)?))?
            }
        };
        let slot = entry.members.get(place)?;
        let driver = snapshot.drivers.get(usize::from(slot.driver))?;
        Some(driver.member(slot.index, slot.generation)?.health)
    }
}
