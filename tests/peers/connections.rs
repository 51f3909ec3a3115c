//! Members that refuse, swallow, stall, hang up or babble: the reason names the
//! deepest phase that was reached.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use crate::support::address::own_address;
use crate::support::backend::BlackHole;
use crate::support::config::member;
use crate::support::sockets::sockets;
use crate::support::{Answer, Backend, Daemon, channel, http_check, tcp_check, wait};

/// One channel with one member, and the reason its failures must have.
struct Case {
    name: &'static str,
    check: String,
    address: SocketAddr,
    reason: &'static str,
}

fn assert_reasons(cases: &[Case]) {
    let channels: String = cases
        .iter()
        .map(|case| channel(case.name, &case.check, &[member(case.address.ip(), case.address.port())]))
        .collect();
    let daemon = Daemon::start(&channels);
    for case in cases {
        let down = daemon.wait_for_health(case.name, &case.address.to_string(), "unhealthy");
        assert_eq!(down.reason.as_deref(), Some(case.reason), "{}: {down:?}", case.name);
        assert_eq!(down.result.as_deref(), Some("failure"));
        assert!(down.detail.is_some_and(|detail| !detail.is_empty()), "{}", case.name);
        assert!(down.failures >= 3);
    }
    let metrics = daemon.metrics();
    for case in cases {
        let failures = metrics.sum("vitald_probe_failures_total", &[("channel", case.name)]);
        let of_reason =
            metrics.sum("vitald_probe_failures_total", &[("channel", case.name), ("reason", case.reason)]);
        assert_eq!(failures, of_reason, "{}: another reason was seen too", case.name);
        assert!(of_reason >= 3.0);
    }
}

#[test]
fn members_that_cannot_be_reached() {
    let ip = own_address();
    let hole = BlackHole::open(ip, 8001);
    let nobody = SocketAddr::from((ip, 8000));
    let http = || http_check("HTTP", "/", "200");
    let https = || http_check("HTTPS", "/", "200");
    // A broadcast address: no TCP connection to it can exist.
    let nowhere = SocketAddr::from((Ipv4Addr::BROADCAST, 80));
    assert_reasons(&[
        Case { name: "refused-tcp", check: tcp_check(), address: nobody, reason: "refused" },
        Case { name: "refused-http", check: http(), address: nobody, reason: "refused" },
        Case { name: "refused-https", check: https(), address: nobody, reason: "refused" },
        Case { name: "hole-tcp", check: tcp_check(), address: hole.address, reason: "connect_timeout" },
        Case { name: "hole-http", check: http(), address: hole.address, reason: "connect_timeout" },
        Case { name: "hole-https", check: https(), address: hole.address, reason: "connect_timeout" },
        Case { name: "unreachable", check: tcp_check(), address: nowhere, reason: "unreachable" },
    ]);
}

#[test]
fn members_that_connect_and_then_misbehave() {
    let ip = own_address();
    // Its kernel connects; no program ever looks.
    let stalled = TcpListener::bind((ip, 8000)).expect("the test's own address is free");
    let stalled_address = stalled.local_addr().expect("a bound address");
    let answers = [
        ("silent", Answer::Silence, "response_timeout"),
        ("closes", Answer::Close, "closed"),
        ("resets", Answer::Reset, "reset"),
        ("babbles", Answer::Bytes(b"220 mail.example ESMTP\r\n".to_vec()), "protocol"),
        ("old", Answer::Bytes(b"HTTP/0.9 200 OK\r\n\r\n".to_vec()), "protocol"),
        ("cut", Answer::Bytes(b"HTTP/1.1 200 OK\r\nServer: x".to_vec()), "closed"),
        ("endless", Answer::Bytes(endless_head()), "protocol"),
        // Each byte comes in time; the whole does not.
        ("drips", Answer::Drip(b"HTTP/1.1 200 OK\r\nA: ", Duration::from_millis(40)), "response_timeout"),
        (
            "hints",
            Answer::Drip(b"HTTP/1.1 103 Early Hints\r\n\r\n", Duration::from_millis(40)),
            "response_timeout",
        ),
    ];
    let mut cases = vec![
        Case {
            name: "stalled-http",
            check: http_check("HTTP", "/", "200"),
            address: stalled_address,
            reason: "response_timeout",
        },
        Case {
            name: "stalled-https",
            check: http_check("HTTPS", "/", "200"),
            address: stalled_address,
            reason: "tls_timeout",
        },
    ];
    let mut backends = Vec::new();
    for (port, (name, answer, reason)) in (8001..).zip(answers) {
        let backend = Backend::steady(ip, port, answer);
        cases.push(Case { name, check: http_check("HTTP", "/", "200"), address: backend.address, reason });
        backends.push(backend);
    }
    assert_reasons(&cases);
}

