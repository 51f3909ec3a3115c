//! The calls that change something: body to call, outcome to answer.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;

use super::answer::List;
use super::answer::channel::{ChannelAnswer, ProjectAnswer, members_of};
use super::answer::instance::FeatureAnswer;
use super::answer::part::{GroupAnswer, HealthConfigAnswer};
use super::answer::verdict::Verdicts;
use super::backend::ApiBackend;
use super::exchange::{ApiCall, Stop, json, nothing};
use super::route::ApiResource;
use crate::catalog::registry::{Body, Family, Fault, Outcome, Resource, Write};
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
    let (write, status) = call(route.family, route.place, &method, body).ok_or(Stop::NoRoute)?;
    let outcome = backend.write(write).await?;
    show(backend, outcome, status).await
}

/// The call that a place and a method mean, and the status of its success. The
/// table of methods lets nothing else through.
fn call(family: Family, place: ApiResource, method: &Method, body: Body) -> Option<(Write, u16)> {
    let is = |wanted: &Method| method == wanted;
    let made = match place {
        ApiResource::Channels(instance) => (Write::CreateChannel { instance, body }, 201),
        ApiResource::Channel(at) if is(&Method::PUT) => (Write::UpdateChannel { family, at, body }, 200),
        ApiResource::Channel(at) => (Write::DeleteChannel { at }, 204),
        ApiResource::Members(at) if is(&Method::POST) => (Write::AddMembers { at, body }, 201),
        ApiResource::Members(at) => (Write::ReplaceMembers { at, body }, 200),
        ApiResource::Member(at, member) => (Write::DeleteMember { at, member }, 204),
        ApiResource::BatchEnable(at) => {
            (Write::SwitchMembers { at, status: MemberStatus::Enabled, body }, 204)
        }
        ApiResource::BatchDisable(at) => {
            (Write::SwitchMembers { at, status: MemberStatus::Disabled, body }, 204)
        }
        ApiResource::HealthConfig(at) => (Write::UpdateHealthCheck { at, body }, 200),
        ApiResource::Groups(at) => (Write::AddGroups { at, body }, 201),
        ApiResource::Group(at, group) if is(&Method::PUT) => (Write::UpdateGroup { at, group, body }, 200),
        ApiResource::Group(at, group) => (Write::DeleteGroup { at, group }, 204),
        ApiResource::ProjectChannels if is(&Method::POST) => (Write::CreateProjectChannels { body }, 201),
        ApiResource::ProjectChannels => (Write::UpdateProjectChannels { body }, 200),
        ApiResource::ProjectSyncs => (Write::SyncProjectChannels { body }, 201),
        ApiResource::Features(instance) => (Write::SetFeature { instance, body }, 201),
        ApiResource::Instances | ApiResource::Instance(_) => return None,
    };
    Some(made)
}

async fn show<B: ApiBackend>(backend: &B, outcome: Outcome, status: u16) -> Result<Response, Stop> {
    // Only what is checked has verdicts. The change is made: an answer without
    // them is better than an error.
    let is_checked = |resource: &Resource| resource.effective.health_check().is_some();
    let shows_verdicts = match &outcome {
        Outcome::Channel(resource) | Outcome::Members(resource, _) => is_checked(resource),
        Outcome::ProjectChannels(resources) => resources.iter().any(|resource| is_checked(resource)),
        _ => false,
    };
    let observation = if shows_verdicts { backend.observe().await.ok() } else { None };
    let verdicts = Verdicts::of(observation.as_deref());
    let response = match &outcome {
        Outcome::Nothing => nothing(),
        Outcome::Channel(resource) => json(status, &ChannelAnswer::of(resource, verdicts)),
        Outcome::Members(resource, places) => {
            let instance = Arc::clone(backend.registry().read().instance(&resource.instance)?);
            let members = members_of(resource, &instance, verdicts);
            let items = members.at(places.iter().copied());
            json(status, &List { name: "members", total: items.len(), items })
        }
        Outcome::HealthCheck(resource) => json(status, &HealthConfigAnswer::of(resource)),
        Outcome::Groups(resource, places) => {
            let items: Vec<_> = places.iter().filter_map(|place| GroupAnswer::at(resource, *place)).collect();
            json(status, &List { name: "member_groups", total: items.len(), items })
        }
        Outcome::Group(resource, place) => json(status, &GroupAnswer::at(resource, *place)),
        Outcome::ProjectChannels(resources) => {
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
        Outcome::Feature(instance, name) => json(status, &FeatureAnswer::of(instance, *name)),
    };
    Ok(response)
}
