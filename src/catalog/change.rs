//! A change of the catalog: what clients' calls, files and the store are all sources of.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::{Resource, Source};
use super::ids::Id;
use super::instance::Instance;
use super::record::ApiRecord;
use crate::store::{Batch, Collection, RecordKey};

/// One channel, before and after; none where there is none.
#[derive(Debug, Clone)]
pub struct Change {
    /// What was there.
    pub before: Option<Arc<Resource>>,
    /// What is there now.
    pub after: Option<Arc<Resource>>,
    /// Whether its record changes.
    pub cause: Cause,
}

/// Why something is part of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It follows a target, an instance or a record: the store has it already.
    Followed,
    /// The change is about it: its record changes.
    Written,
}

/// Everything that changes together, all or nothing.
#[derive(Debug, Clone, Default)]
pub struct ChangeSet {
    /// Each channel at most once.
    pub(super) channels: Vec<Change>,
    /// By id, where its channel stands.
    places: HashMap<Id, usize>,
    /// Each instance at most once. None is ever removed.
    pub(super) instances: Vec<(Arc<Instance>, Cause)>,
}

impl Change {
    /// The name that the channel is known by, or was.
    pub(super) fn name(&self) -> &str {
        self.after.as_ref().or(self.before.as_ref()).map_or("", |resource| resource.effective.name())
    }

    fn id(&self) -> Option<Id> {
        self.before.as_ref().or(self.after.as_ref()).map(|resource| resource.id)
    }

    /// Whether every index finds the channel where it was.
    pub(super) fn keeps_place(&self) -> bool {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return false };
        before.instance == after.instance
            && before.created == after.created
            && (before.source == Source::Api) == (after.source == Source::Api)
            && before.configured.name() == after.configured.name()
            && before.targets().eq(after.targets())
    }
}

impl ChangeSet {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.instances.is_empty()
    }

    /// The channels that change.
    pub fn channels(&self) -> impl Iterator<Item = &Change> {
        // A channel that was made and removed again was never there.
        self.channels.iter().filter(|change| change.before.is_some() || change.after.is_some())
    }

    /// What the store must hold before the change takes effect. Channels of files
    /// have no records.
    ///
    /// # Errors
    /// JSON cannot be written.
    pub fn records(&self) -> Result<Batch, serde_json::Error> {
        let mut batch = Batch::new();
        for (instance, _) in self.instances.iter().filter(|(_, cause)| *cause == Cause::Written) {
            let key = RecordKey::new(Collection::Instances, instance.id.as_bytes());
            batch.put(key, ApiRecord::encode_instance(instance)?);
        }
        for change in self.channels().filter(|change| change.cause == Cause::Written) {
            let key = |id: Id| RecordKey::new(Collection::Channels, id.to_string());
            match (&change.before, &change.after) {
                (_, Some(after)) if after.source == Source::Api => {
                    batch.put(key(after.id), ApiRecord::encode_channel(after)?);
                }
                (Some(before), None) if before.source == Source::Api => {
                    batch.remove(key(before.id));
                }
                _ => {}
            }
        }
        Ok(batch)
    }

    /// Adds what changed after this.
    pub(super) fn merge(&mut self, later: Self) {
        later.channels.into_iter().for_each(|change| self.add(change));
        for (instance, cause) in later.instances {
            self.add_instance(instance, cause);
        }
    }

    pub(super) fn add(&mut self, change: Change) {
        let Some(id) = change.id() else { return };
        match self.places.get(&id).and_then(|place| self.channels.get_mut(*place)) {
            Some(held) => {
                held.after = change.after;
                held.cause = held.cause.max(change.cause);
            }
            None => {
                self.places.insert(id, self.channels.len());
                self.channels.push(change);
            }
        }
    }

    pub(super) fn add_instance(&mut self, instance: Arc<Instance>, cause: Cause) {
        match self.instances.iter_mut().find(|(held, _)| held.id == instance.id) {
            Some((held, held_cause)) => (*held, *held_cause) = (instance, cause.max(*held_cause)),
            None => self.instances.push((instance, cause)),
        }
    }
}
