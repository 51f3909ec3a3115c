//! The vendor's VPC channel API over HTTP: both families, instances, features.
//!
//! `serve` joins [`router`] to its own routes when the daemon has an API. What
//! calls mean is [`crate::catalog`]'s business; who may call is
//! looked at before, by `serve::auth`. Here paths, parameters and bodies become calls, and outcomes
//! become JSON with exactly the types that the vendor's clients need.
//!
//! | file | what it does |
//! |---|---|
//! | `backend` | what the API asks of the daemon |
//! | `exchange` | one request: limits, checks in order, errors |
//! | `route` | paths and methods |
//! | `parameters` | paging and filters |
//! | `read`, `write` | the calls |
//! | `answer` | the JSON |
//! | `export` | everything, for `vitald export` |

mod answer;
mod backend;
mod exchange;
mod export;
mod parameters;
mod read;
mod route;
mod write;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

pub use backend::ApiBackend;
pub use export::export;

/// The API's own description, checked by hand and by a fuzzing client.
pub const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Everything below `/v2`. Put the layer that authenticates around it: nothing
/// in here asks who is calling.
pub fn router<B: ApiBackend>(backend: B) -> Router {
    Router::new()
        .route("/v2", any(exchange::handle::<B>))
        .route("/v2/", any(exchange::handle::<B>))
        .route("/v2/{*path}", any(exchange::handle::<B>))
        .with_state(exchange::ApiState::new(backend))
}

/// `/v1/openapi.json`, for everybody.
pub fn description() -> Router {
    Router::new().route("/v1/openapi.json", get(openapi))
}

async fn openapi() -> Response {
    let mut response = ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response();
    exchange::identify(&mut response);
    response
}
