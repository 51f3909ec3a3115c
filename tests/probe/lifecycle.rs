//! How a probe begins and ends: late turns, cancellation, close modes, size.

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use vitald::channel::{CloseMode, ProbeOptions};
use vitald::health::{MemberReason, Outcome};
use vitald::testing::probe;

use crate::members::{
    BRIEF, Member, PATIENT, ending, expect, explain, http, plan, read_request, refusing, run, runtime, target,
};

#[test]
fn a_late_turn_reads_the_socket_before_it_believes_the_timer() {
    let member = Member::answering("HTTP/1.1 200 OK\r\n\r\n");
    let plan = plan(http("200"), BRIEF, &ProbeOptions::default());
    let target = target(member.address);
    let runtime = runtime();
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, async {
        let stall = tokio::task::spawn_local(async {
            // Starves this driver well past the deadline while the answer arrives.
            thread::sleep(3 * BRIEF);
        });
        let report = probe::run(&plan, &target).await;
        stall.await.expect("the stall ends");
        report
    });
    expect(&report, Outcome::Success, "200 OK", "connect+response");
    assert!(report.total > BRIEF, "the total is honest about the stall: {report:?}");
}

#[test]
fn a_cancelled_probe_closes_its_socket() {
    let (endings, seen) = mpsc::channel();
    let member = Member::new(move |mut connection| {
        read_request(&mut connection);
        endings.send(ending(&connection)).expect("a waiting test");
    });
    let plan = plan(http("200"), PATIENT, &ProbeOptions::default());
    let target = target(member.address);
    runtime().block_on(async {
        let cancelled = tokio::time::timeout(BRIEF, probe::run(&plan, &target)).await;
        assert!(cancelled.is_err());
    });
    assert_eq!(seen.recv_timeout(PATIENT), Ok("reset"));
}

#[test]
fn the_close_mode_decides_how_it_ends() {
    for (close, expected) in [(CloseMode::Reset, "reset"), (CloseMode::Fin, "fin")] {
        let (endings, seen) = mpsc::channel();
        let member = Member::new(move |mut connection| {
            read_request(&mut connection);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            connection.write_all(answer).expect("an open connection");
            endings.send(ending(&connection)).expect("a waiting test");
        });
        let options = ProbeOptions { close, ..ProbeOptions::default() };
        let report = run(&plan(http("200"), PATIENT, &options), member.address);
        expect(&report, Outcome::Success, "200 OK", "connect+response");
        assert_eq!(seen.recv_timeout(PATIENT), Ok(expected));
    }
}

#[test]
fn an_explanation_shows_the_exchange() {
    let answer = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Out of order\r\n\r\n";
    let member = Member::answering(answer);
    let plan = plan(http("200"), PATIENT, &ProbeOptions::default());
    let (report, explanation) = explain(&plan, member.address);
    expect(&report, Outcome::Failure(MemberReason::Status), "503 Out of order", "connect+response");
    assert_eq!(explanation.status_line.as_deref(), Some("HTTP/1.1 503 Out of order"));
    assert_eq!(explanation.interim, [103]);
    assert!(explanation.request.is_some_and(|request| request.starts_with("GET /health HTTP/1.1\r\n")));
    assert_eq!(explanation.peer, Some(member.address));
    assert_eq!(explanation.tls, None);
}

#[test]
fn a_probe_in_flight_is_small() {
    let plan = plan(http("200"), BRIEF, &ProbeOptions::default());
    let target = target(refusing());
    let size = size_of_val(&probe::run(&plan, &target));
    assert!(size <= 1024, "{size} bytes");
}
