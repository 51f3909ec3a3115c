//! What the store keeps of a channel and of an instance: JSON with a format
//! version, opaque to the store.
//!
//! A channel's record holds the channel as a `VpcCreate` body, with the ids of
//! its parts as further keys, and is read back by the rules that read bodies: a
//! record that breaks a rule is reported, never loaded in part.

mod archive;
mod form;

use std::sync::Arc;

use serde::Serialize;

use super::body::{self, field, list_field, text_field};
use super::ids::{Id, UnixSeconds};
use super::instance::{FeatureName, FeatureSetting, Instance};
use super::microservice::{Microservice, Service};
use super::resource::{GroupTag, Members, Resource, Tag};
use crate::catalog::Source;
use crate::channel::document::{Kind, Value};
use crate::channel::reader::{ClientIdentityError, Dialect, ReadContext, read_channel};
use crate::channel::{ChannelKind, ClientIdentity, Host, PemFile};
pub use archive::Archive;
use form::{ChannelRecord, InstanceRecord};

/// The format written here. A higher one is refused: it was written by a newer
/// vitald.
const FORMAT: i128 = 1;

/// A record read back.
#[derive(Debug, Clone)]
pub enum ApiRecord {
    /// A channel; what is in effect is not computed yet, see
    /// [`super::Registry::restore`].
    Channel(Box<Resource>),
    /// An instance.
    Instance(Box<Instance>),
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON, or lacks what every record has.
    #[error("the record is damaged: {0}")]
    Damaged(String),
    /// It was written by a newer vitald.
    #[error("the record has format {0}, this vitald reads format {FORMAT}; run the newer one")]
    TooNew(i128),
    /// It describes a channel that breaks a rule.
    #[error("the channel in the record breaks a rule: {0}")]
    Broken(String),
}

impl ApiRecord {
    /// A channel as bytes.
    ///
    /// # Errors
    /// JSON cannot be written.
    pub fn encode_channel(resource: &Resource) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&ChannelRecord::of(resource))
    }

    /// An instance as bytes. Holds the private key of `backend_client_certificate`.
    ///
    /// # Errors
    /// JSON cannot be written.
    pub fn encode_instance(instance: &Instance) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&InstanceRecord::of(instance))
    }

    /// A channel as the body of a request, which a configuration include accepts
    /// too: what `vitald export` prints. Keys come in the order of the documents.
    pub fn export_channel(resource: &Resource) -> impl Serialize + '_ {
        form::export(resource)
    }

    /// Reads what the encoders wrote.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::of_value(&body::parse(bytes).map_err(RecordError::Damaged)?)
    }

    fn of_value(value: &Value) -> Result<Self, RecordError> {
        match field(value, "format").map(|format| &format.kind) {
            Some(Kind::Integer(FORMAT)) => {}
            Some(Kind::Integer(newer)) if *newer > FORMAT => return Err(RecordError::TooNew(*newer)),
            _ => return Err(damaged("format")),
        }
        match text_field(value, "kind") {
            Some("channel") => channel_of(value).map(|resource| Self::Channel(Box::new(resource))),
            Some("instance") => instance_of(value).map(|instance| Self::Instance(Box::new(instance))),
            _ => Err(damaged("kind")),
        }
    }
}

fn damaged(field: &str) -> RecordError {
    RecordError::Damaged(format!("`{field}` is missing or has a wrong value"))
}

