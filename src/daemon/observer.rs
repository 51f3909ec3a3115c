//! The daemon as its HTTP server sees it: implements [`serve::DaemonHandle`](crate::serve::DaemonHandle).
//!
//! Readers ask the drivers for snapshots and get pages by reference; nothing
//! here can change what they look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing_appender::non_blocking::ErrorCounter;

use super::clock::Clock;
use super::driver::DriverRequest;
use super::driver_pool::DriverHandle;
use crate::catalog::{Channels, ReloadState, Snapshot};
use crate::health::{MonotonicTime, Timestamp};
use crate::probe::Resolver;
use crate::serve::{DaemonHandle, Liveness, ReloadSummary, SnapshotError};
use crate::store::WriteMonitor;

/// A driver that has not begun a turn for so long is stalled. An idle one begins two a
/// second.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// How long a driver may take to show its members.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);

/// A request to reload, and where its result goes.
pub type ReloadRequest = oneshot::Sender<Result<ReloadSummary, String>>;

/// What readers of the daemon share.
#[derive(Debug)]
pub struct ObserverState {
    /// The daemon's clock.
    pub clock: Clock,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// From here on the daemon counts as ready whatever its members do.
    pub ready_at: MonotonicTime,
    /// Ready once, ready for good.
    pub ready: AtomicBool,
    /// The channels, published by control.
    pub channels: watch::Receiver<Arc<Channels>>,
    /// The last reload, published by control.
    pub reload_state: watch::Receiver<ReloadState>,
    /// The drivers, by number.
    pub drivers: Vec<DriverHandle>,
    /// Reload requests to control; bounded, a full queue makes the client wait.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// How writes into the state directory fare.
    pub writes: Vec<WriteMonitor>,
    /// Counts the changes of names' addresses.
    pub resolver: Resolver,
    /// Counts the log lines that were dropped.
    pub lost_log_lines: Option<ErrorCounter>,
}

/// A reader's handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Observer(pub Arc<ObserverState>);

impl Observer {
    /// Whether every probed member has had a verdict, or the wait for one is over.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let shared = &self.0;
        if shared.ready.load(Ordering::Relaxed) {
            return true;
        }
        let settled = shared.drivers.iter().all(|driver| driver.gauge.unsettled() == 0);
        let ready = settled || shared.clock.now().monotonic >= shared.ready_at;
        if ready {
            shared.ready.store(true, Ordering::Relaxed);
        }
        ready
    }
}

impl DaemonHandle for Observer {
    async fn observe(&self) -> Result<Snapshot, SnapshotError> {
        let shared = &self.0;
        let deadline = tokio::time::Instant::now() + SNAPSHOT_PATIENCE;
        let mut answers = Vec::with_capacity(shared.drivers.len());
        // Ask all before waiting for any: the snapshots are then close together.
        for (number, driver) in shared.drivers.iter().enumerate() {
            let (answer, snapshot) = oneshot::channel();
            let asked = driver.send(DriverRequest::Snapshot(answer));
            match tokio::time::timeout_at(deadline, asked).await {
                Ok(Ok(())) => answers.push(snapshot),
                Ok(Err(_)) => return Err(SnapshotError::ShuttingDown),
                Err(_) => return Err(silent(number)),
            }
        }
        let mut drivers = Vec::with_capacity(answers.len());
        for (number, snapshot) in answers.into_iter().enumerate() {
            match tokio::time::timeout_at(deadline, snapshot).await {
                Ok(Ok(snapshot)) => drivers.push(snapshot),
                Ok(Err(_)) => return Err(SnapshotError::ShuttingDown),
                Err(_) => return Err(silent(number)),
            }
        }
        Ok(Snapshot {
            taken_at: shared.clock.now().wall,
            started_at: shared.started_at,
            ready: self.is_ready(),
            channels: Arc::clone(&shared.channels.borrow()),
            drivers,
            reload: *shared.reload_state.borrow(),
            address_changes: shared.resolver.changes(),
            writes: shared.writes.iter().map(|monitor| (monitor.stored(), monitor.state())).collect(),
        })
    }

    fn liveness(&self) -> Liveness {
        let now = self.0.clock.now().monotonic;
        let silence = |driver: &DriverHandle| now.since(driver.gauge.progress());
        let longest = self.0.drivers.iter().map(silence).enumerate().max_by_key(|(_, silent)| *silent);
        match longest {
            Some((driver, silent)) if silent > STALLED_AFTER => Liveness::Stalled { driver, silent },
            _ => Liveness::Alive,
        }
    }

    fn lost_log_lines(&self) -> u64 {
        let lost = self.0.lost_log_lines.as_ref().map_or(0, ErrorCounter::dropped_lines);
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    async fn reload(&self) -> Result<ReloadSummary, String> {
        let ended = || "the daemon is shutting down".to_owned();
        let (answer, result) = oneshot::channel();
        self.0.reloads.send(answer).await.map_err(|_| ended())?;
        result.await.map_err(|_| ended())?
    }
}

fn silent(driver: usize) -> SnapshotError {
    SnapshotError::DriverSilent { driver, waited: SNAPSHOT_PATIENCE }
}
