//! Series with a `member` label: nearly all of a scrape, so the hot part.
//!
//! A family must be written contiguously, so the members are visited once per family.
//! What the families say of a member is therefore gathered first, in one walk through
//! the snapshot, which is then let go: a client that reads slowly must not hold what the
//! drivers go on writing to.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::channels::labels;
use super::format::{MetricFamily, MetricKind, SampleValue, push_label_value, push_number};
use super::sharing::{Counts, Share, Sharing};
use crate::catalog::{Entry, MemberView, Observation};
use crate::channel::{Health, Host, MemberAddress, Role};
use crate::health::moment::nanos;
use crate::serve::stream::Text;

const UP: MetricFamily = MetricFamily {
    name: "vitald_member_up",
    kind: MetricKind::Gauge,
    help: "Whether the member is healthy; absent while its health is unknown.",
};
const IN_ROTATION: MetricFamily = MetricFamily {
    name: "vitald_member_in_rotation",
    kind: MetricKind::Gauge,
    help: "Whether the member takes traffic, given its health, its switch and its role.",
};
const WEIGHT: MetricFamily = MetricFamily {
    name: "vitald_member_weight",
    kind: MetricKind::Gauge,
    help: "Effective weight: the group's, else the member's, else 1.",
};
const OPEN_PICKS: MetricFamily = MetricFamily {
    name: "vitald_member_open_picks",
    kind: MetricKind::Gauge,
    help: "Picks of the balancer that have begun and not ended.",
};
const LAST_CHANGE: MetricFamily = MetricFamily {
    name: "vitald_member_last_change_timestamp_seconds",
    kind: MetricKind::Gauge,
    help: "When the member's health became what it is.",
};
const LAST_DURATION: MetricFamily = MetricFamily {
    name: "vitald_member_last_probe_duration_seconds",
    kind: MetricKind::Gauge,
    help: "How long the member's last probe took; absent before the first.",
};
const PROBES: MetricFamily = MetricFamily {
    name: "vitald_probes_total",
    kind: MetricKind::Counter,
    help: "Probes that ended, by result.",
};
const TRANSITIONS: MetricFamily = MetricFamily {
    name: "vitald_member_transitions_total",
    kind: MetricKind::Counter,
    help: "Changes of the member's health, by what it became.",
};
const CERTIFICATE: MetricFamily = MetricFamily {
    name: "vitald_tls_certificate_not_after_timestamp_seconds",
    kind: MetricKind::Gauge,
    help: "When the certificate that the member last presented expires.",
};

/// What a scrape says of the members of its channels, one after another.
#[derive(Debug, Default)]
struct MemberRows {
    channels: Vec<ChannelRows>,
    rows: Vec<Row>,
    labels: Labels,
}

/// One channel's part of the table.
#[derive(Debug)]
struct ChannelRows {
    /// `{channel="CHANNEL",member="`.
    channel: String,
    /// Where its rows begin and end; in the order of the configuration.
    rows: Range<usize>,
}

impl MemberRows {
    /// Gathers it anew; some 100 bytes a member, and the text of its labels.
    fn fill(&mut self, observation: &Observation, entries: &[Arc<Entry>]) {
        self.clear();
        let members = entries.iter().map(|entry| entry.members.len()).sum();
        self.rows.reserve_exact(members);
        self.labels.ends.reserve_exact(members);
        for entry in entries {
            let view = observation.view(entry);
            let sharing = Sharing::among(view);
            let begin = self.rows.len();
            for (position, member) in view.members().enumerate() {
                self.labels.push(&member);
                self.rows.push(Row::of(&member, sharing.of(position)));
            }
            self.channels.push(ChannelRows {
                channel: format!("{{{},member=\"", labels(entry.channel.name())),
                rows: begin..self.rows.len(),
            });
        }
    }

    /// Empties it, and gives back room that it has not needed.
    fn clear(&mut self) {
        self.rows.shrink_to(self.rows.len());
        self.labels.ends.shrink_to(self.rows.len());
        self.labels.text.shrink_to(2 * self.labels.text.len());
        self.channels.clear();
        self.rows.clear();
        self.labels.ends.clear();
        self.labels.text.clear();
    }

