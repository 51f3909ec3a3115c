//! The vendor's VPC channel API over HTTP: both families, instances, features; its
//! description and its export.
//!
//! `daemon` joins these routes to the server's own when the configuration has an API.
//! [`crate::catalog`] knows what calls mean; `serve::auth` has looked before at who
//! calls. `call` makes requests of what axum routed, `read` and `write`
//! do the calls, `answer` and `instance` have the JSON.

mod answer;
mod call;
mod instance;
mod read;
mod write;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodRouter, any, delete, get, post, put};
use axum::{Extension, Router};

pub use self::call::ApiBackend;
use self::call::{ApiError, ApiState};
use self::write::{write, write_at};
use super::http::{BodyReader, PageError, identify, json_bytes};
use super::peer::{ConnectionInfo, PeerAddress};
use crate::catalog::{Call, PathFamily};
use crate::channel::MemberStatus;

/// The API's own description, checked by hand and by a fuzzing client.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// Everything below `/v2`. Put the layer that authenticates around it: nothing
/// in here asks who is calling.
pub fn router<B: ApiBackend>(backend: B) -> Router {
    let bodies = BodyReader::of_proven();
    let state = |family| ApiState { backend: backend.clone(), bodies: bodies.clone(), family };
    // Paths are joined here and not by `nest`, of which every level writes the
    // request's path anew, and families are states, not layers: a read is short.
    let (apig, roma) = ("/{project}/apigw", "/{project}/apic");
    let calls = instance_calls(apig).with_state(state(PathFamily::Apig));
    let roma = instance_calls(roma).merge(project_calls(roma)).with_state(state(PathFamily::Roma));
    Router::new()
        .nest("/v2", calls.merge(roma).fallback(no_route))
        .route("/v2/", any(no_route))
        .layer(axum::middleware::from_fn(identify))
}

async fn no_route() -> ApiError {
    ApiError::NoRoute
}

/// The calls of both families, below `family` (docs/vendor-api.md, "Calls").
fn instance_calls<B: ApiBackend>(family: &str) -> Router<ApiState<B>> {
    let (ok, created, nothing) = (StatusCode::OK, StatusCode::CREATED, StatusCode::NO_CONTENT);
    let set_feature = write(created, |request, body| {
        Ok(Call::SetFeature { instance: request.id("instance")?.to_owned(), body })
    });
    let create = write(created, |request, body| {
        Ok(Call::CreateChannel { instance: request.id("instance")?.to_owned(), body })
    });
    let update = write(ok, |request, body| {
        Ok(Call::UpdateChannel { family: request.family, at: request.channel_path()?, body })
    });
    let switch = |status| write_at(nothing, move |at, body| Call::SwitchMembers { at, status, body });
    let remove_member = write(nothing, |request, _| {
        Ok(Call::DeleteMember { at: request.channel_path()?, member: request.id("member")?.to_owned() })
    });
    let update_group = write(ok, |request, body| {
        Ok(Call::UpdateGroup { at: request.channel_path()?, group: request.id("group")?.to_owned(), body })
    });
    let remove_group = write(nothing, |request, _| {
        Ok(Call::DeleteGroup { at: request.channel_path()?, group: request.id("group")?.to_owned() })
    });
    let channel =
        get(read::channel).put(update).delete(write_at(nothing, |at, _| Call::DeleteChannel { at }));
    let members = get(read::members)
        .post(write_at(created, |at, body| Call::AddMembers { at, body }))
        .put(write_at(ok, |at, body| Call::ReplaceMembers { at, body }));
    let check = put(write_at(ok, |at, body| Call::UpdateHealthCheck { at, body }));
    let groups = get(read::groups).post(write_at(created, |at, body| Call::AddGroups { at, body }));
    let group = get(read::group).put(update_group).delete(remove_group);
    let at = |path: &str| format!("{family}{path}");
    let of_channel = |path: &str| format!("{family}/instances/{{instance}}/vpc-channels/{{channel}}{path}");
    Router::new()
        .route(&at("/instances"), only("GET", get(read::instances)))
        .route(&at("/instances/{instance}"), only("GET", get(read::instance)))
        .route(
            &at("/instances/{instance}/features"),
            only("GET, POST", get(read::features).post(set_feature)),
        )
        .route(&at("/instances/{instance}/instance-features"), only("GET", get(read::supported_features)))
        .route(&at("/instances/{instance}/vpc-channels"), only("GET, POST", get(read::channels).post(create)))
        .route(&of_channel(""), only("GET, PUT, DELETE", channel))
        .route(&of_channel("/members"), only("GET, POST, PUT", members))
        .route(&of_channel("/members/batch-enable"), only("POST", post(switch(MemberStatus::Enabled))))
        .route(&of_channel("/members/batch-disable"), only("POST", post(switch(MemberStatus::Disabled))))
        .route(&of_channel("/members/{member}"), only("DELETE", delete(remove_member)))
        .route(&of_channel("/health-config"), only("PUT", check))
        .route(&of_channel("/member-groups"), only("GET, POST", groups))
        .route(&of_channel("/member-groups/{group}"), only("GET, PUT, DELETE", group))
}

