//! Members that are named: what a probe makes of the resolver's answer.

use std::future::Future;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use vitald::channel::{Host, ProbeOptions, Protocol, ResolveFamily};
use vitald::health::{MemberReason, Outcome, Report};
use vitald::testing::probe::{self, Addresses, Lookup, Plan, Resolver, Target};

use crate::members::{BRIEF, Member, PATIENT, expect, hold, http, plan, read_request, runtime, tcp};

/// A resolver that gives every name the same answer, after a while.
struct Says(Addresses, Duration);

impl Lookup for Says {
    fn lookup(&self, _: Arc<str>) -> Pin<Box<dyn Future<Output = Addresses> + Send>> {
        let Self(answer, delay) = self;
        let (answer, delay) = (answer.clone(), *delay);
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            answer
        })
    }
}

/// `app.internal` on a port, as this resolver knows it. Must be called in a runtime.
fn named(says: Says, port: u16) -> Target {
    let (resolver, refresher) = Resolver::new(says, PATIENT);
    tokio::spawn(refresher.run());
    let target = Target::new(&Host::Name("app.internal".into()), port, &resolver);
    assert_eq!(target.address().to_string(), format!("app.internal:{port}"));
    target
}

/// Probes `app.internal` on a port, with this resolver.
fn probe_name(says: Says, port: u16, timeout: Duration) -> Report {
    let plan = plan(http("200"), timeout, &ProbeOptions::default());
    runtime().block_on(async { probe::run(&plan, &named(says, port)).await })
}

fn loopback(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// The addresses, known at once.
fn has<const N: usize>(addresses: [IpAddr; N]) -> Says {
    Says(Ok(addresses.to_vec()), Duration::ZERO)
}

/// Listens at one more address of a port.
fn listen(ip: IpAddr, port: u16) -> TcpListener {
    TcpListener::bind((ip, port)).expect("the port is free at another address")
}

/// An address at which no SYN is answered, because the queue there is full: listener, and
/// what fills it.
fn silent(ip: IpAddr, port: u16) -> (TcpListener, Vec<TcpStream>) {
    let listener = listen(ip, port);
    // A second `listen` only changes the length of the queue.
    rustix::net::listen(&listener, 0).expect("a listener can listen");
    let address = listener.local_addr().expect("an address");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 16, "the queue does not fill up");
    }
    (listener, queued)
}

/// Probes once on a clock that jumps to the next deadline as soon as everybody waits; says
/// how long that took on it.
fn probe_paused(plan: &Plan, says: Says, port: u16) -> (Report, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let target = named(says, port);
        let start = tokio::time::Instant::now();
        let report = probe::run(plan, &target).await;
        (report, start.elapsed())
    })
}

const SECONDS_2: Duration = Duration::from_secs(2);

#[test]
fn a_named_member_is_probed_at_its_address_and_called_by_its_name() {
    let member = Member::new(|mut connection| {
        let request = read_request(&mut connection);
        let named = request.contains("\r\nHost: app.internal:");
        let status = if named { "200 OK" } else { "421 Misdirected Request" };
        let _ = write!(connection, "HTTP/1.1 {status}\r\n\r\n");
    });
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // Slow resolving is no part of the probe's time.
    let says = Says(Ok(vec![address]), BRIEF);
    let report = probe_name(says, member.address.port(), PATIENT);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
    assert_eq!(report.peer, Some(member.address));
    assert_eq!(report.address.as_deref(), Some(&address));
    assert!(report.total < BRIEF, "{report:?}");
}

#[test]
fn a_name_without_an_address_is_a_failure_with_the_resolvers_words() {
    let says = Says(Err("Name or service not known".to_owned()), Duration::ZERO);
    let report = probe_name(says, 80, PATIENT);
    let detail = "no address for app.internal: Name or service not known";
    expect(&report, Outcome::Failure(MemberReason::Resolve), detail, "");
    assert_eq!(report.peer, None);
    let report = probe_name(Says(Ok(vec![]), PATIENT), 80, BRIEF);
    let detail = "no answer for app.internal from the resolver within 200ms";
    expect(&report, Outcome::Failure(MemberReason::Resolve), detail, "");
}

