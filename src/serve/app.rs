//! What the daemon's own pages share: the daemon they ask, and how a request says
//! which channels it wants.
//!
//! `daemon` implements [`DaemonHandle`]; tests implement it over a hand-made
//! snapshot. The server holds no state of the daemon of its own. A parameter or
//! value that is not known is refused: a mistyped filter that were ignored would
//! answer with everything.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;

use super::http::PageError;
use super::peer::{ConnectionInfo, PlaceKind};
use super::stream::{TextWriter, Writers};
pub use crate::catalog::ReloadSummary;
use crate::catalog::{Channels, Client, Entry, Fault, MemberChange, MemberChanged, Snapshot};

/// What the handlers of the pages share.
#[derive(Debug, Clone)]
pub(super) struct App<S> {
    pub(super) daemon: S,
    pub(super) writers: Writers,
}

/// An answer over channels, about to be written.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) writer: TextWriter,
    pub(super) snapshot: Snapshot,
    /// The selected channels.
    pub(super) entries: Vec<Arc<Entry>>,
}

/// A text over no more than this many members and channels is short: at most a quarter
/// of a megabyte, by what `/metrics` says of each.
const SHORT: usize = 256 * 1024;
const MEMBER_TEXT: usize = 2 * 1024;
const CHANNEL_TEXT: usize = 12 * 1024;

impl<S: DaemonHandle> App<S> {
    /// A snapshot of what is selected, and the right to write it: short texts at once,
    /// long ones as the writers allow.
    ///
    /// # Errors
    /// The daemon or a channel does not answer. Or all writers are taken and the
    /// connection has a reserved place, on which nobody waits.
    pub(super) async fn open(
        &self,
        selection: &Selection,
        connection: ConnectionInfo,
    ) -> Result<Opened, PageError> {
        let snapshot = self.daemon.observe().await?;
        let entries = selection.entries(&snapshot.channels)?;
        let overrides = snapshot.channels.resources.overrides().len();
        if selection.is_short(&entries, overrides) {
            return Ok(Opened { writer: TextWriter::Short, snapshot, entries });
        }
        let network = connection.network;
        let busy = |_| {
            let text = "as many long answers are being written as may be; try again later";
            PageError::new(StatusCode::SERVICE_UNAVAILABLE, text)
        };
        match (self.writers.try_permit(network), connection.place) {
            (Ok(permit), _) => return Ok(Opened { writer: TextWriter::Long(permit), snapshot, entries }),
            (Err(full), PlaceKind::Reserved) => return Err(busy(full)),
            (Err(_), PlaceKind::Regular) => {}
        }
        // As long as a snapshot is held the drivers copy the pages they write to.
        drop((snapshot, entries));
        let writer = TextWriter::Long(self.writers.permit(network).await.map_err(busy)?);
        let snapshot = self.daemon.observe().await?;
        let entries = selection.entries(&snapshot.channels)?;
        Ok(Opened { writer, snapshot, entries })
    }
}

/// What the HTTP server asks of the daemon. Cloned once per request.
pub trait DaemonHandle: Clone + Send + Sync + 'static {
    /// Everything there is to show, at one instant.
    ///
    /// # Errors
    /// A driver did not answer, or the daemon ends: the client gets a 503 with the
    /// error's text.
    fn observe(&self) -> impl Future<Output = Result<Snapshot, SnapshotError>> + Send;

    /// Whether every driver and the control loop make progress. Must answer at once,
    /// whatever they do.
    fn liveness(&self) -> Liveness;

    /// Log lines that were dropped because they were not read in time, since the start.
    fn lost_log_lines(&self) -> u64;

    /// Reads the configuration again and puts it into effect, all or nothing, because a
    /// client asked for it.
    ///
    /// # Errors
    /// Why the new configuration is not in effect; the old one stays.
    fn reload(&self, client: Client) -> impl Future<Output = Result<ReloadSummary, ReloadFault>> + Send;

    /// Changes a member as an operator wants it: durable and in effect before this returns,
    /// or not at all.
    ///
    /// # Errors
    /// Why it was refused.
    fn change_member(
        &self,
        change: MemberChange,
        client: Client,
    ) -> impl Future<Output = Result<MemberChanged, Fault>> + Send;
}

