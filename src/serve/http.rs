//! What all routes share: how bodies are read, how answers look, and how
//! requests are named.
//!
//! There are three forms of an error, because three kinds of clients read them:
//! `{"error": ..}` of this daemon's own pages ([`PageError`]), `{"error_code": ..,
//! "error_msg": ..}` of the vendor's API ([`VendorError`]), and Keystone's, which
//! `auth::keystone` makes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{Extensions, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::catalog::FaultDetail;

/// Largest body: the limit of the vendor's gateway. 100,000 members fit.
pub(super) const LARGEST_BODY: usize = 12 * 1024 * 1024;
/// Bodies up to this size need no permit.
pub(super) const SMALL_BODY: usize = 64 * 1024;
/// How many larger bodies a reader holds at once. Further ones wait unread.
const LARGE_BODIES: usize = 4;
/// How long a client may send nothing of a body that it announced.
pub(super) const BODY_STALL: Duration = Duration::from_secs(10);
/// The answer's header that names the request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Reads bodies; clones share the permits for large ones. The API has one reader
/// and the gate before it another: a sender who has yet to prove who they are
/// must not keep the others' bodies waiting.
#[derive(Debug, Clone)]
pub(super) struct BodyReader(Arc<Semaphore>);

/// A body that was read. A large one keeps its permit until all clones are gone.
#[derive(Debug, Clone)]
pub(super) struct WholeBody {
    pub(super) bytes: Bytes,
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than allowed.
    TooLarge,
    /// It did not arrive whole, or not in time.
    Lost,
}

impl Default for BodyReader {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES)))
    }
}

impl BodyReader {
    /// Reads a body of at most [`LARGEST_BODY`]. Cancel-safe: what was read is dropped.
    pub(super) async fn read(&self, body: Body) -> Result<WholeBody, BodyError> {
        let (mut whole, permit) = self.collect(body, LARGEST_BODY).await?;
        Ok(WholeBody { bytes: std::mem::take(&mut *whole).into(), _permit: permit.map(Arc::new) })
    }

    /// Reads a body that holds a secret, at most `largest` bytes and no more than
    /// [`SMALL_BODY`], into memory that is wiped. Cancel-safe likewise.
    pub(super) async fn read_secret(
        &self,
        body: Body,
        largest: usize,
    ) -> Result<Zeroizing<Vec<u8>>, BodyError> {
        self.collect(body, largest.min(SMALL_BODY)).await.map(|(whole, _)| whole)
    }

    async fn collect(
        &self,
        mut body: Body,
        largest: usize,
    ) -> Result<(Zeroizing<Vec<u8>>, Option<OwnedSemaphorePermit>), BodyError> {
        let announced = body.size_hint().upper().map(usize::try_from);
        let room = match announced {
            Some(Ok(announced)) if announced <= largest => announced,
            Some(_) => return Err(BodyError::TooLarge),
            None => largest,
        };
        // A small body fits from the start: no copy of a secret is left behind.
        let mut whole = Zeroizing::new(Vec::with_capacity(room.min(SMALL_BODY)));
        let mut permit = None;
        while let Some(frame) = timeout(BODY_STALL, body.frame()).await.map_err(|_| BodyError::Lost)? {
            let frame = frame.map_err(|_| BodyError::Lost)?;
            let Some(data) = frame.data_ref() else { continue };
            let length = whole.len() + data.len();
            if length > largest {
                return Err(BodyError::TooLarge);
            }
            if permit.is_none() && length > SMALL_BODY {
                permit = Some(Arc::clone(&self.0).acquire_owned().await.map_err(|_| BodyError::Lost)?);
            }
            whole.extend_from_slice(data);
        }
        Ok((whole, permit))
    }
}

/// What a request is called in its answer and in logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// The id that a layer before gave the request, or a new one: 32 hexadecimal
    /// digits, which later layers find among the extensions.
    pub(super) fn of(extensions: &mut Extensions) -> Self {
        let new = || Self(format!("{:032x}", fastrand::u128(..)).into());
        extensions.get_or_insert_with(new).clone()
    }

    /// Writes it on an answer that has none.
    pub(super) fn mark(&self, response: &mut Response) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            response.headers_mut().entry(REQUEST_ID).or_insert(value);
        }
    }
}

/// A layer that names requests: puts `X-Request-Id` on every answer.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.extensions_mut());
    let mut response = next.run(request).await;
    id.mark(&mut response);
    response
}

/// `/` for browsers: where to look.
pub(super) async fn landing_page() -> Html<&'static str> {
    Html(include_str!("landing.html"))
}

/// A JSON answer that no cache keeps.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => json_bytes(status, bytes),
        // Only a map with keys that are no texts could fail.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The same with a line feed at its end, for people at a terminal.
pub(super) fn json_line(status: StatusCode, body: &serde_json::Value) -> Response {
    json_bytes(status, format!("{body}\n").into_bytes())
}

/// JSON that is written down already.
pub(super) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, bytes).into_response()
}

/// Why a page of this daemon's own is not shown: `{"error": ..}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageError {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl PageError {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        json_line(self.status, &serde_json::json!({ "error": self.text }))
    }
}

/// An error in the form of the vendor's API. `details` is left out when it is empty.
#[derive(Serialize)]
pub(super) struct VendorError<'e> {
    pub(super) error_code: &'e str,
    pub(super) error_msg: &'e str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) details: &'e [FaultDetail],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'e str>,
}
