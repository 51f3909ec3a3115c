//! The prober's own shortages, and what only a namespace can provoke.
//!
//! Each test runs itself once more, in a process of its own with its limits or
//! its network set up; the second run does the work.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use vitald::channel::ProbeOptions;
use vitald::health::{MemberReason, Outcome, ProberReason};
use vitald::testing::probe::{read_local_ports, run as run_probe};

use crate::inside::{NAMESPACE, can_unshare, inside};
use crate::members::{BRIEF, PATIENT, expect, http, plan, probe, run, runtime, target, tcp};

#[test]
fn no_file_descriptor_is_the_probers_shortage() {
    inside(
        &["env"],
        "ulimit -n 64",
        "local::no_file_descriptor_is_the_probers_shortage",
        inside_few_file_descriptors,
    );
}

fn inside_few_file_descriptors() {
    // Nobody accepts: a member in this process would run out as well.
    let member = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let target = target(member.local_addr().expect("an address"));
    let plan = plan(tcp(), PATIENT, &ProbeOptions::default());
    let runtime = runtime();
    let once = || runtime.block_on(run_probe(&plan, &target));
    assert_eq!(once().outcome, Outcome::Success);
    let hoard: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!hoard.is_empty());
    let detail = "no file descriptor is free in this process";
    expect(&once(), Outcome::Inconclusive(ProberReason::LocalFd), detail, "");
    drop(hoard);
    assert_eq!(once().outcome, Outcome::Success, "recovered without a restart");
}

#[test]
fn no_local_port_is_the_probers_shortage() {
    if can_unshare() {
        let setup = "ip link set lo up; echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range";
        inside(&NAMESPACE, setup, "local::no_local_port_is_the_probers_shortage", inside_few_ports);
    }
}

fn inside_few_ports() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).expect("the port");
    let address = listener.local_addr().expect("an address");
    let held: Vec<_> = (0..2).map(|_| TcpStream::connect(address).expect("a local port")).collect();
    let report = probe(tcp(), PATIENT, address);
    expect(&report, Outcome::Inconclusive(ProberReason::LocalPort), "no local port is free", "");
    for connection in &held {
        rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO)).expect("a linger time");
    }
    drop(held);
    assert_eq!(probe(tcp(), PATIENT, address).outcome, Outcome::Success);
}

#[test]
fn a_connection_to_oneself_is_a_failure_and_frees_the_port() {
    if can_unshare() {
        let setup = "ip link set lo up; echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range";
        inside(
            &NAMESPACE,
            setup,
            "local::a_connection_to_oneself_is_a_failure_and_frees_the_port",
            inside_one_port,
        );
    }
}

fn inside_one_port() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 40000));
    let detail = "nobody listens: the prober was connected to itself";
    // Whether the kernel's choice of ports is known or not.
    for learn in [|| (), read_local_ports] {
        learn();
        for protocol in [tcp(), http("200")] {
            let report = probe(protocol, PATIENT, address);
            expect(&report, Outcome::Failure(MemberReason::SelfConnect), detail, "");
            // The real service can start.
            drop(TcpListener::bind(address).expect("the port is free again"));
        }
    }
    // The kernel does this to everybody: the case is real.
    let ours = TcpStream::connect(address).expect("a connection to oneself");
    assert_eq!(ours.local_addr().ok(), ours.peer_addr().ok());
}

#[test]
fn routes_that_lead_nowhere_have_their_own_words() {
    if can_unshare() {
        let setup = "ip link set lo up
            ip route add unreachable 192.0.2.1
            ip route add prohibit 192.0.2.2
            ip link add sink type dummy && ip link set sink up && ip route add 192.0.2.3 dev sink \
                && ip neigh add 192.0.2.3 lladdr 02:00:00:00:00:01 dev sink \
                && ip addr add 192.0.2.4/32 dev sink || ip route add 192.0.2.3 dev lo";
        inside(&NAMESPACE, setup, "local::routes_that_lead_nowhere_have_their_own_words", inside_dead_routes);
    }
}

fn inside_dead_routes() {
    let plan = plan(tcp(), BRIEF, &ProbeOptions::default());
    let unreachable = Outcome::Failure(MemberReason::Unreachable);
    let cases = [
        (1, unreachable, "no route to host"),
        (2, unreachable, "administratively forbidden"),
        // A black hole: packets leave and nothing comes back.
        (3, Outcome::Failure(MemberReason::ConnectTimeout), "no connection within 200ms"),
    ];
    for (last, outcome, detail) in cases {
        expect(&run(&plan, SocketAddr::from(([192, 0, 2, last], 80))), outcome, detail, "");
    }
    let elsewhere = SocketAddr::from(([198, 51, 100, 1], 80));
    expect(&run(&plan, elsewhere), unreachable, "network unreachable", "");
}
