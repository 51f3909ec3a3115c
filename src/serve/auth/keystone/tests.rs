//! The token API over its router: logins, scopes, errors, discovery, projects.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::config::api::{AccessKey, AccountRole, ApiSettings, ClearText, Project, User};
use crate::config::password::PasswordHash;
use crate::config::secret::Secret;
use crate::health::{MonotonicTime, Now, Timestamp};
use crate::serve::auth::signature::sign;

const PASSWORD: &str = "hidden-password";

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

fn user(name: &str, domain: &str, role: AccountRole) -> User {
    let password = PasswordHash::cheap(PASSWORD.as_bytes());
    User { name: name.to_owned(), domain: domain.to_owned(), password, role }
}

fn router() -> Router {
    let api = ApiSettings {
        project: Project { id: "0123456789abcdef0123456789abcdef".to_owned(), name: "cn-north-4".to_owned() },
        instances: Vec::new(),
        users: vec![
            user("ops", "probe-domain", AccountRole::Viewer),
            user("root", "other-domain", AccountRole::Admin),
        ],
        access_keys: vec![AccessKey {
            id: "AK".to_owned(),
            secret_key: Secret::new(b"secret".to_vec()),
            role: AccountRole::Admin,
        }],
        clear_text: ClearText::LoopbackOnly,
        quotas: Default::default(),
    };
    let clock = || Now { monotonic: MonotonicTime(0), wall: Timestamp(1_578_042_322_701_000_000) };
    let gate = AuthGate::new(&api, Arc::new(clock), 2).expect("randomness");
    routes(gate, "127.0.0.1:9650".parse().expect("an address"))
}

async fn ask(router: &Router, method: Method, uri: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = axum::http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).expect("a request");
    let response =
        TowerToHyperService::new(router.clone()).call(request).await.unwrap_or_else(|never| match never {});
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

fn login(password: &str, scope: Value) -> Value {
    json!({ "auth": {
        "identity": { "methods": ["password"], "password": { "user": {
            "name": "ops", "password": password, "domain": { "name": "probe-domain" } } } },
        "scope": scope,
    } })
}

async fn post(router: &Router, body: &Value) -> Answer {
    ask(router, Method::POST, "/v3/auth/tokens", &[("host", "lb.internal:8443")], &body.to_string()).await
}

#[tokio::test]
async fn a_password_becomes_a_token_with_a_catalog() {
    let router = router();
    let answer = post(&router, &login(PASSWORD, json!({ "project": { "name": "cn-north-4" } }))).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-request-id"].len(), 32);
    let token = answer.headers["x-subject-token"].to_str().expect("text").to_owned();
    assert_eq!(token.len(), 64);
    assert!(!format!("{:?}", answer.headers).contains(&token), "marked as sensitive");
    let body = &answer.body["token"];
    assert_eq!(body["issued_at"], "2020-01-03T09:05:22.701000Z");
    assert_eq!(body["expires_at"], "2020-01-04T09:05:22.701000Z");
    assert_eq!(body["methods"], json!(["password"]));
    assert_eq!(body["project"]["id"], "0123456789abcdef0123456789abcdef");
    assert_eq!(body["project"]["domain"], body["user"]["domain"]);
    assert_eq!(body["user"]["name"], "ops");
    assert_eq!(body["user"]["id"].as_str().map(str::len), Some(32));
    assert_eq!(body["roles"][0]["name"], "viewer");
    assert_eq!(body["catalog"][0]["type"], "apig");
    assert_eq!(body["catalog"][0]["endpoints"][0]["url"], "http://lb.internal:8443");
    assert_eq!(body["catalog"][0]["endpoints"][0]["region_id"], "cn-north-4");
    assert!(!answer.body.to_string().contains(&token));

    let projects = |name: &'static str| {
        let (router, token) = (router.clone(), token.clone());
        async move {
            let uri = format!("/v3/projects{name}");
            ask(&router, Method::GET, &uri, &[("x-auth-token", &token)], "").await.body["projects"].clone()
        }
    };
    assert_eq!(projects("?name=cn-north-4").await[0]["id"], "0123456789abcdef0123456789abcdef");
    assert_eq!(projects("").await[0]["domain_id"], body["user"]["domain"]["id"]);
    assert_eq!(projects("?name=cn%2Dnorth-4&x=y").await.as_array().map(Vec::len), Some(1));
    assert_eq!(projects("?name=cn-north-5").await, json!([]));

    let own = [("x-auth-token", token.as_str()), ("x-subject-token", token.as_str())];
    assert_eq!(ask(&router, Method::DELETE, "/v3/auth/tokens", &own, "").await.status, 204);
    assert_eq!(ask(&router, Method::GET, "/v3/projects", &[("x-auth-token", &token)], "").await.status, 401);
}

