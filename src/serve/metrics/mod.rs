//! `/metrics`: the Prometheus text (format 0.0.4) of an observation.
//!
//! Every name, label and meaning is in `docs/metrics.md`. Written from the
//! snapshot, family by family, so that a removed member's series vanish at once
//! and nothing is kept per series.
//!
//! | file | what it writes |
//! |---|---|
//! | `format` | the text format itself |
//! | `process` | `process_*` |
//! | `general` | the daemon's own series |
//! | `channels` | series with a `channel` label only |
//! | `members` | series with a `member` label |
//! | `sharing` | members of one address |

mod channels;
mod format;
mod general;
mod members;
mod process;
mod sharing;
#[cfg(test)]
mod tests;

pub(super) use members::ScrapeBuffer;

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::routes::{App, unavailable};
use super::selection::{MetricsDetail, QueryPairs, Selection, Takes};
use super::source::DaemonHandle;
use super::stream::Text;
use crate::catalog::{Entry, Observation};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`.
pub(super) async fn metrics<S: DaemonHandle>(
    State(app): State<App<S>>,
    headers: HeaderMap,
    parameters: QueryPairs,
) -> Response {
    let selection = match Selection::read(parameters, Takes::ChannelAndDetail) {
        Ok(selection) => selection,
        Err(refusal) => return refusal,
    };
    let turn = app.writers.turn().await;
    let observation = match app.source.observe().await {
        Ok(observation) => observation,
        Err(cause) => return unavailable(&cause),
    };
    let entries = match selection.entries(&observation.directory) {
        Ok(entries) => entries,
        Err(refusal) => return refusal,
    };
    let lost_log_lines = app.source.lost_log_lines();
    turn.respond(CONTENT_TYPE, &headers, move |text| {
        process::write(text, observation.started_at, observation.reload)?;
        general::write_lost_log_lines(text, lost_log_lines)?;
        write(text, observation, &entries, selection.detail, &app.spare)
    })
}

/// Everything but the fixed series of the process: a pure function of the
/// observation, which is let go before the long part is written. While it is held, the
/// drivers copy the pages they write to, and a client may read slowly.
fn write(
    text: &mut Text<'_>,
    observation: Observation,
    entries: &[Arc<Entry>],
    detail: MetricsDetail,
    spare: &ScrapeBuffer,
) -> io::Result<()> {
    let members = match detail {
        MetricsDetail::Member => Some(spare.fill(&observation, entries)),
        MetricsDetail::Channel => None,
    };
    general::write(text, &observation)?;
    channels::write(text, &observation, entries)?;
    drop(observation);
    members.map_or(Ok(()), |members| members.write(text))
}
