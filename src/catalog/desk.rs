//! The one writer's desk: plans calls one after another, and publishes them
//! together once they are durable.
//!
//! The daemon's control loop owns a [`Desk`]. For a batch of calls it does:
//! [`Desk::submit`] for each, [`Desk::records`] into one store transaction, then
//! [`Desk::commit`] (readers see the batch; the effects go to the catalog) or
//! [`Desk::roll_back`] (nothing has happened). Later calls of a batch see earlier
//! ones; readers see none of it before the commit.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::delta::{Delta, RecordEdit};
use super::fault::Fault;
use super::ids::{Fresh, Id};
use super::instance::Quotas;
use super::plan::{Call, Reply};
use super::resource::Resource;
use super::state::Registry;
use crate::channel::Channel;
use crate::channel::reader::ReadContext;

/// The writer's state and what is not durable yet.
#[derive(Debug)]
pub struct Desk {
    working: Registry,
    pending: Vec<Delta>,
    published: Published,
}

/// The registry that readers look at. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Published(Arc<RwLock<Registry>>);

/// A look at the published registry; hold it shortly, a commit waits for it.
pub type ReadGuard<'p> = RwLockReadGuard<'p, Registry>;

impl Published {
    /// The registry as of the last commit.
    pub fn read(&self) -> ReadGuard<'_> {
        // A panicked writer cannot leave it half changed for readers to mind:
        // every index is looked up with its absence in mind.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One channel's change, for the catalog.
#[derive(Debug, Clone)]
pub struct Effect {
    /// The channel's id.
    pub id: Id,
    /// What was in effect.
    pub before: Option<Arc<Channel>>,
    /// What is to be in effect, and the resource it belongs to.
    pub after: Option<Arc<Resource>>,
}

impl Desk {
    /// A desk over what was loaded.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        let published = Published(Arc::new(RwLock::new(registry.clone())));
        Self { working: registry, pending: Vec::new(), published }
    }

    /// What readers look at.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// The registry with everything submitted so far.
    #[must_use]
    pub fn working(&self) -> &Registry {
        &self.working
    }

    /// Sets the limits for the calls from now on; what is there already stays.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.working.set_quotas(quotas);
    }

    /// Does a call, for now only on the desk.
    ///
    /// # Errors
    /// Why it cannot be done; nothing has changed.
    pub fn submit(
        &mut self,
        write: &Call,
        surroundings: &dyn ReadContext,
        fresh: &mut dyn Fresh,
    ) -> Result<Reply, Fault> {
        let planned = self.working.plan(write, surroundings, fresh)?;
        self.submit_delta(planned.delta);
        Ok(planned.outcome)
    }

    /// Does a change that no call made: files reloaded, an instance created.
    pub fn submit_delta(&mut self, delta: Delta) {
        if !delta.is_empty() {
            self.working.apply(&delta);
            self.pending.push(delta);
        }
    }

    /// How many changes are not committed.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes back the last change that is not committed: its probes could not
    /// be prepared, say. The others stay.
    pub fn undo_last(&mut self) {
        if let Some(delta) = self.pending.pop() {
            self.working.apply(&delta.inverse());
        }
    }

    /// What the store must hold before [`Desk::commit`], in order.
    pub fn records(&self) -> impl Iterator<Item = RecordEdit<'_>> {
        self.pending.iter().flat_map(Delta::records)
    }

    /// What the catalog must put in effect: one entry for each channel whose
    /// effective form is not what it was before the batch.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = Vec::new();
        let mut places: HashMap<Id, usize> = HashMap::new();
        for edit in self.pending.iter().flat_map(|delta| &delta.channels) {
            let Some(id) = edit.before.as_ref().or(edit.after.as_ref()).map(|resource| resource.id) else {
                continue;
            };
            let place = *places.entry(id).or_insert(effects.len());
            if let Some(effect) = effects.get_mut(place) {
                effect.after = edit.after.clone();
            } else {
                let before = edit.before.as_ref().map(|resource| Arc::clone(&resource.effective));
                effects.push(Effect { id, before, after: edit.after.clone() });
            }
        }
        let is_change = |effect: &Effect| {
            let after = effect.after.as_ref().map(|resource| &resource.effective);
            match (&effect.before, after) {
                (Some(before), Some(after)) => !Arc::ptr_eq(before, after) && before != after,
                (before, after) => before.is_some() || after.is_some(),
            }
        };
        effects.retain(is_change);
        effects
    }

    /// Shows readers everything submitted; call it once the records are durable.
    pub fn commit(&mut self) {
        let mut published = self.published.0.write().unwrap_or_else(PoisonError::into_inner);
        for delta in self.pending.drain(..) {
            published.apply(&delta);
        }
    }

    /// Forgets everything submitted since the last commit.
    pub fn roll_back(&mut self) {
        while !self.pending.is_empty() {
            self.undo_last();
        }
    }
}
