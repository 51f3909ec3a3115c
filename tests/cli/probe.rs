//! `vitald probe` against listeners of the test.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::check::ConfigFile;
use crate::support::{FakeServer, closed_port, vitald};

fn ok() -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()
}

#[test]
fn a_url_is_judged_by_its_codes() {
    let cases = [
        ("200 OK", "200-299", 0, "success"),
        ("204 No Content", "200-299", 0, "success"),
        ("503 Service Unavailable", "200-299", 1, "failure"),
        ("301 Moved Permanently", "200", 1, "failure"),
        ("301 Moved Permanently", "200,301", 0, "success"),
    ];
    for (status, codes, code, word) in cases {
        let server = FakeServer::start(vec![format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")]);
        let url = format!("{}/health?deep=1", server.url());
        let outcome = vitald(&[
            "probe",
            &url,
            "--http-code",
            codes,
            "--header",
            "X-Probe: a:b",
            "--host",
            "app.internal",
        ])
        .expect_code(code);
        assert!(outcome.stdout.contains(word) && outcome.stdout.contains(status), "{}", outcome.stdout);
        let requests = server.requests();
        let request = requests[0].to_lowercase();
        assert!(request.starts_with("get /health?deep=1 http/1.1\r\n"), "{request}");
        for header in ["host: app.internal", "x-probe: a:b", "connection: close"] {
            assert!(request.contains(&format!("\r\n{header}\r\n")), "{header}: {request}");
        }
    }
}

#[test]
fn a_tcp_url_needs_only_a_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("tcp://{}", listener.local_addr().expect("address"));
    vitald(&["probe", &url]).expect_code(0);
    drop(listener);
    let outcome = vitald(&["probe", &url]).expect_code(1);
    assert!(outcome.stdout.contains("refused"), "{}", outcome.stdout);
}

#[test]
fn a_silent_listener_runs_into_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}/", listener.local_addr().expect("address"));
    let outcome = vitald(&["probe", &url, "--timeout", "50ms"]).expect_code(1);
    assert!(outcome.stdout.contains("response_timeout"), "{}", outcome.stdout);
}

#[test]
fn json_has_the_fields_of_the_status() {
    let server = FakeServer::start(vec![ok()]);
    let outcome = vitald(&["probe", &server.url(), "--json", "--explain"]).expect_code(0);
    let json: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    assert_eq!(json.pointer("/success").and_then(Value::as_u64), Some(1));
    assert_eq!(text("/probes/0/result").as_deref(), Some("success"));
    assert_eq!(text("/probes/0/detail").as_deref(), Some("200 OK"));
    assert_eq!(text("/probes/0/peer"), Some(server.address.to_string()));
    assert_eq!(json.pointer("/probes/0/status").and_then(Value::as_u64), Some(200));
    assert!(json.pointer("/probes/0/phases/connect").is_some_and(Value::is_number));
    assert!(json.pointer("/probes/0/phases/tls").is_some_and(Value::is_null));
    assert_eq!(text("/probes/0/explanation/status_line").as_deref(), Some("HTTP/1.1 200 OK"));
}

#[test]
fn explain_shows_each_step() {
    let server = FakeServer::start(vec![ok()]);
    let url = format!("{}/health", server.url());
    let outcome = vitald(&["probe", &url, "--explain"]).expect_code(0);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let begins = |start: &str| lines.iter().any(|line| line.starts_with(start));
    for start in [
        &*format!("target       {url}"),
        &format!("connect      {} from 127.0.0.1:", server.address),
        "request      GET /health HTTP/1.1",
        "response     HTTP/1.1 200 OK",
        "outcome      success: 200 OK",
    ] {
        assert!(begins(start), "{start}:\n{}", outcome.stdout);
    }
}

