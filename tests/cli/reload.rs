//! `vitald reload` against a listener that answers like a daemon.

use crate::support::{FakeServer, answer, closed_port, vitald};

#[test]
fn a_good_reload_says_what_changed() {
    let body = r#"{"result":"reloaded","channels":2,"members":5,"channels_added":0,"channels_removed":0,"channels_changed":2,"added":1,"removed":0,"changed":4,"restarted":3}"#;
    let server = FakeServer::start(vec![answer("200 OK", body)]);
    let outcome = vitald(&["reload", "--url", &server.url()]).expect_code(0);
    assert_eq!(
        outcome.stdout,
        "reloaded: channels 2, members 5; channels added 0, removed 0, changed 2; members added 1, removed 0, changed 4, restarted 3\n"
    );
    let requests = server.requests();
    assert!(requests[0].starts_with("POST /v1/reload HTTP/1.1\r\n"), "{requests:?}");
    assert!(requests[0].to_lowercase().contains("\r\nx-vitald-action: reload\r\n"), "{requests:?}");

    let server = FakeServer::start(vec![answer("200 OK", body)]);
    let outcome = vitald(&["reload", "--json", "--url", &server.url()]).expect_code(0);
    assert_eq!(outcome.stdout, format!("{body}\n"));
}

#[test]
fn a_bad_configuration_is_78_with_the_daemons_words() {
    let server = FakeServer::start(vec![answer(
        "422 Unprocessable Entity",
        r#"{"error":"error[E009]: timeout\n --> vitald.toml:3:1"}"#,
    )]);
    let outcome = vitald(&["reload", "--url", &server.url()]).expect_code(78);
    assert!(outcome.stdout.is_empty());
    assert!(outcome.stderr.starts_with("error[E009]: timeout\n --> vitald.toml:3:1\n"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("keeps its old configuration"), "{}", outcome.stderr);
}

#[test]
fn everything_else_is_a_failure() {
    let server = FakeServer::start(vec![answer("403 Forbidden", r#"{"error":"the header is missing"}"#)]);
    let outcome = vitald(&["reload", "--url", &server.url()]).expect_code(1);
    assert!(outcome.stderr.contains("403: the header is missing"), "{}", outcome.stderr);
    for way in ["[server] socket", "--socket", "SIGHUP"] {
        assert!(outcome.stderr.contains(way), "{}", outcome.stderr);
    }
    let server =
        FakeServer::start(vec![answer("503 Service Unavailable", r#"{"error":"not read within 30s"}"#)]);
    let outcome = vitald(&["reload", "--url", &server.url()]).expect_code(1);
    assert!(outcome.stderr.contains("503: not read within 30s"), "{}", outcome.stderr);
    let outcome = vitald(&["reload", "--url", &format!("http://127.0.0.1:{}", closed_port())]).expect_code(1);
    assert!(outcome.stderr.contains("connection refused"), "{}", outcome.stderr);
}
