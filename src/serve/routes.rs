//! Which path answers what, and the answers that every path shares.

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use super::source::{DaemonHandle, SnapshotError};
use super::stream::Writers;
use super::{health, metrics, pick, reload, status};

/// What the handlers share.
#[derive(Debug, Clone)]
pub(super) struct App<S> {
    pub(super) source: S,
    pub(super) writers: Writers,
    pub(super) scrape_buffer: metrics::ScrapeBuffer,
}

/// All routes over one source.
pub fn router<S: DaemonHandle>(source: S) -> Router {
    Router::new()
        .route("/", get(landing_page))
        .route("/livez", get(health::live::<S>))
        .route("/-/healthy", get(health::live::<S>))
        .route("/readyz", get(health::ready::<S>))
        .route("/-/ready", get(health::ready::<S>))
        .route("/metrics", get(metrics::metrics::<S>))
        .route("/v1/status", get(status::status::<S>))
        .route("/v1/channels/{name}", get(status::channel::<S>))
        .route("/v1/channels/{name}/pick", get(pick::pick::<S>))
        .route("/v1/reload", post(reload::reload::<S>))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(App { source, writers: Writers::new(), scrape_buffer: metrics::ScrapeBuffer::default() })
}

/// A JSON answer that no cache keeps.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{body}\n")).into_response()
}

/// `{"error": ..}`.
pub(super) fn error(status: StatusCode, text: &str) -> Response {
    json(status, &serde_json::json!({ "error": text }))
}

/// The daemon did not answer: 503, so that a scraper marks the target down
/// instead of storing nonsense.
pub(super) fn unavailable(cause: &SnapshotError) -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, &cause.to_string())
}

async fn landing_page() -> Html<&'static str> {
    Html(include_str!("landing.html"))
}

async fn not_found(uri: Uri) -> Response {
    error(StatusCode::NOT_FOUND, &format!("nothing is at {}; / lists what there is", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, &format!("{} does not take {method}", uri.path()))
}