/// Values of these headers, and of those marked secret, are for the member alone.
#[test]
fn no_output_shows_a_secret_header() {
    let server = FakeServer::start(vec![ok(), ok(), ok()]);
    let file = ConfigFile::new(&format!(
        "[[channels]]\nname = \"web\"\nport = {}\nbalance_strategy = 1\nmember_type = \"ip\"\n\
         [channels.vpc_health_config]\nprotocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n\
         threshold_normal = 1\nthreshold_abnormal = 1\ntime_interval = 5\ntimeout = 5\n\
         [channels.probe.headers]\nAuthorization = \"Bearer hidden-value\"\nCookie = \"id=hidden-value\"\n\
         X-Key = {{ value = \"hidden-value\", secret = true }}\nX-File = {{ file = \"key\" }}\n\
         X-Probe = \"yes\"\n[[channels.members]]\nhost = \"127.0.0.1\"\n",
        server.address.port()
    ));
    let key = Path::new(file.path()).with_file_name("key");
    std::fs::write(&key, "hidden-value\n").expect("write");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let config = ["--config", file.path()];
    let url = server.url();
    let flags = ["--header", "authorization: Basic hidden-value", "--header", "X-Probe: yes"];
    let probes = [
        [["probe", "--explain"].as_slice(), &config].concat(),
        [["probe", "--explain", "--json"].as_slice(), &config].concat(),
        [["probe", "--explain", &url].as_slice(), &flags].concat(),
    ];
    for arguments in &probes {
        let shown = vitald(arguments).expect_code(0);
        assert!(!shown.stdout.contains("hidden-value"), "{arguments:?}: {}", shown.stdout);
        let lines = shown.stdout.to_lowercase();
        assert!(lines.contains("authorization: ***") && lines.contains("x-probe: yes"), "{lines}");
    }
    for arguments in [["check"].as_slice(), &["check", "--json"]] {
        let shown = vitald(&[arguments, &config].concat()).expect_code(0);
        assert!(!shown.stdout.contains("hidden-value"), "{arguments:?}: {}", shown.stdout);
    }
    let requests = server.requests();
    let sent: Vec<usize> = requests.iter().map(|request| request.matches("hidden-value").count()).collect();
    assert_eq!(sent, [4, 4, 1], "{requests:?}");
}