/// Why a reload changed nothing. Its text shows people everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadFault {
    /// The configuration is refused.
    #[error("{full}")]
    Refused {
        /// Every mistake, with excerpts of the files.
        full: Arc<str>,
        /// The same without a byte of the files: for clients who may not read them.
        brief: Arc<str>,
    },
    /// The configuration could not be read or put into effect in time, or the daemon ends.
    #[error("{0}")]
    Unavailable(String),
}

impl ReloadFault {
    /// A refusal whose text repeats nothing of the files but names.
    #[must_use]
    pub fn refused(text: &str) -> Self {
        let text: Arc<str> = text.into();
        Self::Refused { full: Arc::clone(&text), brief: text }
    }
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

/// Whether the drivers and the control loop make progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// All of them do.
    Alive,
    /// The control loop does not: verdicts do not reach the balancers.
    ControlStalled {
        /// How long ago its last turn began.
        silent: Duration,
    },
    /// At least one driver does not; this is the one that has been silent longest.
    Stalled {
        /// Which driver, counted from 0.
        driver: usize,
        /// How long ago it last made progress.
        silent: Duration,
    },
}

impl From<SnapshotError> for PageError {
    /// 503, so that a scraper marks the target down instead of storing nonsense.
    fn from(error: SnapshotError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

/// The parameters of a request, decoded, in order.
pub(super) type QueryPairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// How much `/metrics` tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MetricsDetail {
    /// `detail=member`: everything.
    #[default]
    Member,
    /// `detail=channel`: no series with a `member` label.
    Channel,
}

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Names of channels; empty means all.
    channels: Vec<String>,
    /// How much of them.
    pub(super) detail: MetricsDetail,
}

/// Which parameters a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `channel`.
    Channel,
    /// `channel` and `detail`.
    ChannelAndDetail,
}

impl Selection {
    /// One channel, with everything.
    pub(super) fn of_channel(name: String) -> Self {
        Self { channels: vec![name], detail: MetricsDetail::Member }
    }

    /// Whether a channel is asked for, by its name.
    pub(super) fn has(&self, channel: &str) -> bool {
        self.channels.is_empty() || self.channels.iter().any(|name| name == channel)
    }

    fn is_short(&self, entries: &[Arc<Entry>], overrides: usize) -> bool {
        let members = match self.detail {
            MetricsDetail::Member => entries.iter().map(|entry| entry.rows.len()).sum(),
            MetricsDetail::Channel => 0,
        };
        (members + overrides) * MEMBER_TEXT + entries.len() * CHANNEL_TEXT <= SHORT
    }

    /// Reads the parameters; 400 with a clear text when one is not known.
    pub(super) fn read(parameters: QueryPairs, takes: Takes) -> Result<Self, PageError> {
        let Query(parameters) =
            parameters.map_err(|rejection| PageError::bad_request(rejection.body_text()))?;
        let mut selection = Self::default();
        for (name, value) in parameters {
            match (name.as_str(), value.as_str(), takes) {
                ("channel", _, _) => selection.channels.push(value),
                ("detail", "channel", Takes::ChannelAndDetail) => selection.detail = MetricsDetail::Channel,
                ("detail", "member", Takes::ChannelAndDetail) => selection.detail = MetricsDetail::Member,
                ("detail", _, Takes::ChannelAndDetail) => {
                    return Err(PageError::bad_request(format!(
                        "detail={value}: use detail=channel or detail=member"
                    )));
                }
                (_, _, takes) => {
                    let known = match takes {
                        Takes::Channel => "channel",
                        Takes::ChannelAndDetail => "channel and detail",
                    };
                    return Err(PageError::bad_request(format!(
                        "the parameter \"{name}\" is not known here; known: {known}"
                    )));
                }
            }
        }
        Ok(selection)
    }

    /// The channels asked for, each once, in name order; 404 when there is none
    /// of a name.
    pub(super) fn entries(&self, directory: &Channels) -> Result<Vec<Arc<Entry>>, PageError> {
        if self.channels.is_empty() {
            return Ok(directory.entries().cloned().collect());
        }
        let mut names: Vec<&str> = self.channels.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|name| directory.find(name).cloned().ok_or_else(|| unknown_channel(name)))
            .collect()
    }
}

/// 404 for a channel that does not exist.
pub(super) fn unknown_channel(name: &str) -> PageError {
    PageError::new(StatusCode::NOT_FOUND, format!("no channel is named \"{name}\""))
}
