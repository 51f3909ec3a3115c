//! Series with a `member` label: nearly all of a scrape, so the hot part.

use std::io;

use super::channels::labels;
use super::format::{Family, Kind, Value};
use super::table::{Row, Table};
use crate::channel::Health;
use crate::serve::stream::Text;

const UP: Family = Family {
    name: "vitald_member_up",
    kind: Kind::Gauge,
    help: "Whether the member is healthy; absent while its health is unknown.",
};
const IN_ROTATION: Family = Family {
    name: "vitald_member_in_rotation",
    kind: Kind::Gauge,
    help: "Whether the member takes traffic, given its health, its switch and its role.",
};
const WEIGHT: Family = Family {
    name: "vitald_member_weight",
    kind: Kind::Gauge,
    help: "Effective weight: the group's, else the member's, else 1.",
};
const OPEN_PICKS: Family = Family {
    name: "vitald_member_open_picks",
    kind: Kind::Gauge,
    help: "Picks of the balancer that have begun and not ended.",
};
const LAST_CHANGE: Family = Family {
    name: "vitald_member_last_change_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When the member's health became what it is.",
};
const LAST_DURATION: Family = Family {
    name: "vitald_member_last_probe_duration_seconds",
    kind: Kind::Gauge,
    help: "How long the member's last probe took; absent before the first.",
};
const PROBES: Family =
    Family { name: "vitald_probes_total", kind: Kind::Counter, help: "Probes that ended, by result." };
const TRANSITIONS: Family = Family {
    name: "vitald_member_transitions_total",
    kind: Kind::Counter,
    help: "Changes of the member's health, by what it became.",
};
const CERTIFICATE: Family = Family {
    name: "vitald_tls_certificate_not_after_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When the certificate that the member last presented expires.",
};

/// Writes them.
pub(super) fn write(text: &mut Text<'_>, table: &Table) -> io::Result<()> {
    by_member(text, table, UP, |row| match row.health {
        Health::Healthy => Some(Value::Count(1)),
        Health::Unhealthy => Some(Value::Count(0)),
        Health::Unknown => None,
    })?;
    by_member(text, table, IN_ROTATION, |row| Some(row.in_rotation.into()))?;
    by_member(text, table, WEIGHT, |row| Some(Value::Count(row.weight.into())))?;
    by_member(text, table, OPEN_PICKS, |row| Some(Value::Count(row.open_picks.into())))?;
    by_member(text, table, LAST_CHANGE, |row| row.since.map(|since| Value::Nanos(milliseconds(since))))?;
    by_member(text, table, LAST_DURATION, |row| row.last_duration.map(Value::Nanos))?;
    by_address(text, table, PROBES, |row| {
        [
            ("\",result=\"success\"} ", Some(Value::Count(row.counts.success))),
            ("\",result=\"failure\"} ", Some(Value::Count(row.counts.failure))),
            ("\",result=\"inconclusive\"} ", Some(Value::Count(row.counts.inconclusive))),
        ]
    })?;
    by_address(text, table, TRANSITIONS, |row| {
        let [unknown, healthy, unhealthy] = row.transitions;
        [
            ("\",to=\"healthy\"} ", Some(Value::Count(healthy))),
            ("\",to=\"unhealthy\"} ", Some(Value::Count(unhealthy))),
            // Nothing becomes unknown in a running daemon's ordinary life.
            ("\",to=\"unknown\"} ", (unknown > 0).then_some(Value::Count(unknown))),
        ]
    })?;
    by_address(text, table, CERTIFICATE, |row| [("\"} ", row.certificate_not_after.map(Value::UnixSeconds))])
}

/// A family with one sample per member: `channel`, `member`, `group`, `backup`.
fn by_member(
    text: &mut Text<'_>,
    table: &Table,
    family: Family,
    value: impl Fn(&Row) -> Option<Value>,
) -> io::Result<()> {
    text.family(family);
    for (channel, rows) in table.channels() {
        let start = start(family, channel);
        for row in rows {
            let (Some(labels), Some(value)) = (table.labels(row), value(row)) else { continue };
            text.push(&start);
            text.buffer.extend_from_slice(labels);
            text.value(value)?;
        }
    }
    Ok(())
}

/// A family with samples per address: `channel`, `member`, and what each
/// sample's own text adds from the address's closing quote on.
fn by_address<const N: usize>(
    text: &mut Text<'_>,
    table: &Table,
    family: Family,
    samples: impl Fn(&Row) -> [(&'static str, Option<Value>); N],
) -> io::Result<()> {
    text.family(family);
    for (channel, rows) in table.channels() {
        let start = start(family, channel);
        for row in rows {
            let Some(address) = table.address(row) else { continue };
            for (rest, value) in samples(row) {
                let Some(value) = value else { continue };
                text.push(&start);
                text.buffer.extend_from_slice(address);
                text.push(rest);
                text.value(value)?;
            }
        }
    }
    Ok(())
}

/// `NAME{channel="CHANNEL",member="`.
fn start(family: Family, channel: &str) -> String {
    format!("{}{{{},member=\"", family.name, labels(channel))
}

/// Cuts a timestamp to milliseconds: what people read, and a shorter text.
fn milliseconds(nanos: u64) -> u64 {
    nanos - nanos % 1_000_000
}
