//! TCP checks.

use vitald::health::{MemberReason, Outcome};

use crate::members::{Member, PATIENT, expect, hold, probe, refusing, tcp};

#[test]
fn an_established_connection_is_a_success() {
    let member = Member::new(hold);
    let report = probe(tcp(), PATIENT, member.address);
    expect(&report, Outcome::Success, "connected", "connect");
    assert_eq!(report.peer, Some(member.address));
    assert_eq!(report.status, None);
}

#[test]
fn a_closed_port_refuses() {
    let report = probe(tcp(), PATIENT, refusing());
    expect(&report, Outcome::Failure(MemberReason::Refused), "connection refused", "");
}
