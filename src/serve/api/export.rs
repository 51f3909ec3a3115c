//! `GET /v1/export`: everything the API made, for `vitald export`.
//!
//! Only over the Unix socket: the answer holds the private keys of
//! `backend_client_certificate`, which the API itself never shows.

use axum::Extension;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::super::listener::{ConnectionInfo, PeerAddress};
use super::super::routes::error;
use super::backend::ApiBackend;
use crate::catalog::Archive;

/// `/v1/export`; it looks itself at who asks.
pub fn export<B: ApiBackend>(backend: B) -> Router {
    Router::new().route("/v1/export", get(answer::<B>)).with_state(backend)
}

async fn answer<B: ApiBackend>(
    State(backend): State<B>,
    Extension(origin): Extension<ConnectionInfo>,
) -> Response {
    if origin.peer != PeerAddress::UnixSocket {
        let remedy =
            "the export holds private keys: ask for it over the daemon's Unix socket, [server] socket";
        return error(StatusCode::FORBIDDEN, remedy);
    }
    let archive = Archive::of(&backend.registry().read());
    // 100,000 members take a while to write down; requests are answered meanwhile.
    match tokio::task::spawn_blocking(move || archive.to_json()).await {
        Ok(Ok(text)) => {
            let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
            (headers, text).into_response()
        }
        Ok(Err(problem)) => error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
    }
}
