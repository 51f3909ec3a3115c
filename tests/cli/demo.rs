//! `vitald demo` as a process, asked by `status`, `probe` and `reload`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::support::{Outcome, Running, command, vitald};

/// Starts `vitald demo` on a free port; gives its URL and the rest of its output.
fn demo() -> (Running, String, impl Iterator<Item = String>) {
    let mut child = command(&["demo", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let status = lines.find(|line| line.trim_start().starts_with("status")).expect("the status line");
    let url = status.split_whitespace().nth(1).and_then(|url| url.strip_suffix("/v1/status"));
    (Running(child), url.expect("a URL").to_owned(), lines)
}

#[test]
fn the_demo_ends_by_itself() {
    let outcome = vitald(&["demo", "--for", "2s", "--listen", "127.0.0.1:0"]).expect_code(0);
    assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);
    for part in [
        "/v1/status",
        "/metrics",
        "steady-1  unknown -> healthy",
        "slow      unknown -> unhealthy",
        "The demo is over",
    ] {
        assert!(outcome.stdout.contains(part), "{part}:\n{}", outcome.stdout);
    }
}

#[test]
fn a_taken_default_port_is_no_obstacle() {
    // Ours, or somebody else's already: taken in both cases.
    let _taken = std::net::TcpListener::bind("127.0.0.1:9650");
    let outcome = vitald(&["demo", "--for", "300ms"]).expect_code(0);
    assert!(
        outcome.stdout.contains("http://127.0.0.1:") && !outcome.stdout.contains(":9650/"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn the_demo_shows_itself_and_ends_on_an_interrupt() {
    let (running, url, mut lines) = demo();
    lines.find(|line| line.contains("slow") && line.contains("unhealthy")).expect("the slow backend fails");
    // One member is down, others take the traffic: degraded.
    let Outcome { stdout, .. } = vitald(&["status", "--url", &url]).expect_code(1);
    for part in ["demo-wleastconn: 1 of 3 enabled members unhealthy", "response_timeout"] {
        assert!(stdout.contains(part), "{part}:\n{stdout}");
    }
    let Outcome { stdout, .. } = vitald(&["status", "--url", &url, "--channel", "demo-uri"]);
    assert!(stdout.contains("demo-uri") && !stdout.contains("demo-wrr"), "{stdout}");
    explain_the_https_backend(&url);
    let Outcome { stdout, .. } = vitald(&["reload", "--url", &url]).expect_code(0);
    assert!(stdout.contains("members added 0, removed 0, changed 0, restarted 0"), "{stdout}");
    running.signal("INT");
    assert!(lines.any(|line| line.starts_with("The demo is over")));
    assert_eq!(running.ended(), Some(0));
}

/// `probe --explain` of the demo's backend behind TLS, found through its status.
fn explain_the_https_backend(url: &str) {
    let Outcome { stdout, .. } = vitald(&["status", "--json", "--channel", "demo-uri", "--url", url]);
    let status: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let address = status
        .pointer("/channels/0/members/0/address")
        .and_then(|address| address.as_str())
        .expect("address");
    let target = format!("https://{address}/health");
    let Outcome { stdout, .. } = vitald(&["probe", &target, "--explain"]).expect_code(0);
    for part in [
        "tls          TLS 1.3",
        ", no server name sent: 127.0.0.1 is an address",
        "certificate  subject",
        "demo.vitald.internal",
        "outcome      success: 200 OK",
    ] {
        assert!(stdout.contains(part), "{part}:\n{stdout}");
    }
    let arguments = ["probe", &target, "--explain", "--verify", "--server-name", "demo.vitald.internal"];
    let Outcome { stdout, .. } = vitald(&arguments).expect_code(1);
    for part in [", server name demo.vitald.internal", "refused: ", "outcome      failure (tls_certificate)"]
    {
        assert!(stdout.contains(part), "{part}:\n{stdout}");
    }
}

#[test]
fn a_demo_whose_reader_goes_ends_quietly() {
    let (running, _, lines) = demo();
    drop(lines);
    assert_eq!(running.ended(), Some(0));
}
