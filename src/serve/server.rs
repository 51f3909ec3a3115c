//! The life of a connection: accepting, TLS, requests, time limits, draining.
//!
//! `daemon` calls [`run`] once per bound [`Listener`], with a token that ends it. Only
//! the token ends the accept loop, whatever clients and the network do. Every request
//! carries its [`ConnectionInfo`] as an extension. hyper limits the time for reading a
//! request head; there are two more limits here:
//! [`WriteLimit`] ends a connection whose peer accepts no byte for a while, and
//! [`ExchangeTimer`] bounds the time from a request's head to the end of its answer,
//! so that no client holds a snapshot by reading it slowly.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::uri::PathAndQuery;
use axum::http::{Extensions, Request, Uri};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tls::Tls;
use crate::config::api::Transport;

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
    /// Connections open at once. When all are taken, new ones wait in the
    /// kernel's queue until one ends.
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

/// Serves these routes until `shutdown`, then finishes the answers under way within
/// [`Limits::drain`].
pub async fn run(
    listener: impl Into<Listener>,
    router: Router,
    shutdown: CancellationToken,
    limits: Limits,
) -> DrainOutcome {
    let listener = listener.into();
    let server = Server {
        router,
        connections_left: Arc::new(Semaphore::new(limits.connections)),
        connections: TaskTracker::new(),
        closing: CancellationToken::new(),
        cut_off: CancellationToken::new(),
        limits,
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

/// A connection that was accepted, its handshake still to come.
#[derive(Debug)]
enum Incoming {
    Tcp(TcpStream, Option<Tls>),
    Unix(UnixStream),
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
                let (peer, transport) = (PeerAddress::UnixSocket, Transport::Plain);
                Ok((Incoming::Unix(stream), ConnectionInfo { peer, is_local: true, transport }))
            }
        }
    }
}

/// Where a request came from: an extension that the server puts on every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The other end of the connection.
    pub peer: PeerAddress,
    /// Whether it is on this machine, as far as can be told: a loopback address, or
    /// the very address that was connected to.
    pub is_local: bool,
    /// What the connection speaks.
    pub transport: Transport,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// A host.
    Network(IpAddr),
    /// A process of this machine that the socket's permissions let in.
    UnixSocket,
}

impl ConnectionInfo {
    pub(super) fn network(peer: SocketAddr, local: Option<SocketAddr>, transport: Transport) -> Self {
        let address = peer.ip().to_canonical();
        let is_local =
            address.is_loopback() || local.is_some_and(|local| local.ip().to_canonical() == address);
        Self { peer: PeerAddress::Network(peer.ip()), is_local, transport }
    }

    /// What the server noted; without a note, another machine over plain HTTP.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        let unknown = Self::network((Ipv4Addr::UNSPECIFIED, 0).into(), None, Transport::Plain);
        extensions.get().copied().unwrap_or(unknown)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(formatter),
            Self::UnixSocket => formatter.write_str("the local socket"),
        }
    }
}

