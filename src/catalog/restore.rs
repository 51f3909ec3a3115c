//! The registry as the store left it.

use std::sync::Arc;

use super::delta::{Cause, ChannelEdit, Delta, InstanceEdit};
use super::draft::Draft;
use super::ids::{Fresh, InstanceId};
use super::instance::{FeatureSetting, Instance};
use super::record::ApiRecord;
use super::resource::Resource;
use super::state::Registry;
use crate::channel::reader::ReadContext;

/// An instance as `[[api.instances]]` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSetting {
    /// `id`.
    pub id: InstanceId,
    /// `name`.
    pub name: String,
    /// `features`: how they are set when the instance is first seen. What an
    /// API client sets later is kept.
    pub features: Vec<FeatureSetting>,
}

impl Registry {
    /// Takes over what the store held. Channels whose instance has no record
    /// get one that is named after its id, so that none is lost.
    pub fn restore(&mut self, records: Vec<ApiRecord>, surroundings: &dyn ReadContext) {
        let mut instances = Vec::new();
        let mut channels = Vec::new();
        for record in records {
            match record {
                ApiRecord::Instance(instance) => instances.push(Arc::new(*instance)),
                ApiRecord::Channel(resource) => channels.push(Arc::new(*resource)),
            }
        }
        for instance in instances {
            self.add_instance(instance);
        }
        for resource in &channels {
            if self.instance(&resource.instance).is_err() {
                let id = Arc::clone(&resource.instance);
                self.add_instance(Arc::new(Instance::new(Arc::clone(&id), id.to_string(), resource.created)));
            }
        }
        let edits = channels.into_iter().map(|resource| ChannelEdit {
            before: None,
            after: Some(resource),
            cause: Cause::Followed,
        });
        self.apply(&Delta { channels: edits.collect(), instances: Vec::new() });
        self.refresh_all(surroundings);
    }

    /// Makes sure that the configured instances exist; with none configured and none kept, makes one. The
    /// delta is to be submitted: new instances need a record.
    #[must_use]
    pub fn with_instances(&self, settings: &[InstanceSetting], fresh: &mut dyn Fresh) -> Delta {
        let made: Vec<Instance> = if settings.is_empty() && self.first_instance().is_none() {
            vec![Instance::new(fresh.id().to_string().into(), "local".to_owned(), fresh.now())]
        } else {
            let new = settings.iter().filter_map(|setting| match self.instance(&setting.id) {
                Ok(there) if there.name == setting.name => None,
                Ok(there) => Some(Instance { name: setting.name.clone(), ..Instance::clone(there) }),
                Err(_) => {
                    let made = Instance::new(Arc::clone(&setting.id), setting.name.clone(), fresh.now());
                    let features = setting.features.iter().cloned();
                    Some(features.fold(made, |made, feature| made.with_feature(feature, fresh.now())))
                }
            });
            new.collect()
        };
        let edits = made.into_iter().map(|instance| InstanceEdit {
            before: self.instance(&instance.id).ok().cloned(),
            after: Some(Arc::new(instance)),
        });
        Delta { channels: Vec::new(), instances: edits.collect() }
    }

    fn add_instance(&mut self, instance: Arc<Instance>) {
        let edit = InstanceEdit { before: None, after: Some(instance) };
        self.apply(&Delta { channels: Vec::new(), instances: vec![edit] });
    }

    /// Computes what is in effect for every channel that does not simply take
    /// effect as it was written.
    pub fn refresh_all(&mut self, surroundings: &dyn ReadContext) {
        let delta = self.refreshed(surroundings);
        self.apply(&delta);
    }

    /// The delta after which what is in effect fits these surroundings.
    #[must_use]
    pub fn refreshed(&self, surroundings: &dyn ReadContext) -> Delta {
        let mut draft = Draft::new(self, surroundings);
        let all: Vec<_> = self.channels(None).map(|resource: &Arc<Resource>| resource.id).collect();
        for id in all {
            // A channel whose instance is gone stays as it was written.
            let _ = draft.refresh(id);
        }
        draft.finish()
    }
}
