//! The daemon's own series about its schedule and its log.

use std::io;

use super::format::{MetricFamily, MetricKind, SampleValue};
use crate::catalog::Observation;
use crate::serve::stream::Text;

const LAG: MetricFamily = MetricFamily {
    name: "vitald_probe_schedule_lag_seconds",
    kind: MetricKind::Histogram,
    help: "How late probes started against their slots.",
};

/// Writes what became of the log.
pub(super) fn write_lost_log_lines(text: &mut Text<'_>, lines: u64) -> io::Result<()> {
    text.single(
        MetricFamily {
            name: "vitald_log_lines_lost_total",
            kind: MetricKind::Counter,
            help: "Log lines dropped because nobody read the log.",
        },
        SampleValue::Count(lines),
    )
}

/// Writes them.
pub(super) fn write(text: &mut Text<'_>, observation: &Observation) -> io::Result<()> {
    text.single(
        MetricFamily {
            name: "vitald_probes_in_flight",
            kind: MetricKind::Gauge,
            help: "Probes running now.",
        },
        observation.in_flight(),
    )?;
    text.single(
        MetricFamily {
            name: "vitald_probes_skipped_total",
            kind: MetricKind::Counter,
            help: "Slots in which no probe was started because it would have been too late.",
        },
        SampleValue::Count(observation.skipped()),
    )?;
    text.family(LAG);
    text.histogram(LAG.name, "", &observation.lag())
}
