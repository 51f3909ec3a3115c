//! Series with a `member` label, which are nearly all of a scrape.
//!
//! A family must be written contiguously, so the members are visited once per
//! family. What the families say of a member is gathered first, in one walk through
//! the snapshot, which is then dropped: a client that reads slowly must not hold the
//! pages that the drivers write to. The labels `channel`, `member` and `group` name one
//! member: no two members of one group have one address.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::format::{MetricFamily, SampleValue, channel_label, counter, gauge, push_label_value};
use crate::catalog::{Entry, MemberSnapshot, Snapshot};
use crate::channel::{Health, Host, MemberAddress, MemberStatus, Role};
use crate::health::ResultCounts;
use crate::health::time::nanos;
use crate::serve::stream::Text;

const UP: MetricFamily =
    gauge("vitald_member_up", "Whether the member is healthy; absent while its health is unknown.");
const ENABLED: MetricFamily = gauge("vitald_member_enabled", "Whether the member is switched on.");
const IN_ROTATION: MetricFamily = gauge(
    "vitald_member_in_rotation",
    "Whether the member takes traffic, given its health, its switch, its weight and its role.",
);
const WEIGHT: MetricFamily =
    gauge("vitald_member_weight", "Effective weight: the group's, else the member's, else 1.");
const LAST_CHANGE: MetricFamily =
    gauge("vitald_member_last_change_timestamp_seconds", "When the member's health became what it is.");
const LAST_DURATION: MetricFamily = gauge(
    "vitald_member_last_probe_duration_seconds",
    "How long the member's last probe took; absent before the first.",
);
const PROBES: MetricFamily = counter("vitald_probes_total", "Probes that ended, by result.");
const TRANSITIONS: MetricFamily =
    counter("vitald_member_transitions_total", "Changes of the member's health, by what it became.");
const CERTIFICATE: MetricFamily = gauge(
    "vitald_tls_certificate_not_after_timestamp_seconds",
    "When the certificate that the member last presented expires.",
);

const ADDRESS: MetricFamily = gauge(
    "vitald_member_address_info",
    "Always 1; `address` is where the last probe of a member went that is a name.",
);

/// What a scrape says of the members of its channels, one after another.
#[derive(Debug, Default)]
pub(super) struct MemberRows {
    /// Of each channel `{channel="CHANNEL",member="`, and how many rows it has.
    channels: Vec<(String, usize)>,
    /// In the order of the configuration.
    rows: Vec<Row>,
    /// The rows' labels, escaped, one after another: the same in every family,
    /// and costlier to write than the values.
    labels: String,
}

/// What the families say of one member.
#[derive(Debug)]
struct Row {
    /// Bytes of `HOST:PORT",group="GROUP` in the labels' text.
    group_end: usize,
    /// Bytes of all its labels: the above and `",backup="BACKUP"} `.
    labels_end: usize,
    health: Health,
    is_enabled: bool,
    in_rotation: bool,
    weight: u16,
    /// Nanoseconds since the Unix epoch.
    last_change: Option<u64>,
    /// Nanoseconds.
    last_duration: Option<u64>,
    results: ResultCounts,
    /// In the order of [`Health::ALL`].
    transitions: [u32; 3],
    /// Seconds since the Unix epoch.
    certificate_not_after: Option<i64>,
    /// Of a name: where the last probe went.
    address: Option<Arc<IpAddr>>,
}

/// What follows the labels in a sample's text, and its value if there is one.
type Sample = (&'static str, Option<SampleValue>);

/// Which of a member's labels a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Labels {
    /// `channel`, `member`, `group`, `backup`.
    All,
    /// `channel`, `member`, `group`; the sample's own text closes the last quote.
    UpToGroup,
}

