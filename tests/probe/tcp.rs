//! TCP checks, and how little of them a member notices.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use vitald::channel::{CloseMode, ProbeOptions};
use vitald::health::{MemberReason, Outcome};
use vitald::testing::probe::run as run_probe;

use crate::members::{
    BRIEF, Member, PATIENT, ending, expect, explain, hold, http, plan, probe, read_request, refusing, reset,
    run, runtime, target, tcp,
};

const CHECKS: usize = 200;

fn closing(close: CloseMode) -> ProbeOptions {
    ProbeOptions { close, ..ProbeOptions::default() }
}

#[test]
fn an_established_connection_is_a_success() {
    let member = Member::new(hold);
    let report = probe(tcp(), PATIENT, member.address);
    expect(&report, Outcome::Success, "connected", "connect");
    assert_eq!((report.peer, report.status), (Some(member.address), None));
}

#[test]
fn a_closed_port_refuses() {
    let report = probe(tcp(), PATIENT, refusing());
    expect(&report, Outcome::Failure(MemberReason::Refused), "connection refused", "");
}

#[test]
fn no_way_to_the_network_is_unreachable_at_once() {
    let broadcast = SocketAddr::from((Ipv4Addr::BROADCAST, 80));
    let report = probe(tcp(), PATIENT, broadcast);
    expect(&report, Outcome::Failure(MemberReason::Unreachable), "network unreachable", "");
    assert!(report.total < PATIENT / 2, "{report:?}");
}

/// A listener whose queue is full, and the connection that fills it. The kernel
/// drops further SYNs, which are sent again after a second.
pub(crate) fn full_queue() -> (TcpListener, TcpStream) {
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        Some(rustix::net::ipproto::TCP),
    )
    .expect("a socket");
    rustix::net::bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    rustix::net::listen(&listener, 0).expect("a listener");
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().expect("a bound address");
    // A queue of length 0 takes one connection; what nobody accepts stays.
    let queued = TcpStream::connect(address).expect("a connection to the queue");
    (listener, queued)
}

#[test]
fn a_full_accept_queue_is_a_connect_timeout() {
    let (listener, _queued) = full_queue();
    let report = probe(tcp(), BRIEF, listener.local_addr().expect("an address"));
    expect(&report, Outcome::Failure(MemberReason::ConnectTimeout), "no connection within 200ms", "");
    assert!(report.total >= BRIEF && report.total < PATIENT / 2, "{report:?}");
}

