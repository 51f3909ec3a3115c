//! What the management API asks of the daemon.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::source::SnapshotError;
use crate::catalog::Observation;
use crate::catalog::registry::{Fault, Outcome, Published, Write};

/// The daemon, as the API sees it. Cloned once per request.
pub trait ApiBackend: Clone + Send + Sync + 'static {
    /// The resources as of the last durable change.
    fn registry(&self) -> Published;

    /// Does a call: durable and in effect before this returns, or not at all.
    ///
    /// # Errors
    /// Why it was refused.
    fn write(&self, write: Write) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    /// The live verdicts; one observation may serve requests that come together.
    ///
    /// # Errors
    /// Nobody answered.
    fn observe(&self) -> impl Future<Output = Result<Arc<Observation>, SnapshotError>> + Send;

    /// The addresses that instances are shown with: those this daemon serves on.
    fn addresses(&self) -> Vec<SocketAddr>;
}
