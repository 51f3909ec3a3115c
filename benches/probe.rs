//! What one probe costs its thread, in processor time, against a bare epoll program.
//!
//! `cargo bench --bench probe`. Probes run fifty at once over loopback against a
//! member on a thread of its own; what is measured is the prober's thread alone,
//! user and system together. Without a schedule, an engine and a daemon around it:
//! `benches/probe_cost/run` measures those too, beside other probers.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot run says where")]

#[path = "probe_cost/floor/src/floor.rs"]
mod floor;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use floor::Floor;
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use tokio::task::JoinSet;
use vitald::channel::{
    ClientCertificate, CodeSet, HealthCheck, Host, HttpCheck, HttpMethod, ProbeOptions, Protocol,
};
use vitald::health::Outcome;
use vitald::testing::probe::{self, Plan, Resolver, SystemLookup, Target};

/// Probes under way together, so that one wake may serve several.
const AT_ONCE: u64 = 50;
const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
        .configure_from_args();
    let plain = member(None);
    let tls = member(Some(Arc::new(tls_config())));
    let check =
        || HttpCheck { path: "/".to_owned(), method: HttpMethod::Get, codes: CodeSet::parse("200").unwrap() };
    probes(&mut criterion, "probe/tcp", Protocol::Tcp, plain);
    floors(&mut criterion, "probe/floor_tcp", floor::Protocol::Tcp, plain);
    probes(&mut criterion, "probe/http", Protocol::Http(check()), plain);
    floors(&mut criterion, "probe/floor_http", floor::Protocol::Http, plain);
    probes(&mut criterion, "probe/https", Protocol::Https(check()), tls);
    criterion.final_summary();
}

/// A probe as a driver runs it: a task of a single-threaded runtime.
fn probes(criterion: &mut Criterion, name: &str, protocol: Protocol, member: SocketAddrV4) {
    let check = HealthCheck::once(protocol, TIMEOUT, ClientCertificate::None);
    let plan = Arc::new(Plan::new(&check, &ProbeOptions::default()).unwrap());
    let (resolver, _refresher) = Resolver::new(SystemLookup, TIMEOUT);
    let target = Target::new(&Host::Ip((*member.ip()).into()), member.port(), &resolver);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    criterion.bench_function(name, |bench| {
        bench.iter_custom(|iterations| {
            runtime.block_on(async {
                let mut running = JoinSet::new();
                let mut left = iterations;
                let start = thread_time();
                while left > 0 {
                    for _ in 0..left.min(AT_ONCE) {
                        let (plan, target) = (Arc::clone(&plan), target.clone());
                        running.spawn(async move { probe::run(&plan, &target).await });
                    }
                    left -= left.min(AT_ONCE);
                    while let Some(report) = running.join_next().await {
                        let report = report.unwrap();
                        assert_eq!(report.outcome, Outcome::Success, "{}", report.detail);
                    }
                }
                thread_time() - start
            })
        });
    });
}

fn floors(criterion: &mut Criterion, name: &str, protocol: floor::Protocol, member: SocketAddrV4) {
    let addresses = std::iter::repeat_n(member, usize::try_from(AT_ONCE).unwrap());
    let mut floor = Floor::new(protocol, addresses).unwrap();
    criterion.bench_function(name, |bench| {
        bench.iter_custom(|iterations| {
            let mut left = iterations;
            let start = thread_time();
            while left > 0 {
                let now = thread_time();
                for index in 0..left.min(AT_ONCE) {
                    floor.start(usize::try_from(index).unwrap(), now);
                }
                left -= left.min(AT_ONCE);
                while floor.running() > 0 {
                    floor.wait(TIMEOUT);
                }
            }
            thread_time() - start
        });
    });
    assert_eq!(floor.failed(), 0, "{name}: of the last {AT_ONCE}, {} were well", floor.healthy());
}

/// User and system time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Answers every request with 200, over TLS when there is a configuration.
fn member(tls: Option<Arc<ServerConfig>>) -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!("bound to IPv4") };
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            // What a probe does to its connection is not judged here.
            let _ = match &tls {
                None => answer(&mut connection),
                Some(config) => {
                    let mut session = ServerConnection::new(Arc::clone(config)).unwrap();
                    answer(&mut rustls::Stream::new(&mut session, &mut connection))
                }
            };
        }
    });
    address
}

fn answer(connection: &mut (impl Read + Write)) -> std::io::Result<()> {
    // A request of ours fits one read.
    if connection.read(&mut [0; 4096])? > 0 {
        connection.write_all(ANSWER)?;
    }
    connection.flush()
}

/// ECDSA P-256, and no session is ever taken up again.
fn tls_config() -> ServerConfig {
    let certified = rcgen::generate_simple_self_signed(["member".to_owned()]).unwrap();
    let certificate = CertificateDer::from(certified.cert);
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}
