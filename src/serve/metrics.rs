//! `/metrics`: the Prometheus text (format 0.0.4) of a snapshot.
//!
//! `docs/metrics.md` has every name, label and meaning. The text is written from
//! one snapshot, family by family, so a removed member's series vanish at once
//! and nothing is kept per series. `process` writes `process_*`, `members` the
//! series with a `member` label, `format` the text format itself; the daemon's and
//! the channels' series are written here.

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

use self::format::{MetricFamily, SampleValue, channel_label, counter, gauge, histogram};
pub(super) use self::members::ScrapeBuffer;
use super::app::{App, DaemonHandle, MetricsDetail, Opened, QueryPairs, Selection, Takes};
use super::audit::{Audit, AuditNote};
use super::http::PageError;
use super::peer::ConnectionInfo;
use super::stream::Text;
use crate::catalog::{ChangeKind, ChannelSnapshot, Entry, Origin, Snapshot};
use crate::channel::{Protocol, Tier};
use crate::health::{MemberReason, ProberReason};
use crate::store::WriteState;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const LOG_LINES_LOST: MetricFamily =
    counter("vitald_log_lines_lost_total", "Log lines dropped because nobody read the log.");
const REQUESTS: MetricFamily = counter(
    "vitald_api_requests_total",
    "Requests by call and status; other is another status, none a request without an answer.",
);
const AUTH_FAILURES: MetricFamily =
    counter("vitald_api_auth_failures_total", "Requests whose sender was not believed or not let through.");
const STORE_UP: MetricFamily =
    gauge("vitald_store_up", "Whether the last write into the state directory succeeded.");
const STORE_FAILURES: MetricFamily =
    counter("vitald_store_write_failures_total", "Writes into the state directory that failed.");
const ADDRESS_CHANGES: MetricFamily = counter(
    "vitald_name_address_changes_total",
    "Changes of the set of addresses that the resolver has for a member's name.",
);
const CHANGES: MetricFamily = counter(
    "vitald_changes_total",
    "Members that were switched, weighted or moved, and other tiers that serve, by what led to it.",
);
const IN_FLIGHT: MetricFamily = gauge("vitald_probes_in_flight", "Probes running now.");
const WAITING: MetricFamily =
    gauge("vitald_probes_waiting", "Members that are due and wait because max_in_flight probes run.");
const SKIPPED: MetricFamily = counter(
    "vitald_probes_skipped_total",
    "Slots in which no probe was started because it would have been too late.",
);
const LAG: MetricFamily =
    histogram("vitald_probe_schedule_lag_seconds", "How late probes started against their slots.");

const MEMBERS: MetricFamily =
    gauge("vitald_channel_members", "Members by state; a disabled member counts as disabled only.");
const ON_BACKUP: MetricFamily =
    gauge("vitald_channel_on_backup", "Whether the standby members take the traffic.");
const REBUILDS: MetricFamily = counter(
    "vitald_balancer_rebuilds_total",
    "Tables that the balancer published; it starts anew with the balancer.",
);
const FAILURES: MetricFamily =
    counter("vitald_probe_failures_total", "Failed probes by reason; the member is to blame.");
const INCONCLUSIVE: MetricFamily = counter(
    "vitald_probes_inconclusive_total",
    "Probes that could not know, by reason; the prober is to blame.",
);
const DURATION: MetricFamily = histogram(
    "vitald_probe_duration_seconds",
    "Durations of probes by phase; total is from the start to the outcome.",
);

/// `GET /metrics`.
pub(super) async fn metrics<S: DaemonHandle>(
    State(app): State<App<S>>,
    Extension(buffer): Extension<ScrapeBuffer>,
    Extension(connection): Extension<ConnectionInfo>,
    Extension(note): Extension<AuditNote>,
    headers: HeaderMap,
    parameters: QueryPairs,
) -> Result<Response, PageError> {
    let selection = Selection::read(parameters, Takes::ChannelAndDetail)?;
    let Opened { writer, snapshot, entries } = app.open(&selection, connection).await?;
    let lost_log_lines = app.daemon.lost_log_lines();
    Ok(writer.respond(CONTENT_TYPE, &headers, move |text| {
        process::write(text, snapshot.started_at, snapshot.reload)?;
        text.single(LOG_LINES_LOST, SampleValue::Count(lost_log_lines))?;
        write_audit(text, note.audit())?;
        write(text, snapshot, &entries, selection.detail, &buffer)
    }))
}

/// Every series is written from the start, at zero, so that `rate` sees the first request.
fn write_audit(text: &mut Text<'_>, audit: &Audit) -> io::Result<()> {
    text.family(REQUESTS);
    for (call, code, count) in audit.requests() {
        text.sample(REQUESTS, &format!("call=\"{call}\",code=\"{code}\""), SampleValue::Count(count))?;
    }
    text.family(AUTH_FAILURES);
    for (kind, count) in audit.failures() {
        text.sample(AUTH_FAILURES, &format!("kind=\"{kind}\""), SampleValue::Count(count))?;
    }
    Ok(())
}

