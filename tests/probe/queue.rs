//! The same probes through an event queue of their thread's own, as a driver runs them.

use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::process::Command;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use vitald::channel::{CloseMode, ProbeOptions};
use vitald::health::{MemberReason, Outcome};
use vitald::testing::probe::{self, EventQueue, read_local_ports, wait_until};

use crate::inside::{can_unshare, inside, is_inside};
use crate::members::{
    BRIEF, Member, PATIENT, ending, expect, hold, http, plan, read_request, refusing, reset, run, target, tcp,
};

fn install() {
    EventQueue::open().expect("a queue").install();
}

/// What a driver does: poll, sleep in the queue, poll.
fn drive<F: Future>(probe: F) -> F::Output {
    let mut probe = pin!(probe);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = probe.as_mut().poll(&mut cx) {
            return output;
        }
        wait_until(Instant::now() + PATIENT);
    }
}

#[test]
fn a_queue_finds_what_the_runtime_finds() {
    let talkative = || {
        Member::new(|mut connection| {
            // Before it was asked, and in pieces.
            connection.write_all(b"HTTP/1.1 200 ").expect("an open connection");
            read_request(&mut connection);
            thread::sleep(BRIEF / 4);
            let _ = connection.write_all(b"OK\r\n\r\n");
        })
    };
    let closing = Member::new(|mut connection| drop(read_request(&mut connection)));
    let silent = Member::new(hold);
    let resetting = Member::new(|mut connection| {
        read_request(&mut connection);
        reset(connection);
    });
    let early = talkative();
    let failing = Member::answering("HTTP/1.1 503 Service Unavailable\r\n\r\n");
    install();
    let check = |protocol: fn() -> vitald::channel::Protocol, timeout: Duration, address: SocketAddr| {
        for close in [CloseMode::Reset, CloseMode::Fin] {
            let plan = plan(protocol(), timeout, &ProbeOptions { close, ..ProbeOptions::default() });
            let target = target(address);
            // The second meets the sockets of the first.
            let queued = [drive(probe::run(&plan, &target)), drive(probe::run(&plan, &target))];
            let reference = thread::spawn(move || run(&plan, address)).join().expect("a report");
            for report in queued {
                assert_eq!(
                    (report.outcome, report.status, report.detail, report.phases.connect.is_some()),
                    (
                        reference.outcome,
                        reference.status,
                        reference.detail.clone(),
                        reference.phases.connect.is_some()
                    ),
                );
            }
        }
    };
    let web: fn() -> vitald::channel::Protocol = || http("200");
    check(tcp, PATIENT, silent.address);
    check(tcp, PATIENT, refusing());
    check(web, PATIENT, refusing());
    check(web, BRIEF, silent.address);
    check(web, PATIENT, closing.address);
    check(web, PATIENT, resetting.address);
    check(web, PATIENT, early.address);
    check(web, PATIENT, failing.address);
}

#[test]
fn every_probe_is_a_connection_of_its_own_and_ends_in_a_reset() {
    let (connections, seen) = mpsc::channel();
    let member = Member::new(move |mut connection| {
        let from = connection.peer_addr().expect("a peer");
        read_request(&mut connection);
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("an open connection");
        connections.send((from, ending(&connection))).expect("a waiting test");
    });
    let plan = plan(http("200"), PATIENT, &ProbeOptions::default());
    let target = target(member.address);
    install();
    let mut ports = Vec::new();
    for _ in 0..20 {
        expect(&drive(probe::run(&plan, &target)), Outcome::Success, "200 OK", "connect+response");
        let (from, how) = seen.recv_timeout(PATIENT).expect("a connection");
        assert_eq!(how, "reset");
        ports.push(from.port());
    }
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() > 10, "{ports:?}");
}

