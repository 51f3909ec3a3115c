//! Member, Group and HealthConfig (docs/vendor-api.md, "Answer objects").

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use super::verdict::ChannelVerdicts;
use crate::catalog::{Id, Resource, UnixSeconds};
use crate::channel::wire::{AsText, WireObject};
use crate::channel::{Health, Host, Role};

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
    host: AsText<&'r Host>,
    weight: u16,
    is_backup: bool,
    member_group_name: &'r str,
    status: u8,
    port: u16,
    ecs_id: Name<'r>,
    ecs_name: Name<'r>,
    id: AsText<Id>,
    vpc_channel_id: AsText<Id>,
    create_time: AsText<UnixSeconds>,
    member_group_id: OrEmpty<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_status: Option<&'static str>,
}

/// Keys of answers, in their order.
const GROUP_KEYS: [&str; 8] = [
    "member_group_name",
    "member_group_remark",
    "member_group_weight",
    "dict_code",
    "microservice_version",
    "microservice_port",
    "microservice_labels",
    "reference_vpc_channel_id",
];
const CHECK_KEYS: [&str; 11] = [
    "protocol",
    "path",
    "method",
    "port",
    "threshold_normal",
    "threshold_abnormal",
    "time_interval",
    "http_code",
    "enable_client_ssl",
    "status",
    "timeout",
];

/// Group.
#[derive(Serialize)]
pub(in crate::serve::api) struct GroupAnswer<'r> {
    #[serde(flatten)]
    group: WireObject<'r>,
    member_group_id: AsText<Id>,
    create_time: AsText<UnixSeconds>,
    update_time: AsText<UnixSeconds>,
}

/// HealthConfig.
#[derive(Serialize)]
pub(in crate::serve::api) struct HealthConfigAnswer<'r> {
    #[serde(flatten)]
    check: WireObject<'r>,
    vpc_channel_id: AsText<Id>,
    id: OrEmpty<Id>,
    create_time: AsText<UnixSeconds>,
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
            host: AsText(member.host()),
            // The effective weight, like `Channel::effective_weight`, which
            // would search the groups for every member.
            weight: group.and_then(|(weight, _)| *weight).map(u16::from).or(member.weight()).unwrap_or(1),
            is_backup: member.role() == Role::Backup,
            member_group_name: member.group().unwrap_or_default(),
            status: member.status().number(),
            port: channel.traffic_port(member).get(),
            ecs_id: ecs.map_or(Name::Host(member.host()), |ecs| Name::Ecs(&ecs.id)),
            ecs_name: ecs.map_or(Name::Host(member.host()), |ecs| Name::Ecs(&ecs.name)),
            id: AsText(tag.id),
            vpc_channel_id: AsText(self.resource.id),
            create_time: AsText(tag.created),
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
        Some(Self {
            group: WireObject::full(group, &GROUP_KEYS),
            member_group_id: AsText(tag.tag.id),
            create_time: AsText(tag.tag.created),
            update_time: AsText(tag.updated),
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
        let check = resource.configured.health_check()?;
        Some(Self {
            check: WireObject::full(check, &CHECK_KEYS),
            vpc_channel_id: AsText(resource.id),
            id: OrEmpty(resource.check.map(|tag| tag.id)),
            create_time: AsText(resource.check.map_or(resource.created, |tag| tag.created)),
        })
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
