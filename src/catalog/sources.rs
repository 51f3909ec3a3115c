//! Changes that no call makes: the configuration's channels and instances, and what
//! the store held at the start.
//!
//! Channels of files belong to the first instance. Their ids depend on names and
//! addresses alone, so that they are the same after every restart and reload.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::entry::{Cause, GroupTag, Members, Resource, Source, Tag};
use super::fault::Fault;
use super::ids::{Fresh, Id, InstanceId, UnixSeconds};
use super::instance::{Instance, KnownFeature};
use super::plan::check_tls;
use super::record::{ApiRecord, RecordError};
use super::resources::Resources;
use super::transaction::Transaction;
use crate::channel::Channel;
use crate::config::api::{ApiSettings, FeatureSwitch, InstanceSettings};
use crate::store::{Collection, StoreContents};

/// What the configuration or the store says does not go together.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Channels of files have names of channels that the API made; all of them.
    #[error("{}", .0.iter().map(|name| format!(
        "the API has a channel named \"{name}\" already; rename this one, or delete that one"
    )).collect::<Vec<_>>().join("\n"))]
    NameClash(Vec<String>),
    /// An instance cannot be as the configuration wants it.
    #[error("{0}")]
    Setting(String),
    /// A record that this vitald cannot read.
    #[error("the store's record of {key}: {error}")]
    Record {
        /// Which.
        key: String,
        /// What is wrong with it.
        error: RecordError,
    },
    /// What is in effect cannot be worked out.
    #[error("{}", .0.message())]
    Effect(Fault),
}

impl Resources {
    /// No channels yet; the instances that the configuration names stand first.
    #[must_use]
    pub fn of_settings(api: &ApiSettings) -> Self {
        let configured = api.instances.iter().map(|instance| instance.id.as_str().into()).collect();
        Self::new(api.project.clone(), api.quotas, configured)
    }
}

impl Transaction<'_> {
    /// Takes over what the store held: every record or none, because half a store is
    /// no state to go on with. Channels whose instance has no record get one that is
    /// named after its id, so that none is lost.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn restore(&mut self, contents: &StoreContents) -> Result<(), SourceError> {
        let mut channels = Vec::new();
        for record in &contents.records {
            let kind = match record.key.collection {
                Collection::Instances => "instance",
                Collection::Channels => "channel",
                Collection::Users | Collection::Tokens => continue,
            };
            match ApiRecord::decode(&record.value) {
                Ok(ApiRecord::Instance(instance)) => self.put_instance(instance, Cause::Followed),
                Ok(ApiRecord::Channel(resource)) => channels.push(resource),
                Err(error) => {
                    let key = format!("{kind} {}", String::from_utf8_lossy(&record.key.id));
                    return Err(SourceError::Record { key, error });
                }
            }
        }
        for resource in channels {
            if self.state().instance(&resource.instance).is_err() {
                let id = &resource.instance;
                let instance = Instance::new(Arc::clone(id), id.to_string(), resource.created);
                self.put_instance(Arc::new(instance), Cause::Followed);
            }
            self.set(resource.id, Some(resource), Cause::Followed);
        }
        self.keep();
        Ok(())
    }

    /// Makes sure that the configured instances exist; with none configured and none
    /// kept, makes one. Features are set when an instance is first seen: what an API
    /// client sets later is kept.
    ///
    /// # Errors
    /// A feature that cannot be set so.
    pub fn put_instances(
        &mut self,
        settings: &[InstanceSettings],
        fresh: &mut dyn Fresh,
    ) -> Result<(), SourceError> {
        for setting in settings {
            let instance = match self.state().instance(&setting.id) {
                Ok(there) if there.name == setting.name => continue,
                Ok(there) => Instance { name: setting.name.clone(), ..Instance::clone(there) },
                Err(_) => new_instance(setting, fresh.now())?,
            };
            self.put_instance(Arc::new(instance), Cause::Written);
        }
        if self.state().first_instance().is_none() {
            let instance = Instance::new(fresh.id().to_string().into(), "local".to_owned(), fresh.now());
            self.put_instance(Arc::new(instance), Cause::Written);
        }
        self.keep();
        Ok(())
    }

    /// Makes exactly these the channels that come from files, and brings up to date
    /// what depends on the daemon's configuration. Channels that are the same keep
    /// their times, and do not change.
    ///
    /// # Errors
    /// Names that API channels of the first instance have; nothing has changed then.
    pub fn put_files<'f>(
        &mut self,
        files: impl Iterator<Item = (&'f Arc<Channel>, &'f Path)>,
        now: UnixSeconds,
    ) -> Result<(), SourceError> {
        let first = self.state().first_instance().cloned();
        let instance = first.ok_or_else(|| SourceError::Effect(Fault::NoInstance(String::new())))?;
        let held = self.state().channels(Some(&instance)).filter(|resource| resource.source != Source::Api);
        let mut gone: HashMap<Id, Arc<Resource>> =
            held.map(|resource| (resource.id, Arc::clone(resource))).collect();
        let mut put = Vec::new();
        let mut clashes = Vec::new();
        for (channel, file) in files {
            let name = channel.name();
            if self.state().by_name(&instance, name).is_some_and(|held| held.source == Source::Api) {
                clashes.push(name.to_owned());
                continue;
            }
            let old = gone.remove(&Id::of_parts(&["file-channel", name]));
            let is_same = |held: &Arc<Resource>| {
                held.configured == *channel && matches!(&held.source, Source::File(path) if path == file)
            };
            if !old.as_ref().is_some_and(is_same) {
                put.push(resource_of_file(self.state(), &instance, channel, file, old.as_deref(), now));
            }
        }
        if !clashes.is_empty() {
            return Err(SourceError::NameClash(clashes));
        }
        gone.into_keys().for_each(|id| self.remove(id));
        for resource in put {
            self.set(resource.id, Some(Arc::new(resource)), Cause::Written);
        }
        self.refresh(None).map_err(SourceError::Effect)?;
        self.keep();
        Ok(())
    }

    /// For the start, which must not fail because of one channel: where the probes of
    /// a channel of the API cannot be prepared, such as for lack of a client certificate
    /// that was there when it was made, its members are not probed.
    pub fn give_up_checks_without_tls(&mut self) {
        let channels: Vec<Arc<Resource>> = self.state().channels(None).cloned().collect();
        for resource in channels.into_iter().filter(|resource| resource.source == Source::Api) {
            if let Err(error) = check_tls(&resource.effective) {
                let channel = resource.effective.name();
                tracing::error!(channel, %error, "the members of {channel} are not probed");
                let effective = Arc::new(Channel::clone(&resource.effective).with_health_check(None));
                let unchecked = Resource { effective, ..Resource::clone(&resource) };
                self.set(resource.id, Some(Arc::new(unchecked)), Cause::Followed);
            }
        }
        self.keep();
    }
}

