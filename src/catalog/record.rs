//! What the store keeps of a channel and of an instance: JSON with a format
//! version, opaque to the store.
//!
//! A channel's record holds the channel as a `VpcCreate` body, with the ids of
//! its parts as further keys, and is read back by the rules that read bodies: a
//! record that breaks a rule is reported, never loaded in part.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::body::{self, field, list_field, text_field};
use super::entry::{GroupTag, Members, Resource, Source, Tag};
use super::ids::{Id, UnixSeconds};
use super::instance::{Instance, KnownFeature};
use super::microservice::{Microservice, Service};
use crate::channel::document::{Kind, Value};
use crate::channel::reader::{Dialect, ReadContext, read_channel};
use crate::channel::wire::{AsText, WireObject};
use crate::channel::{ChannelKind, ClientIdentity, PemFile};

/// The format written here. A higher one is refused: it was written by a newer
/// vitald.
pub(super) const FORMAT: i128 = 1;

/// A record read back.
#[derive(Debug, Clone)]
pub enum ApiRecord {
    /// A channel; what is in effect is not computed yet, see
    /// [`super::Transaction::restore`].
    Channel(Arc<Resource>),
    /// An instance.
    Instance(Arc<Instance>),
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

/// Keys of records and exports, in their order.
const CHANNEL_KEYS: [&str; 5] = ["name", "port", "balance_strategy", "member_type", "vpc_channel_type"];
const GROUP_KEYS: [&str; 7] = [
    "member_group_name",
    "member_group_remark",
    "member_group_weight",
    "microservice_version",
    "microservice_port",
    "microservice_labels",
    "reference_vpc_channel_id",
];
const MEMBER_KEYS: [&str; 8] =
    ["host", "port", "weight", "is_backup", "status", "member_group_name", "ecs_id", "ecs_name"];
const CHECK_KEYS: [&str; 11] = [
    "protocol",
    "path",
    "method",
    "http_code",
    "port",
    "threshold_normal",
    "threshold_abnormal",
    "time_interval",
    "timeout",
    "enable_client_ssl",
    "status",
];

#[derive(Serialize)]
pub(super) struct ChannelRecord<'r> {
    format: i128,
    kind: &'static str,
    #[serde(flatten)]
    tag: TagForm,
    instance_id: &'r str,
    channel: ChannelForm<'r>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_check: Option<TagForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    microservice: Option<TagForm>,
}

/// What a record adds to a part of a channel.
#[derive(Serialize)]
struct TagForm {
    id: AsText<Id>,
    created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<u64>,
}

/// A `VpcCreate` body, with or without tags on its groups and members.
#[derive(Serialize)]
struct ChannelForm<'r> {
    #[serde(flatten)]
    channel: WireObject<'r>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    member_groups: Vec<PartForm<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<PartForm<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_health_config: Option<WireObject<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    microservice_info: Option<&'r Service>,
}

#[derive(Serialize)]
struct PartForm<'r> {
    #[serde(flatten)]
    part: WireObject<'r>,
    #[serde(flatten)]
    tag: Option<TagForm>,
}

#[derive(Serialize)]
pub(super) struct InstanceRecord<'r> {
    format: i128,
    kind: &'static str,
    id: &'r str,
    name: &'r str,
    created: u64,
    features: Vec<FeatureForm<'r>>,
}

#[derive(Serialize)]
struct FeatureForm<'r> {
    name: &'static str,
    enable: bool,
    config: &'r str,
    updated: u64,
}

impl TagForm {
    fn of(tag: Tag, updated: Option<UnixSeconds>) -> Self {
        Self { id: AsText(tag.id), created: tag.created.0, updated: updated.map(|time| time.0) }
    }
}

/// Whether groups and members are written with their ids and times.
#[derive(Clone, Copy)]
enum PartTags {
    Written,
    LeftOut,
}

impl PartTags {
    fn write(self, tag: Tag, updated: Option<UnixSeconds>) -> Option<TagForm> {
        match self {
            Self::Written => Some(TagForm::of(tag, updated)),
            Self::LeftOut => None,
        }
    }
}

