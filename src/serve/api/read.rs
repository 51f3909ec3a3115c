//! The calls that look: lists and details.

use std::sync::Arc;

use axum::response::Response;

use super::answer::List;
use super::answer::channel::{ChannelAnswer, ChannelDetailAnswer, ProjectAnswer, members_of};
use super::answer::instance::{FeatureAnswer, InstanceAnswer, InstanceDetailAnswer};
use super::answer::part::GroupAnswer;
use super::answer::verdict::LiveVerdicts;
use super::backend::ApiBackend;
use super::exchange::{ApiCall, Stop, json};
use super::parameters::ApiQuery;
use super::route::ApiResource;
use crate::catalog::Snapshot;
use crate::catalog::{ChannelPath, Fault, Id, Instance, Resource};

/// Answers with more members than this are written on a thread of their own, so
/// that other requests need not wait for them.
const LONG_ANSWER: usize = 2_000;

pub(super) async fn answer<B: ApiBackend>(backend: &B, exchange: ApiCall) -> Result<Response, Stop> {
    let parameters = ApiQuery::read(exchange.query.as_deref());
    match &exchange.route.place {
        ApiResource::Instances => instances(backend, &parameters),
        ApiResource::Instance(instance) => instance_detail(backend, instance),
        ApiResource::Features(instance) => features(backend, instance, &parameters),
        ApiResource::Channels(instance) => {
            let (filter, paging) = {
                // The instance is looked at before the parameters
                // (docs/vendor-api.md, "Order of the checks").
                backend.registry().read().instance(instance)?;
                (parameters.channel_filter(exchange.route.family)?, parameters.paging()?)
            };
            let page = backend.registry().read().list_channels(Some(instance), &filter, paging)?;
            let snapshot = observe(backend, page.items.iter().map(|item| &**item)).await?;
            let verdicts = LiveVerdicts::of(snapshot.as_deref());
            let items = page.items.iter().map(|resource| ChannelAnswer::of(resource, verdicts)).collect();
            Ok(json(200, &List { name: "vpc_channels", total: page.total, items }))
        }
        ApiResource::Channel(at) => channel(backend, at).await,
        ApiResource::Members(at) => members(backend, at, &parameters).await,
        ApiResource::Groups(at) => groups(backend, at, &parameters),
        ApiResource::Group(at, group) => group_detail(backend, at, group),
        ApiResource::ProjectChannels => project_channels(backend, &exchange, &parameters).await,
        // The table of methods lets no GET through to these.
        ApiResource::Member(..)
        | ApiResource::BatchEnable(_)
        | ApiResource::BatchDisable(_)
        | ApiResource::HealthConfig(_)
        | ApiResource::ProjectSyncs => Err(Stop::NoRoute),
    }
}

fn instances<B: ApiBackend>(backend: &B, parameters: &ApiQuery<'_>) -> Result<Response, Stop> {
    let paging = parameters.paging()?;
    let published = backend.registry();
    let registry = published.read();
    let page = registry.list_instances(&parameters.instance_filter(), paging);
    let project = &registry.project().id;
    let items = page.items.iter().map(|instance| InstanceAnswer::of(instance, project)).collect();
    Ok(json(200, &List { name: "instances", total: page.total, items }))
}

fn instance_detail<B: ApiBackend>(backend: &B, id: &str) -> Result<Response, Stop> {
    let published = backend.registry();
    let registry = published.read();
    let instance = registry.instance(id)?;
    Ok(json(200, &InstanceDetailAnswer::of(instance, &registry.project().id, &backend.addresses())))
}

fn features<B: ApiBackend>(backend: &B, id: &str, parameters: &ApiQuery<'_>) -> Result<Response, Stop> {
    let instance = Arc::clone(backend.registry().read().instance(id)?);
    let page = instance.list_features(parameters.paging()?);
    let items = page.items.iter().map(|name| FeatureAnswer::of(&instance, *name)).collect();
    Ok(json(200, &List { name: "features", total: page.total, items }))
}

