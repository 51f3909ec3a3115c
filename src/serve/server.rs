//! Accepting connections, giving each its place, and draining at the end.
//!
//! `daemon` calls [`run`] once per bound [`Listener`], with a token that ends it. Only
//! the token ends the accept loop, whatever clients and the network do. `places` decides who
//! is let in when there are too many. `connection` serves what was accepted.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audit::Audit;
use super::connection::{ConnectionService, ExchangeTimer, Incoming, Limits};
use super::guard::{Access, Guard, HostCheck};
use super::peer::{ConnectionInfo, PeerAddress};
use super::places::{Admission, PlaceId, PlaceLimits, Places};
use super::shares::lock;
use super::tls::Tls;
use crate::config::api::Transport;

#[cfg(test)]
mod tests;

/// The pause after the first failed `accept`; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every answer under way was finished.
    Complete,
    /// The bound passed first; so many connections were cut.
    CutOff {
        /// How many.
        connections: usize,
    },
}

/// Serves these routes until `shutdown`, then finishes the answers under way within
/// [`Limits::drain`]. `access` says which hosts requests may name and which peers are
/// proxies; it may be replaced meanwhile. `audit` puts down every request.
pub async fn run(
    listener: impl Into<Listener>,
    router: Router,
    shutdown: CancellationToken,
    limits: Limits,
    access: Access,
    audit: Audit,
) -> DrainOutcome {
    let listener = listener.into();
    let closing = CancellationToken::new();
    let guard = Guard::new(access.clone(), listener.host_check());
    let place_limits = PlaceLimits {
        total: limits.connections,
        each: limits.connections_each,
        reserved: limits.reserve,
        least_idle: limits.least_idle,
    };
    let server = Server {
        service: ConnectionService { router, guard, audit, limits, closing },
        access,
        places: Arc::new(Mutex::new(Places::new(place_limits))),
        connections: TaskTracker::new(),
        cut_off: CancellationToken::new(),
    };
    // Cancel-safe, both arms: a connection is either still in the kernel's queue or
    // already a task of its own, and `cancelled` only waits.
    tokio::select! {
        () = server.accept_forever(&listener) => {}
        () = shutdown.cancelled() => {}
    }
    drop(listener);
    server.drain().await
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// HTTP over TCP, or HTTPS with these certificates.
    Tcp(TcpListener, Option<Tls>),
    /// HTTP over a Unix socket.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener, None)
    }
}

impl Listener {
    /// Waits for a connection. Cancel-safe, as the listeners' own `accept` is.
    async fn accept(&self) -> io::Result<(Incoming, ConnectionInfo)> {
        match self {
            Self::Tcp(listener, tls) => {
                let (stream, peer) = listener.accept().await?;
                let transport = if tls.is_some() { Transport::Tls } else { Transport::Plain };
                let info = ConnectionInfo::network(peer, stream.local_addr().ok(), transport);
                Ok((Incoming::Tcp(stream, tls.clone()), info))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let user_id = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((Incoming::Unix(stream), ConnectionInfo::socket(user_id)))
            }
        }
    }

    /// When `Host` is checked on this listener.
    fn host_check(&self) -> HostCheck {
        match self {
            Self::Unix(_) => HostCheck::Never,
            Self::Tcp(listener, _) => {
                let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
                match listener.local_addr() {
                    Ok(address) if is_loopback(address) => HostCheck::Always,
                    Ok(_) | Err(_) => HostCheck::WhenNamed,
                }
            }
        }
    }
}

struct Server {
    service: ConnectionService,
    access: Access,
    places: Arc<Mutex<Places>>,
    connections: TaskTracker,
    /// Close now.
    cut_off: CancellationToken,
}

impl Server {
    async fn accept_forever(&self, listener: &Listener) {
        let mut pause = FIRST_PAUSE;
        loop {
            match listener.accept().await {
                Ok((incoming, info)) => {
                    if pause != FIRST_PAUSE {
                        tracing::info!("accepting connections again");
                        pause = FIRST_PAUSE;
                    }
                    let (admission, exchange, info) = self.admit(info);
                    let is_crowded = admission.is_crowded();
                    self.spawn(incoming, info, exchange, admission);
                    // The connection that was given up closes, and the new one is read,
                    // before more are accepted.
                    if is_crowded {
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors or memory: it passes, and probing goes on meanwhile.
                    if pause == FIRST_PAUSE {
                        tracing::warn!(%error, "cannot accept connections; trying again until it works");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Gives a connection its place, and notes whose it is and which.
    fn admit(&self, mut info: ConnectionInfo) -> (Admission, ExchangeTimer, ConnectionInfo) {
        if let PeerAddress::Network(peer) = info.peer {
            info.network = self.access.network_of(peer);
        }
        let exchange = ExchangeTimer::new();
        let admission = lock(&self.places).admit(info.network, exchange.clone());
        info.place = admission.kind;
        (admission, exchange, info)
    }

    /// Serves a connection on a task of its own.
    fn spawn(
        &self,
        incoming: Incoming,
        info: ConnectionInfo,
        exchange: ExchangeTimer,
        Admission { id, given_up, .. }: Admission,
    ) {
        let place = HeldPlace { id, places: Arc::clone(&self.places) };
        let (service, cut_off) = (self.service.clone(), self.cut_off.clone());
        self.connections.spawn(async move {
            // Cancel-safe, each arm: however it ends, the connection is dropped, which
            // closes it.
            tokio::select! {
                () = service.serve(incoming, info, exchange) => {}
                () = given_up.cancelled() => tracing::debug!(peer = %info.peer, "given up for a newcomer"),
                () = cut_off.cancelled() => {}
            }
            drop(place);
        });
    }

    async fn drain(self) -> DrainOutcome {
        self.service.closing.cancel();
        self.connections.close();
        if timeout(self.service.limits.drain, self.connections.wait()).await.is_ok() {
            return DrainOutcome::Complete;
        }
        let connections = self.connections.len();
        self.cut_off.cancel();
        self.connections.wait().await;
        DrainOutcome::CutOff { connections }
    }
}

/// Whether an accept error concerns only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// A place in the table, until the connection has ended.
struct HeldPlace {
    id: PlaceId,
    places: Arc<Mutex<Places>>,
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        lock(&self.places).leave(self.id);
    }
}