struct Server {
    router: Router,
    connections_left: Arc<Semaphore>,
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
            let Ok(permit) = Arc::clone(&self.connections_left).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((incoming, info)) => {
                    if pause != FIRST_PAUSE {
                        tracing::info!("accepting connections again");
                        pause = FIRST_PAUSE;
                    }
                    self.spawn(incoming, info, permit);
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

    fn spawn(&self, incoming: Incoming, info: ConnectionInfo, permit: OwnedSemaphorePermit) {
        let router = TowerToHyperService::new(self.router.clone());
        let (limits, closing, cut_off) = (self.limits, self.closing.clone(), self.cut_off.clone());
        self.connections.spawn(async move {
            // Cancel-safe, both arms: either way the connection is dropped, which closes it.
            tokio::select! {
                () = serve_incoming(incoming, info, router, limits, closing) => {}
                () = cut_off.cancelled() => {}
            }
            drop(permit);
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

/// Serves a connection, after its handshake if it has one.
async fn serve_incoming(
    incoming: Incoming,
    info: ConnectionInfo,
    router: TowerToHyperService<Router>,
    limits: Limits,
    closing: CancellationToken,
) {
    let (stream, tls) = match incoming {
        Incoming::Tcp(stream, tls) => (stream, tls),
        Incoming::Unix(stream) => return serve_connection(stream, info, router, limits, closing).await,
    };
    // An answer's last segment must not wait for an acknowledgement. Failing
    // that it is merely slower.
    drop(stream.set_nodelay(true));
    let Some(tls) = tls else { return serve_connection(stream, info, router, limits, closing).await };
    // Cancel-safe, both arms: a connection without a request is simply closed, and
    // `cancelled` only waits.
    let stream = tokio::select! {
        stream = tls.accept(stream, limits.handshake) => stream,
        () = closing.cancelled() => return,
    };
    match stream {
        Ok(stream) => serve_connection(stream, info, router, limits, closing).await,
        Err(error) => tracing::debug!(peer = %info.peer, %error, "handshake failed"),
    }
}

async fn serve_connection<S>(
    stream: S,
    info: ConnectionInfo,
    router: TowerToHyperService<Router>,
    limits: Limits,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = info.peer;
    let exchange = ExchangeTimer::new();
    let answers = exchange.clone();
    let service = service_fn(move |mut request: Request<_>| {
        let answering = answers.begin();
        request.extensions_mut().insert(info);
        drop_trailing_slash(request.uri_mut());
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
        // Cancel-safe, each arm: the connection and the overdue watch outlive the loop's
        // turn, and `cancelled` only waits.
        tokio::select! {
            // How a connection ends is the client's and the network's business.
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

/// Below `/v2` and `/v3` a path with a slash at its end is the path without it, as on
/// the vendor's front: clients join base and path in both ways.
fn drop_trailing_slash(uri: &mut Uri) {
    let path = uri.path();
    let Some(shorter) = path.strip_suffix('/').filter(|path| is_below(path, "/v2") || is_below(path, "/v3"))
    else {
        return;
    };
    let target = match uri.query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    // A part of a good target is one too; otherwise the target stays as it came.
    let Ok(target) = PathAndQuery::try_from(target) else { return };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target);
    if let Ok(without) = Uri::from_parts(parts) {
        *uri = without;
    }
}

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A stream whose writes fail once the peer has accepted nothing for `limit`.
#[derive(Debug)]
struct WriteLimit<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits; none while writes go through.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteLimit<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, stalled: None }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteLimit<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteLimit<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The request a connection is answering, if any. HTTP/1.1 answers one at a
/// time, so one is enough.
#[derive(Debug, Clone)]
struct ExchangeTimer {
    since: watch::Sender<Option<Instant>>,
}

impl ExchangeTimer {
    fn new() -> Self {
        Self { since: watch::Sender::new(None) }
    }

    /// A request head has arrived; the answer ends when the guard is dropped.
    fn begin(&self) -> Answering {
        self.since.send_replace(Some(Instant::now()));
        Answering { exchange: self.clone() }
    }

    /// Returns once an answer has taken longer than `limit`. Cancel-safe: it
    /// keeps nothing between polls but what the channel holds.
    async fn overdue(&self, limit: Duration) {
        let mut changes = self.since.subscribe();
        loop {
            let since = *changes.borrow_and_update();
            // `changed` cannot fail: this very ExchangeTimer holds the sender.
            match since {
                None => drop(changes.changed().await),
                Some(since) => {
                    if timeout_at(since + limit, changes.changed()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// An answer under way.
#[derive(Debug)]
struct Answering {
    exchange: ExchangeTimer,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.exchange.since.send_replace(None);
    }
}

/// A response body that ends its exchange when it ends or is given up.
#[derive(Debug)]
struct AnswerBody {
    body: axum::body::Body,
    _answering: Answering,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
