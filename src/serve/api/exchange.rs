//! One request from its head to its answer.
//!
//! Credentials, project and role have been looked at before a request comes
//! here, by the layer of `serve::auth`. What follows is in the order of reference
//! 3.1: path and method, the body's size, then the call itself. Every answer has
//! an `X-Request-Id`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as HttpBody, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::backend::ApiBackend;
use super::route::Route;
use super::{read, write};
use crate::catalog::Fault;

/// Largest body: the limit of the vendor's gateway. 100,000 members fit.
pub(super) const LARGEST_BODY: usize = 12 * 1024 * 1024;
/// Bodies up to this size need no share of [`LARGE_BODIES`].
const SMALL_BODY: usize = 64 * 1024;
/// How many larger bodies are held at once. Further ones wait their turn.
const LARGE_BODIES: usize = 4;
/// How long a client may send nothing of a body that it announced.
const BODY_STALL: Duration = Duration::from_secs(10);

/// What all requests share.
#[derive(Debug, Clone)]
pub(super) struct ApiState<B> {
    backend: B,
    large_bodies: Arc<Semaphore>,
}

impl<B> ApiState<B> {
    pub(super) fn new(backend: B) -> Self {
        Self { backend, large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)) }
    }
}

/// A request whose path and body are known.
pub(super) struct ApiCall {
    pub(super) route: Route,
    pub(super) method: Method,
    pub(super) query: Option<String>,
    pub(super) body: Bytes,
}

/// Why a request got no further, as an answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// No such path.
    NoRoute,
    /// A path that does not take the method; the ones it takes.
    NoMethod(&'static [Method]),
    /// A project that is not this daemon's.
    ForeignProject,
    /// The body is larger than [`LARGEST_BODY`].
    BodyTooLarge,
    /// The body did not arrive.
    BodyLost,
    /// The call was refused.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Answers any request below `/v2`.
pub(super) async fn handle<B: ApiBackend>(State(api): State<ApiState<B>>, request: Request) -> Response {
    let mut response = match answer(&api, request).await {
        Ok(response) => response,
        Err(stop) => stop.into_response(),
    };
    identify(&mut response);
    response
}

/// Puts an `X-Request-Id` on an answer that has none.
pub(super) fn identify(response: &mut Response) {
    let id = format!("{:032x}", fastrand::u128(..));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().entry("x-request-id").or_insert(id);
    }
}

async fn answer<B: ApiBackend>(api: &ApiState<B>, request: Request) -> Result<Response, Stop> {
    let (head, body) = request.into_parts();
    let route = Route::of_path(head.uri.path()).ok_or(Stop::NoRoute)?;
    let methods = route.place.methods();
    if !methods.contains(&head.method) {
        return Err(Stop::NoMethod(methods));
    }
    if api.backend.registry().read().project().id != route.project {
        return Err(Stop::ForeignProject);
    }
    let (body, _share) = read_body(api, &head, body).await?;
    let query = head.uri.query().map(str::to_owned);
    let exchange = ApiCall { route, method: head.method, query, body };
    if exchange.method == Method::GET {
        read::answer(&api.backend, exchange).await
    } else {
        write::answer(&api.backend, exchange).await
    }
}

/// Reads the whole body within its limits. The permit belongs to a large body
/// and is to be held as long as the body.
async fn read_body<B>(
    api: &ApiState<B>,
    head: &Parts,
    mut body: HttpBody,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Stop> {
    let announced = head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > LARGEST_BODY {
        return Err(Stop::BodyTooLarge);
    }
    let mut share = None;
    let mut read: Vec<u8> = Vec::with_capacity(announced.min(SMALL_BODY));
    // Cancel-safe: what was read so far is dropped with the whole exchange.
    while let Some(frame) = timeout(BODY_STALL, body.frame()).await.map_err(|_| Stop::BodyLost)? {
        let frame = frame.map_err(|_| Stop::BodyLost)?;
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > LARGEST_BODY {
            return Err(Stop::BodyTooLarge);
        }
        if share.is_none() && read.len() + data.len() > SMALL_BODY {
            // The semaphore is never closed.
            share = Arc::clone(&api.large_bodies).acquire_owned().await.ok();
        }
        read.extend_from_slice(data);
    }
    Ok((read.into(), share))
}

impl IntoResponse for Stop {
    fn into_response(self) -> Response {
        match self {
            Self::NoRoute => error(
                404,
                "APIG.0101",
                "The API does not exist or has not been published in the environment.",
            ),
            Self::NoMethod(methods) => {
                let allow: Vec<&str> = methods.iter().map(Method::as_str).collect();
                let text = "The API does not take this method.";
                let mut response = error(405, "APIG.0101", text);
                if let Ok(allow) = HeaderValue::from_str(&allow.join(", ")) {
                    response.headers_mut().insert(header::ALLOW, allow);
                }
                response
            }
            Self::ForeignProject => error(403, "APIG.1005", "No permissions to request this method"),
            Self::BodyTooLarge => {
                let mut response = error(413, "APIG.0201", "Request entity too large.");
                // What is left of the body would be read as the next request.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
            Self::BodyLost => {
                let mut response = error(408, "APIG.0201", "The request body did not arrive in time.");
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
            Self::Fault(fault) => fault_response(&fault),
        }
    }
}

#[derive(Serialize)]
struct ErrorAnswer<'f> {
    error_code: &'f str,
    error_msg: &'f str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<ErrorDetail>,
}

#[derive(Serialize)]
struct ErrorDetail {
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
    problem: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

fn error(status: u16, code: &str, message: &str) -> Response {
    json(status, &ErrorAnswer { error_code: code, error_msg: message, details: Vec::new() })
}

fn fault_response(fault: &Fault) -> Response {
    let details = fault.details().into_iter().map(|detail| ErrorDetail {
        field: detail.field,
        problem: detail.problem,
        remedy: detail.remedy,
    });
    let answer = ErrorAnswer {
        error_code: fault.code(),
        error_msg: &fault.message(),
        details: details.take(MOST_DETAILS).collect(),
    };
    json(fault.status(), &answer)
}

/// Most broken rules that one answer lists: 100,000 bad members must not make
/// an answer larger than the request.
const MOST_DETAILS: usize = 20;

/// A JSON answer that no cache keeps.
pub(super) fn json(status: u16, answer: &impl Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(bytes) => json_bytes(status, bytes),
        // Only a map with keys that are no texts could fail; there is none.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn json_bytes(status: u16, bytes: Vec<u8>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, bytes).into_response()
}

/// 204.
pub(super) fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
