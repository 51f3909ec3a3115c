//! The commands against real members and a running daemon.

use std::process::Output;

use serde_json::Value;

use crate::support::config::member;
use crate::support::daemon::vitald;
use crate::support::{Daemon, Nginx, channel, http_check, wait};

fn run(arguments: &[&str]) -> Output {
    vitald().args(arguments).output().expect("vitald can be started")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn status_ends_with_how_things_are() {
    let Some(nginx) = Nginx::plain(2) else { return };
    let members = [member(nginx.ip, 8000), member(nginx.ip, 8001)];
    let daemon = Daemon::start(&channel("web", &http_check("HTTP", "/health", "200"), &members));
    let url = format!("http://{}", daemon.address);
    let status = || run(&["status", "--url", &url]);
    for port in [8000, 8001] {
        daemon.wait_for_health("web", &nginx.member(port), "healthy");
    }
    let healthy = status();
    assert_eq!(code(&healthy), Some(0), "{}", stdout(&healthy));
    assert!(stdout(&healthy).contains("web"));
    nginx.switch_on("answer-500", 8000);
    daemon.wait_for_health("web", &nginx.member(8000), "unhealthy");
    assert_eq!(code(&status()), Some(1), "degraded");
    nginx.switch_on("answer-500", 8001);
    daemon.wait_for_health("web", &nginx.member(8001), "unhealthy");
    assert_eq!(code(&status()), Some(2), "critical");
    let json = run(&["status", "--json", "--url", &url]);
    let parsed: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(parsed.pointer("/channels/0/unhealthy").and_then(Value::as_u64), Some(2));
    // The configuration tells where the daemon listens.
    assert_eq!(code(&daemon.command(&["status"])), Some(2));
    drop(daemon);
    assert_eq!(code(&status()), Some(3), "nobody to ask is unknown");
}

#[test]
fn probe_asks_once() {
    let Some(nginx) = Nginx::plain(2) else { return };
    let url = format!("http://{}/health", nginx.member(8000));
    let once = run(&["probe", &url]);
    assert_eq!(code(&once), Some(0), "{}", stdout(&once));
    assert_eq!(nginx.requests().len(), 1);
    nginx.switch_on("answer-204", 8000);
    assert_eq!(code(&run(&["probe", &url, "--http-code", "200"])), Some(1));
    assert_eq!(code(&run(&["probe", &url, "--http-code", "200-299", "--timeout", "2s"])), Some(0));
    let explained = run(&["probe", &url, "--http-code", "200", "--explain"]);
    assert_eq!(code(&explained), Some(1));
    assert!(stdout(&explained).contains("204"), "{}", stdout(&explained));
    assert_eq!(code(&run(&["probe", &format!("tcp://{}", nginx.member(8001))])), Some(0));
    let refused = run(&["probe", &format!("tcp://{}", nginx.member(8009))]);
    assert_eq!(code(&refused), Some(1));
    assert!(stdout(&refused).contains("refused"), "{}", stdout(&refused));
}

#[test]
fn probe_asks_every_member_of_a_configuration() {
    let Some(nginx) = Nginx::plain(3) else { return };
    let members: Vec<String> = (8000..8003).map(|port| member(nginx.ip, port)).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vitald.toml");
    std::fs::write(&path, channel("web", &http_check("HTTP", "/health", "200"), &members))
        .expect("the folder");
    let path = path.to_string_lossy().into_owned();
    let all = run(&["probe", "--config", &path, "--json"]);
    assert_eq!(code(&all), Some(0), "{}", stdout(&all));
    serde_json::from_slice::<Value>(&all.stdout).expect("JSON");
    for port in 8000..8003 {
        assert_eq!(nginx.requests_to(port).len(), 1, "port {port}");
    }
    nginx.switch_on("answer-500", 8001);
    assert_eq!(code(&run(&["probe", "--config", &path])), Some(1));
    let checked = run(&["check", "--config", &path]);
    assert_eq!(code(&checked), Some(0));
    assert!(stdout(&checked).contains("web"), "{}", stdout(&checked));
    assert_eq!(nginx.requests().len(), 6, "check asks nobody");
}

#[test]
fn the_demo_runs_and_ends_by_itself() {
    let began = wait::now();
    let demo = run(&["demo", "--for", "6s"]);
    let said = stdout(&demo) + &String::from_utf8_lossy(&demo.stderr);
    assert_eq!(code(&demo), Some(0), "{said}");
    assert!(began.elapsed().as_secs() < 20);
    for word in ["/v1/status", "/metrics", "healthy"] {
        assert!(said.contains(word), "no {word} in:\n{said}");
    }
}
