//! The self-check: a silence counts only while a reference target answers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use vitald::channel::ProbeOptions;
use vitald::health::{MemberReason, Outcome, ProberReason, Report};
use vitald::testing::probe::{Plan, Reference, run as run_probe};

use crate::members::{BRIEF, PATIENT, expect, plan, refusing, run, runtime, target, tcp};
use crate::tcp::full_queue;

fn judged_by(targets: &[SocketAddr]) -> Plan {
    let reference = Arc::new(Reference::default());
    reference.replace(targets);
    plan(tcp(), BRIEF, &ProbeOptions::default()).with_reference(reference)
}

fn silent_member_judged_by(targets: &[SocketAddr]) -> Report {
    let (member, _queued) = full_queue();
    run(&judged_by(targets), member.local_addr().expect("an address"))
}

fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

const TIMED_OUT: Outcome = Outcome::Failure(MemberReason::ConnectTimeout);

#[test]
fn a_silence_shared_with_every_reference_is_our_own() {
    let (first, _queued) = full_queue();
    let (second, _queued) = full_queue();
    let targets = [&first, &second].map(|listener| listener.local_addr().expect("an address"));
    let report = silent_member_judged_by(&targets);
    let detail = format!(
        "no reference target answers either ({}: no connection within 1 s); connect_timeout: no connection within 200ms",
        targets[0]
    );
    expect(&report, Outcome::Inconclusive(ProberReason::LocalNetwork), &detail, "");
}

#[test]
fn a_reference_that_answers_leaves_the_blame_with_the_member() {
    let (_listener, accepts) = listening();
    let (silent, _queued) = full_queue();
    let silent = silent.local_addr().expect("an address");
    for targets in [&[accepts][..], &[refusing()], &[silent, accepts], &[]] {
        expect(&silent_member_judged_by(targets), TIMED_OUT, "no connection within 200ms", "");
    }
}

#[test]
fn a_member_that_answers_is_judged_by_its_answer() {
    let (silent, _queued) = full_queue();
    let plan = judged_by(&[silent.local_addr().expect("an address")]);
    let report = run(&plan, refusing());
    expect(&report, Outcome::Failure(MemberReason::Refused), "connection refused", "");
    assert!(report.total < PATIENT / 2, "nobody was asked: {report:?}");
}

#[test]
fn many_silences_ask_once() {
    let (reference, address) = listening();
    reference.set_nonblocking(true).expect("an option");
    let (member, _queued) = full_queue();
    let member = member.local_addr().expect("an address");
    let plan = Arc::new(judged_by(&[address]));
    runtime().block_on(async {
        let mut probes = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let plan = Arc::clone(&plan);
            probes.spawn(async move { run_probe(&plan, &target(member)).await });
        }
        for report in probes.join_all().await {
            expect(&report, TIMED_OUT, "no connection within 200ms", "");
        }
    });
    let asked = std::iter::from_fn(|| reference.accept().ok()).count();
    // Twice only when this machine spread the probes over more than a second.
    assert!((1..=2).contains(&asked), "{asked} questions for 50 silences");
}