fn new_instance(setting: &InstanceSettings, now: UnixSeconds) -> Result<Instance, SourceError> {
    let mut instance = Instance::new(setting.id.as_str().into(), setting.name.clone(), now);
    for (feature, switch) in &setting.features {
        let (word, enable) = (switch.word(), *switch == FeatureSwitch::On);
        let known = KnownFeature::Effective(*feature);
        instance = instance.with_feature(known, enable, word, now).map_err(|fault| {
            let why = fault.details().into_iter().next().map_or_else(|| fault.message(), |it| it.problem);
            let (instance, feature) = (&setting.id, feature.word());
            SourceError::Setting(format!(
                "[[api.instances]] {instance}: features.{feature} = \"{word}\": {why}"
            ))
        })?;
    }
    Ok(instance)
}

fn resource_of_file(
    resources: &Resources,
    instance: &InstanceId,
    channel: &Arc<Channel>,
    file: &Path,
    old: Option<&Resource>,
    now: UnixSeconds,
) -> Resource {
    let name = channel.name();
    // What was there keeps the time it was first seen.
    let seen: HashMap<Id, UnixSeconds> = old
        .into_iter()
        .flat_map(|old| {
            let groups = old.groups.iter().map(|group| group.tag);
            old.members.tags().iter().copied().chain(groups).chain(old.check)
        })
        .map(|tag| (tag.id, tag.created))
        .collect();
    let tag = |parts: &[&str]| {
        let id = Id::of_parts(parts);
        Tag { created: seen.get(&id).copied().unwrap_or(now), id }
    };
    // No client can ask for them where there is no API, and they take 32 bytes each.
    let named = channel.members().iter().filter(|_| resources.serves_api());
    let members = named.map(|member| {
        let identity = channel.host_identity(member);
        tag(&["file-member", name, identity.group(), &identity.address()])
    });
    let groups = channel.groups().iter().map(|group| {
        let tag = tag(&["file-group", name, group.name()]);
        let before = old.and_then(|old| old.groups().find(|(there, _)| *there == group));
        GroupTag { tag, updated: before.map_or(now, |(_, tag)| tag.updated) }
    });
    Resource {
        id: Id::of_parts(&["file-channel", name]),
        instance: Arc::clone(instance),
        source: Source::File(file.to_path_buf()),
        created: old.map_or(now, |old| old.created),
        effective: Arc::clone(channel),
        configured: Arc::clone(channel),
        microservice: None,
        groups: groups.collect(),
        members: Arc::new(Members::new(members.collect())),
        check: channel.health_check().map(|_| tag(&["file-check", name])),
    }
}