#[test]
fn wrong_flags_and_urls_are_not_repeated_where_they_may_hold_secrets() {
    let cases: [(&[&str], &str); 5] = [
        (&["http://127.0.0.1/", "--header", "Authorization hidden-value"], "X-Probe:vitald"),
        (&["http://127.0.0.1/", "--header", "X-Key: hidden-value \u{e9}"], "--header"),
        (&["http://127.0.0.1/", "--header", "X Key: hidden-value"], "--header"),
        (&["http://user:hidden-value@127.0.0.1/"], "a user name or password is not supported"),
        (&["http://user:hidden-value/x@127.0.0.1/"], "the port"),
    ];
    for (arguments, expected) in cases {
        let outcome = vitald(&[&["probe"], arguments].concat()).expect_code(2);
        assert!(outcome.stderr.contains(expected), "{arguments:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("hidden-value"), "{arguments:?}: {}", outcome.stderr);
    }
    let outcome = vitald(&["status", "--url", "http://user:hidden-value@127.0.0.1"]).expect_code(2);
    assert!(!outcome.stderr.contains("hidden-value"), "{}", outcome.stderr);
}

#[test]
fn explain_shows_the_addresses_of_a_name_and_what_they_said() {
    let server = FakeServer::start(vec![ok()]);
    let url = format!("http://localhost:{}/", server.address.port());
    let outcome = vitald(&["probe", &url, "--resolve", "v4", "--explain"]).expect_code(0);
    assert!(outcome.stdout.contains("resolve      localhost -> 127.0.0.1\n"), "{}", outcome.stdout);
    let url = format!("http://localhost:{}/", closed_port());
    let outcome = vitald(&["probe", &url, "--resolve", "v4", "--explain"]).expect_code(1);
    assert!(outcome.stdout.contains("tried        127.0.0.1: connection refused\n"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("\nconnect "), "{}", outcome.stdout);
    let outcome = vitald(&["probe", &url, "--resolve", "v4", "--explain", "--json"]).expect_code(1);
    let json: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let explanation = json.pointer("/probes/0/explanation").expect("an explanation");
    assert_eq!(explanation.pointer("/addresses"), Some(&serde_json::json!(["127.0.0.1"])));
    let said = serde_json::json!([{"address": "127.0.0.1", "detail": "connection refused"}]);
    assert_eq!(explanation.pointer("/attempts"), Some(&said));
}

#[test]
fn wrong_urls_and_flags_are_usage() {
    let cases: [(&[&str], &str); 12] = [
        (&["127.0.0.1:80"], "tcp://HOST:PORT"),
        (&["tcp://127.0.0.1"], "the port is missing"),
        (&["http://127.0.0.1/", "--http-code", "2xx"], "2xx"),
        (&["http://127.0.0.1/", "--timeout", "31s"], "--timeout"),
        (&["http://127.0.0.1/", "--header", "novalue"], "X-Probe:vitald"),
        (&["http://127.0.0.1/", "--header", "Host: x"], "--header"),
        (&["http://127.0.0.1/", "--verify"], "--verify has no effect on a http URL"),
        (&["tcp://127.0.0.1:1", "--http-code", "200"], "--http-code has no effect on a tcp URL"),
        (&["https://127.0.0.1/", "--verify", "--ca-file", "/nonexistent.pem"], "--ca-file"),
        (&["http://127.0.0.1/", "--resolve", "v4"], "--resolve has no effect on the address 127.0.0.1"),
        (&["http://0.0.0.0/"], "the URL's host: `host` is \"0.0.0.0\", the unspecified address"),
        (&["--http-code", "200"], "URL"),
    ];
    for (arguments, expected) in cases {
        let outcome = vitald(&[&["probe"], arguments].concat()).expect_code(2);
        assert!(outcome.stdout.is_empty(), "{arguments:?}: {}", outcome.stdout);
        assert!(outcome.stderr.contains(expected), "{arguments:?}: {}", outcome.stderr);
    }
}

/// Two channels: `good` with one member, `mixed` with a good and a refused one.
fn two_channels(first: u16, second: u16, refused: u16) -> ConfigFile {
    let channel = |name: &str, ports: &[u16]| {
        let members: Vec<String> = ports
            .iter()
            .map(|port| format!("[[channels.members]]\nhost = \"127.0.0.1\"\nport = {port}\n"))
            .collect();
        format!(
            "[[channels]]\nname = \"{name}\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\
             [channels.vpc_health_config]\nprotocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n\
             threshold_normal = 1\nthreshold_abnormal = 1\ntime_interval = 5\ntimeout = 2\n{}",
            members.join("")
        )
    };
    ConfigFile::new(&format!("{}{}", channel("good", &[first]), channel("mixed", &[second, refused])))
}

#[test]
fn every_member_of_a_configuration_is_probed_once() {
    let (first, second) = (FakeServer::start(vec![ok()]), FakeServer::start(vec![ok()]));
    let config = two_channels(first.address.port(), second.address.port(), closed_port());
    let outcome = vitald(&["probe", "--config", config.path()]).expect_code(1);
    let rows: Vec<&str> = outcome.stdout.lines().collect();
    assert!(rows[1].starts_with("good") && rows[1].contains("success"), "{}", outcome.stdout);
    assert!(rows[2].starts_with("mixed") && rows[2].contains("success"), "{}", outcome.stdout);
    assert!(rows[3].starts_with("mixed") && rows[3].contains("refused"), "{}", outcome.stdout);
    assert_eq!(rows.last(), Some(&"2 success, 1 failure, 0 inconclusive"));
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[test]
fn one_channel_can_be_picked() {
    let first = FakeServer::start(vec![ok()]);
    let config = two_channels(first.address.port(), closed_port(), closed_port());
    let outcome = vitald(&["probe", "--config", config.path(), "--channel", "good"]).expect_code(0);
    assert!(!outcome.stdout.contains("mixed"), "{}", outcome.stdout);
    let outcome = vitald(&["probe", "--config", config.path(), "--channel", "nope"]).expect_code(2);
    assert!(outcome.stderr.contains("good, mixed"), "{}", outcome.stderr);
}
