//! The server over real sockets: limits, slow clients, an orderly end.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Mutex;

use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use hyper_util::rt::TokioIo;

use super::*;
use crate::catalog::{Client, Fault, MemberChange, MemberChanged, Snapshot};
use crate::serve::AuditedCalls;
use crate::serve::app::{DaemonHandle, Liveness, ReloadFault, ReloadSummary, SnapshotError};
use crate::serve::fixture;

/// A source whose answers a test sets.
#[derive(Clone)]
struct Fake(Arc<Answers>);

struct Answers {
    snapshot: Mutex<Result<Snapshot, SnapshotError>>,
    liveness: Liveness,
    reload: Result<ReloadSummary, ReloadFault>,
    /// When set, `observe` waits for it.
    gate: Option<Notify>,
    /// Told when `observe` was called.
    asked: Notify,
}

impl Answers {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot: Mutex::new(Ok(snapshot)),
            liveness: Liveness::Alive,
            reload: Ok(ReloadSummary {
                channels: 3,
                members: 8,
                added: 2,
                removed: 1,
                ..ReloadSummary::default()
            }),
            gate: None,
            asked: Notify::new(),
        }
    }
}

impl DaemonHandle for Fake {
    async fn observe(&self) -> Result<Snapshot, SnapshotError> {
        self.0.asked.notify_one();
        if let Some(gate) = &self.0.gate {
            gate.notified().await;
        }
        self.0.snapshot.lock().expect("not poisoned").clone()
    }

    fn liveness(&self) -> Liveness {
        self.0.liveness
    }

    fn lost_log_lines(&self) -> u64 {
        17
    }

    async fn change_member(&self, _: MemberChange, _: Client) -> Result<MemberChanged, Fault> {
        Err(Fault::Unavailable("nobody asks".to_owned()))
    }

    async fn reload(&self, _: Client) -> Result<ReloadSummary, ReloadFault> {
        self.0.reload.clone()
    }
}

/// A running server on a port of its own.
struct TestServer {
    address: SocketAddr,
    answers: Arc<Answers>,
    shutdown: CancellationToken,
    task: JoinHandle<DrainOutcome>,
}

impl TestServer {
    async fn start(answers: Answers, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (answers, shutdown) = (Arc::new(answers), CancellationToken::new());
        let source = Fake(Arc::clone(&answers));
        let router = crate::serve::router(source, &Access::default());
        let task = tokio::spawn(run(
            listener,
            router,
            shutdown.clone(),
            limits,
            Access::default(),
            Audit::new(AuditedCalls::OwnPages),
        ));
        Self { address, answers, shutdown, task }
    }

