//! What the HTTP server asks of the daemon.
//!
//! `daemon` implements [`DaemonHandle`]; tests implement it over a hand-made
//! snapshot. The server holds no state of the daemon of its own.

use std::time::Duration;

pub use crate::catalog::ReloadSummary;
use crate::catalog::Snapshot;

/// The daemon, as its HTTP server sees it. Cloned once per request.
pub trait DaemonHandle: Clone + Send + Sync + 'static {
    /// Everything there is to show, at one instant.
    ///
    /// # Errors
    /// Nobody answered: the client gets a 503 with the error's text.
    fn observe(&self) -> impl Future<Output = Result<Snapshot, SnapshotError>> + Send;

    /// Whether every driver makes progress. Must answer at once, whatever the
    /// drivers do.
    fn liveness(&self) -> Liveness;

    /// Log lines that were dropped because nobody read them, since the start.
    fn lost_log_lines(&self) -> u64;

    /// Reads the configuration again and puts it into effect, all or nothing.
    ///
    /// # Errors
    /// Why the new configuration was refused, rendered for people; the old one
    /// stays in effect.
    fn reload(&self) -> impl Future<Output = Result<ReloadSummary, String>> + Send;
}

/// Why there is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A driver did not hand over its snapshot in time.
    #[error("driver {driver} did not answer within {} ms", waited.as_millis())]
    DriverSilent {
        /// Which driver, counted from 0.
        driver: usize,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The daemon ends.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// Whether the drivers make progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// All of them do.
    Alive,
    /// At least one does not; this is the one that has been silent longest.
    Stalled {
        /// Which driver, counted from 0.
        driver: usize,
        /// How long ago it last made progress.
        silent: Duration,
    },
}
