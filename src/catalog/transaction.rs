//! What changes together, and how it is planned: one change after another, each on the
//! state that the ones before it leave. Readers see none of it before it is committed.
//!
//! Whenever a channel is put, what is in effect is computed anew, for it and for all
//! reference channels that stand for it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::entry::{Cause, Change, Resource, Source};
use super::fault::Fault;
use super::ids::Id;
use super::instance::{Instance, Quotas};
use super::overrides::Overrides;
use super::record::ApiRecord;
use super::requester::{Requester, Requesters};
use super::resources::Resources;
use crate::channel::reader::ReadContext;
use crate::channel::{
    Channel, ChannelKind, ClientCertificate, ProbeSettings, TlsSettings, VerifyCertificate,
};
use crate::store::{Batch, Collection, RecordKey};

/// Everything that changes together, all or nothing.
#[derive(Debug, Clone, Default)]
pub struct ChangeSet {
    /// Each channel at most once.
    channels: Vec<Change>,
    /// By id, where its channel stands.
    places: HashMap<Id, usize>,
    /// Each instance at most once. No instance is ever removed.
    instances: Vec<(Arc<Instance>, Cause)>,
    /// All overrides as they are to be; none when none changes.
    overrides: Option<Overrides>,
}

impl ChangeSet {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.instances.is_empty() && self.overrides.is_none()
    }

    /// All overrides as they are to be, for the state directory to hold before the change
    /// takes effect; none when none changes.
    #[must_use]
    pub fn overrides(&self) -> Option<&Overrides> {
        self.overrides.as_ref()
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
    fn merge(&mut self, later: Self) {
        later.channels.into_iter().for_each(|change| self.add(change));
        for (instance, cause) in later.instances {
            self.add_instance(instance, cause);
        }
        self.overrides = later.overrides.or(self.overrides.take());
    }

    fn add(&mut self, change: Change) {
        let Some(id) = change.id() else { return };
        match self.places.get(&id).and_then(|place| self.channels.get_mut(*place)) {
            Some(held) => {
                held.after = change.after;
                held.cause = held.cause.max(change.cause);
                held.asked_by.merge(&change.asked_by);
            }
            None => {
                self.places.insert(id, self.channels.len());
                self.channels.push(change);
            }
        }
    }

    fn add_instance(&mut self, instance: Arc<Instance>, cause: Cause) {
        match self.instances.iter_mut().find(|(held, _)| held.id == instance.id) {
            Some((held, held_cause)) => (*held, *held_cause) = (instance, cause.max(*held_cause)),
            None => self.instances.push((instance, cause)),
        }
    }
}

/// Changes being planned.
#[derive(Clone)]
pub struct Transaction<'c> {
    base: Resources,
    /// The base with everything that was planned so far.
    state: Resources,
    done: ChangeSet,
    /// Those of the attempt under way.
    current: ChangeSet,
    /// Who asks for what is planned now.
    asked_by: Requesters,
    context: &'c dyn ReadContext,
}

impl<'c> Transaction<'c> {
    /// Nothing planned yet, and the start asks for what is. `context` is what the rules of
    /// channels need of the daemon's configuration.
    #[must_use]
    pub fn new(base: Resources, context: &'c dyn ReadContext) -> Self {
        let (done, current) = (ChangeSet::default(), ChangeSet::default());
        let asked_by = Requester::Start.into();
        Self { state: base.clone(), base, done, current, asked_by, context }
    }

    /// Says who asks for what is planned from now on.
    pub fn set_requesters(&mut self, asked_by: Requesters) {
        self.asked_by = asked_by;
    }

    /// Everything, with what was planned so far.
    #[must_use]
    pub fn state(&self) -> &Resources {
        &self.state
    }