/// The calls over all instances of a project, ROMA's alone.
fn project_calls<B: ApiBackend>(family: &str) -> Router<ApiState<B>> {
    let channels = get(read::project_channels)
        .post(write(StatusCode::CREATED, |_, body| Ok(Call::CreateProjectChannels { body })))
        .put(write(StatusCode::OK, |_, body| Ok(Call::UpdateProjectChannels { body })));
    let sync = post(write(StatusCode::CREATED, |_, body| Ok(Call::SyncProjectChannels { body })));
    Router::new()
        .route(&format!("{family}/vpc-channels"), only("GET, POST, PUT", channels))
        .route(&format!("{family}/vpc-channels/syncs"), only("POST", sync))
}

/// A path's calls, with the API's own answer to other methods. `HEAD` is one of the
/// others: axum would let the `GET` of a path answer it.
fn only<B: ApiBackend>(methods: &'static str, calls: MethodRouter<ApiState<B>>) -> MethodRouter<ApiState<B>> {
    let refuse = move || async move { ApiError::NoMethod(methods) };
    calls.head(refuse).fallback(refuse)
}

/// `/v1/openapi.json`, for everybody.
pub fn description() -> Router {
    let openapi = get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) });
    Router::new().route("/v1/openapi.json", openapi).layer(axum::middleware::from_fn(identify))
}

/// `GET /v1/export`: everything the API made, for `vitald export`. Only over the
/// Unix socket: the answer holds the private keys of `backend_client_certificate`,
/// which the API itself never shows.
pub fn export<B: ApiBackend>(backend: B) -> Router {
    Router::new().route("/v1/export", get(answer_export::<B>)).with_state(backend)
}

async fn answer_export<B: ApiBackend>(
    State(backend): State<B>,
    Extension(connection): Extension<ConnectionInfo>,
) -> Result<Response, PageError> {
    if connection.peer != PeerAddress::UnixSocket {
        let remedy =
            "the export holds private keys: ask for it over the daemon's Unix socket, [server] socket";
        return Err(PageError::new(StatusCode::FORBIDDEN, remedy));
    }
    let archive = backend.channels().resources.archive();
    // 100,000 members take a while to write down; requests are answered meanwhile.
    let text = tokio::task::spawn_blocking(move || archive.to_json()).await;
    let failed = |problem: String| PageError::new(StatusCode::INTERNAL_SERVER_ERROR, problem);
    let text = text.map_err(|problem| failed(problem.to_string()))?;
    text.map(|text| json_bytes(StatusCode::OK, text)).map_err(|problem| failed(problem.to_string()))
}
