//! Every instance and channel as configured, with the indexes to find them.
//!
//! Calls are planned on this ([`super::Transaction`]), and readers get it as a part
//! of [`super::Channels`]. Copies are cheap, because they share what they have in
//! common; a change costs what it is about, not what there is.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::archive::Archive;
use super::entry::{Change, Resource, Source};
use super::fault::Fault;
use super::ids::{Id, InstanceId, UnixSeconds};
use super::instance::{Instance, Project, Quotas};
use super::overrides::{ChannelOverrides, Overrides};
use super::sorted_map::SortedMap;

/// Newest first, then by id (docs/vendor-api.md, "Lists and filters"): the order of every list.
type Listed = SortedMap<(Reverse<UnixSeconds>, Id), ()>;

/// Instances and channels, with their ids.
#[derive(Debug, Clone)]
pub struct Resources {
    project: Arc<Project>,
    quotas: Quotas,
    /// Whether there is an API that could ask for ids.
    serves_api: bool,
    /// The ids of the instances that the configuration names, in its order.
    configured: Arc<[InstanceId]>,
    /// Those that the configuration names in its order, then the others by age.
    /// The first one holds the channels of files.
    instances: Vec<InstanceChannels>,
    by_id: SortedMap<Id, Arc<Resource>>,
    /// By instance and name.
    by_name: SortedMap<(InstanceId, Arc<str>), Id>,
    listed: Listed,
    /// What operators have said of members of file channels.
    overrides: Overrides,
    /// A channel, and a reference channel that stands for it; there are few.
    referrers: Arc<BTreeSet<(Id, Id)>>,
}

/// One instance and what belongs to it.
#[derive(Debug, Clone)]
struct InstanceChannels {
    instance: Arc<Instance>,
    listed: Listed,
    /// Channels that count against the quota.
    made_by_api: usize,
}

impl Resources {
    /// No instances. `configured` are the ids that the configuration names: whenever
    /// they appear, they stand in this order and before others.
    #[must_use]
    pub fn new(project: Project, quotas: Quotas, configured: Vec<InstanceId>) -> Self {
        Self {
            project: Arc::new(project),
            quotas,
            serves_api: true,
            configured: configured.into(),
            instances: Vec::new(),
            by_id: SortedMap::default(),
            by_name: SortedMap::default(),
            listed: Listed::default(),
            overrides: Overrides::default(),
            referrers: Arc::default(),
        }
    }

    /// The one instance of a daemon without an API, which no client sees.
    #[must_use]
    pub fn without_api() -> Self {
        let mut resources = Self::new(Project::default(), Quotas::default(), Vec::new());
        resources.serves_api = false;
        let instance = Instance::new("local".into(), "local".to_owned(), UnixSeconds::default());
        resources.put_instance(&Arc::new(instance));
        resources
    }

    /// Whether there is an API that could ask for ids.
    pub(super) fn serves_api(&self) -> bool {
        self.serves_api
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
    pub(super) fn set_quotas(&mut self, quotas: Quotas) {
        self.quotas = quotas;
    }

    /// What operators have said of members of file channels.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Sets what operators have said; what is in effect is computed by a transaction.
    pub fn set_overrides(&mut self, overrides: Overrides) {
        self.overrides = overrides;
    }

    /// The overrides of a channel that a file describes; none when it has none.
    #[must_use]
    pub fn overrides_of(&self, resource: &Resource) -> Option<&ChannelOverrides> {
        let name = Some(resource.configured.name()).filter(|_| resource.source != Source::Api);
        self.overrides.of(name?)
    }

    /// All instances: the configured ones in their order, then others by age.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.iter().map(|held| &held.instance)
    }

    /// The instance of that id.
    ///
    /// # Errors
    /// There is none.
    pub fn instance(&self, id: &str) -> Result<&Arc<Instance>, Fault> {
        self.held(id).map(|held| &held.instance).ok_or_else(|| Fault::NoInstance(id.to_owned()))
    }

    /// The instance that the channels of files belong to, and whose channels
    /// are known by their plain names.
    #[must_use]
    pub fn first_instance(&self) -> Option<&InstanceId> {
        self.instances.first().map(|held| &held.instance.id)
    }

    /// A channel of an instance, by the text of its id.
    ///
    /// # Errors
    /// No such instance, or no such channel in it.
    pub fn channel(&self, instance: &str, id: &str) -> Result<&Arc<Resource>, Fault> {
        self.instance(instance)?;
        Id::parse(id)
            .and_then(|id| self.by_id.get(&id))
            .filter(|resource| &*resource.instance == instance)
            .ok_or_else(|| Fault::NoChannel(id.to_owned()))
    }

    /// A channel, whatever its instance.
    #[must_use]
    pub fn resource(&self, id: Id) -> Option<&Arc<Resource>> {
        self.by_id.get(&id)
    }

