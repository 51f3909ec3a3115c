//! The calls that change nothing: lists and details.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::answer::{
    ChannelAnswer, ChannelDetailAnswer, GroupAnswer, List, LiveVerdicts, ProjectAnswer, members_of,
};
use super::call::{ApiBackend, ApiError, ApiRequest, ApiState, MembersReturn};
use super::instance::{FeatureAnswer, InstanceAnswer, InstanceDetailAnswer};
use crate::catalog::{ChannelPath, Fault, FeatureName, Id, Instance, Resource, Snapshot};
use crate::serve::http::json;

/// Answers with more members than this are written on a thread of their own, so
/// that other requests need not wait for them.
const LONG_ANSWER: usize = 2_000;

pub(super) async fn instances<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let paging = request.query.paging()?;
    let channels = api.backend.channels();
    let resources = &channels.resources;
    let page = resources.list_instances(&request.query.instance_filter(), paging);
    let project = &resources.project().id;
    let items = page.items.iter().map(|instance| InstanceAnswer::of(instance, project)).collect();
    Ok(json(StatusCode::OK, &List { name: "instances", total: page.total, items }))
}

pub(super) async fn instance<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let channels = api.backend.channels();
    let resources = &channels.resources;
    let instance = resources.instance(request.id("instance")?)?;
    let answer = InstanceDetailAnswer::of(instance, &resources.project().id, &api.backend.addresses());
    Ok(json(StatusCode::OK, &answer))
}

pub(super) async fn features<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let instance = Arc::clone(api.backend.channels().resources.instance(request.id("instance")?)?);
    let page = instance.list_features(request.query.paging()?);
    let items =
        page.items.iter().map(|(name, feature)| FeatureAnswer::of(&instance, *name, feature)).collect();
    Ok(json(StatusCode::OK, &List { name: "features", total: page.total, items }))
}

/// The names alone, of the features that can be used.
pub(super) async fn supported_features<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let channels = api.backend.channels();
    let page = channels
        .resources
        .instance(request.id("instance")?)?
        .list_supported_features(request.query.paging()?);
    let items = page.items.into_iter().map(FeatureName::word).collect();
    Ok(json(StatusCode::OK, &List { name: "features", total: page.total, items }))
}

pub(super) async fn channels<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let instance = request.id("instance")?;
    // The instance is looked at before the parameters
    // (docs/vendor-api.md, "Order of the checks").
    let channels = api.backend.channels();
    channels.resources.instance(instance)?;
    let (filter, paging) = (request.query.channel_filter(request.family)?, request.query.paging()?);
    let page = channels.resources.list_channels(Some(instance), &filter, paging)?;
    let snapshot = observe(&api.backend, page.items.iter().map(|item| &**item)).await?;
    let verdicts = LiveVerdicts::of(snapshot.as_deref());
    let items = page.items.iter().map(|resource| ChannelAnswer::of(resource, verdicts)).collect();
    Ok(json(StatusCode::OK, &List { name: "vpc_channels", total: page.total, items }))
}

pub(super) async fn channel<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let (resource, instance) = find(&api.backend, &request.channel_path()?)?;
    let snapshot = observe(&api.backend, std::iter::once(&*resource)).await?;
    let size = resource.configured.members().len();
    written(size, move || {
        let verdicts = LiveVerdicts::of(snapshot.as_deref());
        json(StatusCode::OK, &ChannelDetailAnswer::of(&resource, &instance, verdicts))
    })
    .await
}

pub(super) async fn members<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let (resource, instance) = find(&api.backend, &request.channel_path()?)?;
    let (filter, paging) = (request.query.member_filter(), request.query.paging()?);
    let snapshot = observe(&api.backend, std::iter::once(&*resource)).await?;
    let size = resource.configured.members().len();
    written(size, move || {
        let page = resource.list_members(&filter, paging);
        let verdicts = LiveVerdicts::of(snapshot.as_deref());
        let members = members_of(&resource, &instance, verdicts);
        let items = members.at(page.items.into_iter());
        json(StatusCode::OK, &List { name: "members", total: page.total, items })
    })
    .await
}

pub(super) async fn groups<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let (resource, _) = find(&api.backend, &request.channel_path()?)?;
    let page = resource.list_groups(request.query.group_filter().as_ref(), request.query.paging()?);
    let items = page.items.iter().filter_map(|place| GroupAnswer::at(&resource, *place)).collect();
    Ok(json(StatusCode::OK, &List { name: "member_groups", total: page.total, items }))
}

pub(super) async fn group<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let (resource, _) = find(&api.backend, &request.channel_path()?)?;
    let group = request.id("group")?;
    let place = Id::parse(group).and_then(|id| resource.group_position(id));
    let answer = place.and_then(|place| GroupAnswer::at(&resource, place));
    Ok(json(StatusCode::OK, &answer.ok_or_else(|| Fault::NoGroup(group.to_owned()))?))
}

pub(super) async fn project_channels<B: ApiBackend>(
    State(api): State<ApiState<B>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let filter = request.query.channel_filter(request.family)?;
    let (paging, members) = (request.query.paging()?, request.query.members_return()?);
    let (page, instances) = {
        let channels = api.backend.channels();
        let resources = &channels.resources;
        let page = resources.list_channels(None, &filter, paging)?;
        let instances: Result<Vec<_>, Fault> =
            page.items.iter().map(|item| resources.instance(&item.instance).cloned()).collect();
        (page, instances?)
    };
    let snapshot = if members == MembersReturn::Listed
        || page.items.iter().any(|item| item.effective.health_check().is_some())
    {
        Some(observed(&api.backend).await?)
    } else {
        None
    };
    let size = match members {
        MembersReturn::Listed => page.items.iter().map(|item| item.configured.members().len()).sum(),
        MembersReturn::Omitted => 0,
    };
    written(size, move || {
        let verdicts = LiveVerdicts::of(snapshot.as_deref());
        let pairs = page.items.iter().zip(&instances);
        let items = pairs
            .map(|(resource, instance)| ProjectAnswer::of(resource, instance, verdicts, members))
            .collect();
        json(StatusCode::OK, &List { name: "project_vpc_channels", total: page.total, items })
    })
    .await
}

fn find<B: ApiBackend>(backend: &B, at: &ChannelPath) -> Result<(Arc<Resource>, Arc<Instance>), Fault> {
    let channels = backend.channels();
    let resources = &channels.resources;
    let resource = resources.channel(&at.instance, &at.channel)?;
    Ok((Arc::clone(resource), Arc::clone(resources.instance(&at.instance)?)))
}

/// The live verdicts, when any of these channels has a check at all.
async fn observe<B: ApiBackend>(
    backend: &B,
    mut channels: impl Iterator<Item = &Resource> + Send,
) -> Result<Option<Arc<Snapshot>>, Fault> {
    if channels.any(|resource| resource.effective.health_check().is_some()) {
        observed(backend).await.map(Some)
    } else {
        Ok(None)
    }
}

async fn observed<B: ApiBackend>(backend: &B) -> Result<Arc<Snapshot>, Fault> {
    backend.observe().await.map_err(|error| Fault::Unavailable(error.to_string()))
}

/// Writes an answer, on a thread of its own if it is long.
async fn written(
    size: usize,
    write: impl FnOnce() -> Response + Send + 'static,
) -> Result<Response, ApiError> {
    if size <= LONG_ANSWER {
        return Ok(write());
    }
    let written = tokio::task::spawn_blocking(write).await;
    written.map_err(|error| Fault::Unavailable(error.to_string()).into())
}