#[test]
fn a_deadline_is_kept_to_the_millisecond_and_a_cancelled_probe_resets() {
    let (endings, seen) = mpsc::channel();
    let member = Member::new(move |mut connection| {
        read_request(&mut connection);
        endings.send(ending(&connection)).expect("a waiting test");
    });
    let target = target(member.address);
    install();
    let brief = plan(http("200"), BRIEF, &ProbeOptions::default());
    let report = drive(probe::run(&brief, &target));
    assert_eq!(report.outcome, Outcome::Failure(MemberReason::ResponseTimeout));
    assert!(report.total >= BRIEF, "{report:?}");
    assert_eq!(seen.recv_timeout(PATIENT), Ok("reset"));

    let patient = plan(http("200"), PATIENT, &ProbeOptions::default());
    {
        let mut cancelled = Box::pin(probe::run(&patient, &target));
        assert!(cancelled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(seen.recv_timeout(PATIENT), Ok("reset"));
    // Its place in the queue serves the next.
    let report = drive(probe::run(&brief, &target));
    assert_eq!(report.outcome, Outcome::Failure(MemberReason::ResponseTimeout));
}

#[test]
fn a_late_turn_reads_the_socket_before_it_believes_the_deadline() {
    let member = Member::answering("HTTP/1.1 200 OK\r\n\r\n");
    let plan = plan(http("200"), BRIEF, &ProbeOptions::default());
    let target = target(member.address);
    install();
    let mut probe = Box::pin(probe::run(&plan, &target));
    assert!(probe.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // This driver is away while the answer arrives.
    thread::sleep(3 * BRIEF);
    expect(&drive(probe), Outcome::Success, "200 OK", "connect+response");
}

#[test]
fn the_waker_ends_a_wait_and_is_not_lost_before_it() {
    let queue = EventQueue::open().expect("a queue");
    let waker = queue.waker();
    // Before the thread has the queue.
    waker.wake_by_ref();
    queue.install();
    wait_until(Instant::now() + 20 * PATIENT);
    for _ in 0..2 {
        let elsewhere = waker.clone();
        thread::spawn(move || elsewhere.wake()).join().expect("it woke us");
        wait_until(Instant::now() + 20 * PATIENT);
        let elsewhere = waker.clone();
        let waking = thread::spawn(move || elsewhere.wake());
        wait_until(Instant::now() + 20 * PATIENT);
        waking.join().expect("it woke us");
    }
    // Whoever runs is awake.
    waker.wake();
    let begun = Instant::now();
    wait_until(begun + BRIEF);
    assert!(begun.elapsed() >= BRIEF);
}

#[test]
fn a_probe_asks_the_kernel_for_nothing_that_it_has_said() {
    let can_trace = || Command::new("strace").arg("true").output().is_ok_and(|run| run.status.success());
    if !can_unshare() {
        return;
    }
    if !is_inside() && !can_trace() {
        return crate::skipped::note("strace cannot run here");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("calls");
    let record_name = record.to_str().expect("a plain path");
    let wrapper = ["unshare", "-rn", "strace", "-f", "-qq", "-e", "trace=network", "-o", record_name];
    let setup = "ip link set lo up; ip addr add 192.0.2.4/32 dev lo";
    inside(&wrapper, setup, "queue::a_probe_asks_the_kernel_for_nothing_that_it_has_said", inside_a_trace);
    if is_inside() {
        return;
    }
    let record = std::fs::read_to_string(record).expect("a record");
    let probes = calls_of_probes(&record);
    assert_eq!(probes.len(), 12, "{record}");
    let last_of_each: Vec<_> = probes.iter().skip(2).step_by(3).map(|calls| calls.join(" ")).collect();
    let exchange = "setsockopt connect sendto recvfrom connect";
    // The connection to this host is up at once; of one to elsewhere the event queue tells.
    let expected =
        ["setsockopt connect getpeername connect", exchange, "setsockopt connect connect", exchange];
    assert_eq!(last_of_each, expected, "{record}");
}

/// Three probes of each kind, one after another.
fn inside_a_trace() {
    let listening = |ip: [u8; 4]| {
        let listener = TcpListener::bind(SocketAddr::from((ip, 0))).expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                if read_request(&mut connection).is_empty() {
                    continue;
                }
                let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                ending(&connection);
            }
        });
        address
    };
    let members = [[127, 0, 0, 1], [192, 0, 2, 4]].map(listening);
    // Now that they listen, their ports are none that the kernel chooses.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 20100").expect("a namespace of its own");
    read_local_ports();
    install();
    for address in members {
        for protocol in [tcp(), http("200")] {
            let plan = plan(protocol, PATIENT, &ProbeOptions::default());
            for _ in 0..3 {
                assert_eq!(drive(probe::run(&plan, &target(address))).outcome, Outcome::Success);
            }
        }
    }
}

/// The names of the calls of each probe, from what strace has written.
fn calls_of_probes(record: &str) -> Vec<Vec<&str>> {
    let calls = || {
        record.lines().filter_map(|line| {
            let (thread, call) = line.split_once(' ')?;
            let (name, rest) = call.trim_start().split_once('(')?;
            // The second half of a call that another thread's has cut in two.
            (!name.starts_with('<')).then_some((thread, name, rest))
        })
    };
    // Members call nobody.
    let prober = calls().find(|(_, name, _)| *name == "connect").map(|(thread, ..)| thread);
    let mut probes = Vec::new();
    let mut running = Vec::new();
    for (thread, name, rest) in calls() {
        if Some(thread) != prober || name == "socket" || rest.contains("SO_LINGER") {
            continue;
        }
        if running.is_empty() && !rest.contains("TCP_QUICKACK") {
            continue;
        }
        running.push(name);
        if rest.contains("AF_UNSPEC") {
            probes.push(std::mem::take(&mut running));
        }
    }
    probes
}
