//! Series with a `member` label: nearly all of a scrape, so the hot part.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use super::channels::labels;
use super::format::{Family, Kind, Value, push_label_value, push_number};
use super::sharing::{Counts, Share, Sharing};
use crate::catalog::{ChannelView, Entry, MemberView, Observation};
use crate::channel::{Health, Host, MemberAddress, Role};
use crate::health::moment::nanos;
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
pub(super) fn write(
    text: &mut Text<'_>,
    observation: &Observation,
    entries: &[Arc<Entry>],
) -> io::Result<()> {
    let channels: Vec<Members<'_>> =
        entries.iter().map(|entry| Members::of(observation.view(entry))).collect();
    by_member(text, &channels, UP, |member| match member.health() {
        Health::Healthy => Some(Value::Count(1)),
        Health::Unhealthy => Some(Value::Count(0)),
        Health::Unknown => None,
    })?;
    by_member(text, &channels, IN_ROTATION, |member| Some(member.in_rotation().into()))?;
    by_member(text, &channels, WEIGHT, |member| Some(Value::Count(member.weight().into())))?;
    by_member(text, &channels, OPEN_PICKS, |member| Some(Value::Count(member.open_picks().into())))?;
    by_member(text, &channels, LAST_CHANGE, |member| {
        member.state.map(|state| Value::Nanos(milliseconds(state.since.0)))
    })?;
    by_member(text, &channels, LAST_DURATION, |member| {
        let last = member.state?.last.as_ref()?;
        Some(Value::Nanos(nanos(last.durations.total())))
    })?;
    by_address(text, &channels, PROBES, |counts| {
        [
            ("\",result=\"success\"} ", Some(Value::Count(counts.results.success))),
            ("\",result=\"failure\"} ", Some(Value::Count(counts.results.failure))),
            ("\",result=\"inconclusive\"} ", Some(Value::Count(counts.results.inconclusive))),
        ]
    })?;
    by_address(text, &channels, TRANSITIONS, |counts| {
        let [unknown, healthy, unhealthy] = counts.transitions;
        [
            ("\",to=\"healthy\"} ", Some(Value::Count(healthy))),
            ("\",to=\"unhealthy\"} ", Some(Value::Count(unhealthy))),
            // Nothing becomes unknown in a running daemon's ordinary life.
            ("\",to=\"unknown\"} ", (unknown > 0).then_some(Value::Count(unknown))),
        ]
    })?;
    by_address(text, &channels, CERTIFICATE, |counts| {
        [("\"} ", counts.certificate_not_after.map(Value::UnixSeconds))]
    })
}

/// One channel of a scrape. A family must be written contiguously, so its members
/// are visited once per family, straight from the snapshot: nothing is kept per member.
struct Members<'a> {
    view: ChannelView<'a>,
    sharing: Sharing,
}

impl<'a> Members<'a> {
    fn of(view: ChannelView<'a>) -> Self {
        Self { view, sharing: Sharing::among(view) }
    }

    /// `NAME{channel="CHANNEL",member="`.
    fn start(&self, family: Family) -> String {
        format!("{}{{{},member=\"", family.name, labels(self.view.entry.channel.name()))
    }
}

/// A family with one sample per member: `channel`, `member`, `group`, `backup`.
fn by_member(
    text: &mut Text<'_>,
    channels: &[Members<'_>],
    family: Family,
    value: impl Fn(&MemberView<'_>) -> Option<Value>,
) -> io::Result<()> {
    text.family(family);
    for channel in channels {
        let start = channel.start(family);
        for (position, member) in channel.view.members().enumerate() {
            let Some(value) = value(&member) else { continue };
            if channel.sharing.of(position) == Some(&Share::SameLabels) {
                continue;
            }
            text.push(&start);
            push_address(&mut text.buffer, &member.address());
            text.push("\",group=\"");
            push_label_value(&mut text.buffer, member.member.group().unwrap_or_default());
            text.push(match member.member.role() {
                Role::Primary => "\",backup=\"false\"} ",
                Role::Backup => "\",backup=\"true\"} ",
            });
            text.value(value)?;
        }
    }
    Ok(())
}

/// A family with samples per address: `channel`, `member`, and what each
/// sample's own text adds from the address's closing quote on.
fn by_address<const N: usize>(
    text: &mut Text<'_>,
    channels: &[Members<'_>],
    family: Family,
    samples: impl Fn(&Counts) -> [(&'static str, Option<Value>); N],
) -> io::Result<()> {
    text.family(family);
    for channel in channels {
        let start = channel.start(family);
        for (position, member) in channel.view.members().enumerate() {
            let counts = match channel.sharing.of(position) {
                None => Counts::of(&member),
                Some(Share::First(sums)) => *sums,
                Some(Share::SameAddress | Share::SameLabels) => continue,
            };
            for (rest, value) in samples(&counts) {
                let Some(value) = value else { continue };
                text.push(&start);
                push_address(&mut text.buffer, &member.address());
                text.push(rest);
                text.value(value)?;
            }
        }
    }
    Ok(())
}

/// `host:port`, escaped.
fn push_address(buffer: &mut Vec<u8>, address: &MemberAddress) {
    match &address.host {
        Host::Ip(IpAddr::V4(host)) => {
            // The common case, several times as fast as its `Display`.
            for (octet, end) in host.octets().into_iter().zip(*b"...:") {
                push_number(buffer, octet.into());
                buffer.push(end);
            }
        }
        // Writing to memory does not fail.
        Host::Ip(IpAddr::V6(host)) => drop(write!(buffer, "[{host}]:")),
        Host::Name(name) => {
            push_label_value(buffer, name);
            buffer.push(b':');
        }
    }
    push_number(buffer, address.port.into());
}

/// Cuts a timestamp to milliseconds: what people read, and a shorter text.
fn milliseconds(nanos: u64) -> u64 {
    nanos - nanos % 1_000_000
}
