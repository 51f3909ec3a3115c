//! Probes of a prober that was away: the member gets its time, and no more.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ServerConnection, Stream};

use vitald::channel::{HttpMethod, ProbeOptions, Protocol};
use vitald::health::{MemberReason, Outcome, Report};
use vitald::testing::probe::{self, Plan, stall};

use crate::certificates::Authority;
use crate::https::server;
use crate::members::{Member, expect, hold, http, http_check, plan, reset, runtime, target};

const TIMEOUT: Duration = Duration::from_millis(500);

/// Probes on a thread that is held up for these times, one after another, and says
/// so as a driver does.
fn probe_while_away(plan: &Plan, member: &Member, away: impl Iterator<Item = Duration> + 'static) -> Report {
    let target = target(member.address);
    let runtime = runtime();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        stall::set_total(Duration::ZERO);
        let away = tokio::task::spawn_local(async move {
            let mut total = Duration::ZERO;
            for time in away {
                thread::sleep(time);
                total += time;
                stall::set_total(total);
                tokio::task::yield_now().await;
            }
        });
        let report = probe::run(plan, &target).await;
        away.abort();
        report
    })
}

#[test]
fn a_silent_member_is_found_by_a_prober_that_is_always_late() {
    let member = Member::new(hold);
    let plan = plan(http("200"), TIMEOUT, &ProbeOptions::default());
    let report = probe_while_away(&plan, &member, std::iter::repeat(TIMEOUT / 5));
    let detail = "connected, but no whole response head within 500ms";
    expect(&report, Outcome::Failure(MemberReason::ResponseTimeout), detail, "connect");
    assert!(report.waited >= TIMEOUT, "it had its whole timeout: {report:?}");
}

#[test]
fn a_member_that_waited_for_us_gets_the_time_we_lost() {
    let pair = Authority::new("ours").issue(&["app.internal"], 2020, 2096);
    let config = Arc::new(server(&pair));
    let member = Member::new(move |mut socket| {
        let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a session");
        let mut stream = Stream::new(&mut connection, &mut socket);
        let mut byte = [0];
        assert!(stream.read(&mut byte).is_ok_and(|read| read == 1), "a request");
        // A part of its timeout, counted from a request that came after it.
        thread::sleep(TIMEOUT / 5);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        hold(socket);
    });
    let plan = plan(Protocol::Https(http_check(HttpMethod::Get, "200")), TIMEOUT, &ProbeOptions::default());
    let report = probe_while_away(&plan, &member, std::iter::once(TIMEOUT * 2));
    expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
    assert!(report.total > TIMEOUT * 2, "the stall met the handshake: {report:?}");
}

#[test]
fn a_peer_that_leaves_before_it_has_our_words_may_have_waited_for_them() {
    // During the handshake it is unknown whose turn it was; after the request it is not.
    let member = Member::new(reset);
    let https = Protocol::Https(http_check(HttpMethod::Get, "200"));
    let report = probe_while_away(
        &plan(https, TIMEOUT, &ProbeOptions::default()),
        &member,
        std::iter::once(TIMEOUT / 2),
    );
    assert_eq!(
        (report.outcome, report.waited),
        (Outcome::Failure(MemberReason::TlsHandshake), Duration::ZERO)
    );

    let member = Member::answering("");
    let plan = plan(http("200"), TIMEOUT, &ProbeOptions::default());
    let report = probe_while_away(&plan, &member, std::iter::once(TIMEOUT / 2));
    assert_eq!(report.outcome, Outcome::Failure(MemberReason::Closed));
    assert!(report.waited >= TIMEOUT / 2, "it had the request all the time: {report:?}");
}
