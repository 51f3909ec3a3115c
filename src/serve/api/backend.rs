//! What the management API asks of the daemon.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::app::SnapshotError;
use crate::catalog::{Call, CallReply, Channels, Fault, Snapshot};

/// The daemon, as the API sees it. Cloned once per request.
pub trait ApiBackend: Clone + Send + Sync + 'static {
    /// The channels as of the last durable change.
    fn channels(&self) -> Arc<Channels>;

    /// Does a call: durable and in effect before this returns, or not at all.
    ///
    /// # Errors
    /// Why it was refused.
    fn write(&self, call: Call) -> impl Future<Output = Result<CallReply, Fault>> + Send;

    /// The live verdicts; one snapshot may serve requests that come together.
    ///
    /// # Errors
    /// Nobody answered.
    fn observe(&self) -> impl Future<Output = Result<Arc<Snapshot>, SnapshotError>> + Send;

    /// The addresses that instances are shown with: those this daemon serves on.
    fn addresses(&self) -> Vec<SocketAddr>;
}