#[tokio::test]
async fn scopes() {
    let router = router();
    let id = "0123456789abcdef0123456789abcdef";
    let cases = [
        (json!({ "project": { "id": id } }), 201, "project"),
        (
            json!({ "project": { "name": "cn-north-4", "domain": { "name": "probe-domain" } } }),
            201,
            "project",
        ),
        (json!({ "project": { "id": id }, "domain": { "name": "probe-domain" } }), 201, "project"),
        (json!({ "domain": { "name": "probe-domain" } }), 201, "domain"),
        (json!(null), 201, "user"),
        (json!("unscoped"), 201, "user"),
        (json!({ "unscoped": {} }), 201, "user"),
        (json!({ "project": { "name": "cn-north-5" } }), 401, ""),
        // What clients write that were told no domain of the project's.
        (json!({ "project": { "name": "cn-north-4", "domain": { "id": "default" } } }), 201, "project"),
        (json!({ "project": { "id": id, "domain": { "name": "Default" } } }), 201, "project"),
        // Another account's, which this daemon knows.
        (json!({ "project": { "name": "cn-north-4", "domain": { "name": "other-domain" } } }), 401, ""),
        (json!({ "project": { "name": "cn-north-4", "domain": { "id": "0".repeat(32) } } }), 401, ""),
        (json!({ "domain": { "id": "other" } }), 401, ""),
        (json!({ "project": {} }), 400, ""),
        (json!({ "project": { "id": 1 } }), 400, ""),
        (json!({ "system": { "all": true } }), 400, ""),
        (json!([]), 400, ""),
    ];
    for (scope, status, field) in cases {
        let answer = post(&router, &login(PASSWORD, scope.clone())).await;
        assert_eq!(answer.status, status, "{scope}");
        if status == 201 {
            assert!(answer.body["token"].get(field).is_some(), "{scope}: {}", answer.body);
            let has_project = answer.body["token"].get("project").is_some();
            assert_eq!(has_project, field == "project", "{scope}");
        } else {
            assert!(answer.headers.get("x-subject-token").is_none());
            assert_eq!(answer.body["error"]["code"], status);
        }
    }
    let by_id = post(&router, &login(PASSWORD, json!(null))).await.body["token"]["user"]["id"].clone();
    let user = json!({ "id": by_id, "password": PASSWORD });
    let body = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": user } } } });
    assert_eq!(post(&router, &body).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_say_why() {
    let router = router();
    let scope = json!({ "project": { "name": "no such project" } });
    let mut other = login(PASSWORD, scope.clone());
    other["auth"]["identity"]["password"]["user"]["name"] = json!("nobody");
    let mut elsewhere = login(PASSWORD, scope.clone());
    elsewhere["auth"]["identity"]["password"]["user"]["domain"]["name"] = json!("elsewhere");
    for body in [login("guess", scope), other, elsewhere, login("", json!(null))] {
        let answer = post(&router, &body).await;
        let expected = json!({ "error": {
            "code": 401,
            "message": "The request you have made requires authentication.",
            "title": "Unauthorized",
        } });
        assert_eq!((answer.status, &answer.body), (401, &expected), "{body}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_login() {
    let router = router();
    let mut cases: Vec<(String, u16, &str)> = vec![
        (String::new(), 400, "JSON"),
        ("{".to_owned(), 400, "JSON"),
        ("[]".to_owned(), 400, "find auth in"),
        ("{}".to_owned(), 400, "find auth in"),
        (json!({ "auth": "x" }).to_string(), 400, "find auth in"),
        ("[".repeat(10_000), 400, "JSON"),
        (format!("{:20000}", ""), 413, "too large"),
    ];
    let edits: [(&str, Value, u16, &str); 9] = [
        ("/auth/identity", json!(null), 400, "auth.identity in"),
        ("/auth/identity/methods", json!("password"), 400, "methods"),
        ("/auth/identity/methods", json!([]), 400, "methods"),
        ("/auth/identity/methods", json!(["token"]), 400, "auth.identity.token in"),
        ("/auth/identity/methods", json!(["password", "totp"]), 401, "unsupported method"),
        ("/auth/identity/password", json!(PASSWORD), 400, "identity.password in"),
        ("/auth/identity/password/user/password", json!(1), 400, "user.password"),
        ("/auth/identity/password/user/name", json!(null), 400, "user.name"),
        ("/auth/identity/password/user/domain", json!("probe-domain"), 400, "user.domain"),
    ];
    for (pointer, value, status, words) in edits {
        let mut body = login(PASSWORD, json!(null));
        *body.pointer_mut(pointer).expect(pointer) = value;
        cases.push((body.to_string(), status, words));
    }
    for (body, status, words) in cases {
        let answer = ask(&router, Method::POST, "/v3/auth/tokens", &[], &body).await;
        let message = answer.body["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, status, "{body:.100}: {message}");
        assert!(message.contains(words), "{body:.100}: {message}");
        assert!(!message.contains(PASSWORD));
    }
}

#[tokio::test]
async fn discovery_names_the_address_that_was_asked() {
    let router = router();
    let href = |hosts: &'static [&'static str]| {
        let router = router.clone();
        async move {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let answer = ask(&router, Method::GET, "/v3", &headers, "").await;
            assert_eq!((answer.status, &answer.body["version"]["id"]), (200, &json!("v3.14")));
            answer.body["version"]["links"][0]["href"].as_str().expect("a link").to_owned()
        }
    };
    assert_eq!(href(&["lb.internal"]).await, "http://lb.internal/v3/");
    assert_eq!(href(&["[2001:db8::1]:80"]).await, "http://[2001:db8::1]:80/v3/");
    for hosts in [&[][..], &["a", "b"], &["user@evil"], &["a/b"], &[""], &["a b"]] {
        assert_eq!(href(hosts).await, "http://127.0.0.1:9650/v3/", "{hosts:?}");
    }
    let mut request = axum::http::Request::get("/v3/").body(Body::empty()).expect("a request");
    request
        .extensions_mut()
        .insert(ConnectionInfo { transport: Transport::Tls, ..ConnectionInfo::socket(None) });
    let response = TowerToHyperService::new(router.clone()).call(request).await.expect("infallible");
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    assert!(String::from_utf8_lossy(&bytes).contains("https://127.0.0.1:9650/v3/"));
    for query in ["?nocatalog", "?nocatalog=1", "?a=b&nocatalog=true"] {
        let body = login(PASSWORD, json!({ "project": { "name": "cn-north-4" } })).to_string();
        let answer = ask(&router, Method::POST, &format!("/v3/auth/tokens{query}"), &[], &body).await;
        assert!(answer.body["token"].get("catalog").is_none(), "{query}");
    }
}

#[tokio::test]
async fn errors_have_keystones_form() {
    let router = router();
    let cases = [
        (Method::PUT, "/v3/auth/tokens", 405, "Method Not Allowed"),
        (Method::GET, "/v3/projects", 401, "Unauthorized"),
        (Method::DELETE, "/v3/auth/tokens", 401, "Unauthorized"),
    ];
    for (method, uri, status, title) in cases {
        let answer = ask(&router, method, uri, &[], "").await;
        assert_eq!((answer.status, &answer.body["error"]["title"]), (status, &json!(title)), "{uri}");
        assert!(answer.headers.contains_key("x-request-id"));
    }
}

/// A token for this scope, by password.
async fn token_for(router: &Router, name: &str, domain: &str, scope: Value) -> String {
    let mut body = login(PASSWORD, scope);
    let user = body.pointer_mut("/auth/identity/password/user").expect("a user");
    user["name"] = json!(name);
    user["domain"]["name"] = json!(domain);
    let answer = post(router, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.headers["x-subject-token"].to_str().expect("text").to_owned()
}

fn by_token(token: &str, scope: Value) -> Value {
    json!({ "auth": { "identity": { "methods": ["token"], "token": { "id": token } }, "scope": scope } })
}

#[tokio::test(start_paused = true)]
async fn a_token_is_given_for_a_token() {
    let router = router();
    let unscoped = token_for(&router, "ops", "probe-domain", json!(null)).await;
    let project = json!({ "project": { "name": "cn-north-4" } });
    let answer = post(&router, &by_token(&unscoped, project.clone())).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let body = &answer.body["token"];
    assert_eq!(body["methods"], json!(["token", "password"]));
    assert_eq!(body["project"]["name"], "cn-north-4");
    assert_eq!(body["roles"][0]["name"], "viewer", "no more than the first token's user may do");
    assert_eq!(body["expires_at"], "2020-01-04T09:05:22.701000Z");
    let second = answer.headers["x-subject-token"].to_str().expect("text").to_owned();
    assert_ne!(second, unscoped);
    assert_eq!(post(&router, &by_token(&second, json!(null))).await.status, 201);

    let elsewhere = post(&router, &by_token(&second, json!({ "project": { "name": "other" } }))).await;
    assert_eq!(elsewhere.status, 401);
    for wrong in ["0".repeat(64), String::new()] {
        let refused = post(&router, &by_token(&wrong, project.clone())).await;
        let message = "The request you have made requires authentication.";
        assert_eq!((refused.status, &refused.body["error"]["message"]), (401, &json!(message)));
    }
    for no_token in [json!({}), json!({ "id": 1 }), json!("x")] {
        let mut body = by_token("", json!(null));
        body["auth"]["identity"]["token"] = no_token;
        assert_eq!(post(&router, &body).await.status, 400);
    }
}

#[tokio::test]
async fn a_token_says_what_it_is_good_for() {
    let router = router();
    let project = json!({ "project": { "name": "cn-north-4" } });
    let ops = token_for(&router, "ops", "probe-domain", project.clone()).await;
    let root = token_for(&router, "root", "other-domain", project).await;
    let ask_about = |method: Method, caller: String, subject: String, query: &'static str| {
        let router = router.clone();
        async move {
            let headers = [("x-auth-token", caller.as_str()), ("x-subject-token", subject.as_str())];
            ask(&router, method, &format!("/v3/auth/tokens{query}"), &headers, "").await
        }
    };
    let answer = ask_about(Method::GET, ops.clone(), ops.clone(), "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["x-subject-token"], ops);
    let body = &answer.body["token"];
    assert_eq!((&body["user"]["name"], &body["project"]["name"]), (&json!("ops"), &json!("cn-north-4")));
    assert_eq!(body["expires_at"], "2020-01-04T09:05:22.701000Z");
    assert!(body["catalog"].is_array());
    let short = ask_about(Method::GET, ops.clone(), ops.clone(), "?nocatalog").await;
    assert!(short.body["token"].get("catalog").is_none());
    let head = ask_about(Method::HEAD, ops.clone(), ops.clone(), "").await;
    assert_eq!((head.status, head.body), (200, Value::Null));

    assert_eq!(ask_about(Method::GET, root.clone(), ops.clone(), "").await.status, 200);
    assert_eq!(ask_about(Method::GET, ops.clone(), root.clone(), "").await.status, 403);
    assert_eq!(ask_about(Method::GET, ops.clone(), "f".repeat(64), "").await.status, 404);
    assert_eq!(ask_about(Method::GET, "f".repeat(64), ops.clone(), "").await.status, 401);
    let unnamed = ask(&router, Method::GET, "/v3/auth/tokens", &[("x-auth-token", &ops)], "").await;
    assert_eq!(unnamed.status, 400);
    assert_eq!(ask_about(Method::DELETE, root, ops.clone(), "").await.status, 403);
    assert_eq!(ask_about(Method::DELETE, ops.clone(), ops.clone(), "").await.status, 204);
    assert_eq!(ask_about(Method::GET, ops.clone(), ops, "").await.status, 401);
}

/// Signed as a client with an access key does it.
async fn ask_signed(router: &Router, uri: &str) -> Answer {
    let request = axum::http::Request::get(uri).header("host", "lb.internal");
    let mut request =
        request.header("x-sdk-date", "20200103T090522Z").body(Body::empty()).expect("a request");
    let authorization = sign(&request, b"", "AK", b"secret").parse().expect("a header");
    request.headers_mut().insert("authorization", authorization);
    let response =
        TowerToHyperService::new(router.clone()).call(request).await.unwrap_or_else(|never| match never {});
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).expect("JSON"),
    }
}

#[tokio::test]
async fn the_projects_domain_is_one_whichever_way_one_asks() {
    let router = router();
    let project = json!({ "project": { "name": "cn-north-4" } });
    let mut domains = Vec::new();
    for (name, domain) in [("ops", "probe-domain"), ("root", "other-domain")] {
        let token = token_for(&router, name, domain, project.clone()).await;
        let headers = [("x-auth-token", token.as_str()), ("x-subject-token", token.as_str())];
        let held = ask(&router, Method::GET, "/v3/auth/tokens", &headers, "").await.body;
        domains.push(held["token"]["project"]["domain"]["id"].clone());
        for uri in ["/v3/projects", "/v3/projects?name=cn-north-4", "/v3/auth/projects"] {
            let list = ask(&router, Method::GET, uri, &headers, "").await.body;
            domains.push(list["projects"][0]["domain_id"].clone());
        }
        let uri = "/v3/projects/0123456789abcdef0123456789abcdef";
        domains.push(ask(&router, Method::GET, uri, &headers, "").await.body["project"]["domain_id"].clone());
        let own = ask(&router, Method::GET, "/v3/auth/domains", &headers, "").await.body;
        assert_eq!(
            (&own["domains"][0]["name"], own["domains"].as_array().map(Vec::len)),
            (&json!(domain), Some(1))
        );
    }
    domains.push(
        ask_signed(&router, "/v3/projects?name=cn-north-4").await.body["projects"][0]["domain_id"].clone(),
    );
    domains.push(ask_signed(&router, "/v3/auth/domains").await.body["domains"][0]["id"].clone());
    assert_eq!(domains.len(), 12);
    domains.dedup();
    assert_eq!(domains.len(), 1, "{domains:?}");
    assert_eq!(domains[0].as_str().map(str::len), Some(32));
}

#[tokio::test]
async fn what_there_is_can_be_looked_up() {
    let router = router();
    let names = |answer: &Answer, list: &str, key: &str| -> Vec<String> {
        let items = answer.body[list].as_array().unwrap_or_else(|| panic!("{list}: {}", answer.body));
        items.iter().map(|item| item[key].as_str().expect("text").to_owned()).collect()
    };
    let catalog = ask_signed(&router, "/v3/auth/catalog").await;
    assert_eq!(names(&catalog, "catalog", "type"), ["apig", "apigv2", "apic", "iam", "identity"]);
    assert_eq!(catalog.body["catalog"][0]["endpoints"][0]["url"], "http://lb.internal");
    assert_eq!(catalog.body["catalog"][1]["endpoints"][0]["url"], "http://lb.internal/v2");
    assert_eq!(catalog.body["catalog"][3]["endpoints"][0]["url"], "http://lb.internal/v3");
    let users = ask_signed(&router, "/v3/users").await;
    assert_eq!(names(&users, "users", "name"), ["root", "ops"]);
    assert_eq!(names(&ask_signed(&router, "/v3/users?name=ops").await, "users", "name"), ["ops"]);
    assert_eq!(names(&ask_signed(&router, "/v3/users?name=nobody").await, "users", "name"), [""; 0]);
    assert_eq!(names(&ask_signed(&router, "/v3/regions").await, "regions", "id"), ["cn-north-4"]);
    assert_eq!(names(&ask_signed(&router, "/v3/projects?domain_id=x").await, "projects", "id"), [""; 0]);
    for id in ["0", "%ff", "a/b"] {
        let answer = ask_signed(&router, &format!("/v3/projects/{id}")).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (404, &json!(404)), "{id}");
    }

    let unscoped = token_for(&router, "ops", "probe-domain", json!(null)).await;
    let headers = [("x-auth-token", unscoped.as_str())];
    let seen = ask(&router, Method::GET, "/v3/users", &headers, "").await;
    assert_eq!(names(&seen, "users", "name"), ["ops"], "a viewer sees itself");
    let id = seen.body["users"][0]["id"].clone();
    let about_itself = [headers[0], ("x-subject-token", unscoped.as_str())];
    let held = ask(&router, Method::GET, "/v3/auth/tokens", &about_itself, "").await;
    assert_eq!(held.body["token"]["user"]["id"], id);
    for uri in ["/v3/auth/catalog", "/v3/auth/domains", "/v3/auth/projects", "/v3/users", "/v3/regions"] {
        assert_eq!(ask(&router, Method::GET, uri, &headers, "").await.status, 200, "{uri}");
        assert_eq!(ask(&router, Method::GET, uri, &[], "").await.status, 401, "{uri}");
    }
}

#[tokio::test]
async fn unknown_paths_are_answered_in_keystones_form() {
    let router = router();
    let cases = [
        (Method::GET, "/v3/endpoints"),
        (Method::POST, "/v3/users/x/password"),
        (Method::GET, "/v3/auth"),
        (Method::GET, "/v3/auth/tokens/OS-PKI/revoked"),
        (Method::DELETE, "/v3/%ff"),
    ];
    for (method, uri) in cases {
        let answer = ask(&router, method, uri, &[], "").await;
        let expected = json!({ "error": {
            "code": 404,
            "message": "The resource could not be found.",
            "title": "Not Found",
        } });
        assert_eq!((answer.status, &answer.body), (404, &expected), "{uri}");
        assert_eq!(answer.headers["x-request-id"].len(), 32, "{uri}");
        assert_eq!(answer.headers["x-openstack-request-id"], answer.headers["x-request-id"], "{uri}");
    }
}

#[tokio::test]
async fn the_root_lists_the_versions_and_shows_browsers_the_page() {
    let router = router();
    let with = |accept: Option<&'static str>| {
        let router = router.clone();
        async move {
            let mut request = axum::http::Request::get("/").header("host", "lb.internal");
            if let Some(accept) = accept {
                request = request.header("accept", accept);
            }
            let request = request.body(Body::empty()).expect("a request");
            let response = TowerToHyperService::new(router).call(request).await.expect("infallible");
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.expect("a body").to_bytes();
            (parts.status.as_u16(), parts.headers, String::from_utf8(bytes.to_vec()).expect("text"))
        }
    };
    for accept in [None, Some("application/json"), Some("*/*"), Some("application/json, text/plain")] {
        let (status, headers, text) = with(accept).await;
        let list: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status, &headers["content-type"]), (300, &HeaderValue::from_static("application/json")));
        let version = &list["versions"]["values"][0];
        assert_eq!((&version["id"], &version["status"]), (&json!("v3.14"), &json!("stable")), "{accept:?}");
        assert_eq!(version["links"], json!([{ "rel": "self", "href": "http://lb.internal/v3/" }]));
    }
    for accept in ["text/html,application/xhtml+xml,*/*;q=0.8", "application/json;q=0.1, TEXT/HTML"] {
        let (status, headers, text) = with(Some(accept)).await;
        assert_eq!(status, 200);
        assert!(headers["content-type"].to_str().expect("text").starts_with("text/html"));
        assert!(headers.get_all("vary").iter().any(|vary| vary == "accept"));
        assert!(text.contains("/v1/status"));
    }
}
