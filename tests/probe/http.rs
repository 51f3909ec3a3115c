//! HTTP checks.

use vitald::health::{MemberReason, Outcome};

use crate::members::{Member, PATIENT, expect, http, probe};

#[test]
fn a_status_of_the_set_is_a_success() {
    let member = Member::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let report = probe(http("200"), PATIENT, member.address);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
    assert_eq!(report.status, Some(200));
}

#[test]
fn another_status_is_a_failure() {
    let member = Member::answering("HTTP/1.1 503 Service Unavailable\r\n\r\n");
    let report = probe(http("200-299"), PATIENT, member.address);
    let outcome = Outcome::Failure(MemberReason::Status);
    expect(&report, outcome, "503 Service Unavailable", "connect+response");
    assert_eq!(report.status, Some(503));
}
