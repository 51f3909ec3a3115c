//! The API's answers about channels, with exactly the JSON types that its clients need
//! (docs/vendor-api.md, "Answer objects"): Channel, ChannelDetail, ProjectChannel,
//! Member, Group and HealthConfig, and the live verdicts in them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::call::MembersReturn;
use crate::catalog::{
    Entry, FeatureName, GroupTag, Id, Instance, Microservice, Resource, Service, Snapshot, UnixSeconds,
};
use crate::channel::wire::{AsText, WireObject};
use crate::channel::{ChannelKind, Health, Host, MemberGroup, NobodyReason, Role, Tier};
use crate::health::MemberState;

/// Keys of answers, in their order.
const CHANNEL_KEYS: [&str; 5] = ["name", "port", "balance_strategy", "member_type", "dict_code"];
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

/// `{total, size, <name>: [..]}`.
pub(super) struct List<T> {
    /// What the list is called.
    pub(super) name: &'static str,
    /// How many match.
    pub(super) total: usize,
    /// The ones shown.
    pub(super) items: Vec<T>,
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("total", &self.total)?;
        map.serialize_entry("size", &self.items.len())?;
        map.serialize_entry(self.name, &self.items)?;
        map.end()
    }
}

/// Channel: without members and health check.
#[derive(Serialize)]
pub(super) struct ChannelAnswer<'r> {
    #[serde(flatten)]
    head: AnswerHead<'r>,
    r#type: u8,
    vpc_channel_type: &'static str,
}

/// ChannelDetail.
#[derive(Serialize)]
pub(super) struct ChannelDetailAnswer<'r> {
    #[serde(flatten)]
    channel: ChannelAnswer<'r>,
    members: MembersAnswer<'r>,
    vpc_health_config: Option<HealthConfigAnswer<'r>>,
}

/// ProjectChannel. Its `type` is a word, not a number (docs/vendor-api.md, "Project objects").
#[derive(Serialize)]
pub(super) struct ProjectAnswer<'r> {
    #[serde(flatten)]
    head: AnswerHead<'r>,
    r#type: &'static str,
    vpc_channel_type: &'static str,
    instance_id: &'r str,
    instance_name: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<MembersAnswer<'r>>,
    vpc_health_config: Option<HealthConfigAnswer<'r>>,
}

#[derive(Serialize)]
struct AnswerHead<'r> {
    #[serde(flatten)]
    channel: WireObject<'r>,
    create_time: AsText<UnixSeconds>,
    id: AsText<Id>,
    status: u8,
    member_groups: Vec<GroupAnswer<'r>>,
    microservice_info: Option<MicroserviceAnswer<'r>>,
}

#[derive(Serialize)]
struct MicroserviceAnswer<'r> {
    id: AsText<Id>,
    instance_id: &'r str,
    #[serde(flatten)]
    service: &'r Service,
    create_time: AsText<UnixSeconds>,
    update_time: AsText<UnixSeconds>,
}

impl<'r> ChannelAnswer<'r> {
    pub(super) fn of(resource: &'r Resource, verdicts: LiveVerdicts<'r>) -> Self {
        let kind = resource.configured.kind();
        Self {
            head: AnswerHead::of(resource, verdicts),
            // The number of a reference channel is in no document.
            r#type: match kind {
                ChannelKind::Builtin | ChannelKind::Reference => 2,
                ChannelKind::Microservice => 3,
            },
            vpc_channel_type: kind.word(),
        }
    }
}

impl<'r> ChannelDetailAnswer<'r> {
    pub(super) fn of(resource: &'r Resource, instance: &Instance, verdicts: LiveVerdicts<'r>) -> Self {
        Self {
            channel: ChannelAnswer::of(resource, verdicts),
            members: members_of(resource, instance, verdicts),
            vpc_health_config: HealthConfigAnswer::of(resource),
        }
    }
}

impl<'r> ProjectAnswer<'r> {
    pub(super) fn of(
        resource: &'r Resource,
        instance: &'r Instance,
        verdicts: LiveVerdicts<'r>,
        members: MembersReturn,
    ) -> Self {
        let kind = resource.configured.kind();
        Self {
            head: AnswerHead::of(resource, verdicts),
            r#type: match kind {
                ChannelKind::Builtin | ChannelKind::Reference => "BUILTIN",
                ChannelKind::Microservice => "MICROSERVICE",
            },
            vpc_channel_type: kind.word(),
            instance_id: &instance.id,
            instance_name: &instance.name,
            members: match members {
                MembersReturn::Listed => Some(members_of(resource, instance, verdicts)),
                MembersReturn::Omitted => None,
            },
            vpc_health_config: HealthConfigAnswer::of(resource),
        }
    }
}

impl<'r> AnswerHead<'r> {
    fn of(resource: &'r Resource, verdicts: LiveVerdicts<'r>) -> Self {
        let channel = &*resource.configured;
        let microservice = resource.microservice.as_deref();
        Self {
            channel: WireObject::full(channel, &CHANNEL_KEYS),
            create_time: AsText(resource.created),
            id: AsText(resource.id),
            status: verdicts.status(resource),
            member_groups: resource.groups().map(GroupAnswer::of).collect(),
            microservice_info: microservice.map(|held| MicroserviceAnswer::of(resource, held)),
        }
    }
}

impl<'r> MicroserviceAnswer<'r> {
    fn of(resource: &'r Resource, held: &'r Microservice) -> Self {
        Self {
            id: AsText(held.id),
            instance_id: &resource.instance,
            service: &held.service,
            create_time: AsText(held.created),
            update_time: AsText(held.updated),
        }
    }
}

