//! Live verdicts: `health_status` of members and `status` of channels.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::registry::Resource;
use crate::catalog::{Entry, Observation};
use crate::channel::{CheckStatus, Health, MemberIdentity, NobodyReason, Tier};

/// An observation, or none when nobody answered: then everything is unknown.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve::api) struct Verdicts<'o> {
    observation: Option<&'o Observation>,
}

/// The verdicts on one channel's members.
pub(in crate::serve::api) struct ChannelVerdicts<'o> {
    observed: Option<(&'o Observation, &'o Arc<Entry>)>,
    /// Where a member sits, when the channel observed is not the very one asked
    /// about: a change is between the registry and the drivers.
    places: Option<HashMap<MemberIdentity, usize>>,
}

impl<'o> Verdicts<'o> {
    pub(in crate::serve::api) fn of(observation: Option<&'o Observation>) -> Self {
        Self { observation }
    }

    pub(in crate::serve::api) fn channel(self, resource: &Resource) -> ChannelVerdicts<'o> {
        let observed = self.observation.and_then(|observation| {
            Some((observation, observation.directory.find(resource.effective.name())?))
        });
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
        let is_checked =
            resource.effective.health_check().is_some_and(|check| check.status() == CheckStatus::On);
        let tier = self.observation.filter(|_| is_checked).and_then(|observation| {
            let entry = observation.directory.find(resource.effective.name())?;
            Some(observation.view(entry).tier)
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
        let (observation, entry) = self.observed?;
        let place = match &self.places {
            None => place,
            Some(places) => {
                let channel = &resource.effective;
                *places.get(&channel.identity(channel.members().get(place)?))?
            }
        };
        let seat = entry.members.get(place)?;
        let driver = observation.drivers.get(usize::from(seat.driver))?;
        Some(driver.member(seat.slot, seat.generation)?.health)
    }
}
