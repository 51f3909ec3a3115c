//! The layer over a router: who gets through, with which body, and the answers.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request};
use axum::http::{HeaderValue, Method};
use axum::routing::get;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::signature::sign;
use super::*;
use crate::config::api::{AccessKey, AccountRole, ApiSettings, ClearText, Project, Transport};
use crate::config::secret::Secret;
use crate::health::{MonotonicTime, Now, Timestamp};
use crate::serve::http::RequestId;
use crate::serve::http::{LARGEST_BODY, REQUEST_ID, SMALL_BODY, UNPROVEN};
use crate::serve::peer::ConnectionInfo;

const PROJECT: &str = "0123456789abcdef0123456789abcdef";

/// A gate that knows an administrator's key and a viewer's, both with the secret `secret`,
/// at 2020-01-02 03:04:05.
pub(in crate::serve) fn gate_of_two_keys() -> AuthGate {
    let key =
        |id: &str, role| AccessKey { id: id.to_owned(), secret_key: Secret::new(b"secret".to_vec()), role };
    let api = ApiSettings {
        project: Project { id: PROJECT.to_owned(), name: "local".to_owned() },
        instances: Vec::new(),
        users: Vec::new(),
        access_keys: vec![key("ADMIN", AccountRole::Admin), key("VIEWER", AccountRole::Viewer)],
        clear_text: ClearText::LoopbackOnly,
        quotas: Default::default(),
    };
    let clock = || Now { monotonic: MonotonicTime(0), wall: Timestamp(1_577_934_245_000_000_000) };
    AuthGate::new(&api, Arc::new(clock), 2).expect("randomness")
}

/// One route that answers who asked and what they sent.
fn router() -> Router {
    let gate = gate_of_two_keys();
    let echo = |Extension(identity): Extension<Identity>, body: String| async move {
        format!("{} {body}", identity.principal)
    };
    Router::new()
        .route("/v2/{project_id}/things", get(echo).post(echo))
        .route_layer(axum::middleware::from_fn_with_state(gate, require))
}

fn request(method: Method, path: &str, key: &str, body: &str) -> Request {
    let mut request = Request::new(Body::from(body.to_owned()));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect(path);
    let headers = request.headers_mut();
    headers.insert("host", HeaderValue::from_static("127.0.0.1"));
    headers.insert("x-sdk-date", HeaderValue::from_static("20200102T030405Z"));
    let authorization = sign(&request, body.as_bytes(), key, b"secret");
    request.headers_mut().insert("authorization", authorization.parse().expect("a header"));
    request
}

async fn send(request: Request) -> (u16, Option<String>, String) {
    send_to(router(), request).await
}

async fn send_to(router: Router, request: Request) -> (u16, Option<String>, String) {
    let response =
        TowerToHyperService::new(router).call(request).await.unwrap_or_else(|never| match never {});
    let status = response.status().as_u16();
    let id = response.headers().get(REQUEST_ID).map(|id| id.to_str().expect("text").to_owned());
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, id, String::from_utf8(bytes.to_vec()).expect("text"))
}

#[tokio::test]
async fn the_handler_gets_the_identity_and_the_whole_body() {
    let path = format!("/v2/{PROJECT}/things");
    let (status, id, text) = send(request(Method::POST, &path, "ADMIN", "a body")).await;
    assert_eq!((status, text.as_str()), (200, "access key ADMIN a body"));
    assert_eq!(id.map(|id| id.len()), Some(32));
    let (status, _, text) = send(request(Method::GET, &path, "VIEWER", "")).await;
    assert_eq!((status, text.as_str()), (200, "access key VIEWER "));
}

#[tokio::test]
async fn others_are_answered_in_the_vendors_form() {
    let own = format!("/v2/{PROJECT}/things");
    let forbidden = r#"{"error_code":"APIG.1005","error_msg":"No permissions to request this method"}"#;
    for (method, path, key) in
        [(Method::POST, own.as_str(), "VIEWER"), (Method::GET, "/v2/other/things", "ADMIN")]
    {
        let (status, _, text) = send(request(method, path, key, "")).await;
        assert_eq!((status, text.as_str()), (403, forbidden), "{path} {key}");
    }
    let mut tampered = request(Method::POST, &own, "ADMIN", "a body");
    *tampered.body_mut() = Body::from("b body");
    tampered.extensions_mut().insert(RequestId("chosen".into()));
    let (status, id, text) = send(tampered).await;
    assert_eq!((status, id.as_deref()), (401, Some("chosen")));
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        answer,
        serde_json::json!({
            "error_code": "APIG.0301",
            "error_msg": "Incorrect IAM authentication information: verify aksk signature fail",
            "request_id": "chosen",
        })
    );
    let (status, _, text) = send(Request::get(&own).body(Body::empty()).expect("a request")).await;
    assert_eq!(status, 401);
    assert!(text.contains("APIG.1000"), "{text}");

    let mut local = Request::get(&own).body(Body::empty()).expect("a request");
    local.extensions_mut().insert(ConnectionInfo::socket(None));
    assert_eq!(send(local).await.2, "local socket ");
}

