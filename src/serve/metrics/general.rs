//! The daemon's own series about its schedule and its log.

use std::io;

use super::format::{Family, Kind, Value};
use crate::catalog::Observation;
use crate::serve::stream::Text;

const LAG: Family = Family {
    name: "vitald_probe_schedule_lag_seconds",
    kind: Kind::Histogram,
    help: "How late probes started against their slots.",
};

/// Writes what became of the log.
pub(super) fn write_lost_log_lines(text: &mut Text<'_>, lines: u64) -> io::Result<()> {
    text.single(
        Family {
            name: "vitald_log_lines_lost_total",
            kind: Kind::Counter,
            help: "Log lines dropped because nobody read the log.",
        },
        Value::Count(lines),
    )
}

/// Writes them.
pub(super) fn write(text: &mut Text<'_>, observation: &Observation) -> io::Result<()> {
    text.single(
        Family { name: "vitald_probes_in_flight", kind: Kind::Gauge, help: "Probes running now." },
        observation.in_flight(),
    )?;
    text.single(
        Family {
            name: "vitald_probes_skipped_total",
            kind: Kind::Counter,
            help: "Slots in which no probe was started because it would have been too late.",
        },
        Value::Count(observation.skipped()),
    )?;
    text.family(LAG);
    text.histogram(LAG.name, "", &observation.lag())
}
