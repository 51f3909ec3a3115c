//! Member, Group and HealthConfig (docs/vendor-api.md, "Answer objects").

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use super::Shown;
use super::verdict::ChannelVerdicts;
use crate::catalog::{Id, Resource, UnixSeconds};
use crate::channel::{
    Channel, CheckStatus, ClientCertificate, Health, HealthCheck, Host, MemberStatus, Protocol, Role,
};

/// What answers about members share: looked up once per channel.
pub(in crate::serve::api) struct MembersAnswer<'r> {
    resource: &'r Resource,
    verdicts: ChannelVerdicts<'r>,
    /// Whether `health_status` is shown.
    shows_health: bool,
    groups: HashMap<&'r str, (Option<u8>, Id)>,
}

/// Member.
#[derive(Serialize)]
struct MemberAnswer<'r> {
    host: Shown<&'r Host>,
    weight: u16,
    is_backup: bool,
    member_group_name: &'r str,
    status: u8,
    port: u16,
    ecs_id: Name<'r>,
    ecs_name: Name<'r>,
    id: Shown<Id>,
    vpc_channel_id: Shown<Id>,
    create_time: Shown<UnixSeconds>,
    member_group_id: OrEmpty<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_status: Option<&'static str>,
}

/// Group.
#[derive(Serialize)]
pub(in crate::serve::api) struct GroupAnswer<'r> {
    member_group_name: &'r str,
    member_group_remark: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_group_weight: Option<u8>,
    dict_code: &'static str,
    microservice_version: &'r str,
    microservice_port: u16,
    microservice_labels: Vec<LabelAnswer<'r>>,
    reference_vpc_channel_id: &'r str,
    member_group_id: Shown<Id>,
    create_time: Shown<UnixSeconds>,
    update_time: Shown<UnixSeconds>,
}

#[derive(Serialize)]
struct LabelAnswer<'r> {
    label_name: &'r str,
    label_value: &'r str,
}

/// HealthConfig.
#[derive(Serialize)]
pub(in crate::serve::api) struct HealthConfigAnswer<'r> {
    protocol: &'static str,
    path: &'r str,
    method: &'static str,
    port: u16,
    threshold_normal: u8,
    threshold_abnormal: u8,
    time_interval: Seconds,
    http_code: &'r str,
    enable_client_ssl: bool,
    status: u8,
    timeout: Seconds,
    vpc_channel_id: Shown<Id>,
    id: OrEmpty<Id>,
    create_time: Shown<UnixSeconds>,
}

impl<'r> MembersAnswer<'r> {
    pub(in crate::serve::api) fn new(
        resource: &'r Resource,
        verdicts: ChannelVerdicts<'r>,
        shows_health: bool,
    ) -> Self {
        let groups = resource.groups().map(|(group, tag)| (group.name(), (group.weight(), tag.tag.id)));
        Self { resource, verdicts, shows_health, groups: groups.collect() }
    }

    /// The members at these positions.
    pub(in crate::serve::api) fn at(&self, places: impl Iterator<Item = usize>) -> Vec<impl Serialize> {
        places.filter_map(|place| self.member(place)).collect()
    }

    fn member(&self, place: usize) -> Option<MemberAnswer<'_>> {
        let channel = &*self.resource.configured;
        let member = channel.members().get(place)?;
        let tag = self.resource.members.tags().get(place)?;
        let group = member.group().and_then(|name| self.groups.get(name));
        let health = || self.verdicts.health(self.resource, place);
        let ecs = member.ecs();
        Some(MemberAnswer {
            host: Shown(member.host()),
            // The effective weight, like `Channel::effective_weight`, which
            // would search the groups for every member.
            weight: group.and_then(|(weight, _)| *weight).map(u16::from).or(member.weight()).unwrap_or(1),
            is_backup: member.role() == Role::Backup,
            member_group_name: member.group().unwrap_or_default(),
            status: match member.status() {
                MemberStatus::Enabled => 1,
                MemberStatus::Disabled => 2,
            },
            port: channel.traffic_port(member).get(),
            ecs_id: ecs.map_or(Name::Host(member.host()), |ecs| Name::Ecs(&ecs.id)),
            ecs_name: ecs.map_or(Name::Host(member.host()), |ecs| Name::Ecs(&ecs.name)),
            id: Shown(tag.id),
            vpc_channel_id: Shown(self.resource.id),
            create_time: Shown(tag.created),
            member_group_id: OrEmpty(group.map(|(_, id)| *id)),
            health_status: self.shows_health.then(|| Health::word(health())),
        })
    }
}