/// Writes everything but the fixed series of the process: a pure function of the
/// snapshot. The snapshot is dropped before the members are written: as long as it is
/// held the drivers copy the pages they write to, and a client may read slowly.
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
    write_changes(text, &snapshot)?;
    text.single(ADDRESS_CHANGES, SampleValue::Count(snapshot.address_changes))?;
    text.single(IN_FLIGHT, snapshot.in_flight())?;
    text.single(WAITING, snapshot.waiting())?;
    text.single(SKIPPED, SampleValue::Count(snapshot.skipped()))?;
    text.family(LAG);
    text.histogram(LAG, "", &snapshot.lag())?;
    write_channels(text, &snapshot, entries)?;
    drop(snapshot);
    let Some(members) = members else { return Ok(()) };
    let written = members.write(text);
    buffer.keep(members);
    written
}

/// Every series is written from the start.
fn write_changes(text: &mut Text<'_>, snapshot: &Snapshot) -> io::Result<()> {
    text.family(CHANGES);
    for (kind, counts) in ChangeKind::ALL.into_iter().zip(snapshot.changes) {
        for (origin, count) in Origin::ALL.into_iter().zip(counts) {
            if kind.is_possible(origin) {
                let labels = format!("kind=\"{}\",by=\"{}\"", kind.word(), origin.word());
                text.sample(CHANGES, &labels, SampleValue::Count(count))?;
            }
        }
    }
    Ok(())
}

fn write_store(text: &mut Text<'_>, snapshot: &Snapshot) -> io::Result<()> {
    let mut family = |family: MetricFamily, value: fn(&WriteState) -> SampleValue| {
        text.family(family);
        snapshot.writes.iter().try_for_each(|(stored, state)| {
            text.sample(family, &format!("kind=\"{}\"", stored.word()), value(state))
        })
    };
    family(STORE_UP, |state| state.failure.is_none().into())?;
    family(STORE_FAILURES, |state| SampleValue::Count(state.failed))
}

/// Writes the series with a `channel` label only. Every reason is written from the
/// start, at zero, so that `rate` sees the first failure. A phase that the channel's
/// protocol does not have is left out until it was seen.
fn write_channels(text: &mut Text<'_>, snapshot: &Snapshot, entries: &[Arc<Entry>]) -> io::Result<()> {
    let channels: Vec<(String, ChannelSnapshot<'_>)> = entries
        .iter()
        .map(|entry| (channel_label(entry.channel().name()), snapshot.channel(entry)))
        .collect();
    text.family(MEMBERS);
    for (channel, view) in &channels {
        let counts = view.member_counts();
        let states = [
            ("healthy", counts.healthy),
            ("unhealthy", counts.unhealthy),
            ("unknown", counts.unknown),
            ("disabled", counts.disabled),
        ];
        for (state, count) in states {
            text.sample(MEMBERS, &format!("{channel},state=\"{state}\""), count)?;
        }
    }
    type ValueOf = fn(&ChannelSnapshot<'_>) -> SampleValue;
    let single: [(MetricFamily, ValueOf); 2] = [
        (ON_BACKUP, |view| (view.tier == Tier::Backup).into()),
        (REBUILDS, |view| SampleValue::Count(view.entry.balancer.rebuilds())),
    ];
    for (family, value) in single {
        text.family(family);
        for (channel, view) in &channels {
            text.sample(family, channel, value(view))?;
        }
    }
    text.family(FAILURES);
    for (channel, view) in &channels {
        for (reason, count) in MemberReason::ALL.iter().zip(view.stats().failures) {
            let labels = format!("{channel},reason=\"{}\"", reason.word());
            text.sample(FAILURES, &labels, SampleValue::Count(count))?;
        }
    }
    text.family(INCONCLUSIVE);
    for (channel, view) in &channels {
        for (reason, count) in ProberReason::ALL.iter().zip(view.stats().inconclusive) {
            let labels = format!("{channel},reason=\"{}\"", reason.word());
            text.sample(INCONCLUSIVE, &labels, SampleValue::Count(count))?;
        }
    }
    text.family(DURATION);
    for (channel, view) in &channels {
        write_durations(text, channel, view)?;
    }
    Ok(())
}

fn write_durations(text: &mut Text<'_>, channel: &str, view: &ChannelSnapshot<'_>) -> io::Result<()> {
    let protocol = view.entry.channel().health_check().map(|check| check.protocol());
    let has_tls = matches!(protocol, Some(Protocol::Https(_)));
    let has_response = matches!(protocol, Some(Protocol::Http(_) | Protocol::Https(_)));
    let stats = view.stats();
    let phases = [
        ("connect", protocol.is_some(), &stats.connect),
        ("tls", has_tls, &stats.tls),
        ("response", has_response, &stats.response),
        ("total", protocol.is_some(), &stats.total),
    ];
    for (phase, is_expected, histogram) in phases {
        if is_expected || histogram.count() > 0 {
            text.histogram(DURATION, &format!("{channel},phase=\"{phase}\""), histogram)?;
        }
    }
    Ok(())
}
