//! The HTTP surface's task: bound before it serves, replaced when its address moves.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::observer::Observer;
use crate::serve;

/// A running HTTP surface.
#[derive(Debug)]
pub struct Surface {
    /// What the configuration asked for; port 0 stays 0 here.
    asked: SocketAddr,
    /// Whether the address was given on the command line and no reload moves it.
    pinned: Pinned,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Who decides the listening address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// The configuration, also on reload.
    No,
    /// The command line, for good.
    Yes,
}

/// A new address that is bound and not yet served.
#[derive(Debug)]
pub struct Bound {
    asked: SocketAddr,
    listener: std::net::TcpListener,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; free the address or change [server] listen")]
pub struct BindError {
    address: SocketAddr,
    error: std::io::Error,
}

/// Binds an address.
///
/// # Errors
/// The address is taken, foreign or not permitted.
pub fn bind(address: SocketAddr) -> Result<Bound, BindError> {
    let listener = std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| BindError { address, error })?;
    Ok(Bound { asked: address, listener })
}

impl Bound {
    /// The address that was really bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.asked)
    }
}

impl Surface {
    /// Serves on a bound address. Must run inside a runtime.
    #[must_use]
    pub fn open(bound: Bound, pinned: Pinned, observer: Observer) -> Self {
        let stop = CancellationToken::new();
        let token = stop.clone();
        let address = bound.address();
        let task = tokio::spawn(async move {
            match TcpListener::from_std(bound.listener) {
                Ok(listener) => {
                    serve::run(listener, observer, token).await;
                }
                Err(error) => tracing::error!(%address, %error, "the listener cannot be used"),
            }
        });
        Self { asked: bound.asked, pinned, stop, task }
    }

    /// Binds a new address if the configuration moved it.
    ///
    /// # Errors
    /// The new address cannot be bound.
    pub fn prepare(&self, address: SocketAddr) -> Result<Option<Bound>, BindError> {
        if self.pinned == Pinned::Yes || address == self.asked { Ok(None) } else { bind(address).map(Some) }
    }

    /// Serves on the new address and closes the old one; the old one's open
    /// requests end within the drain bound, in the background.
    pub async fn replace(&mut self, bound: Bound, observer: Observer) {
        tracing::info!(address = %bound.address(), "listening on a new address");
        let new = Self::open(bound, self.pinned, observer);
        let old = std::mem::replace(self, new);
        old.stop.cancel();
    }

    /// Stops listening and waits for open requests, within the drain bound.
    pub async fn close(self) {
        self.stop.cancel();
        // A panic in the surface was reported by the panic hook.
        let _ = self.task.await;
    }
}