    /// What the rules of channels need of the daemon's configuration.
    pub(super) fn context(&self) -> &'c dyn ReadContext {
        self.context
    }

    /// Sets the limits for the calls from now on; what is there already stays.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.base.set_quotas(quotas);
        self.state.set_quotas(quotas);
    }

    /// What changes, and everything as it is to be.
    #[must_use]
    pub fn finish(self) -> (ChangeSet, Resources) {
        (self.done, self.state)
    }

    /// Plans some changes, all of them or none. A panic is a mistake of ours, and
    /// must not take along what else was planned.
    ///
    /// # Errors
    /// Those of `plan`, or that it panicked.
    pub fn attempt<T>(&mut self, plan: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        match catch_unwind(AssertUnwindSafe(|| plan(self))) {
            Ok(Ok(planned)) => {
                self.keep();
                Ok(planned)
            }
            Ok(Err(fault)) if self.current.is_empty() => Err(fault),
            failed => {
                // What a panic left behind may be anything, so all is done again.
                self.current = ChangeSet::default();
                self.state = self.base.clone();
                self.done.instances.iter().for_each(|(instance, _)| self.state.put_instance(instance));
                if let Some(overrides) = &self.done.overrides {
                    self.state.set_overrides(overrides.clone());
                }
                self.state.apply(&self.done.channels);
                let panicked = "the call met a mistake in vitald; please report it";
                failed.unwrap_or_else(|_| Err(Fault::Unavailable(panicked.to_owned())))
            }
        }
    }

    /// Takes over what the attempt under way has changed.
    pub(super) fn keep(&mut self) {
        self.done.merge(std::mem::take(&mut self.current));
    }

    /// The changes of the attempt under way.
    pub(super) fn current(&self) -> &ChangeSet {
        &self.current
    }

    /// Makes or replaces a channel; what is in effect is computed here, for it
    /// and for all that stand for it.
    pub(super) fn put(&mut self, resource: Resource) -> Result<Arc<Resource>, Fault> {
        self.check_references(&resource)?;
        let effective = self.effective(&resource)?;
        let resource = Arc::new(Resource { effective, ..resource });
        self.set(resource.id, Some(Arc::clone(&resource)), Cause::Written);
        self.follow(resource.id)?;
        Ok(resource)
    }

    /// Removes a channel that nothing stands for.
    pub(super) fn remove(&mut self, id: Id) {
        self.set(id, None, Cause::Written);
    }

    /// Makes a channel what it is to be, as it is.
    pub(super) fn set(&mut self, id: Id, after: Option<Arc<Resource>>, cause: Cause) {
        let (before, asked_by) = (self.state.resource(id).cloned(), self.asked_by.clone());
        let change = Change { before, after, cause, asked_by };
        self.state.apply(std::slice::from_ref(&change));
        self.current.add(change);
    }

    /// Makes or replaces an instance; the channels that depend on it are left to
    /// [`Transaction::refresh`].
    pub(super) fn put_instance(&mut self, instance: Arc<Instance>, cause: Cause) {
        self.state.put_instance(&instance);
        self.current.add_instance(instance, cause);
    }

    /// Changes what operators have said, of members of the channel `id` if it is there.
    pub(super) fn set_overrides(&mut self, overrides: Overrides, id: Option<Id>) -> Result<(), Fault> {
        self.state.set_overrides(overrides.clone());
        self.current.overrides = Some(overrides);
        if let Some(id) = id
            && self.refresh_one(id)?
        {
            self.follow(id)?;
        }
        Ok(())
    }

    /// Computes what is in effect anew for the channels of an instance, or for all,
    /// because the instance or the daemon's configuration changed.
    pub(super) fn refresh(&mut self, instance: Option<&str>) -> Result<(), Fault> {
        let channels: Vec<Id> = self.state.channels(instance).map(|resource| resource.id).collect();
        for id in channels {
            if self.refresh_one(id)? {
                self.follow(id)?;
            }
        }
        Ok(())
    }

    /// Brings everything up to date that stands for a channel, directly or not.
    fn follow(&mut self, id: Id) -> Result<(), Fault> {
        let mut waiting: VecDeque<Id> = self.state.referrers(id).collect();
        while let Some(referrer) = waiting.pop_front() {
            if self.refresh_one(referrer)? {
                waiting.extend(self.state.referrers(referrer));
            }
        }
        Ok(())
    }

    /// Computes what is in effect anew; whether it changed.
    fn refresh_one(&mut self, id: Id) -> Result<bool, Fault> {
        let Some(resource) = self.state.resource(id).cloned() else { return Ok(false) };
        let effective = self.effective(&resource)?;
        if Arc::ptr_eq(&effective, &resource.effective) || effective == resource.effective {
            return Ok(false);
        }
        let followed = Resource { effective, ..Resource::clone(&resource) };
        self.set(id, Some(Arc::new(followed)), Cause::Followed);
        Ok(true)
    }

    /// Every target exists, in the same instance, and no way leads back.
    fn check_references(&self, resource: &Resource) -> Result<(), Fault> {
        if resource.configured.kind() != ChannelKind::Reference {
            return Ok(());
        }
        let invalid = |why: String| Fault::Invalid("reference_vpc_channel_id", why);
        for group in resource.configured.groups() {
            let written = group.reference_vpc_channel_id();
            if written.is_empty() {
                return Err(Fault::Missing("reference_vpc_channel_id"));
            }
            let target = Id::parse(written)
                .filter(|id| *id == resource.id || self.state.resource(*id).is_some())
                .ok_or_else(|| invalid(format!("no channel has the id {written:?}")))?;
            if self.state.resource(target).is_some_and(|held| held.instance != resource.instance) {
                return Err(invalid(format!("the channel {target} belongs to another instance")));
            }
            if self.leads_to(target, resource.id) {
                return Err(invalid(format!("the channel {target} leads back to this one")));
            }
        }
        Ok(())
    }

    /// Whether following references from one channel arrives at another.
    fn leads_to(&self, from: Id, goal: Id) -> bool {
        let mut waiting = vec![from];
        let mut seen = HashSet::new();
        while let Some(id) = waiting.pop() {
            if id == goal {
                return true;
            }
            if seen.insert(id) {
                waiting.extend(self.state.resource(id).into_iter().flat_map(|resource| resource.targets()));
            }
        }
        false
    }

    /// What is balanced and probed (see [`Resource::effective`]).
    fn effective(&self, resource: &Resource) -> Result<Arc<Channel>, Fault> {
        let configured = &resource.configured;
        if resource.source != Source::Api {
            let overrides = self.state.overrides_of(resource);
            let overridden = overrides.and_then(|overrides| {
                configured.with_overrides(|member| overrides.get(member).map(|kept| kept.said))
            });
            return Ok(overridden.map_or_else(|| Arc::clone(configured), Arc::new));
        }
        let instance = self.state.instance(&resource.instance)?;
        let is_plain_name = self.state.first_instance().is_none_or(|first| *first == instance.id);
        let is_reference = configured.kind() == ChannelKind::Reference;
        let nothing = ProbeSettings::default();
        let defaults = self.context.probe_defaults().filter(|defaults| **defaults != nothing);
        if is_plain_name && !is_reference && !wants_certificate(configured) && defaults.is_none() {
            return Ok(Arc::clone(configured));
        }
        let mut channel = if is_reference {
            configured.standing_for(|group| {
                let target = Id::parse(group.reference_vpc_channel_id())?;
                self.state.resource(target).map(|target| &*target.effective)
            })
        } else {
            Channel::clone(configured)
        };
        let own = if wants_certificate(&channel) { self.certificate_of(instance) } else { nothing };
        channel = channel.with_probe(own.complete(defaults));
        if !is_plain_name {
            // The name that metrics and status know the channel by. `:` cannot be part
            // of a channel's name, and an instance's id is unique.
            let name = format!("{}:{}", instance.id, configured.name());
            channel = channel.with_name(name);
        }
        Ok(Arc::new(channel))
    }

    /// What checks with `enable_client_ssl` have of their own: the instance's certificate,
    /// else the daemon's.
    fn certificate_of(&self, instance: &Instance) -> ProbeSettings {
        let tls = match &instance.certificate {
            None => TlsSettings { client: self.context.daemon_client_identity(), ..TlsSettings::default() },
            Some(certificate) => TlsSettings {
                client: Some(certificate.identity.clone()),
                verify: certificate.trust.as_ref().map(|_| VerifyCertificate::Yes),
                ca: certificate.trust.clone(),
                ..TlsSettings::default()
            },
        };
        ProbeSettings { tls, ..ProbeSettings::default() }
    }
}

/// Whether a channel's checks present a client certificate.
pub(super) fn wants_certificate(channel: &Channel) -> bool {
    channel.health_check().is_some_and(|check| check.client_certificate() == ClientCertificate::Present)
}
