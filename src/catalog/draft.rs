//! A delta in the making: what a call has changed so far, over the registry.
//!
//! Keeps references true: whenever a channel is put, everything that stands for
//! it follows, and what is in effect is computed anew.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use super::delta::{Cause, ChannelEdit, Delta, InstanceEdit};
use super::fault::Fault;
use super::ids::Id;
use super::instance::Instance;
use super::resource::Resource;
use super::state::Registry;
use crate::catalog::Source;
use crate::channel::reader::ReadContext;
use crate::channel::{Channel, ChannelKind, ClientCertificate, TlsOptions, VerifyCertificate};

/// Changes over a registry that are not made yet.
pub(super) struct Draft<'r> {
    pub(super) registry: &'r Registry,
    surroundings: &'r dyn ReadContext,
    channels: BTreeMap<Id, (Option<Arc<Resource>>, Cause)>,
    order: Vec<Id>,
    instance: Option<Arc<Instance>>,
}

impl<'r> Draft<'r> {
    pub(super) fn new(registry: &'r Registry, surroundings: &'r dyn ReadContext) -> Self {
        Self { registry, surroundings, channels: BTreeMap::new(), order: Vec::new(), instance: None }
    }

    /// The channel as this call leaves it.
    pub(super) fn resource(&self, id: Id) -> Option<&Arc<Resource>> {
        match self.channels.get(&id) {
            Some((resource, _)) => resource.as_ref(),
            None => self.registry.resource(id),
        }
    }

    /// The instance as this call leaves it.
    fn instance(&self, id: &str) -> Result<&Arc<Instance>, Fault> {
        match &self.instance {
            Some(instance) if &*instance.id == id => Ok(instance),
            _ => self.registry.instance(id),
        }
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

    /// Replaces an instance; its channels that use its certificate follow.
    pub(super) fn put_instance(&mut self, instance: Arc<Instance>) -> Result<(), Fault> {
        self.instance = Some(Arc::clone(&instance));
        let users: Vec<Id> = self
            .registry
            .channels(Some(&instance.id))
            .filter(|resource| wants_certificate(&resource.effective))
            .map(|resource| resource.id)
            .collect();
        for id in users {
            self.refresh(id)?;
        }
        Ok(())
    }

    /// The whole change.
    pub(super) fn finish(self) -> Delta {
        let channels = self.order.iter().filter_map(|id| {
            let (after, cause) = self.channels.get(id)?;
            let before = self.registry.resource(*id).cloned();
            let is_change = before.is_some() || after.is_some();
            is_change.then(|| ChannelEdit { before, after: after.clone(), cause: *cause })
        });
        let instances = self.instance.iter().map(|after| {
            let before = self.registry.instance(&after.id).ok().cloned();
            InstanceEdit { before, after: Some(Arc::clone(after)) }
        });
        Delta { channels: channels.collect(), instances: instances.collect() }
    }

    fn set(&mut self, id: Id, resource: Option<Arc<Resource>>, cause: Cause) {
        let slot = self.channels.entry(id).or_insert_with(|| {
            self.order.push(id);
            (None, cause)
        });
        // Written once, it stays written, whatever follows.
        let cause = if slot.1 == Cause::Written { Cause::Written } else { cause };
        *slot = (resource, cause);
    }

    /// Brings everything up to date that stands for a channel, directly or not.
    fn follow(&mut self, id: Id) -> Result<(), Fault> {
        let mut waiting: VecDeque<Id> = self.referrers(id).collect();
        while let Some(referrer) = waiting.pop_front() {
            if self.refresh_one(referrer)? {
                waiting.extend(self.referrers(referrer).collect::<Vec<_>>());
            }
        }
        Ok(())
    }

    /// Computes what is in effect for a channel anew, and for all that stand for it.
    pub(super) fn refresh(&mut self, id: Id) -> Result<(), Fault> {
        if self.refresh_one(id)? { self.follow(id) } else { Ok(()) }
    }

    /// Computes what is in effect anew; whether it changed.
    fn refresh_one(&mut self, id: Id) -> Result<bool, Fault> {
        let Some(resource) = self.resource(id).cloned() else { return Ok(false) };
        let effective = self.effective(&resource)?;
        if effective == resource.effective {
            return Ok(false);
        }
        let followed = Resource { effective, ..Resource::clone(&resource) };
        self.set(id, Some(Arc::new(followed)), Cause::Followed);
        Ok(true)
    }

    /// Those that stand for a channel, as this call leaves them.
    fn referrers(&self, target: Id) -> impl Iterator<Item = Id> {
        let drafted = self.channels.iter().filter_map(move |(id, (resource, _))| {
            resource.as_ref().filter(|resource| resource.targets().any(|id| id == target)).map(|_| *id)
        });
        let known = self.registry.referrers(target).filter(|id| !self.channels.contains_key(id));
        let all: Vec<Id> = drafted.chain(known).collect();
        all.into_iter()
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
                .filter(|id| *id == resource.id || self.resource(*id).is_some())
                .ok_or_else(|| invalid(format!("no channel has the id {written:?}")))?;
            let is_elsewhere = self.resource(target).is_some_and(|held| held.instance != resource.instance);
            if is_elsewhere {
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
                waiting.extend(self.resource(id).into_iter().flat_map(|resource| resource.targets()));
            }
        }
        false
    }

    /// What is balanced and probed (see [`Resource::effective`]).
    fn effective(&self, resource: &Resource) -> Result<Arc<Channel>, Fault> {
        let configured = &resource.configured;
        if resource.source != Source::Api {
            return Ok(Arc::clone(configured));
        }
        let instance = self.instance(&resource.instance)?;
        let is_plain_name = self.registry.first_instance().is_none_or(|first| *first == instance.id);
        let is_reference = configured.kind() == ChannelKind::Reference;
        let may_want_certificate = is_reference || wants_certificate(configured);
        if is_plain_name && !may_want_certificate {
            return Ok(Arc::clone(configured));
        }
        let mut channel = if is_reference {
            configured.standing_for(|group| {
                let target = Id::parse(group.reference_vpc_channel_id())?;
                self.resource(target).map(|target| &*target.effective)
            })
        } else {
            Channel::clone(configured)
        };
        if wants_certificate(&channel) {
            channel = channel.with_tls(self.tls_of(instance));
        }
        if !is_plain_name {
            let name = qualified_name(instance, configured);
            channel = channel.with_name(name);
        }
        Ok(Arc::new(channel))
    }
}

impl Draft<'_> {
    /// The TLS of checks with `enable_client_ssl`: the instance's certificate,
    /// else the daemon's.
    fn tls_of(&self, instance: &Instance) -> TlsOptions {
        let Some(certificate) = &instance.certificate else {
            return TlsOptions {
                client: self.surroundings.daemon_client_identity(),
                ..TlsOptions::default()
            };
        };
        let verify = match certificate.trust {
            Some(_) => VerifyCertificate::Yes,
            None => VerifyCertificate::No,
        };
        TlsOptions {
            client: Some(certificate.identity.clone()),
            ca: certificate.trust.clone(),
            verify,
            ..TlsOptions::default()
        }
    }
}

/// The name that metrics and status know a channel by when it does not belong
/// to the first instance. `:` cannot be part of a channel's name, and an
/// instance's id is unique.
fn qualified_name(instance: &Instance, channel: &Channel) -> String {
    format!("{}:{}", instance.id, channel.name())
}

fn wants_certificate(channel: &Channel) -> bool {
    channel.health_check().is_some_and(|check| check.client_certificate() == ClientCertificate::Present)
}
