//! One connection after it was accepted: its handshake, its requests, its time limits.
//!
//! `server` calls [`ConnectionService::serve`]. Every request is put down by the [`Audit`], goes
//! through the [`Guard`] and carries its [`ConnectionInfo`] as an extension. hyper limits the time for reading a
//! request head; there are two more limits here: [`WriteLimit`] ends a connection whose peer
//! accepts no byte for a while, and [`ExchangeTimer`] bounds the time from a request's
//! head to the end of its answer, so that no client holds a snapshot by reading it slowly.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::uri::PathAndQuery;
use axum::http::{Request, Uri};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::audit::Audit;
use super::guard::Guard;
use super::http::ErrorForm;
use super::peer::{ConnectionInfo, PlaceKind};
use super::tls::Tls;

/// Request heads larger than this are refused with 431. Also what hyper
/// buffers of an answer beyond the chunk it is writing.
const HEAD_BYTES: usize = 16 * 1024;

/// What one client, and all of them together, may take of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once. When all are taken, the longest idle one is given up
    /// for a new one.
    pub connections: usize,
    /// The share of one source: an address, for IPv6 its /64. It has more while not all
    /// are taken, and gives those back when another source comes.
    pub connections_each: usize,
    /// How long a connection is idle before it may be given up, so that a client that has
    /// just connected can send a request. It does not spare the connections of a source that
    /// has more of them than the one that comes.
    pub least_idle: Duration,
    /// Connections beyond those, for liveness and metrics only.
    pub reserve: usize,
    /// From accepting such a connection to the end of its request's head.
    pub reserve_head: Duration,
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
    /// 128 connections, of which 32 are a source's share, given up after 100 ms idle at the earliest; 32 in
    /// reserve for 1 s each; 30 s idle, 10 s for a handshake, 10 s without progress, 60 s an
    /// answer, 5 s to drain.
    fn default() -> Self {
        Self {
            connections: 128,
            connections_each: 32,
            least_idle: Duration::from_millis(100),
            reserve: 32,
            reserve_head: Duration::from_secs(1),
            head: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            exchange: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}

/// A connection that was accepted, its handshake still to come.
#[derive(Debug)]
pub(super) enum Incoming {
    Tcp(TcpStream, Option<Tls>),
    Unix(UnixStream),
}

/// What serves the connections of a listener. Cloned for each.
#[derive(Clone)]
pub(super) struct ConnectionService {
    pub(super) router: Router,
    pub(super) guard: Guard,
    pub(super) audit: Audit,
    pub(super) limits: Limits,
    /// Cancelled when the listener closes: finish what you are answering, then close.
    pub(super) closing: CancellationToken,
}

impl ConnectionService {
    /// Serves a connection to its end, after its handshake if it has one. Cancel-safe:
    /// dropping the future closes the connection.
    pub(super) async fn serve(self, incoming: Incoming, info: ConnectionInfo, exchange: ExchangeTimer) {
        let accepted = Instant::now();
        let (stream, tls) = match incoming {
            Incoming::Tcp(stream, tls) => (stream, tls),
            Incoming::Unix(stream) => return self.serve_stream(stream, info, exchange, accepted).await,
        };
        // An answer's last segment must not wait for an acknowledgement. Failing
        // that it is merely slower.
        drop(stream.set_nodelay(true));
        let Some(tls) = tls else { return self.serve_stream(stream, info, exchange, accepted).await };
        let limit = match info.place {
            PlaceKind::Regular => self.limits.handshake,
            PlaceKind::Reserved => self.limits.reserve_head,
        };
        // Cancel-safe, both arms: a connection without a request is simply closed, and
        // `cancelled` only waits.
        let stream = tokio::select! {
            stream = tls.accept(stream, limit) => stream,
            () = self.closing.cancelled() => return,
        };
        match stream {
            Ok(stream) => self.serve_stream(stream, info, exchange, accepted).await,
            Err(error) => tracing::debug!(peer = %info.peer, %error, "handshake failed"),
        }
    }

    async fn serve_stream<S>(
        self,
        stream: S,
        info: ConnectionInfo,
        exchange: ExchangeTimer,
        accepted: Instant,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, guard, audit, limits, closing } = self;
        let peer = info.peer;
        let router = TowerToHyperService::new(router);
        let answers = exchange.clone();
        let unread = audit.clone();
        let service = service_fn(move |mut request: Request<_>| {
            let answering = answers.begin();
            let form = ErrorForm::of(request.uri().path());
            let record = audit.begin(&mut request, &info);
            let verdict = guard.judge(&request, &info).map(|()| {
                request.extensions_mut().insert(info);
                if form != ErrorForm::Page {
                    drop_trailing_slash(request.uri_mut());
                }
                router.call(request)
            });
            async move {
                let mut answer = match verdict {
                    Ok(response) => form.complete(response.await?).await,
                    Err(fault) => {
                        fault.failure().into_iter().for_each(|failure| record.note().set_failure(failure));
                        fault.into_answer(form)
                    }
                };
                record.end(&mut answer);
                Ok::<_, Infallible>(answer.map(|body| AnswerBody { body, _answering: answering }))
            }
        });
        let io = TokioIo::new(WriteLimit::new(stream, limits.write_stall));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).max_buf_size(HEAD_BYTES);
        match info.place {
            PlaceKind::Regular => builder.header_read_timeout(limits.head),
            // One request, and no time beyond that since it was accepted.
            PlaceKind::Reserved => builder
                .header_read_timeout(limits.reserve_head.saturating_sub(accepted.elapsed()))
                .keep_alive(false),
        };
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
                        // hyper has answered by itself.
                        if error.is_parse() {
                            unread.refuse_unread(&info, if error.is_parse_too_large() { 431 } else { 400 });
                        }
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
}

/// Below `/v2` and `/v3` a path with a slash at its end is the path without it, as on
/// the vendor's front: clients join base and path in both ways.
fn drop_trailing_slash(uri: &mut Uri) {
    let Some(shorter) = uri.path().strip_suffix('/') else { return };
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

/// How far the exchange of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExchangeState {
    /// It has no answer under way since then: it waits for a request's head, or for the
    /// rest of one.
    Idle(Instant),
    /// It answers a request, whose head was there then.
    Answering(Instant),
}

/// Tells how far the exchange of a connection is. HTTP/1.1 answers one request at a time,
/// so one value is enough. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct ExchangeTimer {
    state: watch::Sender<ExchangeState>,
}

impl ExchangeTimer {
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::new(ExchangeState::Idle(Instant::now())) }
    }

    pub(super) fn state(&self) -> ExchangeState {
        *self.state.borrow()
    }

    /// A request head has arrived; the answer ends when the guard is dropped.
    pub(super) fn begin(&self) -> Answering {
        self.state.send_replace(ExchangeState::Answering(Instant::now()));
        Answering { exchange: self.clone() }
    }

    /// Returns once an answer has taken longer than `limit`. Cancel-safe: it
    /// keeps nothing between polls but what the channel holds.
    async fn overdue(&self, limit: Duration) {
        let mut changes = self.state.subscribe();
        loop {
            let state = *changes.borrow_and_update();
            // `changed` cannot fail: this very ExchangeTimer holds the sender.
            match state {
                ExchangeState::Idle(_) => drop(changes.changed().await),
                ExchangeState::Answering(since) => {
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
pub(super) struct Answering {
    exchange: ExchangeTimer,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.exchange.state.send_replace(ExchangeState::Idle(Instant::now()));
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
