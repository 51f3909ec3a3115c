//! What all routes share: how bodies are read, how answers look, and how
//! requests are named.
//!
//! There are three forms of an error, because three kinds of clients read them:
//! `{"error": ..}` of this daemon's own pages ([`PageError`]), `{"error_code": ..,
//! "error_msg": ..}` of the vendor's API ([`VendorError`]), and Keystone's, which
//! `auth::keystone` makes.

use std::io;
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
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::peer::PeerNetwork;
use super::shares::{Share, Shares};
use crate::catalog::FaultDetail;

/// Largest body: the limit of the vendor's gateway. 100,000 members fit.
pub(super) const LARGEST_BODY: usize = 12 * 1024 * 1024;
/// Bodies up to this size need no permit.
pub(super) const SMALL_BODY: usize = 64 * 1024;
/// How many larger bodies a reader holds at once, and how many of one source. Further
/// ones wait unread.
const LARGE_BODIES: usize = 8;
const LARGE_BODIES_EACH: usize = 2;
/// How long a client may send nothing of a body that it announced.
pub(super) const BODY_STALL: Duration = Duration::from_secs(10);
/// How long somebody may take to send a body who has yet to prove who they are, and
/// how long a large one of theirs waits for its place.
pub(super) const UNPROVEN: Duration = Duration::from_secs(15);
/// When a client may come again that was told that there is no place for it, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
const JSON: &str = "application/json";
/// The answer's header that names the request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Reads bodies; clones share the places for large ones. The API has one reader
/// and the gate before it another: a sender who has yet to prove who they are
/// must not keep the others' bodies waiting.
#[derive(Debug, Clone)]
pub(super) struct BodyReader {
    large: Shares,
    senders: Senders,
}

/// Whose bodies a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Senders {
    /// Those who have proved who they are.
    Proven,
    /// Those who have yet to: they wait for a place, and take to send, no longer than
    /// [`UNPROVEN`] each.
    Unproven,
}

/// A body that was read. A large one keeps its place until all clones are gone.
#[derive(Debug, Clone)]
pub(super) struct WholeBody {
    pub(super) bytes: Bytes,
    _place: Option<Arc<Share>>,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than allowed.
    TooLarge,
    /// Its chunks are not what HTTP says.
    Malformed,
    /// It did not arrive whole, or not in time.
    Lost,
    /// Its source sends as many large bodies as it may.
    NoPlace,
}

impl BodyReader {
    /// Reads bodies of those who have proved who they are.
    pub(super) fn of_proven() -> Self {
        Self { large: Shares::new(LARGE_BODIES, LARGE_BODIES_EACH), senders: Senders::Proven }
    }

    /// Reads bodies of those who have yet to prove who they are.
    pub(super) fn of_unproven() -> Self {
        Self { senders: Senders::Unproven, ..Self::of_proven() }
    }

    /// Reads a body of at most [`LARGEST_BODY`]. Cancel-safe: what was read is dropped.
    pub(super) async fn read(&self, body: Body, network: PeerNetwork) -> Result<WholeBody, BodyError> {
        let (mut whole, place) = self.collect(body, LARGEST_BODY, network).await?;
        Ok(WholeBody { bytes: std::mem::take(&mut *whole).into(), _place: place.map(Arc::new) })
    }

    /// Reads a body that holds a secret, at most `largest` bytes and no more than
    /// [`SMALL_BODY`], into memory that is wiped. Cancel-safe likewise.
    pub(super) async fn read_secret(
        &self,
        body: Body,
        largest: usize,
        network: PeerNetwork,
    ) -> Result<Zeroizing<Vec<u8>>, BodyError> {
        self.collect(body, largest.min(SMALL_BODY), network).await.map(|(whole, _)| whole)
    }

    async fn collect(
        &self,
        mut body: Body,
        largest: usize,
        network: PeerNetwork,
    ) -> Result<(Zeroizing<Vec<u8>>, Option<Share>), BodyError> {
        let announced = body.size_hint().upper().map(usize::try_from);
        let room = match announced {
            Some(Ok(announced)) if announced <= largest => announced,
            Some(_) => return Err(BodyError::TooLarge),
            None => largest,
        };
        // A small body fits from the start: no copy of a secret is left behind.
        let mut whole = Zeroizing::new(Vec::with_capacity(room.min(SMALL_BODY)));
        let mut place = None;
        let mut time_left = match self.senders {
            Senders::Proven => Duration::MAX,
            Senders::Unproven => UNPROVEN,
        };
        loop {
            let began = Instant::now();
            let frame =
                timeout(time_left.min(BODY_STALL), body.frame()).await.map_err(|_| BodyError::Lost)?;
            time_left = time_left.saturating_sub(began.elapsed());
            let Some(frame) = frame else { return Ok((whole, place)) };
            let frame = frame.map_err(|error| match is_malformed(&error) {
                true => BodyError::Malformed,
                false => BodyError::Lost,
            })?;
            let Some(data) = frame.data_ref() else { continue };
            let length = whole.len() + data.len();
            if length > largest {
                return Err(BodyError::TooLarge);
            }
            if place.is_none() && length > SMALL_BODY {
                place = Some(self.place(network).await?);
            }
            whole.extend_from_slice(data);
        }
    }