impl<'r> ChannelForm<'r> {
    fn of(resource: &'r Resource, tags: PartTags) -> Self {
        let channel = &*resource.configured;
        let groups = resource.groups().map(|(group, tag)| PartForm {
            part: WireObject::brief(group, &GROUP_KEYS),
            tag: tags.write(tag.tag, Some(tag.updated)),
        });
        let members = resource.members().map(|(member, tag)| PartForm {
            part: WireObject::brief(member, &MEMBER_KEYS),
            tag: tags.write(tag, None),
        });
        Self {
            channel: WireObject::brief(channel, &CHANNEL_KEYS),
            member_groups: groups.collect(),
            members: members.collect(),
            vpc_health_config: channel.health_check().map(|check| WireObject::brief(check, &CHECK_KEYS)),
            microservice_info: resource.microservice.as_ref().map(|held| &held.service),
        }
    }
}

impl<'r> ChannelRecord<'r> {
    pub(super) fn of(resource: &'r Resource) -> Self {
        let microservice = resource.microservice.as_ref();
        Self {
            format: FORMAT,
            kind: "channel",
            tag: TagForm::of(Tag { created: resource.created, id: resource.id }, None),
            instance_id: &resource.instance,
            channel: ChannelForm::of(resource, PartTags::Written),
            health_check: resource.check.map(|tag| TagForm::of(tag, None)),
            microservice: microservice
                .map(|held| TagForm::of(Tag { created: held.created, id: held.id }, Some(held.updated))),
        }
    }
}

impl<'r> InstanceRecord<'r> {
    pub(super) fn of(instance: &'r Instance) -> Self {
        let features = instance.settings().map(|(name, feature)| {
            let (enable, updated) = (feature.is_on, feature.updated.0);
            FeatureForm { name: name.word(), enable, config: &feature.config, updated }
        });
        Self {
            format: FORMAT,
            kind: "instance",
            id: &instance.id,
            name: &instance.name,
            created: instance.created.0,
            features: features.collect(),
        }
    }
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
        ChannelForm::of(resource, PartTags::LeftOut)
    }

    /// Reads what the encoders wrote.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::of_value(&body::parse(bytes).map_err(RecordError::Damaged)?)
    }

    pub(super) fn of_value(value: &Value) -> Result<Self, RecordError> {
        match field(value, "format").map(|format| &format.kind) {
            Some(Kind::Integer(FORMAT)) => {}
            Some(Kind::Integer(newer)) if *newer > FORMAT => return Err(RecordError::TooNew(*newer)),
            _ => return Err(damaged("format")),
        }
        match text_field(value, "kind") {
            Some("channel") => channel_of(value).map(|resource| Self::Channel(Arc::new(resource))),
            Some("instance") => instance_of(value).map(|instance| Self::Instance(Arc::new(instance))),
            _ => Err(damaged("kind")),
        }
    }
}

pub(super) fn damaged(field: &str) -> RecordError {
    RecordError::Damaged(format!("`{field}` is missing or has a wrong value"))
}

fn channel_of(value: &Value) -> Result<Resource, RecordError> {
    let described = field(value, "channel").ok_or_else(|| damaged("channel"))?;
    let channel = read_channel(described, Dialect::Api, &Permissive).map_err(|violations| {
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
    for feature in list_field(value, "features").ok_or_else(|| damaged("features"))? {
        // A feature that this vitald does not know any more has no effect.
        let Some(name) = text_field(feature, "name").and_then(KnownFeature::of_word) else { continue };
        let Some(Kind::Boolean(is_on)) = field(feature, "enable").map(|on| &on.kind) else {
            return Err(damaged("enable"));
        };
        // An empty one is not written.
        let config = text_field(feature, "config").unwrap_or_default();
        instance = instance
            .with_feature(name, *is_on, config, moment_of(feature, "updated")?)
            .map_err(|fault| RecordError::Broken(format!("feature {}: {}", name.word(), fault.message())))?;
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
/// checks fail, with a reason, until there is one again. So do those of a member with
/// an address that no member may be given any more.
struct Permissive;

impl ReadContext for Permissive {
    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        let nothing = || PemFile { path: std::path::PathBuf::new(), pem: Arc::from([]) };
        Some(ClientIdentity { certificate: nothing(), key: nothing() })
    }

    fn refusal_of(&self, _address: IpAddr) -> Option<&'static str> {
        None
    }
}