impl MemberRows {
    /// Gathers them anew; some 100 bytes a member, and the text of its labels.
    fn gather(&mut self, snapshot: &Snapshot, entries: &[Arc<Entry>]) {
        self.clear();
        self.rows.reserve_exact(entries.iter().map(|entry| entry.rows.len()).sum());
        for entry in entries {
            let before = self.rows.len();
            for member in snapshot.channel(entry).members() {
                let row = Row::new(&member, &mut self.labels);
                self.rows.push(row);
            }
            let channel = format!("{{{},member=\"", channel_label(entry.channel().name()));
            self.channels.push((channel, self.rows.len() - before));
        }
    }

    /// Empties them, and gives back room that was not needed.
    fn clear(&mut self) {
        self.rows.shrink_to(self.rows.len());
        self.labels.shrink_to(2 * self.labels.len());
        self.channels.clear();
        self.rows.clear();
        self.labels.clear();
    }

    /// Writes all families.
    pub(super) fn write(&self, text: &mut Text<'_>) -> io::Result<()> {
        let count = |count: u64| Some(SampleValue::Count(count));
        self.family(text, UP, Labels::All, |row| match row.health {
            Health::Healthy => [("", count(1))],
            Health::Unhealthy => [("", count(0))],
            Health::Unknown => [("", None)],
        })?;
        self.family(text, ENABLED, Labels::All, |row| [("", count(row.is_enabled.into()))])?;
        self.family(text, IN_ROTATION, Labels::All, |row| [("", count(row.in_rotation.into()))])?;
        self.family(text, WEIGHT, Labels::All, |row| [("", count(row.weight.into()))])?;
        self.family(text, LAST_CHANGE, Labels::All, |row| [("", row.last_change.map(SampleValue::Nanos))])?;
        self.family(text, LAST_DURATION, Labels::All, |row| {
            [("", row.last_duration.map(SampleValue::Nanos))]
        })?;
        self.family(text, PROBES, Labels::UpToGroup, |row| {
            [
                ("\",result=\"success\"} ", count(row.results.success)),
                ("\",result=\"failure\"} ", count(row.results.failure)),
                ("\",result=\"inconclusive\"} ", count(row.results.inconclusive)),
            ]
        })?;
        self.family(text, TRANSITIONS, Labels::UpToGroup, |row| {
            let [unknown, healthy, unhealthy] = row.transitions.map(u64::from);
            [
                ("\",to=\"healthy\"} ", count(healthy)),
                ("\",to=\"unhealthy\"} ", count(unhealthy)),
                // No member becomes unknown in a running daemon's ordinary life.
                ("\",to=\"unknown\"} ", count(unknown).filter(|_| unknown > 0)),
            ]
        })?;
        self.family(text, CERTIFICATE, Labels::UpToGroup, |row| {
            [("\"} ", row.certificate_not_after.map(SampleValue::UnixSeconds))]
        })?;
        self.write_addresses(text)
    }

    /// Writes the family that says where a name led; other members have no row in it.
    fn write_addresses(&self, text: &mut Text<'_>) -> io::Result<()> {
        self.each_row(text, ADDRESS, Labels::UpToGroup, |text, start, own, row| {
            let Some(address) = &row.address else { return Ok(()) };
            text.push(start);
            text.push(own);
            text.push(&format!("\",address=\"{address}\"}} "));
            text.value(SampleValue::Count(1))
        })
    }

    /// Writes a family: `FAMILY{channel="CHANNEL",member="`, the member's labels
    /// and the rest of each sample.
    fn family<const N: usize>(
        &self,
        text: &mut Text<'_>,
        family: MetricFamily,
        labels: Labels,
        samples: impl Fn(&Row) -> [Sample; N],
    ) -> io::Result<()> {
        self.each_row(text, family, labels, |text, start, own, row| {
            for (end, value) in samples(row) {
                let Some(value) = value else { continue };
                text.push(start);
                text.push(own);
                text.push(end);
                text.value(value)?;
            }
            Ok(())
        })
    }

