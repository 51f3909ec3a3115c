//! The socket of a probe: opened, waited for, read.
//!
//! The event queue of a driver's thread watches its sockets (`queue`); on other threads
//! (the command line, tests) the runtime does. Called by `machine`; the protocols read
//! through the buffers here.

use std::cell::Cell;
use std::future::Future as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep_until};

use super::finding::{self, Finding};
use super::queue::{self, QueuedSocket, Readiness};
use crate::channel::CloseMode;
use crate::health::ProberReason;

/// Bytes of the input buffer: most response heads and the records of a whole
/// TLS handshake fit.
const INPUT: usize = 16 * 1024;

thread_local! {
    static IN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The socket, and what watches it.
pub(super) enum ProbeSocket {
    /// The event queue of this thread, from the start.
    Queued(QueuedSocket),
    /// Nothing: no probe has had to wait for it yet.
    Unwatched(OwnedFd),
    /// The runtime.
    Runtime(RuntimeSocket),
}

/// When the kernel acknowledges the member's part of the handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HandshakeAck {
    /// At once, with the third packet.
    AtOnce,
    /// With the request, or never where the probe ends first.
    Delayed,
}

pub(super) struct RuntimeSocket {
    socket: AsyncFd<OwnedFd>,
    /// A connected socket with nothing left to send is watched for reading alone: else
    /// it would only report that it is writable.
    is_watched_both_ways: bool,
    /// Boxed: a probe of a driver has no use for it.
    timer: Pin<Box<Sleep>>,
}

impl ProbeSocket {
    /// Opens a socket and sends the first packet to `peer`.
    pub(super) fn connect(peer: SocketAddr, close: CloseMode, ack: HandshakeAck) -> Result<Self, Finding> {
        let family = match peer {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let connect = |socket: BorrowedFd<'_>| {
            if ack == HandshakeAck::Delayed {
                // An option that fails leaves a probe that is noisier, not one that is wrong.
                let _ = sockopt::set_tcp_quickack(socket, false);
            }
            match net::connect(socket, &peer) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
                Err(errno) => Err(finding::connecting(errno)),
            }
        };
        if let Some(socket) = queue::socket(family, close) {
            let socket = socket.map_err(finding::opening)?;
            connect(socket.as_fd())?;
            return Ok(Self::Queued(socket));
        }
        let socket = queue::open(family, close).map_err(finding::opening)?;
        connect(socket.as_fd())?;
        Ok(Self::Unwatched(socket))
    }

    /// The socket, watched; before the first [`ProbeSocket::poll_ready`].
    pub(super) fn watched(self, interest: Interest, deadline: Instant) -> Result<Self, Finding> {
        let Self::Unwatched(socket) = self else { return Ok(self) };
        let is_watched_both_ways = interest.is_writable();
        let socket = watch(socket, Interest::READABLE.add(interest))?;
        let timer = Box::pin(sleep_until(deadline));
        Ok(Self::Runtime(RuntimeSocket { socket, is_watched_both_ways, timer }))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Queued(socket) => socket.as_fd(),
            Self::Unwatched(socket) => socket.as_fd(),
            Self::Runtime(watched) => watched.socket.as_fd(),
        }
    }

    /// Waits until the kernel reports a direction of `interest`, or for the deadline. A
    /// report counts once: before the next wait the caller must have met "would block"
    /// in every direction that it waits for.
    pub(super) fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        interest: Interest,
        deadline: Instant,
    ) -> Poll<Result<Readiness, Finding>> {
        match self {
            Self::Queued(socket) => {
                if interest.is_writable() {
                    socket.watch_both_ways().map_err(finding::opening)?;
                }
                socket.poll_ready(cx, interest, deadline).map_err(finding::opening)
            }
            Self::Runtime(watched) => watched.poll_ready(cx, interest, deadline),
            Self::Unwatched(_) => {
                let detail = "the probe waits for a socket that nobody watches";
                Poll::Ready(Err(Finding::inconclusive(ProberReason::Internal, detail)))
            }
        }
    }

    /// Ends the connection. A queue keeps the socket for the next probe where it can.
    pub(super) fn end(self) {
        if let Self::Queued(socket) = self {
            socket.end();
        }
    }
}