/// A head above any sensible limit.
fn endless_head() -> Vec<u8> {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for number in 0..4000 {
        head.extend_from_slice(format!("X-Header-{number}: {number:0>60}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[test]
fn interim_answers_are_passed_over() {
    let ip = own_address();
    let interim = Backend::steady(
        ip,
        8000,
        Answer::Bytes(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec()),
    );
    let switching =
        Backend::steady(ip, 8001, Answer::Bytes(b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec()));
    // No reason phrase, HTTP/1.0, a body that never ends: the head decides.
    let old = Backend::steady(
        ip,
        8002,
        Answer::Bytes(b"HTTP/1.0 200\r\nContent-Length: 999999\r\n\r\npart".to_vec()),
    );
    let channels = channel("interim", &http_check("HTTP", "/", "200"), &[member(ip, 8000)])
        + &channel("switching", &http_check("HTTP", "/", "101"), &[member(ip, 8001)])
        + &channel("old", &http_check("HTTP", "/", "200"), &[member(ip, 8002)]);
    let daemon = Daemon::start(&channels);
    for (name, backend, status) in
        [("interim", &interim, 200), ("switching", &switching, 101), ("old", &old, 200)]
    {
        let up = daemon.wait_for_health(name, &backend.address.to_string(), "healthy");
        assert_eq!(up.status, Some(status));
    }
}

#[test]
fn a_black_hole_that_recovers_becomes_healthy() {
    let ip = own_address();
    let hole = BlackHole::open(ip, 8000);
    let address = hole.address.to_string();
    let daemon = Daemon::start(&channel("hole", &tcp_check(), &[member(ip, 8000)]));
    let down = daemon.wait_for_health("hole", &address, "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("connect_timeout"));
    hole.recover();
    daemon.wait_for_health("hole", &address, "healthy");
}

#[test]
fn a_name_without_an_address_is_a_verdict() {
    let host = "no-such-member.invalid";
    let daemon = Daemon::start(&channel("names", &tcp_check(), &[member(host, 8000)]));
    let down = daemon.wait_for_health("names", &format!("{host}:8000"), "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("resolve"));
}

#[test]
fn a_name_with_an_address_is_probed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound address").port();
    let daemon = Daemon::start(&channel("names", &tcp_check(), &[member("localhost", port)]));
    daemon.wait_for_health("names", &format!("localhost:{port}"), "healthy");
}

#[test]
fn ipv6_members_are_probed() {
    // Without IPv6 on the machine there is nothing to show.
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let port = listener.local_addr().expect("a bound address").port();
    let daemon = Daemon::start(&channel("six", &tcp_check(), &[member("::1", port)]));
    daemon.wait_for_health("six", &format!("[::1]:{port}"), "healthy");
}

fn time_wait_sockets(address: SocketAddr) -> usize {
    sockets().iter().filter(|socket| socket.is_time_wait_of(address)).count()
}

#[test]
fn a_tcp_probe_neither_wakes_the_application_nor_leaves_time_wait() {
    let ip = own_address();
    let reset = Backend::steady(ip, 8000, Answer::Close);
    let fin = Backend::steady(ip, 8001, Answer::Close);
    let check = |close: &str| format!("{}\n[channels.probe]\nclose = \"{close}\"", tcp_check());
    let channels = channel("reset", &check("reset"), &[member(ip, 8000)])
        + &channel("fin", &check("fin"), &[member(ip, 8001)]);
    let daemon = Daemon::start(&channels);
    for (name, backend) in [("reset", &reset), ("fin", &fin)] {
        daemon.wait_for_health(name, &backend.address.to_string(), "healthy");
    }
    // With `fin` the listener sees each probe, and both sides count the same.
    let fin_address = fin.address.to_string();
    wait::until("ten probes", || (fin.accepted() >= 10).then_some(()));
    wait::until("the same count on both sides", || {
        let before = fin.accepted();
        let counted = daemon.probes("fin", &fin_address);
        (fin.accepted() == before && counted == before as f64).then_some(())
    });
    assert!(time_wait_sockets(fin.address) > 0, "who closes first waits");
    assert!(daemon.probes("reset", &reset.address.to_string()) >= 5.0);
    assert_eq!(time_wait_sockets(reset.address), 0);
    // The handshake was never finished from this side.
    assert_eq!(reset.accepted(), 0);
}
