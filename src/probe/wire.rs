//! The socket of a probe, and who watches it: nobody, the runtime, or the event
//! queue of a driver.
//!
//! `course` opens one, `attempt` waits for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::queue;

/// The socket, and what the runtime watches it for.
pub(super) enum Wire {
    /// Not opened, or given away.
    None,
    /// Open; nobody has had to wait for it yet.
    Unwatched(OwnedFd),
    /// Registered with the runtime for reading only: a socket that is connected
    /// and has nothing left to send would only report that it is writable.
    Watched(AsyncFd<OwnedFd>),
    /// Registered for both directions.
    WatchedBothWays(AsyncFd<OwnedFd>),
    /// In the event queue of this thread, from the start.
    Queued(queue::Socket),
}

impl Wire {
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::None => None,
            Self::Unwatched(socket) => Some(socket.as_fd()),
            Self::Watched(socket) | Self::WatchedBothWays(socket) => Some(socket.get_ref().as_fd()),
            Self::Queued(socket) => Some(socket.socket()),
        }
    }

    /// Sees to it that the socket is watched for `interest`.
    pub(super) fn watch(self, interest: Interest) -> std::io::Result<Self> {
        let socket = match (self, interest.is_writable()) {
            (Self::Queued(mut socket), true) => {
                socket.watch_both_ways()?;
                return Ok(Self::Queued(socket));
            }
            (Self::Unwatched(socket), _) => socket,
            (Self::Watched(socket), true) => socket.into_inner(),
            (watched, _) => return Ok(watched),
        };
        Ok(if interest.is_writable() {
            Self::WatchedBothWays(register(socket, Interest::READABLE.add(Interest::WRITABLE))?)
        } else {
            Self::Watched(register(socket, Interest::READABLE)?)
        })
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types whose descriptor may change; an owned one does not"
)]
fn register(socket: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, interest)
}
