//! The calls that change something: body to call, outcome to answer.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;

use super::answer::List;
use super::answer::channel::{ChannelAnswer, ProjectAnswer, members_of};
use super::answer::instance::FeatureAnswer;
use super::answer::part::{GroupAnswer, HealthConfigAnswer};
use super::answer::verdict::LiveVerdicts;
use super::backend::ApiBackend;
use super::exchange::{ApiCall, Stop, json, nothing};
use super::route::ApiResource;
use crate::catalog::{Body, Call, Fault, PathFamily, Reply, Resource};
use crate::channel::MemberStatus;

/// Bodies larger than this are read on a thread of their own.
const LONG_BODY: usize = 64 * 1024;

pub(super) async fn answer<B: ApiBackend>(backend: &B, exchange: ApiCall) -> Result<Response, Stop> {
    let ApiCall { route, method, body, .. } = exchange;
    let body = if body.len() <= LONG_BODY {
        Body::read(&body)
    } else {
        let read = tokio::task::spawn_blocking(move || Body::read(&body)).await;
        read.map_err(|error| Fault::Unavailable(error.to_string()))?
    };
    let (call, status) = call(route.family, route.place, &method, body).ok_or(Stop::NoRoute)?;
    let outcome = backend.write(call).await?;
    show(backend, outcome, status).await
}

/// The call that a place and a method mean, and the status of its success. The
/// table of methods lets nothing else through.
fn call(family: PathFamily, place: ApiResource, method: &Method, body: Body) -> Option<(Call, u16)> {
    let is = |wanted: &Method| method == wanted;
    let made = match place {
        ApiResource::Channels(instance) => (Call::CreateChannel { instance, body }, 201),
        ApiResource::Channel(at) if is(&Method::PUT) => (Call::UpdateChannel { family, at, body }, 200),
        ApiResource::Channel(at) => (Call::DeleteChannel { at }, 204),
        ApiResource::Members(at) if is(&Method::POST) => (Call::AddMembers { at, body }, 201),
        ApiResource::Members(at) => (Call::ReplaceMembers { at, body }, 200),
        ApiResource::Member(at, member) => (Call::DeleteMember { at, member }, 204),
        ApiResource::BatchEnable(at) => {
            (Call::SwitchMembers { at, status: MemberStatus::Enabled, body }, 204)
        }
        ApiResource::BatchDisable(at) => {
            (Call::SwitchMembers { at, status: MemberStatus::Disabled, body }, 204)
        }
        ApiResource::HealthConfig(at) => (Call::UpdateHealthCheck { at, body }, 200),
        ApiResource::Groups(at) => (Call::AddGroups { at, body }, 201),
        ApiResource::Group(at, group) if is(&Method::PUT) => (Call::UpdateGroup { at, group, body }, 200),
        ApiResource::Group(at, group) => (Call::DeleteGroup { at, group }, 204),
        ApiResource::ProjectChannels if is(&Method::POST) => (Call::CreateProjectChannels { body }, 201),
        ApiResource::ProjectChannels => (Call::UpdateProjectChannels { body }, 200),
        ApiResource::ProjectSyncs => (Call::SyncProjectChannels { body }, 201),
        ApiResource::Features(instance) => (Call::SetFeature { instance, body }, 201),
        ApiResource::Instances | ApiResource::Instance(_) => return None,
    };
    Some(made)
}

async fn show<B: ApiBackend>(backend: &B, outcome: Reply, status: u16) -> Result<Response, Stop> {
    // Only what is checked has verdicts. The change is made: an answer without
    // them is better than an error.
    let is_checked = |resource: &Resource| resource.effective.health_check().is_some();
    let shows_verdicts = match &outcome {
        Reply::Channel(resource) | Reply::Members(resource, _) => is_checked(resource),
        Reply::ProjectChannels(resources) => resources.iter().any(|resource| is_checked(resource)),
        _ => false,
    };
    let snapshot = if shows_verdicts { backend.observe().await.ok() } else { None };
    let verdicts = LiveVerdicts::of(snapshot.as_deref());
    let response = match &outcome {
        Reply::Nothing => nothing(),
        Reply::Channel(resource) => json(status, &ChannelAnswer::of(resource, verdicts)),
        Reply::Members(resource, places) => {
            let instance = Arc::clone(backend.registry().read().instance(&resource.instance)?);
            let members = members_of(resource, &instance, verdicts);
            let items = members.at(places.iter().copied());
            json(status, &List { name: "members", total: items.len(), items })
        }
        Reply::HealthCheck(resource) => json(status, &HealthConfigAnswer::of(resource)),
        Reply::Groups(resource, places) => {
            let items: Vec<_> = places.iter().filter_map(|place| GroupAnswer::at(resource, *place)).collect();
            json(status, &List { name: "member_groups", total: items.len(), items })
        }
        Reply::Group(resource, place) => json(status, &GroupAnswer::at(resource, *place)),
        Reply::ProjectChannels(resources) => {
            let published = backend.registry();
            let registry = published.read();
            let instances: Result<Vec<_>, Fault> =
                resources.iter().map(|resource| registry.instance(&resource.instance)).collect();
            let pairs = resources.iter().zip(instances?);
            let channels: Vec<_> = pairs
                .map(|(resource, instance)| ProjectAnswer::of(resource, instance, verdicts, true))
                .collect();
            json(status, &std::collections::BTreeMap::from([("project_vpc_channels", channels)]))
        }
        Reply::Feature(instance, name) => json(status, &FeatureAnswer::of(instance, *name)),
    };
    Ok(response)
}
