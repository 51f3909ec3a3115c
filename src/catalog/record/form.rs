//! The JSON of records: bodies of requests, parts with their tags.

use std::fmt;

use serde::{Serialize, Serializer};

use super::super::ids::UnixSeconds;
use super::super::instance::{FeatureName, Instance};
use super::super::microservice::Service;
use super::super::resource::{GroupTag, Resource, Tag};
use super::FORMAT;
use crate::channel::{
    CheckStatus, ClientCertificate, HealthCheck, Member, MemberGroup, MemberStatus, Protocol, Role,
};

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
    microservice: Option<MicroserviceForm>,
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

#[derive(Serialize)]
struct TagForm {
    id: Shown<super::super::ids::Id>,
    created: u64,
}

#[derive(Serialize)]
struct MicroserviceForm {
    #[serde(flatten)]
    tag: TagForm,
    updated: u64,
}

#[derive(Serialize)]
struct ChannelForm<'r> {
    name: &'r str,
    port: u16,
    balance_strategy: u8,
    member_type: &'static str,
    vpc_channel_type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    member_groups: Vec<GroupForm<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberForm<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_health_config: Option<CheckForm<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    microservice_info: Option<&'r Service>,
}

#[derive(Serialize)]
struct GroupForm<'r> {
    member_group_name: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    member_group_remark: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_group_weight: Option<u8>,
    #[serde(skip_serializing_if = "str::is_empty")]
    microservice_version: &'r str,
    microservice_port: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    microservice_labels: Vec<LabelForm<'r>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reference_vpc_channel_id: &'r str,
    #[serde(flatten)]
    tag: Option<GroupTagForm>,
}

#[derive(Serialize)]
struct GroupTagForm {
    #[serde(flatten)]
    tag: TagForm,
    updated: u64,
}

#[derive(Serialize)]
struct LabelForm<'r> {
    label_name: &'r str,
    label_value: &'r str,
}

#[derive(Serialize)]
struct MemberForm<'r> {
    host: Shown<&'r crate::channel::Host>,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    is_backup: bool,
    status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_group_name: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ecs_id: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ecs_name: Option<&'r str>,
    #[serde(flatten)]
    tag: Option<TagForm>,
}

#[derive(Serialize)]
struct CheckForm<'r> {
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_code: Option<&'r str>,
    port: u16,
    threshold_normal: u8,
    threshold_abnormal: u8,
    time_interval: u64,
    timeout: u64,
    enable_client_ssl: bool,
    status: u8,
}

/// Whether the ids of parts are written too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tags {
    Written,
    LeftOut,
}

/// The channel as a body without ids.
pub(super) fn export(resource: &Resource) -> impl Serialize + '_ {
    ChannelForm::of(resource, Tags::LeftOut)
}

impl<'r> ChannelRecord<'r> {
    pub(super) fn of(resource: &'r Resource) -> Self {
        Self {
            format: FORMAT,
            kind: "channel",
            tag: TagForm::of(Tag { created: resource.created, id: resource.id }),
            instance_id: &resource.instance,
            channel: ChannelForm::of(resource, Tags::Written),
            health_check: resource.check.map(TagForm::of),
            microservice: resource.microservice.as_ref().map(|held| MicroserviceForm {
                tag: TagForm::of(Tag { created: held.created, id: held.id }),
                updated: seconds(held.updated),
            }),
        }
    }
}

impl<'r> InstanceRecord<'r> {
    pub(super) fn of(instance: &'r Instance) -> Self {
        let features = FeatureName::ALL.into_iter().map(|name| {
            let feature = instance.feature(name);
            FeatureForm {
                name: name.word(),
                enable: feature.is_on,
                config: &feature.config,
                updated: seconds(feature.updated),
            }
        });
        Self {
            format: FORMAT,
            kind: "instance",
            id: &instance.id,
            name: &instance.name,
            created: seconds(instance.created),
            features: features.collect(),
        }
    }
}

impl TagForm {
    fn of(tag: Tag) -> Self {
        Self { id: Shown(tag.id), created: seconds(tag.created) }
    }
}

impl<'r> ChannelForm<'r> {
    fn of(resource: &'r Resource, tags: Tags) -> Self {
        let channel = &resource.configured;
        let microservice = resource.microservice.as_ref();
        Self {
            name: channel.name(),
            port: channel.port().get(),
            balance_strategy: channel.strategy().number(),
            member_type: channel.member_type().word(),
            vpc_channel_type: channel.kind().word(),
            member_groups: resource.groups().map(|(group, tag)| GroupForm::of(group, tag, tags)).collect(),
            members: resource.members().map(|(member, tag)| MemberForm::of(member, tag, tags)).collect(),
            vpc_health_config: channel.health_check().map(CheckForm::of),
            microservice_info: microservice.map(|held| &held.service),
        }
    }
}

impl<'r> GroupForm<'r> {
    fn of(group: &'r MemberGroup, tag: GroupTag, tags: Tags) -> Self {
        let labels = group.microservice_labels().iter();
        Self {
            member_group_name: group.name(),
            member_group_remark: group.remark(),
            member_group_weight: group.weight(),
            microservice_version: group.microservice_version(),
            microservice_port: group.microservice_port().map_or(0, Into::into),
            microservice_labels: labels
                .map(|(label_name, label_value)| LabelForm { label_name, label_value })
                .collect(),
            reference_vpc_channel_id: group.reference_vpc_channel_id(),
            tag: (tags == Tags::Written)
                .then(|| GroupTagForm { tag: TagForm::of(tag.tag), updated: seconds(tag.updated) }),
        }
    }
}

impl<'r> MemberForm<'r> {
    fn of(member: &'r Member, tag: Tag, tags: Tags) -> Self {
        Self {
            host: Shown(member.host()),
            port: member.port().map_or(0, Into::into),
            weight: member.weight(),
            is_backup: member.role() == Role::Backup,
            status: match member.status() {
                MemberStatus::Enabled => 1,
                MemberStatus::Disabled => 2,
            },
            member_group_name: member.group(),
            ecs_id: member.ecs().map(|ecs| ecs.id.as_str()),
            ecs_name: member.ecs().map(|ecs| ecs.name.as_str()),
            tag: (tags == Tags::Written).then(|| TagForm::of(tag)),
        }
    }
}

impl<'r> CheckForm<'r> {
    fn of(check: &'r HealthCheck) -> Self {
        let http = match check.protocol() {
            Protocol::Tcp => None,
            Protocol::Http(http) | Protocol::Https(http) => Some(http),
        };
        Self {
            protocol: check.protocol().word(),
            path: http.map(|http| http.path.as_str()),
            method: http.map(|http| http.method.word()),
            http_code: http.map(|http| http.codes.text()),
            port: check.port().map_or(0, Into::into),
            threshold_normal: check.threshold_normal(),
            threshold_abnormal: check.threshold_abnormal(),
            time_interval: check.interval().as_secs(),
            timeout: check.timeout().as_secs(),
            enable_client_ssl: check.client_certificate() == ClientCertificate::Present,
            status: match check.status() {
                CheckStatus::On => 1,
                CheckStatus::Off => 2,
            },
        }
    }
}

fn seconds(moment: UnixSeconds) -> u64 {
    moment.0
}

/// Something by the text that people read.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