#[test]
fn an_answer_at_which_no_server_can_be_is_refused() {
    // Whoever connects to these is connected to this machine.
    let member = Member::answering("HTTP/1.1 200 OK\r\n\r\n");
    for address in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let report = probe_name(has([address]), member.address.port(), PATIENT);
        let detail = format!(
            "no address for app.internal: the answer is {address}, the unspecified address, which no server has"
        );
        expect(&report, Outcome::Failure(MemberReason::Resolve), &detail, "");
    }
    let report = probe_name(has([IpAddr::from([224, 0, 0, 1])]), member.address.port(), PATIENT);
    assert_eq!(report.outcome, Outcome::Failure(MemberReason::Resolve), "{report:?}");
    // What else is in the answer counts.
    let mixed = has([IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let report = probe_name(mixed, member.address.port(), PATIENT);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
    assert_eq!(report.peer, Some(member.address));
}

#[test]
fn an_address_that_refuses_hands_on_to_the_next_at_once_and_the_good_one_stays_first() {
    let member = Member::answering("HTTP/1.1 200 OK\r\n\r\n");
    let port = member.address.port();
    let plan = plan(http("200"), PATIENT, &ProbeOptions::default());
    runtime().block_on(async {
        let target = named(has([loopback(3), loopback(2), loopback(1)]), port);
        let (report, trace) = probe::explain(&plan, &target).await;
        expect(&report, Outcome::Success, "200 OK", "connect+response");
        assert_eq!(report.peer, Some(member.address));
        assert_eq!(report.address.as_deref(), Some(&loopback(1)));
        assert!(report.total < BRIEF, "{report:?}");
        assert_eq!(trace.addresses, [loopback(3), loopback(2), loopback(1)]);
        let refused = |last| (loopback(last), "connection refused".to_owned());
        assert_eq!(trace.attempts, [refused(3), refused(2)]);
        // A reload makes another target of the same member.
        let again = target.clone();
        again.succeed(&target);
        for target in [target, again] {
            let (report, trace) = probe::explain(&plan, &target).await;
            assert_eq!(report.outcome, Outcome::Success);
            assert_eq!(trace.addresses, [loopback(1), loopback(3), loopback(2)]);
            assert_eq!(trace.attempts, []);
        }
    });
}

#[test]
fn a_member_that_listens_on_one_family_of_two_is_found() {
    let member = Member::answering("HTTP/1.1 200 OK\r\n\r\n");
    let both = || has([IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let port = member.address.port();
    let report = probe_name(both(), port, PATIENT);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
    assert_eq!(report.peer, Some(member.address));
    let only = |resolve| {
        let plan = plan(http("200"), PATIENT, &ProbeOptions { resolve, ..ProbeOptions::default() });
        runtime().block_on(async { probe::explain(&plan, &named(both(), port)).await })
    };
    let (report, trace) = only(ResolveFamily::V4);
    assert_eq!((report.outcome, trace.addresses), (Outcome::Success, vec![loopback(1)]));
    let (report, trace) = only(ResolveFamily::V6);
    assert!(matches!(report.outcome, Outcome::Failure(_)), "{report:?}");
    assert_eq!(trace.addresses, [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    let plan =
        plan(http("200"), PATIENT, &ProbeOptions { resolve: ResolveFamily::V6, ..ProbeOptions::default() });
    let report = runtime().block_on(async { probe::run(&plan, &named(has([loopback(1)]), port)).await });
    let detail = "no IPv6 address for app.internal: there is 127.0.0.1";
    expect(&report, Outcome::Failure(MemberReason::Resolve), detail, "");
}

#[test]
fn where_nobody_is_the_reason_is_that_of_the_first_address_and_the_detail_tells_all() {
    let closed = listen(loopback(1), 0);
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    let report = probe_name(has([loopback(2), loopback(1)]), port, PATIENT);
    let detail = "127.0.0.2: connection refused; 127.0.0.1: connection refused";
    expect(&report, Outcome::Failure(MemberReason::Refused), detail, "");
    assert_eq!(report.peer, Some(SocketAddr::new(loopback(2), port)));
    assert!(report.total < BRIEF, "{report:?}");
    // One address says it alone.
    let report = probe_name(has([loopback(2)]), port, PATIENT);
    expect(&report, Outcome::Failure(MemberReason::Refused), "connection refused", "");

    let _silent = silent(loopback(1), port);
    let options = ProbeOptions::default();
    let (report, took) =
        probe_paused(&plan(tcp(), SECONDS_2, &options), has([loopback(1), loopback(2)]), port);
    let detail = "127.0.0.1: no connection within 1s; 127.0.0.2: connection refused";
    expect(&report, Outcome::Failure(MemberReason::ConnectTimeout), detail, "");
    assert_eq!(took, Duration::from_secs(1));
    let (report, took) =
        probe_paused(&plan(tcp(), SECONDS_2, &options), has([loopback(2), loopback(1)]), port);
    assert_eq!(report.outcome, Outcome::Failure(MemberReason::Refused), "{report:?}");
    assert!(report.detail.starts_with("127.0.0.2: connection refused; 127.0.0.1: no connection within "));
    assert!(took >= Duration::from_millis(1990) && took <= SECONDS_2, "the rest is the last one's: {took:?}");
}

#[test]
fn a_silent_address_has_a_fair_share_of_the_deadline() {
    let there = listen(loopback(1), 0);
    let port = there.local_addr().expect("an address").port();
    let _silent = [silent(loopback(2), port), silent(loopback(3), port)];
    let options = ProbeOptions::default();
    let all = || has([loopback(2), loopback(3), loopback(1)]);
    let (report, took) = probe_paused(&plan(tcp(), Duration::from_secs(3), &options), all(), port);
    expect(&report, Outcome::Success, "connected", "connect");
    assert_eq!((report.peer, took), (Some(SocketAddr::new(loopback(1), port)), SECONDS_2));
    assert_eq!(report.total, took, "the whole of it is the probe's");
    let silent_alone = has([loopback(2), loopback(3)]);
    let (report, took) = probe_paused(&plan(tcp(), SECONDS_2, &options), silent_alone, port);
    let detail = "127.0.0.2: no connection within 1s; 127.0.0.3: no connection within 1s";
    expect(&report, Outcome::Failure(MemberReason::ConnectTimeout), detail, "");
    assert_eq!((took, report.waited), (SECONDS_2, SECONDS_2), "no later than one address");
}

#[test]
fn once_connected_a_probe_stays() {
    let busy = Member::answering("HTTP/1.1 503 Busy\r\n\r\n");
    let port = busy.address.port();
    let other = listen(loopback(2), port);
    other.set_nonblocking(true).expect("a flag");
    let report = probe_name(has([loopback(1), loopback(2)]), port, PATIENT);
    expect(&report, Outcome::Failure(MemberReason::Status), "503 Busy", "connect+response");
    // Those who refused before are told of.
    let report = probe_name(has([loopback(3), loopback(1), loopback(2)]), port, PATIENT);
    let detail = "127.0.0.3: connection refused; 127.0.0.1: 503 Busy";
    expect(&report, Outcome::Failure(MemberReason::Status), detail, "connect+response");
    assert_eq!(report.peer, Some(busy.address));
    assert!(other.accept().is_err(), "nobody came to the other address");
}

#[test]
fn once_connected_a_probe_has_the_whole_timeout() {
    let mute = Member::new(hold);
    let port = mute.address.port();
    let other = listen(loopback(2), port);
    other.set_nonblocking(true).expect("a flag");
    let plan = |protocol: Protocol| plan(protocol, SECONDS_2, &ProbeOptions::default());
    let (report, took) = probe_paused(&plan(http("200")), has([loopback(1), loopback(2)]), port);
    let detail = "connected, but no whole response head within 2s";
    expect(&report, Outcome::Failure(MemberReason::ResponseTimeout), detail, "connect");
    assert_eq!((took, report.peer), (SECONDS_2, Some(mute.address)));
    assert!(other.accept().is_err(), "nobody came to the other address");
}

#[test]
fn a_connection_that_comes_late_in_its_share_has_the_whole_timeout() {
    let (listener, queued) = silent(loopback(1), 0);
    let port = listener.local_addr().expect("an address").port();
    let other = listen(loopback(2), port);
    other.set_nonblocking(true).expect("a flag");
    let timeout = Duration::from_millis(2600);
    let plan = plan(http("200"), timeout, &ProbeOptions::default());
    let report = runtime().block_on(async {
        let target = named(has([loopback(1), loopback(2)]), port);
        tokio::spawn(async move {
            // The first SYN is dropped; there is room for the one that follows a second later.
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(queued);
            std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(hold));
        });
        probe::run(&plan, &target).await
    });
    let detail = "connected, but no whole response head within 2.6s";
    expect(&report, Outcome::Failure(MemberReason::ResponseTimeout), detail, "connect");
    let connect = report.phases.connect.expect("a connection");
    assert!(connect > Duration::from_millis(300) && connect < timeout / 2, "{report:?}");
    assert!(report.total >= timeout, "{report:?}");
    assert!(other.accept().is_err(), "nobody came to the other address");
}
