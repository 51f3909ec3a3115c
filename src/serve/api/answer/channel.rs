//! Channel, ChannelDetail and ProjectChannel (docs/vendor-api.md, "Answer objects").

use serde::Serialize;

use super::part::{GroupAnswer, HealthConfigAnswer, MembersAnswer};
use super::verdict::LiveVerdicts;
use crate::catalog::{FeatureName, Id, Instance, Microservice, Resource, Service, UnixSeconds};
use crate::channel::ChannelKind;
use crate::channel::wire::{AsText, WireObject};

/// Keys of answers, in their order.
const CHANNEL_KEYS: [&str; 5] = ["name", "port", "balance_strategy", "member_type", "dict_code"];

/// Channel: without members and health check.
#[derive(Serialize)]
pub(in crate::serve::api) struct ChannelAnswer<'r> {
    #[serde(flatten)]
    head: AnswerHead<'r>,
    r#type: u8,
    vpc_channel_type: &'static str,
}

/// ChannelDetail.
#[derive(Serialize)]
pub(in crate::serve::api) struct ChannelDetailAnswer<'r> {
    #[serde(flatten)]
    channel: ChannelAnswer<'r>,
    members: MembersAnswer<'r>,
    vpc_health_config: Option<HealthConfigAnswer<'r>>,
}

/// ProjectChannel. Its `type` is a word, not a number (docs/vendor-api.md, "Project objects").
#[derive(Serialize)]
pub(in crate::serve::api) struct ProjectAnswer<'r> {
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
    pub(in crate::serve::api) fn of(resource: &'r Resource, verdicts: LiveVerdicts<'r>) -> Self {
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
    pub(in crate::serve::api) fn of(
        resource: &'r Resource,
        instance: &Instance,
        verdicts: LiveVerdicts<'r>,
    ) -> Self {
        Self {
            channel: ChannelAnswer::of(resource, verdicts),
            members: members_of(resource, instance, verdicts),
            vpc_health_config: HealthConfigAnswer::of(resource),
        }
    }
}

impl<'r> ProjectAnswer<'r> {
    pub(in crate::serve::api) fn of(
        resource: &'r Resource,
        instance: &'r Instance,
        verdicts: LiveVerdicts<'r>,
        with_members: bool,
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
            members: with_members.then(|| members_of(resource, instance, verdicts)),
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
            member_groups: GroupAnswer::all(resource),
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
pub(in crate::serve::api) fn members_of<'r>(
    resource: &'r Resource,
    instance: &Instance,
    verdicts: LiveVerdicts<'r>,
) -> MembersAnswer<'r> {
    MembersAnswer::new(resource, verdicts.channel(resource), instance.has(FeatureName::VpcHealthStatus))
}
