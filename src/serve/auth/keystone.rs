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
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, uri::Authority};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use self::login::{KeystoneFault, Login, query_value};
use super::gate::{AuthGate, LoginFault, TOKEN_HEADER};
use super::identity::{Domain, Identity, Principal, UserAccount, made_id};
use super::tokens::{Issued, Scope};
use crate::config::api::{Project, Transport};
use crate::health::Timestamp;
use crate::serve::http::{BodyError, identify, json as json_answer};
use crate::serve::server::ConnectionInfo;

mod login;

#[cfg(test)]
mod tests;

/// Where tokens stand in requests and answers about tokens.
const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");
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
        let body = json!({
            "error": {
                "code": self.status.as_u16(),
                "message": self.message,
                "title": self.status.canonical_reason().unwrap_or("Error"),
            }
        });
        keystone_json(self.status, &body)
    }
}

/// The routes of the token API. They stand before [`super::require`]: a client gets its
/// token here.
pub fn routes(gate: AuthGate, listen: SocketAddr) -> Router {
    Router::new()
        .route("/v3", get(version))
        .route("/v3/", get(version))
        .route("/v3/auth/tokens", post(create_token).delete(revoke_token))
        .route("/v3/projects", get(list_projects))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn(identify))
        .with_state(Identities { gate, listen })
}

async fn method_not_allowed() -> KeystoneFault {
    KeystoneFault::new(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.")
}

async fn version(State(identities): State<Identities>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    keystone_json(StatusCode::OK, &version_document(&identities.endpoint(&parts)))
}

async fn create_token(
    State(identities): State<Identities>,
    request: Request,
) -> Result<Response, KeystoneFault> {
    let (parts, body) = request.into_parts();
    let read = identities.gate.bodies().read_secret(body, LARGEST_LOGIN).await;
    let body = read.map_err(|error| match error {
        BodyError::TooLarge => {
            KeystoneFault::new(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large.")
        }
        BodyError::Lost => KeystoneFault::bad_request("The request body could not be read."),
    })?;
    let request = Login::parse(&body)?;
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
    let body = token_document(&user, &issued, scope, accounts.project(), endpoint.as_deref());
    let mut response = keystone_json(StatusCode::CREATED, &body);
    let not_a_header =
        |_| KeystoneFault::new(StatusCode::INTERNAL_SERVER_ERROR, "The token cannot be sent in a header.");
    let mut token = HeaderValue::from_str(issued.token.expose()).map_err(not_a_header)?;
    token.set_sensitive(true);
    response.headers_mut().insert(SUBJECT, token);
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
    // A user may take back the own tokens only.
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
    let wanted = query_value(parts.uri.query().unwrap_or_default(), "name");
    let is_wanted = wanted.is_none_or(|name| name == project.name);
    let domain = match &identity.principal {
        Principal::User { domain, .. } => Some(&**domain),
        Principal::AccessKey(_) | Principal::LocalSocket => None,
    };
    let body = projects_document(is_wanted.then_some(project), domain, &identities.endpoint(&parts));
    Ok(keystone_json(StatusCode::OK, &body))
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
            .map_err(|fault| KeystoneFault::new(fault.answer().0, fault.to_string()))
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

/// The services of the catalog: the two families of the channel API, which
/// share one address, and the token API itself.
const SERVICES: [(&str, &str); 3] = [("apig", ""), ("apic", ""), ("identity", "/v3")];

/// `GET /v3`: what Keystone clients discover a version by.
fn version_document(endpoint: &str) -> Value {
    json!({
        "version": {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "links": [{ "rel": "self", "href": format!("{endpoint}/v3/") }],
            "media-types": [
                { "base": "application/json", "type": "application/vnd.openstack.identity-v3+json" }
            ],
        }
    })
}

/// A new token's body. `endpoint` is what the catalog names; none hides it.
fn token_document(
    user: &UserAccount,
    issued: &Issued,
    scope: Scope,
    project: &Project,
    endpoint: Option<&str>,
) -> Value {
    let own_domain = domain(&user.domain);
    let mut fields = vec![
        ("methods", json!(["password"])),
        ("issued_at", time(issued.issued_at).into()),
        ("expires_at", time(issued.expires_at).into()),
        (
            "user",
            json!({ "id": &*user.id, "name": &*user.name, "domain": own_domain, "password_expires_at": "" }),
        ),
    ];
    if scope != Scope::Unscoped {
        let role = user.role.word();
        fields.push(("roles", json!([{ "id": made_id(&["role", role]), "name": role }])));
        fields.extend(endpoint.map(|endpoint| ("catalog", catalog(endpoint, &project.name))));
    }
    match scope {
        Scope::Project => {
            fields.push(("project", json!({ "id": project.id, "name": project.name, "domain": own_domain })));
        }
        Scope::Domain => fields.push(("domain", own_domain)),
        Scope::Unscoped => {}
    }
    json!({ "token": Value::from_iter(fields) })
}

fn domain(domain: &Domain) -> Value {
    json!({ "id": domain.id, "name": &*domain.name })
}

fn catalog(endpoint: &str, region: &str) -> Value {
    let services = SERVICES.map(|(service, path)| {
        json!({
            "id": made_id(&["service", service]),
            "type": service,
            "name": service,
            "endpoints": [{
                "id": made_id(&["endpoint", service]),
                "interface": "public",
                "region": region,
                "region_id": region,
                "url": format!("{endpoint}{path}"),
            }],
        })
    });
    Value::from(services.to_vec())
}

/// `GET /v3/projects`: the one project, or none when another name was asked for.
fn projects_document(project: Option<&Project>, domain: Option<&str>, endpoint: &str) -> Value {
    let projects: Vec<Value> = project
        .map(|project| {
            let domain_id = made_id(&["domain", domain.unwrap_or("local")]);
            json!({
                "id": project.id,
                "name": project.name,
                "domain_id": domain_id,
                "parent_id": domain_id,
                "enabled": true,
                "is_domain": false,
                "description": "",
                "links": { "self": format!("{endpoint}/v3/projects/{}", project.id) },
            })
        })
        .into_iter()
        .collect();
    let links = json!({ "self": format!("{endpoint}/v3/projects"), "previous": null, "next": null });
    json!({ "projects": projects, "links": links })
}

fn time(time: Timestamp) -> String {
    humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + Duration::from_nanos(time.0)).to_string()
}