    /// Opens a family and has the samples of each row written: what a sample begins with
    /// is `FAMILY{channel="CHANNEL",member="`, then the member's own labels.
    fn each_row<'s>(
        &self,
        text: &mut Text<'s>,
        family: MetricFamily,
        labels: Labels,
        write: impl Fn(&mut Text<'s>, &str, &str, &Row) -> io::Result<()>,
    ) -> io::Result<()> {
        text.family(family);
        let (mut rows, mut rest) = (self.rows.iter(), self.labels.as_str());
        for (channel, members) in &self.channels {
            let start = format!("{}{channel}", family.name);
            for row in rows.by_ref().take(*members) {
                let out_of_step = || io::Error::other("a member's labels are not those of its row");
                let end = match labels {
                    Labels::All => row.labels_end,
                    Labels::UpToGroup => row.group_end,
                };
                let own = rest.get(..end).ok_or_else(out_of_step)?;
                rest = rest.get(row.labels_end..).ok_or_else(out_of_step)?;
                write(text, &start, own, row)?;
            }
        }
        Ok(())
    }
}

impl Row {
    /// Reads a member's figures and appends its labels.
    fn new(member: &MemberSnapshot<'_>, labels: &mut String) -> Self {
        let before = labels.len();
        push_address(labels, &member.address());
        labels.push_str("\",group=\"");
        push_label_value(labels, member.member.group().unwrap_or_default());
        let group_end = labels.len() - before;
        labels.push_str(match member.member.role() {
            Role::Primary => "\",backup=\"false\"} ",
            Role::Backup => "\",backup=\"true\"} ",
        });
        let last = member.state.and_then(|state| state.last.as_ref());
        Self {
            group_end,
            labels_end: labels.len() - before,
            health: member.health(),
            is_enabled: member.member.status() == MemberStatus::Enabled,
            in_rotation: member.in_rotation(),
            weight: member.weight(),
            // To the millisecond: what people read, and a shorter text.
            last_change: member.state.map(|state| state.since.0 - state.since.0 % 1_000_000),
            last_duration: last.map(|last| nanos(last.durations.total())),
            // A member that its driver has not seen yet was never probed.
            results: member.state.map(|state| state.counts).unwrap_or_default(),
            transitions: member.state.map(|state| state.transitions).unwrap_or_default(),
            certificate_not_after: member.state.and_then(|state| state.certificate_not_after),
            address: last.and_then(|last| last.address.clone()),
        }
    }
}

/// The rows of the scrape before, so that a scrape reuses their memory. Two scrapes
/// at once have rows of their own; those of the later to end are kept.
#[derive(Debug, Clone, Default)]
pub(in crate::serve) struct ScrapeBuffer(Arc<Mutex<Option<MemberRows>>>);

impl ScrapeBuffer {
    /// Gathers the rows of these channels.
    pub(super) fn gather(&self, snapshot: &Snapshot, entries: &[Arc<Entry>]) -> MemberRows {
        let mut rows = self.lock().take().unwrap_or_default();
        rows.gather(snapshot, entries);
        rows
    }

    /// Keeps the memory of rows that were written.
    pub(super) fn keep(&self, rows: MemberRows) {
        *self.lock() = Some(rows);
    }

    fn lock(&self) -> MutexGuard<'_, Option<MemberRows>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `host:port`, escaped.
fn push_address(labels: &mut String, address: &MemberAddress) {
    match &address.host {
        Host::Ip(IpAddr::V4(host)) => {
            // The common case, several times as fast as its `Display`.
            for (octet, end) in host.octets().into_iter().zip(['.', '.', '.', ':']) {
                labels.push_str(itoa::Buffer::new().format(octet));
                labels.push(end);
            }
        }
        // Writing to a string does not fail.
        Host::Ip(IpAddr::V6(host)) => drop(write!(labels, "[{host}]:")),
        Host::Name(name) => {
            push_label_value(labels, name);
            labels.push(':');
        }
    }
    labels.push_str(itoa::Buffer::new().format(address.port));
}
