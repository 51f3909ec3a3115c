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

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::HeaderName;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::fault::AuthFault;
use super::gate::{AuthGate, Inspected};
use super::identity::{Action, Identity};
use super::signature::{BodyHash, hex};
use crate::serve::listener::Origin;

/// Largest body of a signed request (reference 6.3).
pub const LARGEST_BODY: usize = 12 * 1024 * 1024;
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
        Ok((identity, body)) => {
            parts.extensions.insert(identity);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(fault) => {
            gate.penalty(&fault, Origin::of(&parts.extensions).peer).await;
            fault.into_answer(&id.0)
        }
    };
    id.mark(&mut response);
    response
}

/// Who it is and that they may; and the body, to be read or read again.
async fn admit(gate: &AuthGate, parts: &Parts, body: Body) -> Result<(Identity, Body), AuthFault> {
    let project = parts.uri.path().split('/').nth(2).unwrap_or_default();
    let action = Action::of(&parts.method);
    match gate.inspect(parts)? {
        Inspected::Known(identity) => {
            identity.admit(project, action)?;
            Ok((identity, body))
        }
        Inspected::Signed(signed) => {
            let bytes = read_whole(body).await?;
            let identity = gate.conclude(signed, BodyHash::of(&bytes))?;
            identity.admit(project, action)?;
            Ok((identity, Body::from(bytes)))
        }
    }
}

async fn read_whole(body: Body) -> Result<Bytes, AuthFault> {
    match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(AuthFault::BodyTooLarge),
        Err(_) => Err(AuthFault::BodyUnreadable),
    }
}

#[cfg(test)]
mod tests;
