//! Events and counters, of requests over real connections and of records alone.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{advance, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::*;
use crate::config::AccessSettings;
use crate::config::api::Transport;
use crate::serve::{Access, Limits, run};

type Fields = HashMap<String, String>;

/// The audit's events, in their order.
struct Events {
    events: mpsc::UnboundedReceiver<Fields>,
    _subscriber: DefaultGuard,
}

struct Tell(mpsc::UnboundedSender<Fields>);

struct Gather(Fields);

impl Visit for Gather {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: tracing::Subscriber> Layer<S> for Tell {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "vitald::audit" {
            let mut gather = Gather(Fields::new());
            event.record(&mut gather);
            self.0.send(gather.0).expect("the test listens");
        }
    }
}

impl Events {
    fn listen() -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let subscriber = Registry::default().with(Tell(tell));
        Self { events, _subscriber: tracing::subscriber::set_default(subscriber) }
    }

    async fn next(&mut self) -> Fields {
        timeout(Duration::from_secs(10), self.events.recv()).await.expect("in time").expect("an event")
    }

    fn all(&mut self) -> Vec<Fields> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

/// The named fields of an event, `-` for those that it does not have.
fn of<'f>(event: &'f Fields, names: &str) -> Vec<&'f str> {
    names.split(' ').map(|name| event.get(name).map_or("-", String::as_str)).collect()
}

fn counted(audit: &Audit, call: &str, code: &str) -> u64 {
    let found = audit.requests().find(|(a, b, _)| (*a, *b) == (call, code));
    found.unwrap_or_else(|| panic!("there is no series of {call} and {code}")).2
}

fn failed(audit: &Audit, kind: &str) -> u64 {
    audit.failures().find(|(word, _)| *word == kind).map(|(_, count)| count).expect(kind)
}

struct Served {
    address: SocketAddr,
    audit: Audit,
    stop: CancellationToken,
}

impl Served {
    async fn start() -> Self {
        async fn fail() -> StatusCode {
            panic!("a mistake in a handler")
        }
        let router = Router::new()
            .route("/livez", get(|| async { "alive" }))
            .route("/v1/reload", post(|| async { "reloaded" }))
            .route("/fails", post(fail))
            .route("/hangs", post(std::future::pending::<StatusCode>));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (audit, stop) = (Audit::new(AuditedCalls::OwnPages), CancellationToken::new());
        let access = Access::new(&AccessSettings::default());
        tokio::spawn(run(listener, router, stop.clone(), Limits::default(), access, audit.clone()));
        Self { address, audit, stop }
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(text.as_bytes()).await.expect("sent");
        stream
    }

