//! The daemon as the management API sees it: implements [`ApiBackend`].
//!
//! Reads look at the published registry and at the drivers' snapshots; writes go
//! to [`super::registrar`] through its queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::observer::Observer;
use super::registrar::QueuedCall;
use crate::catalog::Snapshot;
use crate::catalog::{Call, Fault, Published, Reply};
use crate::health::MonotonicTime;
use crate::serve::api::ApiBackend;
use crate::serve::{DaemonHandle as _, SnapshotError};

/// How long a snapshot serves further requests. A snapshot costs the
/// drivers a walk over their pages; thousands of requests a second share few.
/// Changes of channels are seen at once all the same.
const SHARED_FOR: Duration = Duration::from_millis(20);

/// The API's handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Backend {
    /// The drivers' snapshots.
    pub observer: Observer,
    /// The resources.
    pub published: Published,
    /// Calls to the registrar; bounded, a full queue makes the client wait.
    pub calls: mpsc::Sender<QueuedCall>,
    /// Where the daemon serves, published by control.
    pub addresses: watch::Receiver<Vec<SocketAddr>>,
    /// The latest snapshot.
    pub recent: Recent,
}

/// A snapshot that several requests share.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<Option<Taken>>>);

/// When it was taken, and the snapshot.
type Taken = (MonotonicTime, Arc<Snapshot>);

impl Recent {
    /// A snapshot of just now. Cancel-safe: who waits for it gives way to
    /// the next in line.
    async fn observe(&self, observer: &Observer) -> Result<Arc<Snapshot>, SnapshotError> {
        let mut held = self.0.lock().await;
        let now = observer.0.clock.now().monotonic;
        if let Some((taken, snapshot)) = &*held
            && now.since(*taken) < SHARED_FOR
            && Arc::ptr_eq(&snapshot.channels, &observer.0.channels.borrow())
        {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(observer.observe().await?);
        let is_first = held.replace((now, Arc::clone(&snapshot))).is_none();
        if is_first {
            // Pages that nobody looks at any more are the drivers' alone again.
            let held = Arc::clone(&self.0);
            tokio::spawn(async move {
                tokio::time::sleep(SHARED_FOR).await;
                held.lock().await.take();
            });
        }
        Ok(snapshot)
    }
}

impl ApiBackend for Backend {
    fn registry(&self) -> Published {
        self.published.clone()
    }

    async fn write(&self, call: Call) -> Result<Reply, Fault> {
        let ended = || Fault::Unavailable("the daemon is shutting down".to_owned());
        let (answer, outcome) = oneshot::channel();
        self.calls.send(QueuedCall { call, answer }).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    async fn observe(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        self.recent.observe(&self.observer).await
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.borrow().clone()
    }
}