impl Serialize for MembersAnswer<'_> {
    /// All members, in the order of the channel, without a list of them first.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let places = 0..self.resource.configured.members().len();
        serializer.collect_seq(places.filter_map(|place| self.member(place)))
    }
}

impl<'r> GroupAnswer<'r> {
    /// The group at a position.
    pub(in crate::serve::api) fn at(resource: &'r Resource, place: usize) -> Option<Self> {
        let (group, tag) = resource.groups().nth(place)?;
        let labels = group.microservice_labels().iter();
        Some(Self {
            member_group_name: group.name(),
            member_group_remark: group.remark(),
            member_group_weight: group.weight(),
            dict_code: "",
            microservice_version: group.microservice_version(),
            microservice_port: group.microservice_port().map_or(0, Into::into),
            microservice_labels: labels
                .map(|(label_name, label_value)| LabelAnswer { label_name, label_value })
                .collect(),
            reference_vpc_channel_id: group.reference_vpc_channel_id(),
            member_group_id: Shown(tag.tag.id),
            create_time: Shown(tag.tag.created),
            update_time: Shown(tag.updated),
        })
    }

    /// All groups of a channel.
    pub(in crate::serve::api) fn all(resource: &'r Resource) -> Vec<Self> {
        (0..resource.groups.len()).filter_map(|place| Self::at(resource, place)).collect()
    }
}

impl<'r> HealthConfigAnswer<'r> {
    /// The health check of a channel, if it has one.
    pub(in crate::serve::api) fn of(resource: &'r Resource) -> Option<Self> {
        let channel: &Channel = &resource.configured;
        let check: &HealthCheck = channel.health_check()?;
        let http = match check.protocol() {
            Protocol::Tcp => None,
            Protocol::Http(http) | Protocol::Https(http) => Some(http),
        };
        Some(Self {
            protocol: check.protocol().word(),
            path: http.map_or("", |http| &http.path),
            method: http.map_or("", |http| http.method.word()),
            port: check.port().map_or(0, Into::into),
            threshold_normal: check.threshold_normal(),
            threshold_abnormal: check.threshold_abnormal(),
            time_interval: Seconds(check.interval()),
            http_code: http.map_or("", |http| http.codes.text()),
            enable_client_ssl: check.client_certificate() == ClientCertificate::Present,
            status: match check.status() {
                CheckStatus::On => 1,
                CheckStatus::Off => 2,
            },
            timeout: Seconds(check.timeout()),
            vpc_channel_id: Shown(resource.id),
            id: OrEmpty(resource.check.map(|tag| tag.id)),
            create_time: Shown(resource.check.map_or(resource.created, |tag| tag.created)),
        })
    }
}

/// Whole seconds. Files may have fractions, the API's type has none: rounded
/// up, so that a check never looks more eager than it is.
struct Seconds(std::time::Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        serializer.serialize_u64(whole)
    }
}

/// A text, or `""`.
struct OrEmpty<T>(Option<T>);

impl<T: std::fmt::Display> Serialize for OrEmpty<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(text) => serializer.collect_str(text),
            None => serializer.serialize_str(""),
        }
    }
}

/// `ecs_id` and `ecs_name`: for `ip` members the host (docs/vendor-api.md, "Member").
enum Name<'r> {
    Ecs(&'r str),
    Host(&'r Host),
}

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ecs(name) => serializer.serialize_str(name),
            Self::Host(host) => serializer.collect_str(host),
        }
    }
}