    async fn place(&self, network: PeerNetwork) -> Result<Share, BodyError> {
        let place = self.large.take(network);
        let place = match self.senders {
            // The time for the whole exchange bounds the wait.
            Senders::Proven => place.await,
            Senders::Unproven => timeout(UNPROVEN, place).await.map_err(|_| BodyError::NoPlace)?,
        };
        place.map_err(|_| BodyError::NoPlace)
    }
}

/// Whether a body broke off because its sender broke the rules of chunks, which hyper
/// tells by an error of this kind somewhere below its own.
fn is_malformed(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
    })
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
    let headers = [(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, "no-store")];
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
    pub(super) error_code: &'static str,
    pub(super) error_msg: &'e str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) details: &'e [FaultDetail],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'e str>,
}

impl VendorError<'_> {
    /// The answer, with a note of its code.
    pub(super) fn answer(&self, status: StatusCode) -> Response {
        let mut response = json(status, self);
        response.extensions_mut().insert(ErrorCode(self.error_code));
        response
    }
}

/// The code of the error that an answer tells: an extension of it, for the audit.
#[derive(Debug, Clone, Copy)]
pub(super) struct ErrorCode(pub(super) &'static str);

/// The form of the errors of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorForm {
    /// `{"error": ..}`: the daemon's own pages.
    Page,
    /// Below `/v2`.
    Vendor,
    /// Below `/v3`.
    Keystone,
}

impl ErrorForm {
    pub(super) fn of(path: &str) -> Self {
        let is_below =
            |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match (is_below("/v2"), is_below("/v3")) {
            (true, _) => Self::Vendor,
            (_, true) => Self::Keystone,
            (false, false) => Self::Page,
        }
    }

    /// An answer in this form. Only the vendor's shows the code.
    pub(super) fn answer(self, status: StatusCode, error_code: &'static str, text: &str) -> Response {
        let vendor = VendorError { error_code, error_msg: text, details: &[], request_id: None };
        let mut response = match self {
            Self::Page => PageError::new(status, text).into_response(),
            Self::Vendor => vendor.answer(status),
            Self::Keystone => json(status, &keystone_error(status, text)),
        };
        response.extensions_mut().insert(ErrorCode(error_code));
        response
    }

    /// The answer where the source of a request has taken its share of the server: 429
    /// of Keystone, which clients of tokens try again after; of the vendor a code that
    /// its clients read; 503 for scrapers.
    pub(super) fn no_place(self) -> Response {
        let status = match self {
            Self::Page => StatusCode::SERVICE_UNAVAILABLE,
            Self::Vendor => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Keystone => StatusCode::TOO_MANY_REQUESTS,
        };
        let mut response = self.answer(status, NO_PLACE, NO_PLACE_TEXT);
        say_no_place(&mut response);
        response
    }

    /// Turns an error that a library below made into this daemon's form. The pages'
    /// errors are JSON, whoever made them; the routes of the other two see to theirs.
    pub(super) async fn complete(self, response: Response) -> Response {
        let status = response.status();
        let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == JSON);
        if self != Self::Page || is_json || !(status.is_client_error() || status.is_server_error()) {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        // A longer text is none of an error.
        let text = axum::body::to_bytes(body, SMALL_BODY).await.unwrap_or_default();
        let text = match text.trim_ascii() {
            [] => status.canonical_reason().unwrap_or("error").into(),
            text => String::from_utf8_lossy(text),
        };
        let (own, body) = PageError::new(status, text).into_response().into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.extend(own.headers);
        Response::from_parts(parts, body)
    }
}

/// The vendor's code for a call that is refused because of the server's load.
pub(super) const NO_PLACE: &str = "APIG.9008";
/// What such an answer says, in every form.
pub(super) const NO_PLACE_TEXT: &str = "Too many requests at once from this address. Try again later.";

/// Marks an answer to a client whose source has no place now: when to come again. The
/// connection closes, so that trying at once costs a new one.
pub(super) fn say_no_place(response: &mut Response) {
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// An error in Keystone's form.
pub(super) fn keystone_error(status: StatusCode, message: &str) -> serde_json::Value {
    let title = status.canonical_reason().unwrap_or("Error");
    serde_json::json!({ "error": { "code": status.as_u16(), "message": message, "title": title } })
}
