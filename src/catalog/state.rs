//! The registry: every resource of the API and the indexes to find it.
//!
//! Changed only by [`Registry::apply`], in time that depends on the delta and
//! not on how much there is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::delta::{Delta, InstanceEdit};
use super::fault::Fault;
use super::ids::{Id, InstanceId, UnixSeconds};
use super::instance::{Instance, Project, Quotas};
use super::resource::Resource;
use crate::catalog::Source;

/// Newest first, then by id (docs/vendor-api.md, "Lists and filters"): the order of every list.
pub(super) type Listed = BTreeSet<(Reverse<UnixSeconds>, Id)>;

/// Instances and channels, with their ids.
#[derive(Debug, Clone)]
pub struct Registry {
    project: Project,
    quotas: Quotas,
    /// Those that the configuration names in its order, then the others by age.
    /// The first one holds the channels of files.
    instance_order: Vec<InstanceId>,
    /// The instances that the configuration names.
    configured: Vec<InstanceId>,
    holdings: BTreeMap<InstanceId, Holding>,
    channels: HashMap<Id, Arc<Resource>>,
    listed: Listed,
    /// Reference channels by the channel they stand for.
    referrers: HashMap<Id, BTreeSet<Id>>,
}

/// One instance and what belongs to it.
#[derive(Debug, Clone)]
struct Holding {
    instance: Arc<Instance>,
    by_name: HashMap<Arc<str>, Id>,
    listed: Listed,
    /// Channels that count against the quota.
    made_by_api: usize,
}

impl Registry {
    /// A registry without instances. `configured` are the ids that the
    /// configuration names: whenever they appear, they stand in this order and
    /// before others.
    #[must_use]
    pub fn new(project: Project, quotas: Quotas, configured: Vec<InstanceId>) -> Self {
        Self {
            project,
            quotas,
            instance_order: Vec::new(),
            configured,
            holdings: BTreeMap::new(),
            channels: HashMap::new(),
            listed: Listed::new(),
            referrers: HashMap::new(),
        }
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The limits.
    #[must_use]
    pub fn quotas(&self) -> Quotas {
        self.quotas
    }

    /// Sets the limits; what is there already stays.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.quotas = quotas;
    }

