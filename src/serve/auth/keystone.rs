//! The token API of the cloud's identity service, as far as clients need it to
//! get a token and find this daemon (docs/vendor-api.md, "Tokens" and "Clients").
//!
//! | path | what it does |
//! |---|---|
//! | `GET /v3` | the version document that Keystone clients look for |
//! | `POST /v3/auth/tokens` | password to token |
//! | `DELETE /v3/auth/tokens` | takes a token back |
//! | `GET /v3/projects` | the SDKs look their project up by name |
//!
//! Errors have Keystone's form: `{"error": {"code", "message", "title"}}`.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, uri::Authority};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::gate::{AuthGate, LoginFault, TOKEN_HEADER};
use super::guard::RequestId;
use super::identity::{Identity, Principal};
use super::tokens::Scope;
use crate::config::api::Transport;
use crate::serve::listener::ConnectionInfo;

mod documents;
mod login;

#[cfg(test)]
mod tests;

/// Where tokens stand in requests and answers about tokens.
const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");
/// Nobody's login is larger.
const LARGEST_LOGIN: usize = 16 * 1024;

/// What the handlers share.
#[derive(Debug, Clone)]
struct Identities {
    gate: AuthGate,
    /// What answers name as this daemon's address to clients without a `Host`.
    listen: SocketAddr,
}

/// An error in Keystone's form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeystoneFault {
    status: StatusCode,
    message: String,
}

impl KeystoneFault {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Says no more than that: neither whether there is such a user.
    fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.")
    }
}

impl IntoResponse for KeystoneFault {
    fn into_response(self) -> Response {
        let body = json!({
            "error": {
                "code": self.status.as_u16(),
                "message": self.message,
                "title": self.status.canonical_reason().unwrap_or("Error"),
            }
        });
        answer(self.status, &body)
    }
}

/// The routes of the token API. They need no guard: they are how one gets in.
pub fn routes(gate: AuthGate, listen: SocketAddr) -> Router {
    Router::new()
        .route("/v3", get(version))
        .route("/v3/", get(version))
        .route("/v3/auth/tokens", post(create_token).delete(revoke_token))
        .route("/v3/projects", get(list_projects))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::map_response(mark))
        .with_state(Identities { gate, listen })
}

async fn mark(mut response: Response) -> Response {
    RequestId::new().mark(&mut response);
    response
}

async fn method_not_allowed() -> KeystoneFault {
    KeystoneFault::new(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.")
}

async fn version(State(identities): State<Identities>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    answer(StatusCode::OK, &documents::version(&identities.endpoint(&parts)))
}

async fn create_token(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, body) = request.into_parts();
    let body = read_login(body).await?;
    let request = login::Login::parse(&body)?;
    // The parsed password is a copy of its own.
    drop(body);
    let accounts = identities.gate.accounts();
    let peer = ConnectionInfo::of(&parts.extensions).peer;
    let user =
        identities.gate.log_in(&request.user, request.password, peer).await.map_err(|fault| match fault {
            LoginFault::Refused => KeystoneFault::unauthorized(),
            LoginFault::Busy => KeystoneFault::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many logins at once. Try again in a second.",
            ),
        })?;
    // Only somebody with the right password learns which project there is.
    let scope = match &request.scope {
        Some(wanted) => wanted.judge(&accounts, &user)?,
        None => Scope::Unscoped,
    };
    let no_randomness =
        |_| KeystoneFault::new(StatusCode::INTERNAL_SERVER_ERROR, "The system has no random numbers.");
    let issued = identities.gate.issue(&user, scope).map_err(no_randomness)?;
    let endpoint = is_catalog_wanted(&parts).then(|| identities.endpoint(&parts));
    let body = documents::token(&user, &issued, scope, accounts.project(), endpoint.as_deref());
    let mut response = answer(StatusCode::CREATED, &body);
    // Hexadecimal digits are a good header value.
    if let Ok(mut token) = HeaderValue::from_str(issued.token.expose()) {
        token.set_sensitive(true);
        response.headers_mut().insert(SUBJECT, token);
    }
    Ok(response)
}

/// Any non-empty `nocatalog` hides the catalog; Keystone's clients send a bare
/// `nocatalog`, which counts too.
fn is_catalog_wanted(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    !query.split('&').any(|parameter| parameter.split('=').next() == Some("nocatalog"))
}

async fn revoke_token(
    State(identities): State<Identities>,
    request: Request,
) -> Result<StatusCode, KeystoneFault> {
    let (parts, _) = request.into_parts();
    let identity = identities.identify(&parts).await?;
    let subject = parts.headers.get(&SUBJECT).map(|token| token.as_bytes().trim_ascii());
    let Some(subject) = subject else {
        return Err(KeystoneFault::bad_request("The header X-Subject-Token is missing."));
    };
    // One's own token, or one of the same user; others' are not one's business.
    let owner = identities.gate.owner_of(subject).map_err(|_| not_found("token"))?;
    if owner != identity.principal {
        return Err(KeystoneFault::new(
            StatusCode::FORBIDDEN,
            "You are not authorized to perform the requested action.",
        ));
    }
    identities.gate.revoke(subject);
    Ok(StatusCode::NO_CONTENT)
}

async fn list_projects(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, _) = request.into_parts();
    let identity = identities.identify(&parts).await?;
    let accounts = identities.gate.accounts();
    let project = accounts.project();
    let wanted = login::query_value(parts.uri.query().unwrap_or_default(), "name");
    let is_wanted = wanted.is_none_or(|name| name == project.name);
    let domain = match &identity.principal {
        Principal::User { domain, .. } => Some(&**domain),
        Principal::AccessKey(_) | Principal::LocalSocket => None,
    };
    let body = documents::projects(is_wanted.then_some(project), domain, &identities.endpoint(&parts));
    Ok(answer(StatusCode::OK, &body))
}

fn not_found(what: &str) -> KeystoneFault {
    KeystoneFault::new(StatusCode::NOT_FOUND, format!("Could not find {what}."))
}

impl Identities {
    /// Who sends a request without a body.
    async fn identify(&self, parts: &Parts) -> Result<Identity, KeystoneFault> {
        self.gate
            .check(parts, b"")
            .await
            .map_err(|fault| KeystoneFault::new(fault.status(), fault.to_string()))
    }

    /// This daemon as the client reached it: `https://10.1.2.3:9650`.
    fn endpoint(&self, parts: &Parts) -> String {
        let scheme = match ConnectionInfo::of(&parts.extensions).transport {
            Transport::Plain => "http",
            Transport::Tls => "https",
        };
        let host = host_of(&parts.headers).unwrap_or_else(|| self.listen.to_string());
        format!("{scheme}://{host}")
    }
}

/// The one `Host`, if it is a host and perhaps a port.
fn host_of(headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    let authority: Authority = host.to_str().ok()?.parse().ok()?;
    let has_user = authority.as_str().contains('@');
    (!has_user && !authority.host().is_empty()).then(|| authority.to_string())
}

/// The body, in memory that is wiped: it holds a password.
async fn read_login(body: Body) -> Result<Zeroizing<Vec<u8>>, KeystoneFault> {
    let mut whole = Zeroizing::new(Vec::with_capacity(LARGEST_LOGIN));
    let mut body = Limited::new(body, LARGEST_LOGIN);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => KeystoneFault::new(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large."),
            false => KeystoneFault::bad_request("The request body could not be read."),
        })?;
        if let Ok(data) = frame.into_data() {
            let data: Bytes = data;
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole)
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::VARY, HeaderValue::from_name(TOKEN_HEADER)),
    ];
    (status, headers, body.to_string()).into_response()
}
