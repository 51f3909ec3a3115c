//! A hand-made snapshot for the tests of this room: every shape that the
//! texts tell apart, on two drivers.

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::tests::in_effect;
use crate::catalog::{ReloadState, Snapshot};
use crate::channel::fixture::{channel, member};
use crate::channel::{Channel, CodeSet, Health, HttpCheck, HttpMethod, Protocol};
use crate::health::{
    ChannelStats, DriverSnapshot, Durations, LastProbe, MemberReason, MemberState, Outcome, Phases,
    ProberReason, ResultCounts, Timestamp, VerdictFrom,
};
use crate::store::{StoreError, StoredKind, WriteState};

/// 2026-01-01T00:00:00Z.
pub(super) const START: u64 = 1_767_225_600_000_000_000;

const SECOND: u64 = 1_000_000_000;

/// `api` over HTTPS, `idle` without a check, `web` over HTTP with groups,
/// standby, disabled and unknown members, and one address in two groups.
pub(super) fn snapshot() -> Snapshot {
    let http = HttpCheck { path: "/health".to_owned(), method: HttpMethod::Get, codes: CodeSet::default() };
    let (blue, green) = (Arc::from("blue"), Arc::from("green \"new\"\\"));
    let channels = [
        channel(
            "api",
            Some(Protocol::Https(http.clone())),
            vec![member("2001:db8::1"), member("app.internal")],
        ),
        channel("idle", None, vec![member("10.0.0.9")]),
        channel(
            "web",
            Some(Protocol::Http(http)),
            vec![
                member("127.0.0.1").on_port(18081).weighing(2).in_group(&blue),
                member("127.0.0.1").on_port(18081).weighing(3).in_group(&green),
                member("127.0.0.1").on_port(18082).standby(),
                member("127.0.0.1").on_port(18083).disabled(),
                member("127.0.0.1").on_port(18084).weighing(0),
            ],
        )
        .with_group("blue", Some(30))
        .with_group("green \"new\"\\", None),
    ];
    let secure = probed_at(healthy(443), [192, 0, 2, 8]);
    let states = [unhealthy_by_certificate(), secure, healthy(0), failing(), healthy(2), unhealthy()];
    place(channels.to_vec(), states)
}

/// Members beyond the given states (the last two of `web`) are not known to any
/// driver; of `idle` only what was known before its check was switched off.
fn place(channels: Vec<Channel>, states: [MemberState; 6]) -> Snapshot {
    let channels = in_effect(channels, 2);
    let [certificate, secure, primary, other_group, standby, disabled] = states;
    let idle = MemberState {
        verdict_from: VerdictFrom::LastKnown(Health::Unhealthy),
        ..MemberState::new(0, Health::Unknown, Timestamp(START))
    };
    let states = [certificate, secure, idle, primary, other_group, standby, disabled];
    // Nobody has this generation.
    let nobody = MemberState::new(u32::MAX, Health::Unknown, Timestamp(START));
    let mut pages = [vec![nobody.clone(); 8], vec![nobody; 8]];
    let rows = channels.entries().flat_map(|entry| entry.rows.iter());
    for (row, state) in rows.zip(states) {
        pages[usize::from(row.slot.driver)][row.slot.index as usize] = state;
    }
    let [first, second] = pages;
    Snapshot {
        taken_at: Timestamp(START + 60 * SECOND),
        started_at: Timestamp(START),
        ready: false,
        channels,
        drivers: vec![driver(first, 1), driver(second, 2)],
        reload: ReloadState { successful: true, last_success: Timestamp(START + SECOND / 8) },
        changes: Default::default(),
        address_changes: 5,
        writes: vec![
            (
                StoredKind::Channels,
                WriteState { failure: Some(StoreError::Closed), failed: 3, ..WriteState::default() },
            ),
            (StoredKind::Verdicts, WriteState::default()),
        ],
    }
}

/// One channel with so many members that no driver knows of: 7 series each.
pub(super) fn large(members: u32) -> Snapshot {
    let address = |number| member(&std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).to_string());
    let channel = channel("large", None, (0..members).map(address).collect());
    Snapshot { channels: in_effect(vec![channel], 1), drivers: Vec::new(), ..snapshot() }
}

