//! The JSON of the token API's answers. Pure.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::super::accounts::{Domain, UserAccount, made_id};
use super::super::tokens::{Issued, Scope};
use crate::config::api::Project;
use crate::health::Timestamp;

/// The services of the catalog: the two families of the channel API, which
/// share one address, and the token API itself.
const SERVICES: [(&str, &str); 3] = [("apig", ""), ("apic", ""), ("identity", "/v3")];

/// `GET /v3`: what Keystone clients discover a version by.
pub(super) fn version(endpoint: &str) -> Value {
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
pub(super) fn token(
    user: &UserAccount,
    issued: &Issued,
    scope: Scope,
    project: &Project,
    endpoint: Option<&str>,
) -> Value {
    let mut token = json!({
        "methods": ["password"],
        "issued_at": time(issued.issued_at),
        "expires_at": time(issued.expires_at),
        "user": {
            "id": &*user.id,
            "name": &*user.name,
            "domain": domain(&user.domain),
            "password_expires_at": "",
        },
    });
    let Some(fields) = token.as_object_mut() else { return token };
    let role = user.role.word();
    let roles = json!([{ "id": made_id(&["role", role]), "name": role }]);
    match scope {
        Scope::Project => {
            let project = json!({ "id": project.id, "name": project.name, "domain": domain(&user.domain) });
            fields.insert("project".to_owned(), project);
            fields.insert("roles".to_owned(), roles);
        }
        Scope::Domain => {
            fields.insert("domain".to_owned(), domain(&user.domain));
            fields.insert("roles".to_owned(), roles);
        }
        Scope::Unscoped => {}
    }
    if let Some(endpoint) = endpoint
        && scope != Scope::Unscoped
    {
        fields.insert("catalog".to_owned(), catalog(endpoint, &project.name));
    }
    json!({ "token": token })
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
pub(super) fn projects(project: Option<&Project>, domain: Option<&str>, endpoint: &str) -> Value {
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
