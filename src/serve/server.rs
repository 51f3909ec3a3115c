//! Accepting, limits, draining: the life of the listener.
//!
//! Called by `daemon` with a bound listener and a token that ends it. Nothing a
//! client or the network does ends the accept loop; only the token does.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{AnswerBody, ExchangeTimer, WriteLimit};
use super::listener::{ConnectionInfo, Incoming, Listener};
use super::routes;
use super::source::DaemonHandle;

#[cfg(test)]
mod tests;

/// The pause after the first failed `accept`; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Request heads larger than this are refused with 431. Also what hyper
/// buffers of an answer beyond the chunk it is writing.
const HEAD_BYTES: usize = 16 * 1024;

/// What one client, and all of them together, may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once. When all are taken nobody is accepted until
    /// one ends; newcomers wait in the kernel's queue.
    pub connections: usize,
    /// From the moment a connection waits for a request to the end of its head;
    /// so also how long an idle connection is kept.
    pub head: Duration,
    /// From accepting a TLS connection to the end of its handshake.
    pub handshake: Duration,
    /// How long a client may accept no byte of an answer.
    pub write_stall: Duration,
    /// From a request's head to the end of its answer.
    pub exchange: Duration,
    /// From shutdown to the end of the last answer.
    pub drain: Duration,
}

impl Default for Limits {
    /// 128 connections, 30 s idle, 10 s for a handshake, 10 s without progress,
    /// 60 s an answer, 5 s to drain.
    fn default() -> Self {
        Self {
            connections: 128,
            head: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            exchange: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}

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

/// Serves until `shutdown`, then finishes the answers under way within
/// [`Limits::drain`].
pub async fn run(
    listener: impl Into<Listener>,
    source: impl DaemonHandle,
    shutdown: CancellationToken,
) -> DrainOutcome {
    run_with(listener, source, shutdown, Limits::default()).await
}

/// [`run`], with limits of one's own.
pub async fn run_with(
    listener: impl Into<Listener>,
    source: impl DaemonHandle,
    shutdown: CancellationToken,
    limits: Limits,
) -> DrainOutcome {
    run_router(listener, routes::router(source), shutdown, limits).await
}

/// [`run_with`], over any routes: those of [`routes::router`] and more.
pub async fn run_router(
    listener: impl Into<Listener>,
    router: Router,
    shutdown: CancellationToken,
    limits: Limits,
) -> DrainOutcome {
    let listener = listener.into();
    let server = Server {
        router,
        slots: Arc::new(Semaphore::new(limits.connections)),
        connections: TaskTracker::new(),
        closing: CancellationToken::new(),
        cut_off: CancellationToken::new(),
        limits,
    };
    // Cancel-safe: a connection is either still in the kernel's queue or
    // already a task of its own.
    tokio::select! {
        () = server.accept_forever(&listener) => {}
        () = shutdown.cancelled() => {}
    }
    drop(listener);
    server.drain().await
}

struct Server {
    router: Router,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    /// Finish what you are answering, then close.
    closing: CancellationToken,
    /// Close now.
    cut_off: CancellationToken,
    limits: Limits,
}

impl Server {
    async fn accept_forever(&self, listener: &Listener) {
        let mut pause = FIRST_PAUSE;
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((incoming, origin)) => {
                    if pause != FIRST_PAUSE {
                        tracing::info!("accepting connections again");
                        pause = FIRST_PAUSE;
                    }
                    self.spawn(incoming, origin, slot);
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

    fn spawn(&self, incoming: Incoming, origin: ConnectionInfo, slot: OwnedSemaphorePermit) {
        let router = TowerToHyperService::new(self.router.clone());
        let (limits, closing, cut_off) = (self.limits, self.closing.clone(), self.cut_off.clone());
        self.connections.spawn(async move {
            // Cancel-safe: both ways the connection is dropped, which closes it.
            tokio::select! {
                () = serve_incoming(incoming, origin, router, limits, closing) => {}
                () = cut_off.cancelled() => {}
            }
            drop(slot);
        });
    }

    async fn drain(self) -> DrainOutcome {
        self.closing.cancel();
        self.connections.close();
        if timeout(self.limits.drain, self.connections.wait()).await.is_ok() {
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

/// Shakes hands where that is due, and serves.
async fn serve_incoming(
    incoming: Incoming,
    origin: ConnectionInfo,
    router: TowerToHyperService<Router>,
    limits: Limits,
    closing: CancellationToken,
) {
    // An answer's last segment must not wait for an acknowledgement. Failing
    // that it is merely slower.
    if let Incoming::Tcp(stream) | Incoming::Tls(stream, _) = &incoming {
        drop(stream.set_nodelay(true));
    }
    match incoming {
        Incoming::Tcp(stream) => serve_connection(stream, origin, router, limits, closing).await,
        Incoming::Unix(stream) => serve_connection(stream, origin, router, limits, closing).await,
        Incoming::Tls(stream, tls) => {
            // Cancel-safe: a connection without a request is simply closed.
            let stream = tokio::select! {
                stream = tls.accept(stream, limits.handshake) => stream,
                () = closing.cancelled() => return,
            };
            match stream {
                Ok(stream) => serve_connection(stream, origin, router, limits, closing).await,
                Err(error) => tracing::debug!(peer = %origin.peer, %error, "handshake failed"),
            }
        }
    }
}

async fn serve_connection<S>(
    stream: S,
    origin: ConnectionInfo,
    router: TowerToHyperService<Router>,
    limits: Limits,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = origin.peer;
    let exchange = ExchangeTimer::new();
    let answers = exchange.clone();
    let service = service_fn(move |mut request: Request<_>| {
        let answering = answers.begin();
        request.extensions_mut().insert(origin);
        let response = router.call(request);
        async move { response.await.map(|answer| answer.map(|body| AnswerBody { body, _answering: answering })) }
    });
    let io = TokioIo::new(WriteLimit::new(stream, limits.write_stall));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut overdue = pin!(exchange.overdue(limits.exchange));
    let mut is_closing = false;
    loop {
        // Cancel-safe: the connection and the overdue watch outlive the turn,
        // and `cancelled` keeps nothing.
        tokio::select! {
            // Whatever a client or the network did to it is no event of ours.
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                return;
            }
            () = overdue.as_mut() => {
                tracing::debug!(%peer, "answer took too long; connection dropped");
                return;
            }
            () = closing.cancelled(), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
