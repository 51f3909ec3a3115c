//! What the demo shows: small HTTP servers of this process, each with a habit, and a
//! configuration with channels over them.
//!
//! The servers are on one thread with a runtime of its own, so that a busy one cannot
//! make the prober late.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::probe::tls_provider;

/// Connections one backend serves at once; the next ones wait in its backlog.
const CONNECTIONS: usize = 64;

/// A client that does not say what it wants is sent away.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// After an accept that failed (no file descriptor), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The backends, by the names that the live view prints.
pub(super) const HABITS: [(&str, Habit); 7] = [
    ("steady-1", Habit::Steady),
    ("steady-2", Habit::Steady),
    ("steady-3", Habit::Steady),
    ("flapping", Habit::Flapping { good: Duration::from_secs(6), bad: Duration::from_secs(5) }),
    ("slow", Habit::Slow(Duration::from_secs(2))),
    ("https", Habit::Https),
    ("standby", Habit::Steady),
];

/// A channel of the demo.
pub(super) struct DemoChannel {
    pub(super) name: &'static str,
    /// What the live view explains at the start.
    pub(super) what: &'static str,
    strategy: &'static str,
    protocol: &'static str,
    /// Backends, and a further line for the member that each is.
    members: &'static [(&'static str, &'static str)],
}

pub(super) const CHANNELS: [DemoChannel; 4] = [
    DemoChannel {
        name: "demo-wrr",
        what: "steady-1 (weight 3), steady-2 (weight 1), flapping",
        strategy: "wrr",
        protocol: "HTTP",
        members: &[("steady-1", "weight = 3"), ("steady-2", "weight = 1"), ("flapping", "")],
    },
    DemoChannel {
        name: "demo-wleastconn",
        what: "steady-2, steady-3, slow (answers after 2 s, the timeout is 300 ms)",
        strategy: "wleastconn",
        protocol: "HTTP",
        members: &[("steady-2", ""), ("steady-3", ""), ("slow", "")],
    },
    DemoChannel {
        name: "demo-source",
        what: "flapping, and standby for when it is down",
        strategy: "source",
        protocol: "HTTP",
        members: &[("flapping", ""), ("standby", "is_backup = true")],
    },
    DemoChannel {
        name: "demo-uri",
        what: "https, with a certificate made on the spot",
        strategy: "uri",
        protocol: "HTTPS",
        members: &[("https", "")],
    },
];

/// How a backend behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Answers 200 at once.
    Steady,
    /// Answers 200 for `good`, then 503 for `bad`, and again.
    Flapping { good: Duration, bad: Duration },
    /// Answers 200 after this long.
    Slow(Duration),
    /// Answers 200 at once, over TLS with a certificate made on the spot.
    Https,
}

impl Habit {
    /// What the backend answers so long after its start.
    fn status_at(self, age: Duration) -> StatusCode {
        match self {
            Self::Flapping { good, bad } => {
                let cycle = (good + bad).as_nanos().max(1);
                match age.as_nanos() % cycle < good.as_nanos() {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                }
            }
            Self::Steady | Self::Slow(_) | Self::Https => StatusCode::OK,
        }
    }
}

/// One backend, listening.
#[derive(Debug, Clone, Copy)]
pub(super) struct DemoBackend {
    /// What the live view calls it.
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
}

