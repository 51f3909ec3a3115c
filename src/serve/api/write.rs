//! The calls that change something: body to call, outcome to answer.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::answer::{
    ChannelAnswer, GroupAnswer, HealthConfigAnswer, List, LiveVerdicts, ProjectAnswer, members_of,
};
use super::call::{ApiBackend, ApiError, ApiRequest, ApiState, MembersReturn};
use super::instance::FeatureAnswer;
use crate::catalog::{Body, Call, ChannelPath, Fault, Reply, Resource};
use crate::serve::http::json;

/// Bodies larger than this are read on a thread of their own.
const LONG_BODY: usize = 64 * 1024;

type AnswerFuture = Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send>>;

/// A handler that does the call that `make` makes of a request, and answers with
/// this status if it succeeds.
pub(super) fn write<B: ApiBackend>(
    status: StatusCode,
    make: impl Fn(&ApiRequest, Body) -> Result<Call, ApiError> + Clone + Send + Sync + 'static,
) -> impl Fn(State<ApiState<B>>, ApiRequest) -> AnswerFuture + Clone + Send + Sync + 'static {
    move |State(api), request| {
        let make = make.clone();
        Box::pin(async move {
            let body = read_json(request.body.bytes.clone()).await?;
            let outcome = api.backend.write(make(&request, body)?, request.client.clone()).await;
            let outcome = outcome.map_err(|fault| ApiError::Refused(fault, request.family))?;
            if let (Some(audit), Some(resource)) = (&request.audit, outcome.resource()) {
                audit.set_channel(resource.id.to_string(), resource.configured.name().to_owned());
            }
            show(&api.backend, outcome, status).await
        })
    }
}

/// [`write()`] for the calls that need no more than the ids of a channel.
pub(super) fn write_at<B: ApiBackend>(
    status: StatusCode,
    make: impl Fn(ChannelPath, Body) -> Call + Clone + Send + Sync + 'static,
) -> impl Fn(State<ApiState<B>>, ApiRequest) -> AnswerFuture + Clone + Send + Sync + 'static {
    write(status, move |request, body| Ok(make(request.channel_path()?, body)))
}

async fn read_json(bytes: Bytes) -> Result<Body, Fault> {
    if bytes.len() <= LONG_BODY {
        return Ok(Body::read(&bytes));
    }
    let read = tokio::task::spawn_blocking(move || Body::read(&bytes)).await;
    read.map_err(|error| Fault::Unavailable(error.to_string()))
}

async fn show<B: ApiBackend>(backend: &B, outcome: Reply, status: StatusCode) -> Result<Response, ApiError> {
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
        Reply::Nothing => status.into_response(),
        // No call of this API makes it.
        Reply::MemberChanged(changed) => {
            let why = format!("{} was changed in another way", changed.member);
            return Err(Fault::Unavailable(why).into());
        }
        Reply::Channel(resource) => json(status, &ChannelAnswer::of(resource, verdicts)),
        Reply::Members(resource, places) => {
            let instance = Arc::clone(backend.channels().resources.instance(&resource.instance)?);
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
            let channels = backend.channels();
            let instances: Result<Vec<_>, Fault> =
                resources.iter().map(|resource| channels.resources.instance(&resource.instance)).collect();
            let pairs = resources.iter().zip(instances?);
            let channels: Vec<_> = pairs
                .map(|(resource, instance)| {
                    ProjectAnswer::of(resource, instance, verdicts, MembersReturn::Listed)
                })
                .collect();
            json(status, &std::collections::BTreeMap::from([("project_vpc_channels", channels)]))
        }
        Reply::Feature(instance, name) => {
            let set = instance.settings().find(|(held, _)| held == name);
            let (name, feature) =
                set.ok_or_else(|| Fault::Unavailable(format!("{} was not kept", name.word())))?;
            json(status, &FeatureAnswer::of(instance, name, feature))
        }
    };
    Ok(response)
}
