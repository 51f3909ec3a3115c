//! The token API of the cloud's identity service, as far as clients need it to
//! get a token and find this daemon (docs/vendor-api.md, "Tokens" and "Clients").
//!
//! | path | what it does |
//! |---|---|
//! | `GET /` | the list of versions; for browsers, the landing page |
//! | `GET /v3` | the version document that Keystone clients look for |
//! | `/v3/auth/tokens` | `POST`: password or token to token; `GET`: what a token is good for; `DELETE`: takes one back |
//! | `GET /v3/auth/catalog`, `/v3/auth/domains`, `/v3/auth/projects` | what the caller may have a token for |
//! | `GET /v3/projects`, `/v3/projects/{id}`, `/v3/users`, `/v3/regions` | clients look ids up by name |
//!
//! Errors have Keystone's form: `{"error": {"code", "message", "title"}}`, those of
//! unknown paths below `/v3` too.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, uri::Authority};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};

use self::documents::TokenFacts;
use self::login::{KeystoneFault, Login, LoginProof, query_value};
use super::gate::{AuthGate, HeldToken, LoginFault, TOKEN_HEADER};
use super::identity::{Accounts, AuthFault, Domain, Identity, UserAccount};
use super::tokens::{Proof, Scope};
use crate::config::api::{AccountRole, Transport};
use crate::serve::audit::{AuditNote, AuthFailure};
use crate::serve::http::{
    BodyError, REQUEST_ID, identify, json as json_answer, keystone_error, landing_page, say_no_place,
};
use crate::serve::peer::ConnectionInfo;

mod documents;
mod login;

#[cfg(test)]
mod tests;

/// Where tokens stand in requests and answers about tokens.
const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");
const OPENSTACK_REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
/// Largest body of a login; real ones are below 1 KiB.
const LARGEST_LOGIN: usize = 16 * 1024;

/// What the handlers share.
#[derive(Debug, Clone)]
struct Identities {
    gate: AuthGate,
    /// What answers name as this daemon's address to clients without a `Host`.
    listen: SocketAddr,
}

impl IntoResponse for KeystoneFault {
    fn into_response(self) -> Response {
        let mut response = keystone_json(self.status, &keystone_error(self.status, &self.message));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            say_no_place(&mut response);
        }
        response
    }
}

/// The routes of the token API. They stand before [`super::require`]: a client gets its
/// token here.
pub fn routes(gate: AuthGate, listen: SocketAddr) -> Router {
    Router::new()
        .route("/", get(versions))
        .route("/v3", get(version))
        .route("/v3/", get(version))
        .route("/v3/auth/tokens", post(create_token).get(show_token).delete(revoke_token))
        .route("/v3/auth/catalog", get(show_catalog))
        .route("/v3/auth/domains", get(list_domains))
        .route("/v3/auth/projects", get(list_projects))
        .route("/v3/projects", get(list_projects))
        .route("/v3/projects/{project}", get(show_project))
        .route("/v3/users", get(list_users))
        .route("/v3/regions", get(list_regions))
        .route("/v3/{*path}", any(no_route))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn(identify))
        .layer(axum::middleware::map_response(name_for_keystone))
        .with_state(Identities { gate, listen })
}

/// Keystone's clients read a request's id from a header of their own.
async fn name_for_keystone(mut response: Response) -> Response {
    if let Some(id) = response.headers().get(REQUEST_ID).cloned() {
        response.headers_mut().insert(OPENSTACK_REQUEST_ID, id);
    }
    response
}

async fn no_route() -> KeystoneFault {
    KeystoneFault::new(StatusCode::NOT_FOUND, "The resource could not be found.")
}

async fn method_not_allowed() -> KeystoneFault {
    KeystoneFault::new(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.")
}

/// A Keystone answers 300 here, and its clients expect it.
async fn versions(State(identities): State<Identities>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut response = if is_page_wanted(&parts.headers) {
        landing_page().await.into_response()
    } else {
        let list = documents::version_list(&identities.endpoint(&parts));
        keystone_json(StatusCode::MULTIPLE_CHOICES, &list)
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_name(header::ACCEPT));
    response
}

/// Whether the client is one that shows HTML, and says so.
fn is_page_wanted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = values.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        ["text/html", "text/*"].iter().any(|page| media_type.eq_ignore_ascii_case(page))
    })
}

async fn version(State(identities): State<Identities>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    keystone_json(StatusCode::OK, &documents::version_document(&identities.endpoint(&parts)))
}