/// All backends; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Backends {
    list: Vec<DemoBackend>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Why the backends cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackendsError {
    #[error("a demo backend cannot listen on loopback: {0}")]
    Listen(#[source] io::Error),
    #[error("the thread of the demo backends cannot be started: {0}")]
    Thread(#[source] io::Error),
    #[error("the demo's certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the demo's TLS settings cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("no demo backend is called {0}")]
    Unknown(&'static str),
}

impl Backends {
    /// Starts one backend for each name and habit, each on a free port of loopback.
    pub(super) fn start(habits: &[(&'static str, Habit)]) -> Result<Self, BackendsError> {
        let tls = TlsAcceptor::from(Arc::new(server_config()?));
        let mut list = Vec::new();
        let mut listeners = Vec::new();
        for (name, habit) in habits {
            let listener =
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BackendsError::Listen)?;
            listener.set_nonblocking(true).map_err(BackendsError::Listen)?;
            let address = listener.local_addr().map_err(BackendsError::Listen)?;
            list.push(DemoBackend { name, address });
            listeners.push((listener, *habit));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BackendsError::Thread)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serve = move || {
            runtime.block_on(async {
                for (listener, habit) in listeners {
                    // Fails only without a reactor, which this runtime has.
                    if let Ok(listener) = TcpListener::from_std(listener) {
                        tokio::spawn(accept(listener, habit, tls.clone()));
                    }
                }
                stopped.cancelled().await;
            });
        };
        let thread = std::thread::Builder::new()
            .name("demo-backends".to_owned())
            .spawn(serve)
            .map_err(BackendsError::Thread)?;
        Ok(Self { list, stop, thread: Some(thread) })
    }

    /// The backends, in the order of their habits.
    pub(super) fn list(&self) -> &[DemoBackend] {
        &self.list
    }

    fn address(&self, name: &'static str) -> Result<SocketAddr, BackendsError> {
        let found = self.list.iter().find(|backend| backend.name == name);
        found.map(|backend| backend.address).ok_or(BackendsError::Unknown(name))
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed already; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// A certificate for the demo's name, signed by itself.
fn server_config() -> Result<ServerConfig, BackendsError> {
    let key = KeyPair::generate()?;
    let names = ["demo.vitald.internal".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "vitald demo");
    let certificate = parameters.self_signed(&key)?;
    let key = PrivateKeyDer::from(key);
    let config = ServerConfig::builder_with_provider(Arc::new(tls_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(config)
}

async fn accept(listener: TcpListener, habit: Habit, tls: TlsAcceptor) {
    let start = Instant::now();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let tls = tls.clone();
        tokio::spawn(async move {
            match habit {
                Habit::Https => {
                    let handshake = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await;
                    if let Ok(Ok(stream)) = handshake {
                        serve(stream, habit, start).await;
                    }
                }
                Habit::Steady | Habit::Flapping { .. } | Habit::Slow(_) => serve(stream, habit, start).await,
            }
            drop(permit);
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send, habit: Habit, start: Instant) {
    let service = service_fn(move |_request| async move {
        if let Habit::Slow(delay) = habit {
            tokio::time::sleep(delay).await;
        }
        let mut response = Response::new(Full::new(Bytes::from_static(b"demo\n")));
        *response.status_mut() = habit.status_at(start.elapsed());
        Ok::<_, Infallible>(response)
    });
    // The prober resets a connection as soon as it has read the head: that is
    // an error here, and expected.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The demo's configuration: one channel for each strategy, over the backends. It is an
/// ordinary text, read by the ordinary rules, so that the demo shows nothing a user could
/// not write.
pub(super) fn configuration(listen: SocketAddr, backends: &Backends) -> Result<String, BackendsError> {
    let mut text = format!("[server]\nlisten = \"{listen}\"\n\n[prober]\nready_within = \"3s\"\n");
    for DemoChannel { name, strategy, protocol, members, .. } in CHANNELS {
        text += &format!(
            r#"
[[channels]]
name = "{name}"
port = 80
balance_strategy = "{strategy}"
member_type = "ip"

[channels.vpc_health_config]
protocol = "{protocol}"
path = "/health"
http_code = "200-299"
threshold_normal = 2
threshold_abnormal = 2
time_interval = "500ms"
timeout = "300ms"
"#
        );
        for (backend, more) in members {
            let address = backends.address(backend)?;
            let (ip, port) = (address.ip(), address.port());
            text += &format!("\n[[channels.members]]\nhost = \"{ip}\"\nport = {port}\n{more}\n");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flapping_backend_alternates() {
        let habit = Habit::Flapping { good: Duration::from_secs(8), bad: Duration::from_secs(6) };
        for (seconds, status) in [(0, 200), (7, 200), (8, 503), (13, 503), (14, 200), (22, 503)] {
            assert_eq!(habit.status_at(Duration::from_secs(seconds)).as_u16(), status, "{seconds}");
        }
    }

    #[test]
    fn backends_listen_until_dropped() {
        let backends = Backends::start(&[("one", Habit::Steady), ("two", Habit::Https)]).expect("start");
        let addresses: Vec<SocketAddr> = backends.list().iter().map(|backend| backend.address).collect();
        assert_eq!(backends.address("two").ok(), addresses.get(1).copied());
        for address in &addresses {
            std::net::TcpStream::connect(address).expect("listening");
        }
        drop(backends);
        for address in &addresses {
            assert!(std::net::TcpStream::connect(address).is_err(), "{address} still listens");
        }
    }
}
