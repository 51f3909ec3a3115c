//! The JSON of the token API, in the forms that Keystone's clients read. Pure.
//!
//! `endpoint` is this daemon as the client reached it: `https://10.1.2.3:9650`.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::config::api::Project;
use crate::health::Timestamp;
use crate::serve::auth::identity::{Accounts, Domain, UserAccount, made_id};
use crate::serve::auth::tokens::{Proof, Scope, Validity};

/// The services of the catalog with their paths: the channel API and the token API, under
/// each name that clients look for. Those who look for `apigv2` append the project.
const SERVICES: [(&str, &str); 5] =
    [("apig", ""), ("apigv2", "/v2"), ("apic", ""), ("iam", "/v3"), ("identity", "/v3")];

/// `GET /`: which versions there are.
pub(super) fn version_list(endpoint: &str) -> Value {
    json!({ "versions": { "values": [version(endpoint)] } })
}

/// `GET /v3`: what Keystone clients discover a version by.
pub(super) fn version_document(endpoint: &str) -> Value {
    json!({ "version": version(endpoint) })
}

fn version(endpoint: &str) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{ "rel": "self", "href": format!("{endpoint}/v3/") }],
        "media-types": [
            { "base": "application/json", "type": "application/vnd.openstack.identity-v3+json" }
        ],
    })
}

/// What the answer about a token tells of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenFacts<'t> {
    pub(super) user: &'t UserAccount,
    pub(super) scope: Scope,
    pub(super) proof: Proof,
    pub(super) validity: Validity,
    /// What the catalog names; none leaves it out.
    pub(super) endpoint: Option<&'t str>,
}

/// The body about a token.
pub(super) fn token_document(accounts: &Accounts, token: TokenFacts<'_>) -> Value {
    let TokenFacts { user, scope, proof, validity, endpoint } = token;
    let own_domain = domain_named(&user.domain);
    let methods = match proof {
        Proof::Password => json!(["password"]),
        Proof::Token => json!(["token", "password"]),
    };
    let mut fields = vec![
        ("methods", methods),
        ("issued_at", time(validity.issued_at).into()),
        ("expires_at", time(validity.expires_at).into()),
        (
            "user",
            json!({ "id": &*user.id, "name": &*user.name, "domain": own_domain, "password_expires_at": "" }),
        ),
    ];
    let project = accounts.project();
    if scope != Scope::Unscoped {
        let role = user.role.word();
        fields.push(("roles", json!([{ "id": made_id(&["role", role]), "name": role }])));
        fields.extend(endpoint.map(|endpoint| ("catalog", catalog(endpoint, &project.name))));
    }
    match scope {
        Scope::Project => {
            let domain = domain_named(accounts.project_domain());
            fields.push(("project", json!({ "id": project.id, "name": project.name, "domain": domain })));
        }
        Scope::Domain => fields.push(("domain", own_domain)),
        Scope::Unscoped => {}
    }
    json!({ "token": Value::from_iter(fields) })
}

fn domain_named(domain: &Domain) -> Value {
    json!({ "id": domain.id, "name": &*domain.name })
}

/// `GET /v3/auth/catalog`.
pub(super) fn catalog_document(endpoint: &str, region: &str) -> Value {
    let links = json!({ "self": format!("{endpoint}/v3/auth/catalog") });
    json!({ "catalog": catalog(endpoint, region), "links": links })
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

/// A list as Keystone has it; `path` is where it was asked for.
pub(super) fn list(name: &str, items: Vec<Value>, endpoint: &str, path: &str) -> Value {
    let links = json!({ "self": format!("{endpoint}{path}"), "previous": null, "next": null });
    json!({ name: items, "links": links })
}

/// The project, for a list or by itself.
pub(super) fn project(project: &Project, domain: &Domain, endpoint: &str) -> Value {
    json!({
        "id": project.id,
        "name": project.name,
        "domain_id": domain.id,
        "parent_id": domain.id,
        "enabled": true,
        "is_domain": false,
        "description": "",
        "links": { "self": format!("{endpoint}/v3/projects/{}", project.id) },
    })
}

/// A domain in a list.
pub(super) fn domain(domain: &Domain, endpoint: &str) -> Value {
    json!({
        "id": domain.id,
        "name": &*domain.name,
        "enabled": true,
        "description": "",
        "links": { "self": format!("{endpoint}/v3/domains/{}", domain.id) },
    })
}

/// A user in a list.
pub(super) fn user(user: &UserAccount, endpoint: &str) -> Value {
    json!({
        "id": &*user.id,
        "name": &*user.name,
        "domain_id": user.domain.id,
        "enabled": true,
        "description": "",
        "password_expires_at": null,
        "links": { "self": format!("{endpoint}/v3/users/{}", user.id) },
    })
}

/// The region: the project has its name.
pub(super) fn region(name: &str, endpoint: &str) -> Value {
    json!({
        "id": name,
        "description": "",
        "parent_region_id": null,
        "links": { "self": format!("{endpoint}/v3/regions/{name}") },
    })
}

fn time(time: Timestamp) -> String {
    humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + Duration::from_nanos(time.0)).to_string()
}