fn driver(members: Vec<MemberState>, in_flight: usize) -> DriverSnapshot {
    let mut web = ChannelStats::default();
    web.failures[MemberReason::Refused.index()] = 3;
    web.inconclusive[ProberReason::LocalStall.index()] = 1;
    web.connect.observe(Duration::from_micros(300));
    web.total.observe(Duration::from_micros(1_500));
    let mut driver = DriverSnapshot::empty();
    driver.pages = vec![Arc::new(members)];
    driver.channels = vec![Arc::default(), Arc::default(), Arc::new(web)];
    driver.lag.observe(Duration::from_micros(700));
    driver.in_flight = in_flight;
    driver.concurrency = 32;
    driver.waiting = in_flight + 1;
    driver.skipped = 4;
    driver
}

fn healthy(successes: u64) -> MemberState {
    MemberState {
        verdict_from: VerdictFrom::Check,
        consecutive_successes: 7,
        counts: ResultCounts { success: successes, failure: 1, inconclusive: 0 },
        transitions: [0, 1, 0],
        last: Some(LastProbe {
            at: Timestamp(START + 59 * SECOND + 1_234_567),
            outcome: Outcome::Success,
            status: Some(200),
            detail: "200 OK".into(),
            address: None,
            durations: Durations::new(
                Duration::from_micros(1_200),
                Phases {
                    connect: Some(Duration::from_micros(100)),
                    tls: None,
                    response: Some(Duration::from_micros(1_100)),
                },
            ),
        }),
        ..MemberState::new(0, Health::Healthy, Timestamp(START + 5 * SECOND))
    }
}

/// The state of a member that is a name.
fn probed_at(mut state: MemberState, address: [u8; 4]) -> MemberState {
    let last = state.last.as_mut().expect("it was probed");
    last.address = Some(Arc::new(address.into()));
    state
}

fn failing() -> MemberState {
    MemberState {
        consecutive_successes: 0,
        consecutive_failures: 2,
        last: Some(LastProbe {
            at: Timestamp(START + 58 * SECOND),
            outcome: Outcome::Failure(MemberReason::Refused),
            status: None,
            detail: "connection refused".into(),
            address: None,
            durations: Durations::new(Duration::from_nanos(50_001), Phases::default()),
        }),
        ..healthy(10)
    }
}

fn unhealthy() -> MemberState {
    MemberState {
        health: Health::Unhealthy,
        verdict_from: VerdictFrom::EarlierCheck,
        consecutive_failures: 3,
        transitions: [1, 1, 2],
        last: Some(LastProbe {
            at: Timestamp(START + 58 * SECOND),
            outcome: Outcome::Inconclusive(ProberReason::LocalStall),
            status: None,
            detail: "the prober was not running for 3.1 s".into(),
            address: None,
            durations: Durations::new(Duration::from_secs(2), Phases::default()),
        }),
        ..MemberState::new(0, Health::Unhealthy, Timestamp(START + 20 * SECOND + 500_000_000))
    }
}

fn unhealthy_by_certificate() -> MemberState {
    MemberState {
        certificate_not_after: Some(1_735_689_600),
        last: Some(LastProbe {
            at: Timestamp(START + 58 * SECOND),
            outcome: Outcome::Failure(MemberReason::TlsCertificate),
            status: None,
            detail: "certificate expired \"2025\"".into(),
            address: None,
            durations: Durations::new(
                Duration::from_millis(3),
                Phases { connect: Some(Duration::from_millis(1)), tls: None, response: None },
            ),
        }),
        ..unhealthy()
    }
}

/// What `write` writes, in one piece.
pub(super) fn collect(write: impl FnOnce(&mut super::stream::Text<'_>) -> std::io::Result<()>) -> String {
    struct Memory(Vec<u8>);
    impl super::stream::Sink for Memory {
        fn take(&mut self, mut chunk: Vec<u8>) -> std::io::Result<Vec<u8>> {
            self.0.append(&mut chunk);
            Ok(chunk)
        }
    }
    let mut memory = Memory(Vec::new());
    let mut text = super::stream::Text::new(&mut memory);
    write(&mut text).expect("memory takes everything");
    text.finish().expect("memory takes everything");
    String::from_utf8(memory.0).expect("UTF-8")
}

/// Compares with a golden text by lines, so that a difference can be read.
#[track_caller]
pub(super) fn assert_golden(actual: &str, golden: &str) {
    for (number, (actual, golden)) in actual.lines().zip(golden.lines()).enumerate() {
        assert_eq!(actual, golden, "line {}", number + 1);
    }
    assert_eq!(actual.lines().count(), golden.lines().count(), "the number of lines, in:\n{actual}");
}
