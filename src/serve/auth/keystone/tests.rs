//! The token API over its router: logins, scopes, errors, discovery, projects.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::config::api::{AccountRole, ApiSettings, ClearText, Project, User};
use crate::config::password::PasswordHash;
use crate::health::{MonotonicTime, Now, Timestamp};
use crate::serve::server::PeerAddress;

const PASSWORD: &str = "hidden-password";

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

fn router() -> Router {
    let api = ApiSettings {
        project: Project { id: "0123456789abcdef0123456789abcdef".to_owned(), name: "cn-north-4".to_owned() },
        instances: Vec::new(),
        users: vec![User {
            name: "ops".to_owned(),
            domain: "probe-domain".to_owned(),
            password: PasswordHash::cheap(PASSWORD.as_bytes()),
            role: AccountRole::Viewer,
        }],
        access_keys: Vec::new(),
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
        (json!({ "project": { "name": "cn-north-4", "domain": { "name": "other" } } }), 401, ""),
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
        ("/auth/identity/methods", json!(["token"]), 401, "unsupported method"),
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
    let peer = PeerAddress::UnixSocket;
    request.extensions_mut().insert(ConnectionInfo { peer, is_local: false, transport: Transport::Tls });
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
