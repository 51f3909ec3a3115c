//! The daemon's own series: build, configuration, schedule.

use std::io;

use super::format::{Family, Kind, Value};
use crate::catalog::Observation;
use crate::serve::stream::Text;

/// The revision the binary was built from, as the build was told.
pub(super) const REVISION: &str = match option_env!("VITALD_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

const BUILD_INFO: Family = Family {
    name: "vitald_build_info",
    kind: Kind::Gauge,
    help: "Always 1; the version and the revision it was built from are labels.",
};
const LAG: Family = Family {
    name: "vitald_probe_schedule_lag_seconds",
    kind: Kind::Histogram,
    help: "How late probes started against their slots.",
};

/// Writes them.
pub(super) fn write(text: &mut Text<'_>, observation: &Observation) -> io::Result<()> {
    text.family(BUILD_INFO);
    let labels = format!("version=\"{}\",revision=\"{REVISION}\"", env!("CARGO_PKG_VERSION"));
    text.sample(BUILD_INFO.name, &labels, true)?;
    text.single(
        Family {
            name: "vitald_config_last_reload_successful",
            kind: Kind::Gauge,
            help: "Whether the last load of the configuration was accepted.",
        },
        observation.reload.successful,
    )?;
    text.single(
        Family {
            name: "vitald_config_last_reload_success_timestamp_seconds",
            kind: Kind::Gauge,
            help: "When a configuration was last accepted.",
        },
        Value::Nanos(observation.reload.last_success.0),
    )?;
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
