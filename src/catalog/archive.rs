//! Everything the API made, as one JSON text: what a running daemon hands out,
//! and what a store can be filled with again, ids and all.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::body::{self, field, list_field, text_field};
use super::entry::Resource;
use super::instance::Instance;
use super::record::{ApiRecord, ChannelRecord, FORMAT, InstanceRecord, RecordError, damaged};
use crate::channel::document::Kind;

/// Instances and channels, without those of files.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// The project's id, where it is known.
    pub project: Option<String>,
    /// All instances, the first one first.
    pub instances: Vec<Arc<Instance>>,
    /// The channels that the API made.
    pub channels: Vec<Arc<Resource>>,
}

/// The text's outer form.
#[derive(Serialize)]
struct Form<'a> {
    vitald_archive: i128,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<&'a str>,
    records: ArchiveRecords<'a>,
}

struct ArchiveRecords<'a>(&'a Archive);

impl Serialize for ArchiveRecords<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Any<'a> {
            Instance(InstanceRecord<'a>),
            Channel(Box<ChannelRecord<'a>>),
        }
        let instances = self.0.instances.iter().map(|instance| Any::Instance(InstanceRecord::of(instance)));
        let channels =
            self.0.channels.iter().map(|channel| Any::Channel(Box::new(ChannelRecord::of(channel))));
        serializer.collect_seq(instances.chain(channels))
    }
}

impl Archive {
    /// Records as a store held them; the oldest instance first.
    pub fn of_records(records: Vec<ApiRecord>) -> Self {
        let mut archive = Self::default();
        records.into_iter().for_each(|record| archive.add(record));
        archive.instances.sort_by_key(|instance| (instance.created, Arc::clone(&instance.id)));
        archive.channels.sort_by_key(|channel| (std::cmp::Reverse(channel.created), channel.id));
        archive
    }

    fn add(&mut self, record: ApiRecord) {
        match record {
            ApiRecord::Instance(instance) => self.instances.push(instance),
            ApiRecord::Channel(resource) => self.channels.push(resource),
        }
    }

    /// The text. Holds the private key of `backend_client_certificate`.
    ///
    /// # Errors
    /// JSON cannot be written.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let project_id = self.project.as_deref();
        serde_json::to_vec(&Form { vitald_archive: FORMAT, project_id, records: ArchiveRecords(self) })
    }

    /// Reads what [`Archive::to_json`] wrote.
    ///
    /// # Errors
    /// It is no archive, a newer one, or one of its records is not good.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let value = body::parse(bytes).map_err(RecordError::Damaged)?;
        match field(&value, "vitald_archive").map(|format| &format.kind) {
            Some(Kind::Integer(FORMAT)) => {}
            Some(Kind::Integer(newer)) if *newer > FORMAT => return Err(RecordError::TooNew(*newer)),
            _ => return Err(damaged("vitald_archive")),
        }
        let records = list_field(&value, "records").ok_or_else(|| damaged("records"))?;
        let project = text_field(&value, "project_id").map(str::to_owned);
        let mut archive = Self { project, ..Self::default() };
        for record in records {
            archive.add(ApiRecord::of_value(record)?);
        }
        Ok(archive)
    }
}