#[tokio::test]
async fn a_body_that_cannot_be_judged_is_not_kept() {
    let path = format!("/v2/{PROJECT}/things");
    let (status, _, text) = send(request(Method::POST, &path, "ADMIN", &"x".repeat(LARGEST_BODY + 1))).await;
    assert_eq!(status, 413);
    assert!(text.contains("APIG.0201"), "{text}");

    // Without a known access key the body is not even looked at.
    let mut unknown = request(Method::POST, &path, "NOBODY", "");
    *unknown.body_mut() = Body::new(Untouchable);
    assert_eq!(send(unknown).await.0, 401);
}

/// A request with a large body, from a host of its own.
fn from(last: u8, body: Body) -> Request {
    let path = format!("/v2/{PROJECT}/things");
    let mut request = request(Method::POST, &path, "ADMIN", "");
    *request.body_mut() = body;
    let peer = std::net::SocketAddr::from(([192, 0, 2, last], 5));
    request.extensions_mut().insert(ConnectionInfo::network(peer, None, Transport::Plain));
    request
}

/// The same, whole and signed.
fn large_from(last: u8) -> Request {
    let path = format!("/v2/{PROJECT}/things");
    let mut request = request(Method::POST, &path, "ADMIN", &"x".repeat(SMALL_BODY + 1));
    let peer = std::net::SocketAddr::from(([192, 0, 2, last], 5));
    request.extensions_mut().insert(ConnectionInfo::network(peer, None, Transport::Plain));
    request
}

/// Clients that send large bodies byte by byte keep their own source waiting: no other,
/// no small body, and not for good.
#[tokio::test(start_paused = true)]
async fn trickled_bodies_keep_their_own_source_waiting_and_not_for_good() {
    let router = router();
    let mut tasks = tokio::task::JoinSet::new();
    let mut trickle_two = async || {
        for _ in 0..2 {
            let body = Trickle { next: vec![b'x'; SMALL_BODY + 1].into(), pause: None };
            tasks.spawn(send_to(router.clone(), from(1, Body::new(body))));
        }
        tokio::task::yield_now().await;
    };
    let start = tokio::time::Instant::now();
    let seconds = std::time::Duration::from_secs;
    trickle_two().await;
    let path = format!("/v2/{PROJECT}/things");
    assert_eq!(send_to(router.clone(), request(Method::POST, &path, "ADMIN", "small")).await.0, 200);
    assert_eq!(send_to(router.clone(), large_from(2)).await.0, 200, "another source");
    assert!(start.elapsed().is_zero(), "nobody else waited");
    // Two more take the places after the first two, so a third has none in time.
    tokio::time::sleep(seconds(5)).await;
    trickle_two().await;
    tokio::time::sleep(seconds(1)).await;
    let (status, _, text) = send_to(router.clone(), large_from(1)).await;
    assert_eq!((status, start.elapsed()), (500, seconds(6) + UNPROVEN));
    assert!(text.contains("APIG.9008"), "{text}");
    while let Some(answer) = tasks.join_next().await {
        assert_eq!(answer.expect("no panic").0, 400);
    }
    assert!(start.elapsed() <= 2 * UNPROVEN + seconds(1));
    assert_eq!(send_to(router, large_from(1)).await.0, 200, "the places came back");
}

/// A body that never ends: its first piece, then a byte a second.
struct Trickle {
    next: Bytes,
    pause: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl hyper::body::Body for Trickle {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
        }
        self.pause = Some(Box::pin(tokio::time::sleep(std::time::Duration::from_secs(1))));
        let data = std::mem::replace(&mut self.next, Bytes::from_static(b"x"));
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(data))))
    }
}

/// A body that fails the test when somebody reads it.
struct Untouchable;

impl hyper::body::Body for Untouchable {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        panic!("the body was read")
    }
}
