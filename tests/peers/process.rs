//! How the process begins and ends: bad configurations, signals, exit codes.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::address::own_address;
use crate::support::config::{member, pace};
use crate::support::daemon::vitald;
use crate::support::sockets::sockets;
use crate::support::{Answer, Backend, Daemon, channel, http_check, wait};

fn web(ip: std::net::Ipv4Addr) -> String {
    channel("web", &http_check("HTTP", "/", "200"), &[member(ip, 8000)])
}

#[test]
fn sigterm_and_sigint_end_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let ip = own_address();
        let backend = Backend::steady(ip, 8000, Answer::Status(200));
        let mut daemon = Daemon::start(&web(ip));
        daemon.wait_for_health("web", &backend.address.to_string(), "healthy");
        daemon.signal(signal);
        let status = daemon.process.wait(Duration::from_secs(10), "the daemon to end");
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}\n{}", daemon.log());
        assert!(TcpStream::connect(daemon.address).is_err());
    }
}

#[test]
fn a_probe_under_way_does_not_hold_up_the_end_and_is_no_failure() {
    let ip = own_address();
    let silent = Backend::steady(ip, 8000, Answer::Silence);
    let check =
        format!("protocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n{}", pace(1, 1, "60s", "30s"));
    let mut daemon = Daemon::start(&channel("web", &check, &[member(ip, 8000)]));
    wait::until("the probe", || (silent.requests() == 1).then_some(()));
    daemon.signal(Signal::TERM);
    let status = daemon.process.wait(Duration::from_secs(15), "the daemon to end");
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("unhealthy"), "{}", daemon.log());
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let ip = own_address();
    let _backend = Backend::steady(ip, 8000, Answer::Silence);
    let check =
        format!("protocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n{}", pace(1, 1, "60s", "30s"));
    let mut daemon = Daemon::start(&channel("web", &check, &[member(ip, 8000)]));
    // A request that is half sent, and half read, is something to drain.
    let mut stuck = TcpStream::connect(daemon.address).expect("it listens");
    stuck.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n").expect("it reads");
    let own = stuck.local_addr().expect("a connected address");
    wait::until("the daemon to read", || {
        let served = sockets().into_iter().find(|socket| socket.joins(daemon.address, own))?;
        (served.unread == 0).then_some(())
    });
    daemon.signal(Signal::TERM);
    // Sent together, two signals are one.
    wait::until("the first to be seen", || daemon.log().contains("stopping").then_some(()));
    assert_eq!(daemon.process.ended(), None, "nothing was left to drain");
    let began = wait::now();
    daemon.signal(Signal::TERM);
    let status = daemon.process.wait(Duration::from_secs(2), "the daemon to end");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(status.code(), Some(128 + 15), "{status}");
}

#[test]
fn a_bad_configuration_ends_it_with_78_and_every_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vitald.toml");
    let text = "[server]\nlisten = \"nowhere\"\n\n[[channels]]\nname = \"web\"\nport = 0\nbalance_strategy = 9\n\
                member_type = \"ip\"\ncolour = \"red\"\n\n[channels.vpc_health_config]\nprotocol = \"HTTP\"\n\
                threshold_normal = 2\nthreshold_abnormal = 3\ntime_interval = 5\ntimeout = 9\n\n\
                [[channels.members]]\nhost = \"10.0.0.1\"\nweight = 20000\n";
    fs::write(&path, text).expect("the folder can be written");
    for command in ["run", "check"] {
        let output = vitald().args([command, "--config"]).arg(&path).output().expect("vitald can be started");
        assert_eq!(output.status.code(), Some(78), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for word in ["listen", "port", "balance_strategy", "colour", "timeout", "path", "http_code", "weight"]
        {
            assert!(said.contains(word), "{command} does not name {word}:\n{said}");
        }
        // Each with its place.
        for line in [":2:", ":6:", ":7:", ":9:", ":16:", ":20:"] {
            assert!(
                said.contains(&format!("vitald.toml{line}")),
                "{command} does not show line {line}\n{said}"
            );
        }
        assert!(output.stdout.is_empty(), "messages belong on stderr");
    }
}

#[test]
fn a_missing_file_is_named() {
    let output =
        vitald().args(["run", "--config", "/nowhere/vitald.toml"]).output().expect("vitald can be started");
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/nowhere/vitald.toml"), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let ip = own_address();
    let first = Daemon::start(&web(ip));
    let output =
        vitald().args(["run", "--config"]).arg(first.config_path()).output().expect("vitald can be started");
    assert!(!output.status.success());
    assert_ne!(output.status.code(), Some(78), "the configuration is fine");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&first.address.to_string()), "{said}");
}

#[test]
fn readiness_waits_for_a_verdict_of_every_member() {
    let ip = own_address();
    let backend = Backend::steady(ip, 8000, Answer::Status(200));
    let daemon = Daemon::start(&web(ip));
    wait::until("readiness", || (daemon.get("/readyz").status == 200).then_some(()));
    assert!(daemon.member("web", &backend.address.to_string()).is("healthy"));
    assert_eq!(daemon.get("/livez").status, 200);
    assert_eq!(daemon.json("/v1/status").get("ready"), Some(&serde_json::Value::Bool(true)));

    // With a verdict that never comes, the bound decides.
    let slow = format!("protocol = \"TCP\"\n{}", pace(10, 10, "60s", "30s"));
    let bounded =
        format!("[prober]\nready_within = \"1s\"\n\n{}", channel("slow", &slow, &[member(ip, 8000)]));
    let daemon = Daemon::start(&bounded);
    wait::until("readiness", || (daemon.get("/readyz").status == 200).then_some(()));
    assert!(daemon.member("slow", &SocketAddr::from((ip, 8000)).to_string()).is("unknown"));
}