async fn channel<B: ApiBackend>(backend: &B, at: &ChannelPath) -> Result<Response, Stop> {
    let (resource, instance) = find(backend, at)?;
    let snapshot = observe(backend, std::iter::once(&*resource)).await?;
    let size = resource.configured.members().len();
    written(size, move || {
        let verdicts = LiveVerdicts::of(snapshot.as_deref());
        json(200, &ChannelDetailAnswer::of(&resource, &instance, verdicts))
    })
    .await
}

async fn members<B: ApiBackend>(
    backend: &B,
    at: &ChannelPath,
    parameters: &ApiQuery<'_>,
) -> Result<Response, Stop> {
    let (resource, instance) = find(backend, at)?;
    let (filter, paging) = (parameters.member_filter(), parameters.paging()?);
    let snapshot = observe(backend, std::iter::once(&*resource)).await?;
    let size = resource.configured.members().len();
    written(size, move || {
        let page = resource.list_members(&filter, paging);
        let verdicts = LiveVerdicts::of(snapshot.as_deref());
        let members = members_of(&resource, &instance, verdicts);
        let items = members.at(page.items.into_iter());
        json(200, &List { name: "members", total: page.total, items })
    })
    .await
}

fn groups<B: ApiBackend>(backend: &B, at: &ChannelPath, parameters: &ApiQuery<'_>) -> Result<Response, Stop> {
    let (resource, _) = find(backend, at)?;
    let page = resource.list_groups(parameters.group_filter().as_ref(), parameters.paging()?);
    let items = page.items.iter().filter_map(|place| GroupAnswer::at(&resource, *place)).collect();
    Ok(json(200, &List { name: "member_groups", total: page.total, items }))
}

fn group_detail<B: ApiBackend>(backend: &B, at: &ChannelPath, group: &str) -> Result<Response, Stop> {
    let (resource, _) = find(backend, at)?;
    let place = Id::parse(group).and_then(|id| resource.group_position(id));
    let answer = place.and_then(|place| GroupAnswer::at(&resource, place));
    Ok(json(200, &answer.ok_or_else(|| Fault::NoGroup(group.to_owned()))?))
}

async fn project_channels<B: ApiBackend>(
    backend: &B,
    exchange: &ApiCall,
    parameters: &ApiQuery<'_>,
) -> Result<Response, Stop> {
    let filter = parameters.channel_filter(exchange.route.family)?;
    let (paging, with_members) = (parameters.paging()?, parameters.members_return()?);
    let (page, instances) = {
        let published = backend.registry();
        let registry = published.read();
        let page = registry.list_channels(None, &filter, paging)?;
        let instances: Result<Vec<_>, Fault> =
            page.items.iter().map(|item| registry.instance(&item.instance).cloned()).collect();
        (page, instances?)
    };
    let snapshot = if with_members || page.items.iter().any(|item| item.effective.health_check().is_some()) {
        Some(observed(backend).await?)
    } else {
        None
    };
    let size =
        if with_members { page.items.iter().map(|item| item.configured.members().len()).sum() } else { 0 };
    written(size, move || {
        let verdicts = LiveVerdicts::of(snapshot.as_deref());
        let pairs = page.items.iter().zip(&instances);
        let items = pairs
            .map(|(resource, instance)| ProjectAnswer::of(resource, instance, verdicts, with_members))
            .collect();
        json(200, &List { name: "project_vpc_channels", total: page.total, items })
    })
    .await
}

fn find<B: ApiBackend>(backend: &B, at: &ChannelPath) -> Result<(Arc<Resource>, Arc<Instance>), Fault> {
    let published = backend.registry();
    let registry = published.read();
    let resource = registry.channel(&at.instance, &at.channel)?;
    Ok((Arc::clone(resource), Arc::clone(registry.instance(&at.instance)?)))
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
async fn written(size: usize, write: impl FnOnce() -> Response + Send + 'static) -> Result<Response, Stop> {
    if size <= LONG_ANSWER {
        return Ok(write());
    }
    let written = tokio::task::spawn_blocking(write).await;
    written.map_err(|error| Stop::Fault(Fault::Unavailable(error.to_string())))
}