/// All members of a channel, `health_status` as the instance's feature says.
pub(super) fn members_of<'r>(
    resource: &'r Resource,
    instance: &Instance,
    verdicts: LiveVerdicts<'r>,
) -> MembersAnswer<'r> {
    MembersAnswer::new(resource, verdicts.channel(resource), instance.has(FeatureName::VpcHealthStatus))
}

/// What answers about members share: looked up once per channel.
pub(super) struct MembersAnswer<'r> {
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
    /// When the last probe that ended began. Not the vendor's.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_check_time: Option<AsText<UnixSeconds>>,
}

/// Group.
#[derive(Serialize)]
pub(super) struct GroupAnswer<'r> {
    #[serde(flatten)]
    group: WireObject<'r>,
    member_group_id: AsText<Id>,
    create_time: AsText<UnixSeconds>,
    update_time: AsText<UnixSeconds>,
}

/// HealthConfig.
#[derive(Serialize)]
pub(super) struct HealthConfigAnswer<'r> {
    #[serde(flatten)]
    check: WireObject<'r>,
    vpc_channel_id: AsText<Id>,
    id: OrEmpty<Id>,
    create_time: AsText<UnixSeconds>,
}

impl<'r> MembersAnswer<'r> {
    pub(super) fn new(resource: &'r Resource, verdicts: ChannelVerdicts<'r>, shows_health: bool) -> Self {
        let groups = resource.groups().map(|(group, tag)| (group.name(), (group.weight(), tag.tag.id)));
        Self { resource, verdicts, shows_health, groups: groups.collect() }
    }

    /// The members at these positions.
    pub(super) fn at(&self, places: impl Iterator<Item = usize>) -> Vec<impl Serialize> {
        places.filter_map(|place| self.member(place)).collect()
    }

    fn member(&self, place: usize) -> Option<MemberAnswer<'_>> {
        let channel = self.resource.shown();
        let member = channel.members().get(place)?;
        let tag = self.resource.members.tags().get(place)?;
        let group = member.group().and_then(|name| self.groups.get(name));
        let state = self.verdicts.state(self.resource, place).filter(|_| self.shows_health);
        let ecs = member.ecs();
        Some(MemberAnswer {
            host: AsText(member.host()),
            // The effective weight, like `Channel::effective_weight`, which
            // would search the groups for every member.
            weight: member
                .fixed_weight()
                .or(group.and_then(|(weight, _)| *weight).map(u16::from))
                .or(member.weight())
                .unwrap_or(1),
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
            health_status: self.shows_health.then(|| health_of(state).word()),
            last_check_time: state.and_then(|state| state.last.as_ref()).map(|last| AsText(last.at.into())),
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
    fn of((group, tag): (&'r MemberGroup, GroupTag)) -> Self {
        Self {
            group: WireObject::full(group, &GROUP_KEYS),
            member_group_id: AsText(tag.tag.id),
            create_time: AsText(tag.tag.created),
            update_time: AsText(tag.updated),
        }
    }

    /// The group at a position.
    pub(super) fn at(resource: &'r Resource, place: usize) -> Option<Self> {
        resource.groups().nth(place).map(Self::of)
    }
}

impl<'r> HealthConfigAnswer<'r> {
    /// The health check of a channel, if it has one.
    pub(super) fn of(resource: &'r Resource) -> Option<Self> {
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

impl<T: fmt::Display> Serialize for OrEmpty<T> {
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

/// Unknown as long as nothing is known of a member.
fn health_of(state: Option<&MemberState>) -> Health {
    state.map_or(Health::Unknown, |state| state.health)
}

/// A snapshot, or none when the drivers did not answer: then everything is unknown.
#[derive(Debug, Clone, Copy)]
pub(super) struct LiveVerdicts<'o> {
    snapshot: Option<&'o Snapshot>,
}

/// The verdicts on one channel's members.
pub(super) struct ChannelVerdicts<'o> {
    observed: Option<(&'o Snapshot, &'o Arc<Entry>)>,
}

impl<'o> LiveVerdicts<'o> {
    pub(super) fn of(snapshot: Option<&'o Snapshot>) -> Self {
        Self { snapshot }
    }

    pub(super) fn channel(self, resource: &Resource) -> ChannelVerdicts<'o> {
        let entry = |snapshot: &'o Snapshot| Some((snapshot, snapshot.channels.entry(resource.id)?));
        ChannelVerdicts { observed: self.snapshot.and_then(entry) }
    }

    /// 2 when members are checked and every enabled one is unhealthy, else 1.
    /// A new channel, whose members are unknown and take traffic, is normal.
    pub(super) fn status(self, resource: &Resource) -> u8 {
        let is_checked = resource.effective.active_check().is_some();
        let observed = self.channel(resource).observed.filter(|_| is_checked);
        let Some((snapshot, entry)) = observed else { return 1 };
        let view = snapshot.channel(entry);
        let all_unhealthy = match view.tier {
            Tier::Nobody(reason) => reason == NobodyReason::AllUnhealthy,
            // Some may be healthy, and drained.
            Tier::FailOpen | Tier::FailOpenEqual => {
                let counts = view.member_counts();
                counts.healthy + counts.unknown == 0
            }
            Tier::Primary | Tier::Backup => false,
        };
        if all_unhealthy { 2 } else { 1 }
    }
}

impl ChannelVerdicts<'_> {
    /// What is known of the member at a position.
    fn state(&self, resource: &Resource, place: usize) -> Option<&MemberState> {
        let (snapshot, entry) = self.observed?;
        let place = if Arc::ptr_eq(&entry.resource.members, &resource.members) {
            place
        } else {
            // A later call of the same batch has changed the members since.
            entry.resource.members.position(resource.members.tags().get(place)?.id)?
        };
        snapshot.state(entry.rows.get(place)?.slot)
    }
}