    /// All instances: the configured ones in their order, then others by age.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instance_order.iter().filter_map(|id| Some(&self.holdings.get(id)?.instance))
    }

    /// The instance of that id.
    ///
    /// # Errors
    /// There is none.
    pub fn instance(&self, id: &str) -> Result<&Arc<Instance>, Fault> {
        let holding = self.holdings.get(id).ok_or_else(|| Fault::NoInstance(id.to_owned()))?;
        Ok(&holding.instance)
    }

    /// The instance that the channels of files belong to, and whose channels
    /// are known by their plain names.
    #[must_use]
    pub fn first_instance(&self) -> Option<&InstanceId> {
        self.instance_order.first()
    }

    /// A channel of an instance, by the text of its id.
    ///
    /// # Errors
    /// No such instance, or no such channel in it.
    pub fn channel(&self, instance: &str, id: &str) -> Result<&Arc<Resource>, Fault> {
        self.instance(instance)?;
        Id::parse(id)
            .and_then(|id| self.channels.get(&id))
            .filter(|resource| &*resource.instance == instance)
            .ok_or_else(|| Fault::NoChannel(id.to_owned()))
    }

    /// A channel, whatever its instance.
    #[must_use]
    pub fn resource(&self, id: Id) -> Option<&Arc<Resource>> {
        self.channels.get(&id)
    }

    /// The channel of that name in an instance.
    #[must_use]
    pub fn by_name(&self, instance: &str, name: &str) -> Option<&Arc<Resource>> {
        let id = self.holdings.get(instance)?.by_name.get(name)?;
        self.channels.get(id)
    }

    /// How many channels of an instance count against the quota.
    #[must_use]
    pub fn made_by_api(&self, instance: &str) -> usize {
        self.holdings.get(instance).map_or(0, |holding| holding.made_by_api)
    }

    /// The reference channels that stand for a channel.
    pub fn referrers(&self, target: Id) -> impl Iterator<Item = Id> + '_ {
        self.referrers.get(&target).into_iter().flatten().copied()
    }

    /// How many channels there are: in one instance, or in all.
    #[must_use]
    pub fn count(&self, instance: Option<&str>) -> usize {
        self.listed_in(instance).map_or(0, BTreeSet::len)
    }

    /// The channels, newest first: of one instance, or of all.
    pub fn channels(&self, instance: Option<&str>) -> impl Iterator<Item = &Arc<Resource>> {
        let listed = self.listed_in(instance).into_iter().flatten();
        listed.filter_map(|(_, id)| self.channels.get(id))
    }

    fn listed_in(&self, instance: Option<&str>) -> Option<&Listed> {
        match instance {
            Some(instance) => Some(&self.holdings.get(instance)?.listed),
            None => Some(&self.listed),
        }
    }

    /// Makes a delta real. It must have been made from this very state.
    pub fn apply(&mut self, delta: &Delta) {
        // Instances first: channels of a new instance need it.
        for edit in &delta.instances {
            self.apply_instance(edit);
        }
        // All removals before all additions, so that a name can change hands.
        for resource in delta.channels.iter().filter_map(|edit| edit.before.as_ref()) {
            self.forget(resource);
        }
        for resource in delta.channels.iter().filter_map(|edit| edit.after.as_ref()) {
            self.remember(resource);
        }
    }

    fn apply_instance(&mut self, edit: &InstanceEdit) {
        match (&edit.before, &edit.after) {
            (_, Some(after)) => match self.holdings.get_mut(&after.id) {
                Some(holding) => holding.instance = Arc::clone(after),
                None => {
                    let holding = Holding {
                        instance: Arc::clone(after),
                        by_name: HashMap::new(),
                        listed: Listed::new(),
                        made_by_api: 0,
                    };
                    self.holdings.insert(Arc::clone(&after.id), holding);
                    self.instance_order.push(Arc::clone(&after.id));
                    self.order_instances();
                }
            },
            (Some(before), None) => {
                self.instance_order.retain(|id| *id != before.id);
                self.holdings.remove(&before.id);
            }
            (None, None) => {}
        }
    }

    fn order_instances(&mut self) {
        let rank = |id: &InstanceId| {
            let place = self.configured.iter().position(|configured| configured == id);
            let created = self.holdings.get(id).map(|holding| holding.instance.created);
            (place.unwrap_or(usize::MAX), created, Arc::clone(id))
        };
        self.instance_order.sort_by_key(rank);
    }

    fn forget(&mut self, resource: &Arc<Resource>) {
        let key = (Reverse(resource.created), resource.id);
        self.channels.remove(&resource.id);
        self.listed.remove(&key);
        if let Some(holding) = self.holdings.get_mut(&resource.instance) {
            holding.listed.remove(&key);
            holding.by_name.remove(resource.configured.name());
            holding.made_by_api -= usize::from(resource.source == Source::Api);
        }
        for target in resource.targets() {
            if let Some(referrers) = self.referrers.get_mut(&target) {
                referrers.remove(&resource.id);
                if referrers.is_empty() {
                    self.referrers.remove(&target);
                }
            }
        }
    }

    fn remember(&mut self, resource: &Arc<Resource>) {
        let key = (Reverse(resource.created), resource.id);
        self.channels.insert(resource.id, Arc::clone(resource));
        self.listed.insert(key);
        if let Some(holding) = self.holdings.get_mut(&resource.instance) {
            holding.listed.insert(key);
            holding.by_name.insert(resource.configured.name().into(), resource.id);
            holding.made_by_api += usize::from(resource.source == Source::Api);
        }
        for target in resource.targets() {
            self.referrers.entry(target).or_default().insert(resource.id);
        }
    }
}