    /// Writes all families.
    fn write(&self, text: &mut Text<'_>) -> io::Result<()> {
        self.by_member(text, UP, |row| match row.health {
            Health::Healthy => Some(SampleValue::Count(1)),
            Health::Unhealthy => Some(SampleValue::Count(0)),
            Health::Unknown => None,
        })?;
        self.by_member(text, IN_ROTATION, |row| Some(row.in_rotation.into()))?;
        self.by_member(text, WEIGHT, |row| Some(SampleValue::Count(row.weight.into())))?;
        self.by_member(text, OPEN_PICKS, |row| Some(SampleValue::Count(row.open_picks.into())))?;
        self.by_member(text, LAST_CHANGE, |row| row.last_change.map(SampleValue::Nanos))?;
        self.by_member(text, LAST_DURATION, |row| row.last_duration.map(SampleValue::Nanos))?;
        self.by_address(text, PROBES, |counts| {
            [
                ("\",result=\"success\"} ", Some(SampleValue::Count(counts.results.success))),
                ("\",result=\"failure\"} ", Some(SampleValue::Count(counts.results.failure))),
                ("\",result=\"inconclusive\"} ", Some(SampleValue::Count(counts.results.inconclusive))),
            ]
        })?;
        self.by_address(text, TRANSITIONS, |counts| {
            let [unknown, healthy, unhealthy] = counts.transitions.map(u64::from);
            [
                ("\",to=\"healthy\"} ", Some(SampleValue::Count(healthy))),
                ("\",to=\"unhealthy\"} ", Some(SampleValue::Count(unhealthy))),
                // Nothing becomes unknown in a running daemon's ordinary life.
                ("\",to=\"unknown\"} ", (unknown > 0).then_some(SampleValue::Count(unknown))),
            ]
        })?;
        self.by_address(text, CERTIFICATE, |counts| {
            [("\"} ", counts.certificate_not_after.map(SampleValue::UnixSeconds))]
        })
    }