#[test]
fn a_connection_that_takes_its_time_is_waited_for() {
    for (protocol, detail, ended) in
        [(tcp(), "connected", "connect"), (http("200"), "200 OK", "connect+response")]
    {
        let (listener, _queued) = full_queue();
        let address = listener.local_addr().expect("an address");
        let serving = thread::spawn(move || {
            thread::sleep(BRIEF);
            drop(listener.accept().expect("the queued connection"));
            // A TCP check may be over before it is accepted.
            listener.set_nonblocking(true).expect("an option");
            for _ in 0..500 {
                if let Ok((mut connection, _)) = listener.accept() {
                    connection.set_nonblocking(false).expect("an option");
                    read_request(&mut connection);
                    let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        let report = probe(protocol, PATIENT, address);
        expect(&report, Outcome::Success, detail, ended);
        let connect = report.phases.connect.expect("a connection");
        assert!(connect > BRIEF, "not at once: {report:?}");
        drop(serving);
    }
}

#[test]
fn a_connection_that_is_reset_before_the_prober_looks_was_established() {
    let reset_by_member = Outcome::Failure(MemberReason::Reset);
    let cases = [
        (tcp(), Outcome::Success, "connected", "connect"),
        (http("200"), reset_by_member, "connection reset by the member", ""),
    ];
    for (protocol, outcome, detail, ended) in cases {
        let (listener, _queued) = full_queue();
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            drop(listener.accept().expect("the queued connection"));
            reset(listener.accept().expect("the prober's connection").0);
        });
        // Without a reset at its own end the handshake is completed at once.
        let plan = plan(protocol, PATIENT, &closing(CloseMode::Fin));
        let target = target(address);
        let report = tokio::task::LocalSet::new().block_on(&runtime(), async {
            tokio::task::spawn_local(async {
                // The driver is held up until long after the second SYN.
                tokio::task::yield_now().await;
                thread::sleep(Duration::from_millis(1500));
            });
            run_probe(&plan, &target).await
        });
        if outcome == reset_by_member && report.phases.connect.is_some() {
            // The reset met the request: told apart only by the phase.
            assert_eq!(report.outcome, outcome);
            continue;
        }
        expect(&report, outcome, detail, ended);
    }
}

#[test]
fn a_check_that_ends_in_a_reset_does_not_wake_the_application() {
    let member = Member::new(drop);
    let plan = plan(tcp(), PATIENT, &closing(CloseMode::Reset));
    for _ in 0..CHECKS {
        assert_eq!(run(&plan, member.address).outcome, Outcome::Success);
    }
    // The listener serves in order: it has seen whatever came before this one.
    reset(TcpStream::connect(member.address).expect("a real client"));
    member.wait_for(1);
    assert_eq!(member.accepted(), 1, "only the real client was seen");
    assert_eq!(time_waits(member.address), 0);
}

#[test]
fn a_check_that_ends_in_a_fin_is_seen_and_ends_in_order() {
    let (endings, seen) = mpsc::channel();
    let member = Member::new(move |connection| endings.send(ending(&connection)).unwrap_or_default());
    let plan = plan(tcp(), PATIENT, &closing(CloseMode::Fin));
    for _ in 0..CHECKS {
        assert_eq!(run(&plan, member.address).outcome, Outcome::Success);
    }
    for _ in 0..CHECKS {
        assert_eq!(seen.recv_timeout(PATIENT), Ok("fin"));
    }
    assert_eq!(member.accepted(), CHECKS);
}

#[test]
fn a_member_that_closes_at_once_is_connected() {
    let member = Member::new(drop);
    let report = run(&plan(tcp(), PATIENT, &closing(CloseMode::Fin)), member.address);
    expect(&report, Outcome::Success, "connected", "connect");
}

#[test]
fn a_banner_does_not_turn_a_fin_into_a_reset() {
    let (endings, seen) = mpsc::channel();
    let member = Member::new(move |mut connection| {
        let _ = connection.write_all(b"220 ready\r\n");
        endings.send(ending(&connection)).unwrap_or_default();
    });
    // The banner may still be under way when a check closes: one orderly end
    // in many tries shows that what has arrived is read.
    let plan = plan(tcp(), PATIENT, &closing(CloseMode::Fin));
    let orderly = (0..20).any(|_| {
        assert_eq!(run(&plan, member.address).outcome, Outcome::Success);
        seen.recv_timeout(PATIENT) == Ok("fin")
    });
    assert!(orderly);
}

#[test]
fn an_explanation_names_both_ends() {
    let member = Member::new(hold);
    let plan = plan(tcp(), PATIENT, &ProbeOptions::default());
    let (report, explanation) = explain(&plan, member.address);
    assert_eq!(report.outcome, Outcome::Success);
    assert_eq!(explanation.peer, Some(member.address));
    assert_eq!(explanation.local.map(|local| local.ip()), Some(member.address.ip()));
    assert_eq!(explanation.request, None);
}

#[test]
fn an_ipv6_member_is_connected_alike() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return crate::skipped::note("no IPv6 here");
    };
    let address = listener.local_addr().expect("a bound address");
    let report = probe(tcp(), Duration::from_secs(1), address);
    expect(&report, Outcome::Success, "connected", "connect");
}

/// Connections with a member's port in TIME_WAIT (state 06 of `/proc/net/tcp`).
fn time_waits(member: SocketAddr) -> usize {
    // As the kernel writes 127.0.0.1 and the port.
    let end = format!("0100007F:{:04X}", member.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    table
        .lines()
        .filter(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let ends = columns.get(1..3).unwrap_or_default();
            columns.get(3) == Some(&"06") && ends.contains(&end.as_str())
        })
        .count()
}