    async fn ask(&self, text: &str) -> String {
        let mut answer = String::new();
        self.send(text).await.read_to_string(&mut answer).await.expect("an answer");
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn request(head: &str, host: &str) -> String {
    format!("{head} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_deed_is_an_event_and_a_look_is_counted() {
    let (mut events, server) = (Events::listen(), Served::start().await);
    let livez = server.ask(&request("GET /livez", "localhost")).await;
    assert!(livez.starts_with("HTTP/1.1 200"), "{livez}");
    let answer = server.ask(&request("POST /v1/reload", "localhost")).await;
    let event = events.next().await;
    assert_eq!(
        of(&event, "call result status source principal error auth_failure"),
        ["reload", "done", "200", "127.0.0.1", "-", "-", "-"]
    );
    let id = &event["request_id"];
    assert!(answer.to_lowercase().contains(&format!("x-request-id: {id}")), "{id} in {answer}");
    assert_eq!(event["message"], "audit: reload 200 by nobody known from 127.0.0.1");
    assert_eq!((counted(&server.audit, "page", "200"), counted(&server.audit, "reload", "200")), (1, 1));
}

#[tokio::test]
async fn what_no_route_has_seen_is_an_event() {
    let (mut events, server) = (Events::listen(), Served::start().await);
    server.ask(&request("GET /livez", "evil.example")).await;
    let names = "call result status auth_failure";
    assert_eq!(of(&events.next().await, names), ["page", "refused", "421", "host"]);
    server.ask("POST /v1/reload HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!(of(&events.next().await, names), ["reload", "refused", "400", "-"]);
    let origin = "localhost\r\nOrigin: http://evil.example";
    server.ask(&request("POST /v1/reload", origin)).await;
    assert_eq!(of(&events.next().await, names), ["reload", "refused", "403", "origin"]);
    server.ask("no HTTP at all\r\n\r\n").await;
    assert_eq!(of(&events.next().await, names), ["unknown", "refused", "400", "-"]);
    server.ask(&request("DELETE /v1/nothing", "localhost")).await;
    assert_eq!(of(&events.next().await, names), ["unknown", "refused", "404", "-"]);
    // The API is not there, so its calls are none.
    let path = "POST /v2/p/apigw/instances/I/vpc-channels";
    server.ask(&request(path, "localhost")).await;
    assert_eq!(of(&events.next().await, names), ["unknown", "refused", "404", "-"]);
    server.ask(&request("GET /.git/config", "localhost")).await;
    assert_eq!(events.all(), Vec::<Fields>::new(), "who looks for what is not there is counted");
    assert_eq!(counted(&server.audit, "unknown", "404"), 3);
    assert_eq!((failed(&server.audit, "host"), failed(&server.audit, "origin")), (1, 1));
}

#[tokio::test]
async fn a_handler_that_panics_and_a_client_that_goes_are_events() {
    let (mut events, server) = (Events::listen(), Served::start().await);
    drop(server.send(&request("POST /hangs", "localhost")).await);
    assert_eq!(of(&events.next().await, "call result status"), ["unknown", "cancelled", "-"]);
    let mut stream = server.send(&request("POST /fails", "localhost")).await;
    let mut rest = Vec::new();
    // The connection ends with the handler.
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(of(&events.next().await, "call result status"), ["unknown", "panicked", "-"]);
    assert_eq!(counted(&server.audit, "unknown", "none"), 2);
}

/// A record of a request from that address, ended so.
fn record(audit: &Audit, peer: &str, status: u16, note: impl FnOnce(&Extensions)) {
    let peer = SocketAddr::new(peer.parse().expect(peer), 1);
    let connection = ConnectionInfo::network(peer, None, Transport::Plain);
    let mut request = Request::post("/v1/reload").body(()).expect("a request");
    let record = audit.begin(&mut request, &connection);
    note(request.extensions());
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    record.end(&mut answer);
}

#[tokio::test(start_paused = true)]
async fn refusals_do_not_fill_the_log_and_what_is_left_out_is_said() {
    let (mut events, audit) = (Events::listen(), Audit::new(AuditedCalls::OwnPages));
    for _ in 0..100 {
        record(&audit, "192.0.2.1", 403, |_| {});
    }
    assert_eq!(events.all().len(), 10);
    record(&audit, "192.0.2.2", 403, |_| {});
    assert_eq!(events.all().len(), 1, "another source is told of");
    // Who has proved who they are is not silenced by strangers.
    for last in 3..100 {
        (0..10).for_each(|_| record(&audit, &format!("192.0.2.{last}"), 401, |_| {}));
    }
    events.all();
    record(&audit, "192.0.2.1", 403, |extensions| AuditNote::prove(extensions, &"ops@local"));
    record(&audit, "192.0.2.1", 200, |_| {});
    let told = events.all();
    let told: Vec<_> = told.iter().map(|event| of(event, "status principal")).collect();
    assert_eq!(told, [["403", "ops@local"], ["200", "-"]]);
    advance(WINDOW).await;
    let summary = events.next().await;
    let left_out = (100 - 10) + 97 * 10 - (60 - 10 - 1);
    assert_eq!(of(&summary, "left_out call"), [left_out.to_string().as_str(), "-"]);
    record(&audit, "192.0.2.1", 403, |_| {});
    assert_eq!(events.all().len(), 1, "a new minute");
    assert_eq!(counted(&audit, "reload", "403"), 103, "all are counted");
}

#[tokio::test]
async fn no_deed_is_hidden_by_not_waiting_for_its_answer() {
    let (mut events, audit) = (Events::listen(), Audit::new(AuditedCalls::OwnPages));
    let prove = |extensions: &Extensions| AuditNote::prove(extensions, &"ops@local");
    (0..100).for_each(|_| record(&audit, "192.0.2.1", 400, prove));
    assert_eq!(events.all().len(), 10);
    let peer = SocketAddr::new([192, 0, 2, 1].into(), 1);
    let connection = ConnectionInfo::network(peer, None, Transport::Plain);
    for _ in 0..100 {
        let mut request = Request::post("/v1/reload").body(()).expect("a request");
        let record = audit.begin(&mut request, &connection);
        prove(request.extensions());
        drop(record);
    }
    let told = events.all();
    assert_eq!(told.len(), 100);
    assert!(told.iter().all(|event| of(event, "call result") == ["reload", "cancelled"]));
    (0..100).for_each(|_| record(&audit, "192.0.2.1", 503, prove));
    assert_eq!(events.all().len(), 100);
}

#[tokio::test]
async fn the_first_reason_counts_and_whoever_is_claimed_is_told_from_nobody() {
    let (mut events, audit) = (Events::listen(), Audit::new(AuditedCalls::OwnPages));
    record(&audit, "::ffff:192.0.2.1", 429, |extensions| {
        AuditNote::claim(extensions, &"ops@local");
        AuditNote::fail(extensions, AuthFailure::Password);
        AuditNote::fail(extensions, AuthFailure::Other);
    });
    let event = events.next().await;
    assert_eq!(of(&event, "principal auth_failure source"), ["ops@local", "password", "192.0.2.1"]);
    assert_eq!((failed(&audit, "password"), failed(&audit, "other")), (1, 0));
}

#[test]
fn a_source_is_written_as_the_limits_see_it() {
    let address: IpAddr = [192, 0, 2, 7].into();
    let network = ConnectionInfo::network((address, 1).into(), None, Transport::Plain);
    assert_eq!(source_of(&network), "192.0.2.7");
    let proxy = ConnectionInfo { network: PeerNetwork::Proxy(address), ..network };
    assert_eq!(source_of(&proxy), "proxy:192.0.2.7");
    assert_eq!(source_of(&ConnectionInfo::socket(Some(1000))), "unix:uid=1000");
    assert_eq!(source_of(&ConnectionInfo::socket(None)), "unix");
}

#[test]
fn of_a_proxys_words_the_last_address_counts() {
    let of = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| {
            headers.append("x-forwarded-for", value.parse().expect("a value"));
        });
        forwarded_for(&headers).map(|address| address.to_string())
    };
    assert_eq!(of(&["10.9.9.9, 203.0.113.7"]).as_deref(), Some("203.0.113.7"));
    assert_eq!(of(&["10.9.9.9", "203.0.113.7:5000"]).as_deref(), Some("203.0.113.7"));
    assert_eq!(of(&["[2001:db8::1]"]).as_deref(), Some("2001:db8::1"));
    assert_eq!(of(&["[2001:db8::1]:443"]).as_deref(), Some("2001:db8::1"));
    assert_eq!((of(&["unknown"]), of(&[""]), of(&[])), (None, None, None));
}

#[test]
fn text_of_a_path_is_short_and_printable() {
    assert_eq!(printable("eddc4d25-480b"), "eddc4d25-480b");
    assert_eq!(printable("a%1B[31m%e2%80%ae%0a%c3%a9"), "a?[31m??é");
    assert_eq!(printable("127%2E0%2E0%2E1%3A18082"), "127.0.0.1:18082");
    assert_eq!(printable(&"x".repeat(10_000)).len(), LONGEST_ID);
}

#[test]
fn series_are_there_from_the_start_and_only_for_what_is_served() {
    let own = Audit::new(AuditedCalls::OwnPages);
    let calls: std::collections::HashSet<_> = own.requests().map(|(call, ..)| call).collect();
    assert_eq!(calls, ["reload", "change_member", "page", "unknown"].into());
    let all = Audit::new(AuditedCalls::WithApi);
    assert!(all.requests().all(|(.., count)| count == 0));
    assert_eq!((counted(&all, "create_channel", "201"), counted(&all, "show_channel", "none")), (0, 0));
    let series: Vec<_> = all.requests().map(|(call, code, _)| (call, code)).collect();
    assert!(series.len() < 450, "{}", series.len());
    assert!(!series.contains(&("show_channel", "201")));
}