    /// The channel of that name in an instance.
    #[must_use]
    pub fn by_name(&self, instance: &str, name: &str) -> Option<&Arc<Resource>> {
        let id = self.by_name.get_by(|(held, there)| (&**held, &**there).cmp(&(instance, name)))?;
        self.by_id.get(id)
    }

    /// The channel that is known by that name: `NAME` in the first instance, `ID:NAME` in
    /// others.
    #[must_use]
    pub fn known_as(&self, name: &str) -> Option<&Arc<Resource>> {
        match name.split_once(':') {
            Some((instance, name)) => self.by_name(instance, name),
            None => self.by_name(self.first_instance()?, name),
        }
    }

    /// How many channels of an instance count against the quota.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn made_by_api(&self, instance: &str) -> Result<usize, Fault> {
        self.held(instance).map(|held| held.made_by_api).ok_or_else(|| Fault::NoInstance(instance.to_owned()))
    }

    /// The reference channels that stand for a channel.
    pub fn referrers(&self, target: Id) -> impl Iterator<Item = Id> + '_ {
        self.referrers.range((target, Id(0))..=(target, Id(u128::MAX))).map(|(_, referrer)| *referrer)
    }

    /// How many channels there are: in one instance, or in all.
    #[must_use]
    pub fn count(&self, instance: Option<&str>) -> usize {
        self.listed_in(instance).map_or(0, Listed::len)
    }

    /// The channels, newest first: of one instance, or of all.
    pub fn channels(&self, instance: Option<&str>) -> impl Iterator<Item = &Arc<Resource>> {
        let listed = self.listed_in(instance).into_iter().flat_map(Listed::iter);
        listed.filter_map(|((_, id), ())| self.by_id.get(id))
    }

    /// What the API made, for an export. Copies no channel, so it takes little time.
    #[must_use]
    pub fn archive(&self) -> Archive {
        let made = self.channels(None).filter(|resource| resource.source == Source::Api);
        Archive {
            project: Some(self.project.id.clone()),
            instances: self.instances().cloned().collect(),
            channels: made.cloned().collect(),
        }
    }

    fn listed_in(&self, instance: Option<&str>) -> Option<&Listed> {
        match instance {
            Some(instance) => Some(&self.held(instance)?.listed),
            None => Some(&self.listed),
        }
    }

    fn held(&self, instance: &str) -> Option<&InstanceChannels> {
        self.instances.iter().find(|held| &*held.instance.id == instance)
    }

    /// Makes an instance, or replaces the one of its id.
    pub(super) fn put_instance(&mut self, instance: &Arc<Instance>) {
        if let Some(held) = self.instances.iter_mut().find(|held| held.instance.id == instance.id) {
            held.instance = Arc::clone(instance);
            return;
        }
        let instance = Arc::clone(instance);
        self.instances.push(InstanceChannels { instance, listed: Listed::default(), made_by_api: 0 });
        let rank = |held: &InstanceChannels| {
            let place = self.configured.iter().position(|id| *id == held.instance.id);
            (place.unwrap_or(usize::MAX), held.instance.created, Arc::clone(&held.instance.id))
        };
        self.instances.sort_by_key(rank);
    }

    /// Makes changes real that were planned on this very state. The instances of the
    /// channels are there already.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        // All removals before all additions, so that a name can change hands.
        for change in changes {
            if let Some(before) = change.before.as_deref().filter(|_| !change.keeps_place()) {
                self.unlist(before);
            }
        }
        for change in changes {
            match (&change.before, &change.after) {
                (_, Some(after)) => {
                    self.by_id.insert(after.id, Arc::clone(after));
                    if !change.keeps_place() {
                        self.list(after);
                    }
                }
                (Some(before), None) => self.by_id.remove_by(|id| id.cmp(&before.id)),
                (None, None) => {}
            }
        }
    }

    fn unlist(&mut self, resource: &Resource) {
        let key = (Reverse(resource.created), resource.id);
        self.listed.remove_by(|held| held.cmp(&key));
        let name = (&*resource.instance, resource.configured.name());
        self.by_name.remove_by(|(instance, held)| (&**instance, &**held).cmp(&name));
        if let Some(held) = self.instances.iter_mut().find(|held| held.instance.id == resource.instance) {
            held.listed.remove_by(|held| held.cmp(&key));
            held.made_by_api -= usize::from(resource.source == Source::Api);
        }
        for target in resource.targets() {
            Arc::make_mut(&mut self.referrers).remove(&(target, resource.id));
        }
    }

    fn list(&mut self, resource: &Resource) {
        let key = (Reverse(resource.created), resource.id);
        self.listed.insert(key, ());
        self.by_name.insert((Arc::clone(&resource.instance), resource.configured.name().into()), resource.id);
        if let Some(held) = self.instances.iter_mut().find(|held| held.instance.id == resource.instance) {
            held.listed.insert(key, ());
            held.made_by_api += usize::from(resource.source == Source::Api);
        }
        for target in resource.targets() {
            Arc::make_mut(&mut self.referrers).insert((target, resource.id));
        }
    }
}
