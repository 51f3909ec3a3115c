//! The daemon as the management API sees it: implements
//! [`ApiBackend`](crate::serve::api::ApiBackend).
//!
//! Reads look at the published registry and at the drivers' snapshots; writes go
//! to [`super::registrar`] through its queue.

use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot, watch};

use super::observer::Observer;
use super::registrar::Call;
use crate::catalog::Observation;
use crate::catalog::registry::{Fault, Outcome, Published, Write};
use crate::serve::api::ApiBackend;
use crate::serve::{Source as _, SourceError};

/// The API's handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Backend {
    /// The drivers' snapshots.
    pub observer: Observer,
    /// The resources.
    pub published: Published,
    /// Calls to the registrar; bounded, a full queue makes the client wait.
    pub calls: mpsc::Sender<Call>,
    /// Where the daemon serves, published by control.
    pub addresses: watch::Receiver<Vec<SocketAddr>>,
}

impl ApiBackend for Backend {
    fn registry(&self) -> Published {
        self.published.clone()
    }

    async fn write(&self, write: Write) -> Result<Outcome, Fault> {
        let ended = || Fault::Unavailable("the daemon is shutting down".to_owned());
        let (answer, outcome) = oneshot::channel();
        self.calls.send(Call { write, answer }).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    async fn observe(&self) -> Result<Observation, SourceError> {
        self.observer.observe().await
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.borrow().clone()
    }
}
