//! Series with a `channel` label only.
//!
//! Every reason is written from the start, at zero, so that `rate` sees the
//! first failure. A phase that the channel's protocol does not have is left out
//! until it was seen.

use std::io;
use std::sync::Arc;

use super::format::{MetricFamily, SampleValue, counter, gauge, histogram, push_label_value};
use crate::catalog::{Entry, Snapshot};
use crate::channel::{Protocol, Tier};
use crate::health::{ChannelStats, MemberReason, ProberReason};
use crate::serve::stream::Text;

const MEMBERS: MetricFamily =
    gauge("vitald_channel_members", "Members by state; a disabled member counts as disabled only.");
const ON_BACKUP: MetricFamily =
    gauge("vitald_channel_on_backup", "Whether the standby members take the traffic.");
const PICKS: MetricFamily = counter("vitald_picks_total", "Members picked by the balancer.");
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

/// Writes them.
pub(super) fn write(text: &mut Text<'_>, snapshot: &Snapshot, entries: &[Arc<Entry>]) -> io::Result<()> {
    let channels: Vec<(String, &Entry)> =
        entries.iter().map(|entry| (labels(entry.channel().name()), &**entry)).collect();
    text.family(MEMBERS);
    for (channel, entry) in &channels {
        let counts = snapshot.channel(entry).member_counts();
        let states = [
            ("healthy", counts.healthy),
            ("unhealthy", counts.unhealthy),
            ("unknown", counts.unknown),
            ("disabled", counts.disabled),
        ];
        for (state, count) in states {
            text.sample(MEMBERS.name, &format!("{channel},state=\"{state}\""), count)?;
        }
    }
    text.family(ON_BACKUP);
    for (channel, entry) in &channels {
        text.sample(ON_BACKUP.name, channel, snapshot.channel(entry).tier == Tier::Backup)?;
    }
    text.family(PICKS);
    for (channel, entry) in &channels {
        text.sample(PICKS.name, channel, SampleValue::Count(entry.balancer.total_picks()))?;
    }
    text.family(REBUILDS);
    for (channel, entry) in &channels {
        text.sample(REBUILDS.name, channel, SampleValue::Count(entry.balancer.rebuilds()))?;
    }
    text.family(FAILURES);
    for (channel, entry) in &channels {
        let stats = snapshot.channel(entry).stats();
        for (reason, count) in MemberReason::ALL.iter().zip(stats.failures) {
            let labels = format!("{channel},reason=\"{}\"", reason.word());
            text.sample(FAILURES.name, &labels, SampleValue::Count(count))?;
        }
    }
    text.family(INCONCLUSIVE);
    for (channel, entry) in &channels {
        let stats = snapshot.channel(entry).stats();
        for (reason, count) in ProberReason::ALL.iter().zip(stats.inconclusive) {
            let labels = format!("{channel},reason=\"{}\"", reason.word());
            text.sample(INCONCLUSIVE.name, &labels, SampleValue::Count(count))?;
        }
    }
    text.family(DURATION);
    for (channel, entry) in &channels {
        durations(text, channel, entry, &snapshot.channel(entry).stats())?;
    }
    Ok(())
}

fn durations(text: &mut Text<'_>, channel: &str, entry: &Entry, stats: &ChannelStats) -> io::Result<()> {
    let protocol = entry.channel().health_check().map(|check| check.protocol());
    let has_tls = matches!(protocol, Some(Protocol::Https(_)));
    let has_response = matches!(protocol, Some(Protocol::Http(_) | Protocol::Https(_)));
    let phases = [
        ("connect", protocol.is_some(), &stats.connect),
        ("tls", has_tls, &stats.tls),
        ("response", has_response, &stats.response),
        ("total", protocol.is_some(), &stats.total),
    ];
    for (phase, is_expected, histogram) in phases {
        if is_expected || histogram.count() > 0 {
            text.histogram(DURATION.name, &format!("{channel},phase=\"{phase}\""), histogram)?;
        }
    }
    Ok(())
}

/// `channel="NAME"`, escaped.
pub(super) fn labels(name: &str) -> String {
    let mut label = "channel=\"".to_owned();
    push_label_value(&mut label, name);
    label.push('"');
    label
}