    /// Of each channel: `FAMILY{channel="CHANNEL",member="`, and its members.
    fn sections(
        &self,
        family: MetricFamily,
    ) -> impl Iterator<Item = (String, impl Iterator<Item = (&Row, MemberLabels<'_>)>)> {
        self.channels.iter().map(move |section| {
            let rows = self.rows.get(section.rows.clone()).unwrap_or_default();
            let start = format!("{}{}", family.name, section.channel);
            (start, rows.iter().zip(self.labels.from(section.rows.start)))
        })
    }

    /// A family with one sample per member: `channel`, `member`, `group`, `backup`.
    fn by_member(
        &self,
        text: &mut Text<'_>,
        family: MetricFamily,
        value: impl Fn(&Row) -> Option<SampleValue>,
    ) -> io::Result<()> {
        text.family(family);
        for (start, members) in self.sections(family) {
            for (row, labels) in members {
                if row.series == Series::None {
                    continue;
                }
                let Some(value) = value(row) else { continue };
                text.push(&start);
                text.buffer.extend_from_slice(labels.all);
                text.value(value)?;
            }
        }
        Ok(())
    }

    /// A family with samples per address: `channel`, `member`, and what each
    /// sample's own text adds from the address's closing quote on.
    fn by_address<const N: usize>(
        &self,
        text: &mut Text<'_>,
        family: MetricFamily,
        samples: impl Fn(&Counts) -> [(&'static str, Option<SampleValue>); N],
    ) -> io::Result<()> {
        text.family(family);
        for (start, members) in self.sections(family) {
            for (row, labels) in members {
                if row.series != Series::All {
                    continue;
                }
                for (rest, value) in samples(&row.counts) {
                    let Some(value) = value else { continue };
                    text.push(&start);
                    text.buffer.extend_from_slice(labels.address);
                    text.push(rest);
                    text.value(value)?;
                }
            }
        }
        Ok(())
    }
}

/// What the families say of one member.
#[derive(Debug)]
struct Row {
    series: Series,
    health: Health,
    in_rotation: bool,
    weight: u16,
    open_picks: u32,
    /// Nanoseconds since the Unix epoch.
    last_change: Option<u64>,
    /// Nanoseconds.
    last_duration: Option<u64>,
    /// Of its address.
    counts: Counts,
}

/// Which series a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Series {
    /// All.
    All,
    /// Those with a group: an earlier member has its address.
    WithGroup,
    /// An earlier member has all its labels.
    None,
}

impl Row {
    fn of(member: &MemberView<'_>, share: Option<&Share>) -> Self {
        let (series, counts) = match share {
            None => (Series::All, Counts::of(member)),
            Some(Share::First(sums)) => (Series::All, *sums),
            Some(Share::SameAddress) => (Series::WithGroup, Counts::default()),
            Some(Share::SameLabels) => (Series::None, Counts::default()),
        };
        let last = member.state.and_then(|state| state.last.as_ref());
        Self {
            series,
            health: member.health(),
            in_rotation: member.in_rotation(),
            weight: member.weight(),
            open_picks: member.open_picks(),
            last_change: member.state.map(|state| milliseconds(state.since.0)),
            last_duration: last.map(|last| nanos(last.durations.total())),
            counts,
        }
    }
}

/// The labels of members, escaped, one after another: the same in every
/// family, and dearer to write than the values.
#[derive(Debug, Default)]
struct Labels {
    text: Vec<u8>,
    /// By row: where the address ends, where all labels end.
    ends: Vec<(usize, usize)>,
}

/// The labels of one member.
struct MemberLabels<'a> {
    address: &'a [u8],
    /// From the address on.
    all: &'a [u8],
}

impl Labels {
    fn push(&mut self, member: &MemberView<'_>) {
        push_address(&mut self.text, &member.address());
        let address = self.text.len();
        self.text.extend_from_slice(b"\",group=\"");
        push_label_value(&mut self.text, member.member.group().unwrap_or_default());
        self.text.extend_from_slice(match member.member.role() {
            Role::Primary => b"\",backup=\"false\"} ",
            Role::Backup => b"\",backup=\"true\"} ",
        });
        self.ends.push((address, self.text.len()));
    }

    /// Those of a row and of all after it.
    fn from(&self, row: usize) -> impl Iterator<Item = MemberLabels<'_>> {
        let before = row.checked_sub(1).and_then(|before| self.ends.get(before));
        let mut start = before.map_or(0, |(_, end)| *end);
        self.ends.iter().skip(row).map(move |&(address, end)| {
            let part = |end| self.text.get(start..end).unwrap_or_default();
            let labels = MemberLabels { address: part(address), all: part(end) };
            start = end;
            labels
        })
    }
}

/// The table of the scrape before, so that a scrape finds its memory where the last one
/// left it. Two at once have a table each; the later to end is the one that is kept.
#[derive(Debug, Clone, Default)]
pub(in crate::serve) struct ScrapeBuffer(Arc<Mutex<Option<MemberRows>>>);

impl ScrapeBuffer {
    /// Gathers a table.
    pub(super) fn fill(&self, observation: &Observation, entries: &[Arc<Entry>]) -> Filled<'_> {
        let mut table = self.slot().take().unwrap_or_default();
        table.fill(observation, entries);
        Filled { table, spare: self }
    }

    fn slot(&self) -> MutexGuard<'_, Option<MemberRows>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A table of one scrape; kept for the next one in the end.
pub(super) struct Filled<'a> {
    table: MemberRows,
    spare: &'a ScrapeBuffer,
}

impl Filled<'_> {
    /// Writes all families.
    pub(super) fn write(&self, text: &mut Text<'_>) -> io::Result<()> {
        self.table.write(text)
    }
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        *self.spare.slot() = Some(std::mem::take(&mut self.table));
    }
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
