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
/// are visited once per family, their values straight from the snapshot.
struct Members<'a> {
    view: ChannelView<'a>,
    sharing: Sharing,
    labels: Labels,
}

/// The labels of a channel's members, escaped, one after another: the same in every
/// family, and dearer to write than the values. All that a scrape keeps per member.
struct Labels {
    text: Vec<u8>,
    /// By position in the channel: where the address ends, where all labels end.
    ends: Vec<(usize, usize)>,
}

impl Labels {
    fn of(view: ChannelView<'_>) -> Self {
        let mut labels = Self { text: Vec::new(), ends: Vec::new() };
        labels.ends.reserve_exact(view.entry.members.len());
        for member in view.members() {
            push_address(&mut labels.text, &member.address());
            let address = labels.text.len();
            labels.text.extend_from_slice(b"\",group=\"");
            push_label_value(&mut labels.text, member.member.group().unwrap_or_default());
            labels.text.extend_from_slice(match member.member.role() {
                Role::Primary => b"\",backup=\"false\"} ",
                Role::Backup => b"\",backup=\"true\"} ",
            });
            labels.ends.push((address, labels.text.len()));
        }
        labels
    }

    /// Of each member: its address, and all labels from the address on.
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, &(address, end))| {
            let part = |end| self.text.get(start..end).unwrap_or_default();
            (part(address), part(end))
        })
    }
}

impl<'a> Members<'a> {
    fn of(view: ChannelView<'a>) -> Self {
        Self { view, sharing: Sharing::among(view), labels: Labels::of(view) }
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
        let members = channel.view.members().zip(channel.labels.iter());
        for (position, (member, (_, labels))) in members.enumerate() {
            let Some(value) = value(&member) else { continue };
            if channel.sharing.of(position) == Some(&Share::SameLabels) {
                continue;
            }
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
    channels: &[Members<'_>],
    family: Family,
    samples: impl Fn(&Counts) -> [(&'static str, Option<Value>); N],
) -> io::Result<()> {
    text.family(family);
    for channel in channels {
        let start = channel.start(family);
        let members = channel.view.members().zip(channel.labels.iter());
        for (position, (member, (address, _))) in members.enumerate() {
            let counts = match channel.sharing.of(position) {
                None => Counts::of(&member),
                Some(Share::First(sums)) => *sums,
                Some(Share::SameAddress | Share::SameLabels) => continue,
            };
            for (rest, value) in samples(&counts) {
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
