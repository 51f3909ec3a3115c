//! The guard before the API's routes: an axum layer.
//!
//! ```text
//! Router::new().route("/v2/{project_id}/..", ..)
//!     .route_layer(axum::middleware::from_fn_with_state(gate, auth::require))
//! ```
//!
//! It answers 401 and 403 itself. Handlers find the [`Identity`] among the
//! request's extensions, and the body untouched, though read already when the
//! request was signed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::HeaderName;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::fault::AuthFault;
use super::gate::{AuthGate, Inspected};
use super::identity::{Action, Identity};
use super::signature::{BodyHash, hex};
use crate::serve::listener::ConnectionInfo;

/// Largest body of a signed request (docs/vendor-api.md, "Errors of the gateway").
pub const LARGEST_BODY: usize = 12 * 1024 * 1024;
/// Bodies up to this size need no leave to be held.
const SMALL_BODY: usize = 64 * 1024;
/// How long a client may send nothing of its body.
const BODY_STALL: Duration = Duration::from_secs(10);
/// The answer's header that names the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a request is called in its answer and in logs. Whoever comes first puts
/// it among the request's extensions; the guard does so if nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// A new one: 32 hexadecimal digits.
    #[must_use]
    pub fn new() -> Self {
        let number = (u128::from(fastrand::u64(..)) << 64) | u128::from(fastrand::u64(..));
        Self(hex(&number.to_be_bytes()).into())
    }

    /// Writes it on an answer that has none.
    pub fn mark(&self, response: &mut Response) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            response.headers_mut().entry(REQUEST_ID).or_insert(value);
        }
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets a request pass whose sender may do what it asks, with their
/// [`Identity`] as an extension. The project is the path's second segment:
/// `/v2/{project_id}/...`.
pub async fn require(State(gate): State<AuthGate>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
    parts.extensions.insert(id.clone());
    let mut response = match admit(&gate, &parts, body).await {
        Ok(admitted) => {
            parts.extensions.insert(admitted.identity);
            let response = next.run(Request::from_parts(parts, admitted.body)).await;
            drop(admitted.large);
            response
        }
        Err(fault) => {
            gate.penalty(&fault, ConnectionInfo::of(&parts.extensions).peer).await;
            fault.into_answer(&id.0)
        }
    };
    id.mark(&mut response);
    response
}

/// Who it is, that they may, and the body, to be read or read again.
struct Admitted {
    identity: Identity,
    body: Body,
    /// Held while a large body is.
    large: Option<OwnedSemaphorePermit>,
}

async fn admit(gate: &AuthGate, parts: &Parts, body: Body) -> Result<Admitted, AuthFault> {
    let project = parts.uri.path().split('/').nth(2).unwrap_or_default();
    let action = Action::of(&parts.method);
    match gate.inspect(parts)? {
        Inspected::Known(identity) => {
            identity.admit(project, action)?;
            Ok(Admitted { identity, body, large: None })
        }
        Inspected::Signed(signed) => {
            let (bytes, large) = read_whole(gate, body).await?;
            let identity = gate.conclude(signed, BodyHash::of(&bytes))?;
            identity.admit(project, action)?;
            Ok(Admitted { identity, body: Body::from(bytes), large })
        }
    }
}

/// Reads a body; beyond [`SMALL_BODY`] only with leave, and the rest waits unread.
async fn read_whole(
    gate: &AuthGate,
    mut body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), AuthFault> {
    let mut whole = Vec::new();
    let mut large = None;
    loop {
        let Ok(frame) = timeout(BODY_STALL, body.frame()).await else {
            return Err(AuthFault::BodyUnreadable);
        };
        let Some(frame) = frame else { return Ok((Bytes::from(whole), large)) };
        let frame = frame.map_err(|_| AuthFault::BodyUnreadable)?;
        let Some(data) = frame.data_ref() else { continue };
        if whole.len() + data.len() > LARGEST_BODY {
            return Err(AuthFault::BodyTooLarge);
        }
        whole.extend_from_slice(data);
        if whole.len() > SMALL_BODY && large.is_none() {
            large = gate.large_body().await;
        }
    }
}

#[cfg(test)]
mod tests;
