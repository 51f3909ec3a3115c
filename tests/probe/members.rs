//! Members that misbehave on purpose, and probes of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use vitald::channel::{
    ClientCertificate, CodeSet, HealthCheck, Host, HttpCheck, HttpMethod, ProbeOptions, Protocol,
};
use vitald::health::{Outcome, Report};
use vitald::testing::probe::{self, Plan, ProbeTrace, Resolver, SystemLookup, Target};

/// Long enough for a loopback exchange on a busy machine.
pub(crate) const PATIENT: Duration = Duration::from_secs(5);

/// Short enough to wait for.
pub(crate) const BRIEF: Duration = Duration::from_millis(200);

/// A listener of our own on a port of the kernel's choice.
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Member {
    /// A member that treats each connection as `behave` says, one after another.
    pub(crate) fn new(behave: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                behave(connection);
            }
        });
        Self { address, accepted }
    }

    /// A member that reads a request and then sends these bytes and closes.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(move |mut connection| {
            read_request(&mut connection);
            let _ = connection.write_all(&answer);
        })
    }
}

impl Member {
    /// How many connections its application has seen.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits until its application has seen so many.
    pub(crate) fn wait_for(&self, connections: usize) {
        for _ in 0..5000 {
            if self.accepted() >= connections {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("{connections} connections never came");
    }
}

/// Reads up to the blank line that ends a request.
pub(crate) fn read_request(connection: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut bytes = [0; 4096];
    while !request.ends_with(b"\r\n\r\n") {
        match connection.read(&mut bytes) {
            Ok(read @ 1..) => request.extend_from_slice(bytes.get(..read).unwrap_or_default()),
            _ => break,
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// Waits until the prober has closed.
pub(crate) fn hold(mut connection: TcpStream) {
    let mut bytes = [0; 1024];
    while connection.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

/// Closes with a reset.
pub(crate) fn reset(connection: TcpStream) {
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(&connection, linger).expect("a linger time");
}

/// How the prober ended the connection, as the member's application sees it:
/// "fin" or "reset".
pub(crate) fn ending(mut connection: &TcpStream) -> &'static str {
    let mut bytes = [0; 1024];
    loop {
        match connection.read(&mut bytes) {
            Ok(0) => return "fin",
            Ok(_) => {}
            Err(_) => return "reset",
        }
    }
}

pub(crate) fn tcp() -> Protocol {
    Protocol::Tcp
}

pub(crate) fn http(codes: &str) -> Protocol {
    Protocol::Http(http_check(HttpMethod::Get, codes))
}

pub(crate) fn http_check(method: HttpMethod, codes: &str) -> HttpCheck {
    HttpCheck { path: "/health".to_owned(), method, codes: CodeSet::parse(codes).expect("a code set") }
}

pub(crate) fn plan(protocol: Protocol, timeout: Duration, options: &ProbeOptions) -> Plan {
    Plan::new(&HealthCheck::once(protocol, timeout, ClientCertificate::None), options).expect("a plan")
}

pub(crate) fn target(address: SocketAddr) -> Target {
    let (resolver, _refresher) = Resolver::new(SystemLookup, Duration::from_secs(60));
    Target::new(&Host::Ip(address.ip()), address.port(), &resolver)
}

/// Probes once, as a driver does: on a single-threaded runtime.
pub(crate) fn run(plan: &Plan, address: SocketAddr) -> Report {
    runtime().block_on(probe::run(plan, &target(address)))
}

pub(crate) fn explain(plan: &Plan, address: SocketAddr) -> (Report, ProbeTrace) {
    runtime().block_on(probe::explain(plan, &target(address)))
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Probes with default options.
pub(crate) fn probe(protocol: Protocol, timeout: Duration, address: SocketAddr) -> Report {
    run(&plan(protocol, timeout, &ProbeOptions::default()), address)
}

/// Which phases ended, as `connect+tls+response`.
pub(crate) fn phases(report: &Report) -> String {
    let named = [
        ("connect", report.phases.connect),
        ("tls", report.phases.tls),
        ("response", report.phases.response),
    ];
    let ended: Vec<_> =
        named.iter().filter(|(_, duration)| duration.is_some()).map(|(name, _)| *name).collect();
    ended.join("+")
}

/// Asserts all that a case is about.
#[track_caller]
pub(crate) fn expect(report: &Report, outcome: Outcome, detail: &str, ended: &str) {
    assert_eq!(
        (report.outcome, report.detail.as_ref(), phases(report).as_str()),
        (outcome, detail, ended),
        "{report:?}"
    );
    let sum: Duration =
        [report.phases.connect, report.phases.tls, report.phases.response].into_iter().flatten().sum();
    assert!(sum <= report.total, "the phases are parts of the total: {report:?}");
}

/// A port that refuses: it was free a moment ago.
pub(crate) fn refusing() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address")
}