async fn create_token(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, body) = request.into_parts();
    let network = ConnectionInfo::of(&parts.extensions).network;
    let read = identities.gate.bodies().read_secret(body, LARGEST_LOGIN, network).await;
    let body = read.map_err(|error| match error {
        BodyError::TooLarge => {
            KeystoneFault::new(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large.")
        }
        BodyError::Malformed | BodyError::Lost => {
            KeystoneFault::bad_request("The request body could not be read.")
        }
        BodyError::NoPlace => KeystoneFault::no_place(),
    })?;
    let request = Login::parse(&body)?;
    // The parsed secret is a copy of its own.
    drop(body);
    let proved = identities.prove(request.proof, &parts).await?;
    let accounts = identities.gate.accounts();
    // Only somebody with the right password learns which project there is.
    let scope = match &request.scope {
        Some(wanted) => {
            let judged = wanted.judge(&accounts, proved.user());
            judged.inspect_err(|_| AuditNote::fail(&parts.extensions, AuthFailure::Scope))?
        }
        None => Scope::Unscoped,
    };
    let (issued, proof) = match &proved {
        Proved::Password(user) => (identities.gate.issue(user, scope), Proof::Password),
        Proved::Token(held) => (identities.gate.issue_again(held, scope), Proof::Token),
    };
    let issued = issued.map_err(|_| {
        KeystoneFault::new(StatusCode::INTERNAL_SERVER_ERROR, "The system has no random numbers.")
    })?;
    let endpoint = is_catalog_wanted(&parts).then(|| identities.endpoint(&parts));
    let endpoint = endpoint.as_deref();
    let facts = TokenFacts { user: proved.user(), scope, proof, validity: issued.validity, endpoint };
    let body = documents::token_document(&accounts, facts);
    let token = HeaderValue::from_str(issued.token.expose()).map_err(|_| {
        KeystoneFault::new(StatusCode::INTERNAL_SERVER_ERROR, "The token cannot be sent in a header.")
    })?;
    Ok(about_token(StatusCode::CREATED, token, &body))
}

/// Somebody who may have a token, by what they proved it with.
enum Proved {
    Password(Arc<UserAccount>),
    Token(HeldToken),
}

impl Proved {
    fn user(&self) -> &UserAccount {
        match self {
            Self::Password(user) => user,
            Self::Token(held) => &held.user,
        }
    }
}

/// An answer about a token, with the token itself in its header.
fn about_token(status: StatusCode, mut token: HeaderValue, body: &Value) -> Response {
    token.set_sensitive(true);
    let mut response = keystone_json(status, body);
    response.headers_mut().insert(SUBJECT, token);
    response
}

/// Any non-empty `nocatalog` hides the catalog; Keystone's clients send a bare
/// `nocatalog`, which counts too.
fn is_catalog_wanted(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    !query.split('&').any(|parameter| parameter.split('=').next() == Some("nocatalog"))
}

/// What a token is good for. An administrator may ask that of every token, others of
/// their own.
async fn show_token(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, _) = request.into_parts();
    let identity = identities.identify(&parts).await?;
    let (token, held) = identities.subject(&parts)?;
    if held.user.principal() != identity.principal && identity.role != AccountRole::Admin {
        return Err(forbidden());
    }
    let endpoint = is_catalog_wanted(&parts).then(|| identities.endpoint(&parts));
    let HeldToken { user, scope, proof, validity } = held;
    let facts = TokenFacts { user: &user, scope, proof, validity, endpoint: endpoint.as_deref() };
    let body = documents::token_document(&identities.gate.accounts(), facts);
    Ok(about_token(StatusCode::OK, token, &body))
}

/// A user may take back the own tokens only.
async fn revoke_token(
    State(identities): State<Identities>,
    request: Request,
) -> Result<StatusCode, KeystoneFault> {
    let (parts, _) = request.into_parts();
    let identity = identities.identify(&parts).await?;
    let (token, held) = identities.subject(&parts)?;
    if held.user.principal() != identity.principal {
        return Err(forbidden());
    }
    identities.gate.revoke(token.as_bytes().trim_ascii());
    Ok(StatusCode::NO_CONTENT)
}

async fn show_catalog(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, _, accounts) = identities.asked(request).await?;
    let catalog = documents::catalog_document(&identities.endpoint(&parts), &accounts.project().name);
    Ok(keystone_json(StatusCode::OK, &catalog))
}

/// The caller's own domain; of an access key, which has no user, the project's.
async fn list_domains(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, identity, accounts) = identities.asked(request).await?;
    let domain = domain_of(&identity, &accounts);
    Ok(identities.list("domains", &parts, |endpoint| vec![documents::domain(domain, endpoint)]))
}

async fn list_projects(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, _, accounts) = identities.asked(request).await?;
    let (project, domain) = (accounts.project(), accounts.project_domain());
    let is_wanted = is_match(&parts, "name", &project.name) && is_match(&parts, "domain_id", &domain.id);
    Ok(identities.list("projects", &parts, |endpoint| {
        is_wanted.then(|| documents::project(project, domain, endpoint)).into_iter().collect()
    }))
}

