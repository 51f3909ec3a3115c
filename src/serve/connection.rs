//! The time limits of one connection: a client that does not read is dropped.
//!
//! Two limits beside hyper's on reading a request head. [`WriteLimit`] ends a
//! connection whose peer accepts no byte for a while; [`ExchangeTimer`] bounds the
//! time from a request's head to the end of its answer, so that nobody holds an
//! snapshot by reading it drop by drop.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

/// A stream whose writes fail once the peer has accepted nothing for `limit`.
#[derive(Debug)]
pub(super) struct WriteLimit<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits; none while writes go through.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteLimit<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
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
/// time, so one slot is enough.
#[derive(Debug, Clone)]
pub(super) struct ExchangeTimer {
    since: watch::Sender<Option<Instant>>,
}

impl ExchangeTimer {
    pub(super) fn new() -> Self {
        Self { since: watch::Sender::new(None) }
    }

    /// A request head has arrived; the answer ends when the guard is dropped.
    pub(super) fn begin(&self) -> Answering {
        self.since.send_replace(Some(Instant::now()));
        Answering { exchange: self.clone() }
    }

    /// Returns once an answer has taken longer than `limit`. Cancel-safe: it
    /// keeps nothing between polls but what the channel holds.
    pub(super) async fn overdue(&self, limit: Duration) {
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
pub(super) struct Answering {
    exchange: ExchangeTimer,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.exchange.since.send_replace(None);
    }
}

/// A response body that ends its exchange when it ends or is given up.
#[derive(Debug)]
pub(super) struct AnswerBody {
    pub(super) body: axum::body::Body,
    pub(super) _answering: Answering,
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