fn channel_of(value: &Value) -> Result<Resource, RecordError> {
    let described = field(value, "channel").ok_or_else(|| damaged("channel"))?;
    let mut violations = Vec::new();
    let channel = read_channel(described, Dialect::Api, &Permissive, &mut violations).ok_or_else(|| {
        let why: Vec<String> =
            violations.iter().map(|violation| format!("{}: {}", violation.path, violation.message)).collect();
        RecordError::Broken(why.join("; "))
    })?;
    let configured = Arc::new(channel);
    let parts = |key| list_field(described, key).unwrap_or_default();
    let groups: Result<Vec<GroupTag>, RecordError> = parts("member_groups")
        .iter()
        .map(|group| Ok(GroupTag { tag: tag_of(group)?, updated: moment_of(group, "updated")? }))
        .collect();
    let members: Result<Vec<Tag>, RecordError> = parts("members").iter().map(tag_of).collect();
    let (groups, members) = (groups?, members?);
    if groups.len() != configured.groups().len() || members.len() != configured.members().len() {
        return Err(RecordError::Broken("a group or member stands there twice".to_owned()));
    }
    let check = field(value, "health_check").map(tag_of).transpose()?;
    let is_microservice = configured.kind() == ChannelKind::Microservice;
    if is_microservice && field(value, "microservice").is_none() {
        // Without it the channel could not be written again.
        return Err(damaged("microservice"));
    }
    let microservice = field(value, "microservice").filter(|_| is_microservice);
    let microservice = microservice.zip(field(described, "microservice_info")).map(|(held, info)| {
        let tag = tag_of(held)?;
        let updated = moment_of(held, "updated")?;
        Ok(Arc::new(Microservice { id: tag.id, created: tag.created, updated, service: Service::read(info) }))
    });
    let tag = tag_of(value)?;
    Ok(Resource {
        id: tag.id,
        instance: text_field(value, "instance_id").ok_or_else(|| damaged("instance_id"))?.into(),
        source: Source::Api,
        created: tag.created,
        effective: Arc::clone(&configured),
        microservice: microservice.transpose()?,
        groups,
        members: Arc::new(Members::new(members)),
        check: configured.health_check().and(check),
        configured,
    })
}

fn instance_of(value: &Value) -> Result<Instance, RecordError> {
    let id = text_field(value, "id").ok_or_else(|| damaged("id"))?;
    let name = text_field(value, "name").ok_or_else(|| damaged("name"))?;
    let mut instance = Instance::new(id.into(), name.to_owned(), moment_of(value, "created")?);
    for feature in list_field(value, "features").unwrap_or_default() {
        // A feature that this vitald does not know any more has no effect.
        let Some(name) = text_field(feature, "name").and_then(FeatureName::of_word) else { continue };
        let is_on = matches!(field(feature, "enable").map(|on| &on.kind), Some(Kind::Boolean(true)));
        let config = text_field(feature, "config").unwrap_or_default();
        let setting = FeatureSetting::read(name, is_on, config)
            .map_err(|fault| RecordError::Broken(format!("feature {}: {}", name.word(), fault.message())))?;
        instance = instance.with_feature(setting, moment_of(feature, "updated")?);
    }
    Ok(instance)
}

fn tag_of(value: &Value) -> Result<Tag, RecordError> {
    let id = text_field(value, "id").and_then(Id::parse).ok_or_else(|| damaged("id"))?;
    Ok(Tag { created: moment_of(value, "created")?, id })
}

fn moment_of(value: &Value, key: &str) -> Result<UnixSeconds, RecordError> {
    match field(value, key).map(|time| &time.kind) {
        Some(Kind::Integer(seconds)) => u64::try_from(*seconds).map(UnixSeconds).map_err(|_| damaged(key)),
        _ => Err(damaged(key)),
    }
}

/// Allows what depends on the daemon's other settings: a certificate that is
/// not configured today must not make the store unreadable. Such a channel's
/// checks fail, with a reason, until there is one again.
struct Permissive;

impl ReadContext for Permissive {
    fn trust_anchors(&self, _: &str) -> Result<PemFile, String> {
        Err("records name no files".to_owned())
    }

    fn client_identity(&self, _: &str, _: &str) -> Result<ClientIdentity, ClientIdentityError> {
        Err(ClientIdentityError::Mismatch)
    }

    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        let nothing = || PemFile { path: std::path::PathBuf::new(), pem: Arc::from([]) };
        Some(ClientIdentity { certificate: nothing(), key: nothing() })
    }

    fn ecs_address(&self, _: &str) -> Option<Host> {
        None
    }
}