async fn show_project(
    State(identities): State<Identities>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, _, accounts) = identities.asked(request).await?;
    let project = accounts.project();
    // An id that is not UTF-8 names nothing.
    if id.map_or(true, |Path(id)| id != project.id) {
        return Err(not_found("project"));
    }
    let project = documents::project(project, accounts.project_domain(), &identities.endpoint(&parts));
    Ok(keystone_json(StatusCode::OK, &json!({ "project": project })))
}

/// Administrators see every user, others themselves.
async fn list_users(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, identity, accounts) = identities.asked(request).await?;
    let is_seen = |user: &UserAccount| {
        (identity.role == AccountRole::Admin || user.principal() == identity.principal)
            && is_match(&parts, "name", &user.name)
            && is_match(&parts, "domain_id", &user.domain.id)
    };
    Ok(identities.list("users", &parts, |endpoint| {
        let seen = accounts.users().into_iter().filter(|user| is_seen(user));
        seen.map(|user| documents::user(user, endpoint)).collect()
    }))
}

async fn list_regions(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, _, accounts) = identities.asked(request).await?;
    let region = &accounts.project().name;
    Ok(identities.list("regions", &parts, |endpoint| vec![documents::region(region, endpoint)]))
}

/// The domain that somebody belongs to.
fn domain_of<'a>(identity: &Identity, accounts: &'a Accounts) -> &'a Domain {
    let own = accounts.users().into_iter().find(|user| user.principal() == identity.principal);
    own.map_or(accounts.project_domain(), |user| &user.domain)
}

/// Whether a list's filter is absent or has this value.
fn is_match(parts: &Parts, filter: &str, value: &str) -> bool {
    query_value(parts.uri.query().unwrap_or_default(), filter).is_none_or(|wanted| wanted == value)
}

fn forbidden() -> KeystoneFault {
    KeystoneFault::new(StatusCode::FORBIDDEN, "You are not authorized to perform the requested action.")
}

fn not_found(what: &str) -> KeystoneFault {
    KeystoneFault::new(StatusCode::NOT_FOUND, format!("Could not find {what}."))
}

impl Identities {
    /// Who wants a token.
    async fn prove(&self, proof: LoginProof, parts: &Parts) -> Result<Proved, KeystoneFault> {
        match proof {
            LoginProof::Password { user, password } => {
                let user = self.gate.log_in(&user, password, &parts.extensions).await;
                user.map(Proved::Password).map_err(|fault| match fault {
                    LoginFault::Refused => KeystoneFault::unauthorized(),
                    LoginFault::NoPlace => KeystoneFault::no_place(),
                    LoginFault::Busy => KeystoneFault::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "Too many logins at once. Try again in a second.",
                    ),
                })
            }
            LoginProof::Token(token) => match self.gate.look_up(token.trim().as_bytes()) {
                Ok(held) => {
                    AuditNote::prove(&parts.extensions, &held.user.principal());
                    Ok(Proved::Token(held))
                }
                Err(fault) => match self.gate.penalty(fault, &parts.extensions).await {
                    AuthFault::NoPlace => Err(KeystoneFault::no_place()),
                    _ => Err(KeystoneFault::unauthorized()),
                },
            },
        }
    }

    /// The token that a request is about.
    fn subject(&self, parts: &Parts) -> Result<(HeaderValue, HeldToken), KeystoneFault> {
        let missing = || KeystoneFault::bad_request("The header X-Subject-Token is missing.");
        let token = parts.headers.get(&SUBJECT).ok_or_else(missing)?;
        let held = self.gate.look_up(token.as_bytes().trim_ascii()).map_err(|_| not_found("token"))?;
        Ok((token.clone(), held))
    }

    /// The answer to a list that was asked for.
    fn list(&self, name: &str, parts: &Parts, items: impl FnOnce(&str) -> Vec<Value>) -> Response {
        let endpoint = self.endpoint(parts);
        let items = items(&endpoint);
        keystone_json(StatusCode::OK, &documents::list(name, items, &endpoint, parts.uri.path()))
    }

    /// A look-up: the request without its body, who sends it, and what there is to find.
    async fn asked(&self, request: Request) -> Result<(Parts, Identity, Arc<Accounts>), KeystoneFault> {
        let (parts, _) = request.into_parts();
        let identity = self.identify(&parts).await?;
        Ok((parts, identity, self.gate.accounts()))
    }

    /// Who sends a request without a body.
    async fn identify(&self, parts: &Parts) -> Result<Identity, KeystoneFault> {
        self.gate.check(parts, b"").await.map_err(|fault| match fault {
            AuthFault::NoPlace => KeystoneFault::no_place(),
            fault => KeystoneFault::new(fault.answer().0, fault.to_string()),
        })
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

fn keystone_json(status: StatusCode, body: &Value) -> Response {
    let mut response = json_answer(status, body);
    response.headers_mut().insert(header::VARY, HeaderValue::from_name(TOKEN_HEADER));
    response
}
