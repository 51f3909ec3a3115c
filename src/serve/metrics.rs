//! `/metrics`: the Prometheus text (format 0.0.4) of a snapshot.
//!
//! `docs/metrics.md` has every name, label and meaning. The text is written from
//! one snapshot, family by family, so a removed member's series vanish at once
//! and nothing is kept per series. `process` writes `process_*`, `channels` the
//! series with a `channel` label only, `members` those with a `member` label,
//! `format` the text format itself; the daemon's own series are written here.

mod channels;
mod format;
mod members;
mod process;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use self::format::{MetricFamily, SampleValue, counter, gauge, histogram};
pub(super) use self::members::ScrapeBuffer;
use super::app::{App, DaemonHandle, MetricsDetail, QueryPairs, Selection, Takes};
use super::http::PageError;
use super::stream::Text;
use crate::catalog::{Entry, Snapshot};
use crate::store::WriteState;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const LOG_LINES_LOST: MetricFamily =
    counter("vitald_log_lines_lost_total", "Log lines dropped because nobody read the log.");
const STORE_UP: MetricFamily =
    gauge("vitald_store_up", "Whether the last write into the state directory succeeded.");
const STORE_FAILURES: MetricFamily =
    counter("vitald_store_write_failures_total", "Writes into the state directory that failed.");
const IN_FLIGHT: MetricFamily = gauge("vitald_probes_in_flight", "Probes running now.");
const SKIPPED: MetricFamily = counter(
    "vitald_probes_skipped_total",
    "Slots in which no probe was started because it would have been too late.",
);
const LAG: MetricFamily =
    histogram("vitald_probe_schedule_lag_seconds", "How late probes started against their slots.");

/// `GET /metrics`.
pub(super) async fn metrics<S: DaemonHandle>(
    State(app): State<App<S>>,
    Extension(buffer): Extension<ScrapeBuffer>,
    headers: HeaderMap,
    parameters: QueryPairs,
) -> Result<Response, PageError> {
    let selection = Selection::read(parameters, Takes::ChannelAndDetail)?;
    let permit = app.writers.permit().await?;
    let snapshot = app.daemon.observe().await?;
    let entries = selection.entries(&snapshot.channels)?;
    let lost_log_lines = app.daemon.lost_log_lines();
    Ok(permit.respond(CONTENT_TYPE, &headers, move |text| {
        process::write(text, snapshot.started_at, snapshot.reload)?;
        text.single(LOG_LINES_LOST, SampleValue::Count(lost_log_lines))?;
        write(text, snapshot, &entries, selection.detail, &buffer)
    }))
}

/// Writes everything but the fixed series of the process: a pure function of the
/// snapshot. The snapshot is dropped before the members are written: while
/// it is held the drivers copy the pages they write to, and a client may read
/// slowly.
fn write(
    text: &mut Text<'_>,
    snapshot: Snapshot,
    entries: &[Arc<Entry>],
    detail: MetricsDetail,
    buffer: &ScrapeBuffer,
) -> io::Result<()> {
    let members = match detail {
        MetricsDetail::Member => Some(buffer.gather(&snapshot, entries)),
        MetricsDetail::Channel => None,
    };
    write_store(text, &snapshot)?;
    text.single(IN_FLIGHT, snapshot.in_flight())?;
    text.single(SKIPPED, SampleValue::Count(snapshot.skipped()))?;
    text.family(LAG);
    text.histogram(LAG.name, "", &snapshot.lag())?;
    channels::write(text, &snapshot, entries)?;
    drop(snapshot);
    let Some(members) = members else { return Ok(()) };
    let written = members.write(text);
    buffer.keep(members);
    written
}

fn write_store(text: &mut Text<'_>, snapshot: &Snapshot) -> io::Result<()> {
    let mut family = |family: MetricFamily, value: fn(&WriteState) -> SampleValue| {
        text.family(family);
        snapshot.writes.iter().try_for_each(|(stored, state)| {
            text.sample(family.name, &format!("kind=\"{}\"", stored.word()), value(state))
        })
    };
    family(STORE_UP, |state| state.failure.is_none().into())?;
    family(STORE_FAILURES, |state| SampleValue::Count(state.failed))
}