impl RuntimeSocket {
    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        interest: Interest,
        deadline: Instant,
    ) -> Poll<Result<Readiness, Finding>> {
        if interest.is_writable() && !self.is_watched_both_ways {
            let again = self.socket.get_ref().try_clone().map_err(not_watched)?;
            self.socket = watch(again, Interest::READABLE.add(Interest::WRITABLE))?;
            self.is_watched_both_ways = true;
        }
        let ended = |_| Finding::inconclusive(ProberReason::Cancelled, "the runtime is ending");
        // Both directions are polled before either is looked at, so that both wake the
        // probe: a member may answer before it has read the whole request.
        let write = interest.is_writable().then(|| self.socket.poll_write_ready(cx));
        let read = interest.is_readable().then(|| self.socket.poll_read_ready(cx));
        let mut is_ready = false;
        for direction in [write, read].into_iter().flatten() {
            if let Poll::Ready(ready) = direction {
                ready.map_err(ended)?.clear_ready();
                is_ready = true;
            }
        }
        if is_ready {
            return Poll::Ready(Ok(Readiness::Unclear));
        }
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx).map(|()| Ok(Readiness::Unclear))
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types whose descriptor may change; an owned one does not"
)]
fn watch(socket: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, Finding> {
    AsyncFd::with_interest(socket, interest).map_err(not_watched)
}

fn not_watched(error: std::io::Error) -> Finding {
    Errno::from_io_error(&error).map_or_else(
        || Finding::inconclusive(ProberReason::Internal, format!("watching a socket: {error}")),
        finding::opening,
    )
}

/// The ports that this host gives to connections of its own (ip(7),
/// `ip_local_port_range`), as the last load of the configuration found them; none: not
/// known, so that it may be any. The thread that loads writes it.
static LOCAL_PORTS: RwLock<Option<RangeInclusive<u16>>> = RwLock::new(None);

/// Reads which ports this host gives to its connections, for all probes from now on.
/// Blocks.
pub fn read_local_ports() {
    let read = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let ports = read.ok().as_deref().and_then(port_range);
    *LOCAL_PORTS.write().unwrap_or_else(PoisonError::into_inner) = ports;
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_ascii_whitespace().map(str::parse::<u16>);
    match (ends.next(), ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last)), None) => Some(first..=last),
        _ => None,
    }
}

/// Whether the kernel may give this port to a connection of the prober.
pub(super) fn is_local_port(port: u16) -> bool {
    let ports = LOCAL_PORTS.read().unwrap_or_else(PoisonError::into_inner);
    ports.as_ref().is_none_or(|ports| ports.contains(&port))
}

/// Has the kernel acknowledge at once what has come, as [`ProbeSocket::connect`] had it
/// wait: a member with Nagle's algorithm on sends the rest of an answer only then
/// (RFC 9293 section 3.7.4).
pub(super) fn acknowledge(socket: BorrowedFd<'_>) {
    // An option that fails leaves an answer that comes 40 ms later.
    let _ = sockopt::set_tcp_quickack(socket, true);
}

/// Reads once into `buffer`: no byte is the end of the stream, none that nothing is
/// there now.
pub(super) fn receive<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>, Errno> {
    loop {
        match net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, read)) => return buffer.get(..read).map(Some).ok_or(Errno::IO),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// Lends the thread's input buffer, of unspecified content. A probe holds it only inside
/// a turn of its machine, never while it waits: ten thousand probes under way share it.
/// A nested call gets a new one.
pub(super) fn input<R>(fill: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = IN.take();
    buffer.resize(INPUT, 0);
    let result = fill(&mut buffer);
    IN.set(buffer);
    result
}

/// Lends the thread's output buffer, empty; the same holds for it.
pub(super) fn output<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = OUT.take();
    buffer.clear();
    let result = write(&mut buffer);
    OUT.set(buffer);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_ports_is_read_as_the_kernel_writes_it() {
        assert_eq!(port_range("32768\t60999\n"), Some(32768..=60999));
        for strange in ["", "32768", "32768 70000", "32768-60999", "1 2 3"] {
            assert_eq!(port_range(strange), None, "{strange}");
        }
    }
}