    async fn usual() -> Self {
        Self::start(Answers::new(fixture::snapshot()), Limits::default()).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let (head, body) = client.send_request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    /// A raw connection that has sent `text`.
    async fn raw(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(text.as_bytes()).await.expect("sent");
        stream
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    fn json(&self) -> serde_json::Value {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json");
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const REQUEST: &str = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn every_path_answers_what_it_should() {
    let server = TestServer::usual().await;
    let cases = [
        ("GET", "/", 200, "<h1>vitald</h1>"),
        ("GET", "/livez", 200, r#"{"status":"alive"}"#),
        ("GET", "/-/healthy", 200, r#"{"status":"alive"}"#),
        ("GET", "/readyz", 503, "1 of 7 members have no verdict yet"),
        ("GET", "/-/ready", 503, r#""without_verdict":1"#),
        ("GET", "/metrics", 200, "vitald_member_up{channel=\"web\""),
        ("GET", "/metrics", 200, "process_resident_memory_bytes "),
        ("GET", "/metrics", 200, "vitald_log_lines_lost_total 17"),
        ("GET", "/metrics?channel=api&channel=web&channel=api", 200, "vitald_member_up{channel=\"api\""),
        ("GET", "/metrics?channel=none", 404, r#"no channel is named \"none\""#),
        ("GET", "/metrics?detail=all", 400, "detail=all: use detail=channel or detail=member"),
        ("GET", "/metrics?chanel=web", 400, r#"the parameter \"chanel\" is not known here"#),
        ("GET", "/v1/status", 200, r#""name":"idle""#),
        ("GET", "/v1/status?channel=web", 200, r#""channels":["#),
        ("GET", "/v1/status?detail=channel", 400, "known: channel"),
        ("GET", "/v1/status?channel=%FF", 404, "no channel is named"),
        ("GET", "/v1/channels/web", 200, r#"{"name":"web","strategy":"wrr""#),
        ("GET", "/v1/channels/none", 404, r#"no channel is named \"none\""#),
        ("GET", "/v1/nothing", 404, "nothing is at /v1/nothing; / lists what there is"),
        ("POST", "/metrics", 405, "/metrics does not take POST"),
        ("GET", "/v1/reload", 405, "/v1/reload does not take GET"),
        ("HEAD", "/metrics", 200, ""),
        ("HEAD", "/livez", 200, ""),
    ];
    for (method, path, status, part) in cases {
        let answer = server.ask(method, path, &[]).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains(part), "{method} {path}: {}", answer.text());
        if status >= 400 {
            assert!(answer.json().is_object(), "{method} {path}");
        }
        if method == "HEAD" {
            assert_eq!(answer.text(), "");
        }
    }
    let allow = server.ask("POST", "/metrics", &[]).await.headers;
    assert_eq!(allow[header::ALLOW], "GET,HEAD");
}

#[tokio::test]
async fn metrics_have_the_exact_content_type_and_gzip_when_asked() {
    let server = TestServer::usual().await;
    let plain = server.get("/metrics?channel=web").await;
    assert_eq!(plain.headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(!plain.headers.contains_key(header::CONTENT_ENCODING));
    let packed = server.ask("GET", "/metrics?channel=web", &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.headers[header::CONTENT_ENCODING], "gzip");
    assert_eq!(packed.headers[header::VARY], "accept-encoding");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).expect("gzip");
    let ours = |text: &str| -> Vec<String> {
        // A scrape counts itself.
        let others =
            text.lines().filter(|line| !line.contains("process_") && !line.contains("call=\"page\""));
        others.map(str::to_owned).collect()
    };
    assert_eq!(ours(&text), ours(plain.text()));
}

#[tokio::test]
async fn a_large_scrape_arrives_whole_and_in_chunks() {
    let server = TestServer::start(Answers::new(fixture::large(20_000)), Limits::default()).await;
    let answer = server.get("/metrics").await;
    assert!(answer.body.len() > 10_000_000);
    assert_eq!(answer.text().lines().filter(|line| line.starts_with("vitald_probes_total{")).count(), 60_000);
    assert!(answer.text().ends_with('\n'));
    let status = server.get("/v1/channels/large").await.json();
    assert_eq!(status["members"].as_array().map(Vec::len), Some(20_000));
}

#[tokio::test]
async fn a_silent_driver_is_said_so() {
    let stalled = Liveness::Stalled { driver: 1, silent: Duration::from_millis(12_300) };
    let cause = SnapshotError::DriverSilent { driver: 1, waited: Duration::from_millis(500) };
    let answers = Answers { liveness: stalled, ..Answers::new(fixture::snapshot()) };
    *answers.snapshot.lock().expect("not poisoned") = Err(cause);
    let server = TestServer::start(answers, Limits::default()).await;
    let live = server.get("/livez").await;
    assert_eq!(live.status, 503);
    assert_eq!(live.json()["reason"], "driver 1 has made no progress for 12.3 s");
    for path in ["/metrics", "/v1/status", "/v1/channels/web", "/readyz"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.json()["error"], "driver 1 did not answer within 500 ms");
    }
}

#[tokio::test]
async fn a_control_loop_that_hangs_is_said_so() {
    let liveness = Liveness::ControlStalled { silent: Duration::from_millis(12_300) };
    let answers = Answers { liveness, ..Answers::new(fixture::snapshot()) };
    let server = TestServer::start(answers, Limits::default()).await;
    let live = server.get("/livez").await;
    assert_eq!(live.status, 503);
    let expected = serde_json::json!({
        "status": "stalled", "driver": null, "seconds": 12.3,
        "reason": "the control loop has made no progress for 12.3 s"
    });
    assert_eq!(live.json(), expected);
}

#[tokio::test]
async fn readiness_follows_the_observation() {
    let snapshot = Snapshot { ready: true, ..fixture::snapshot() };
    let server = TestServer::start(Answers::new(snapshot), Limits::default()).await;
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{\"status\":\"ready\"}\n"));
}

#[tokio::test]
async fn reload_says_what_changed_or_why_not() {
    let action = [("x-vitald-action", "reload")];
    let server = TestServer::usual().await;
    let done = server.ask("POST", "/v1/reload", &action).await;
    assert_eq!(done.status, 200);
    let expected = serde_json::json!({
        "result": "reloaded", "channels": 3, "members": 8, "channels_added": 0, "channels_removed": 0,
        "channels_changed": 0, "added": 2, "removed": 1, "changed": 0, "restarted": 0
    });
    assert_eq!(done.json(), expected);
    assert_eq!(server.ask("POST", "/v1/reload", &[]).await.status, 403);

    let refused = ReloadFault::Refused {
        full: "error[E005]: a line of the file".into(),
        brief: "E005 vitald.toml:3:1".into(),
    };
    let hangs = ReloadFault::Unavailable("not read within 30s".to_owned());
    for (fault, status, text) in [(refused, 422, "E005 vitald.toml:3:1"), (hangs, 503, "not read within 30s")]
    {
        let answers = Answers { reload: Err(fault), ..Answers::new(fixture::snapshot()) };
        let server = TestServer::start(answers, Limits::default()).await;
        let answer = server.ask("POST", "/v1/reload", &action).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (status, serde_json::json!({ "error": text })));
    }
}

/// Whoever may open the socket may read the files: it gets everything, and needs no header.
#[tokio::test]
async fn over_the_socket_a_refusal_has_its_excerpts() {
    let fault = ReloadFault::Refused { full: "error[E005]: a line of the file".into(), brief: "E005".into() };
    let answers = Answers { reload: Err(fault), ..Answers::new(fixture::snapshot()) };
    let router = crate::serve::router(Fake(Arc::new(answers)), &Access::default());
    let connection = ConnectionInfo::socket(None);
    let request = Request::post("/v1/reload").extension(connection).body(axum::body::Body::empty());
    let service = hyper_util::service::TowerToHyperService::new(router);
    let response = hyper::service::Service::call(&service, request.expect("a request")).await;
    let response = response.unwrap_or_else(|never| match never {});
    assert_eq!(response.status(), 422);
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(&body[..], b"{\"error\":\"error[E005]: a line of the file\"}\n");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_dropped() {
    let server =
        TestServer::start(Answers::new(fixture::snapshot()), Limits { head: SHORT, ..Limits::default() })
            .await;
    let mut slow = server.raw("GET /livez HTTP/1.1\r\nx: ").await;
    let mut rest = Vec::new();
    let ended = timeout(LONG, slow.read_to_end(&mut rest)).await.expect("dropped in time");
    assert!(ended.is_err() || !String::from_utf8_lossy(&rest).contains(" 200 "));
}

/// Idle clients that came before keep nobody out: the one idle longest is given up.
#[tokio::test]
async fn the_longest_idle_connection_is_given_up_for_a_newcomer() {
    let limits = Limits { connections: 2, least_idle: Duration::ZERO, ..Limits::default() };
    let server = TestServer::start(Answers::new(fixture::snapshot()), limits).await;
    let mut silent = server.raw("").await;
    let mut unfinished = server.raw("GET /livez HTTP/1.1\r\nhost: ").await;
    let started = Instant::now();
    for _ in 0..2 {
        let answer = timeout(LONG, server.get("/v1/status")).await.expect("answered in time");
        assert_eq!(answer.status, 200);
    }
    assert!(started.elapsed() < limits.head, "nobody waited for the time limit of an idle connection");
    timeout(LONG, silent.read_to_end(&mut Vec::new())).await.expect("closed").ok();
    timeout(LONG, unfinished.read_to_end(&mut Vec::new())).await.expect("closed").ok();
}

/// A client that opens twice its share of connections at once, and keeps them, is answered
/// on each.
#[tokio::test]
async fn a_pool_beyond_the_share_of_its_source_is_served() {
    let server = TestServer::usual().await;
    let mut pool = Vec::new();
    for _ in 0..2 * Limits::default().connections_each {
        pool.push(server.raw("GET /v1/channels/web HTTP/1.1\r\nhost: localhost\r\n\r\n").await);
    }
    for stream in &mut pool {
        let mut begin = [0; 12];
        timeout(LONG, stream.read_exact(&mut begin)).await.expect("in time").expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200");
    }
}

/// Where one address has every place, and is being answered on each, others get theirs.
#[tokio::test]
async fn one_source_alone_keeps_no_other_out() {
    let gated = Answers { gate: Some(Notify::new()), ..Answers::new(fixture::snapshot()) };
    let limits = Limits { connections: 4, connections_each: 2, ..Limits::default() };
    let server = TestServer::start(gated, limits).await;
    let mut busy = Vec::new();
    for _ in 0..limits.connections {
        busy.push(server.raw(REQUEST).await);
        server.answers.asked.notified().await;
    }
    assert_eq!(server.get("/v1/nothing").await.status, 503, "its own address has its share");
    let other = tokio::net::TcpSocket::new_v4().expect("a socket");
    other.bind("127.0.0.2:0".parse().expect("an address")).expect("a loopback address");
    let mut other = other.connect(server.address).await.expect("connected");
    other
        .write_all(b"GET /v1/nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = String::new();
    timeout(LONG, other.read_to_string(&mut answer)).await.expect("answered in time").expect("text");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

/// A server all of whose places are taken by clients that are being answered.
async fn full() -> (TestServer, Vec<TcpStream>) {
    let gated = Answers { gate: Some(Notify::new()), ..Answers::new(fixture::snapshot()) };
    let limits = Limits { connections: 2, reserve: 2, reserve_head: SHORT, ..Limits::default() };
    let server = TestServer::start(gated, limits).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        busy.push(server.raw(REQUEST).await);
        server.answers.asked.notified().await;
    }
    (server, busy)
}

#[tokio::test]
async fn beyond_the_limit_liveness_is_answered_and_nothing_else() {
    let (server, _busy) = full().await;
    let live = timeout(LONG, server.get("/livez")).await.expect("answered in time");
    assert_eq!((live.status.as_u16(), live.text()), (200, "{\"status\":\"alive\"}\n"));
    assert_eq!(live.headers[header::CONNECTION], "close");
    for (path, status, part) in [
        ("/v1/status", 503, "{\"error\":\"Too many requests at once from this address. Try again later.\"}"),
        ("/v2/p/apigw/instances", 500, "\"error_code\":\"APIG.9008\""),
        ("/v3/auth/tokens", 429, "\"title\":\"Too Many Requests\""),
    ] {
        let answer = timeout(LONG, server.get(path)).await.expect("answered in time");
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(answer.text().contains(part), "{path}: {}", answer.text());
        assert_eq!(answer.headers[header::RETRY_AFTER], "5", "{path}");
    }
}

#[tokio::test]
async fn beyond_the_limit_nobody_is_heard_for_long() {
    let (server, _busy) = full().await;
    let mut silent = [server.raw("").await, server.raw("GET /livez HTT").await];
    for stream in &mut silent {
        timeout(LONG, stream.read_to_end(&mut Vec::new())).await.expect("closed in time").ok();
    }
    // Also who comes while the reserve is taken by others is heard.
    let _silent = [server.raw("").await, server.raw("").await, server.raw("").await];
    assert_eq!(timeout(LONG, server.get("/livez")).await.expect("answered in time").status, 200);
}

#[tokio::test]
async fn metrics_are_answered_beyond_the_limit() {
    let (server, _busy) = full().await;
    let mut scrape = server.raw(REQUEST).await;
    server.answers.asked.notified().await;
    for _ in 0..3 {
        server.answers.gate.as_ref().expect("gated").notify_one();
        tokio::task::yield_now().await;
    }
    let mut whole = Vec::new();
    timeout(LONG, scrape.read_to_end(&mut whole)).await.expect("answered").expect("in order");
    assert!(whole.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&whole));
}

/// Clients that do not read take the writers of their source, and no other's; what is
/// short needs none.
#[tokio::test]
async fn clients_that_do_not_read_hold_up_no_short_answer() {
    let server = TestServer::start(Answers::new(fixture::large(100_000)), Limits::default()).await;
    let mut deaf = Vec::new();
    for _ in 0..12 {
        deaf.push(server.raw(REQUEST).await);
        server.answers.asked.notified().await;
    }
    let answer = timeout(LONG, server.get("/metrics?detail=channel")).await.expect("answered in time");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_request_of_another_host_or_site_is_refused_in_the_form_of_its_path() {
    let server = TestServer::usual().await;
    let send = async |text: &str| {
        let mut stream = server.raw(text).await;
        let mut whole = Vec::new();
        timeout(LONG, stream.read_to_end(&mut whole)).await.expect("answered").expect("in order");
        String::from_utf8(whole).expect("text")
    };
    for (path, part) in [
        ("/livez", "{\"error\":\"the Host header names another server"),
        ("/metrics", "{\"error\":\"the Host"),
        ("/", "{\"error\":\"the Host"),
        ("/v2/p", "\"error_code\":\"APIG.0201\""),
        ("/v3/auth/tokens", "\"title\":\"Misdirected Request\""),
    ] {
        let answer =
            send(&format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{path}: {answer}");
        assert!(answer.contains(part), "{path}: {answer}");
    }
    for headers in ["", "host: localhost\r\nhost: localhost\r\n"] {
        let answer = send(&format!("GET /livez HTTP/1.1\r\n{headers}connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers:?}: {answer}");
    }
    let headers = [("x-vitald-action", "reload"), ("origin", "http://evil.example")];
    let answer = server.ask("POST", "/v1/reload", &headers).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("another site"), "{}", answer.text());
}

/// Every error of the pages is JSON, also those that no code here makes.
#[tokio::test]
async fn every_error_of_a_page_is_json() {
    let server = TestServer::usual().await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/status/",
        "/v1/channels",
        "/v1/channels/",
        "/v1/channels/%ff",
        "/v1/channels/%ff/pick",
        "/v1/channels/web/pick?source=x",
        "/v1/channels/web/pick?%ff",
        "/v1/status?%ff",
        "/v1/reload",
        "/v1/export",
        "/v1/openapi.json",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "OTHER"] {
            let answer = server.ask(method, path, &[]).await;
            if answer.status.as_u16() >= 400 {
                let error = answer.json()["error"].as_str().map(str::len);
                assert!(error > Some(0), "{method} {path}: {}", answer.text());
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_dropped() {
    let limits = Limits { write_stall: SHORT, ..Limits::default() };
    let server = TestServer::start(Answers::new(fixture::large(100_000)), limits).await;
    let mut deaf = server.raw(REQUEST).await;
    server.answers.asked.notified().await;
    let shutdown = server.shutdown.clone();
    // Nothing ends the connection but its silence: an answer under way is finished.
    shutdown.cancel();
    let drained = timeout(LONG, server.task).await.expect("ended in time").expect("no panic");
    assert_eq!(drained, DrainOutcome::Complete);
    let mut rest = Vec::new();
    deaf.read_to_end(&mut rest).await.ok();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a part is never taken for the whole");
}

#[tokio::test]
async fn a_client_that_reads_drop_by_drop_is_dropped() {
    let limits = Limits { exchange: Duration::from_millis(500), write_stall: LONG, ..Limits::default() };
    let server = TestServer::start(Answers::new(fixture::large(100_000)), limits).await;
    let mut slow = server.raw(REQUEST).await;
    let mut bytes = [0; 4096];
    let mut last = Vec::new();
    let reading = async {
        while let Ok(count @ 1..) = slow.read(&mut bytes).await {
            last = bytes[..count].to_vec();
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, reading).await.expect("dropped in time");
    assert!(!last.ends_with(b"0\r\n\r\n"), "a part is never taken for the whole");
}

#[tokio::test]
async fn answers_under_way_are_finished_on_shutdown() {
    let gated = Answers { gate: Some(Notify::new()), ..Answers::new(fixture::snapshot()) };
    let server = TestServer::start(gated, Limits { drain: LONG, ..Limits::default() }).await;
    let _fresh = server.raw("").await;
    let mut idle = server.raw("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.expect("answered");
    let mut busy = server.raw(REQUEST).await;
    server.answers.asked.notified().await;
    server.shutdown.cancel();
    // The idle connection ends at once, while the busy one is still waiting.
    timeout(LONG, idle.read_to_end(&mut Vec::new())).await.expect("closed").expect("in order");
    server.answers.gate.as_ref().expect("gated").notify_one();
    let mut whole = Vec::new();
    timeout(LONG, busy.read_to_end(&mut whole)).await.expect("answered").expect("in order");
    let whole = String::from_utf8(whole).expect("text");
    let (head, body) = whole.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}, and {} bytes", body.len());
    let drain = timeout(SHORT * 10, server.task).await.expect("drained").expect("no panic");
    assert_eq!(drain, DrainOutcome::Complete);
}

#[tokio::test]
async fn draining_is_bounded() {
    let gated = Answers { gate: Some(Notify::new()), ..Answers::new(fixture::snapshot()) };
    let server = TestServer::start(gated, Limits { drain: SHORT, ..Limits::default() }).await;
    let _busy = server.raw(REQUEST).await;
    server.answers.asked.notified().await;
    server.shutdown.cancel();
    let drain = timeout(LONG, server.task).await.expect("ended in time").expect("no panic");
    assert_eq!(drain, DrainOutcome::CutOff { connections: 1 });
}
