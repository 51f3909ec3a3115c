//! The members of a scrape as flat rows, taken in one pass over the snapshot.
//!
//! A family must be written contiguously, so every member is visited once per
//! family. Reading the snapshot each time, and printing each address each time,
//! made up most of a scrape's cost; a row has what is needed side by side, and
//! its labels ready to copy. Once the table is taken the snapshot can go, so a
//! slow client never makes the drivers copy the pages it shares.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use super::format::{push_label_value, push_number};
use crate::catalog::{Entry, MemberView, Observation};
use crate::channel::{Health, Host, MemberAddress, Role};
use crate::health::moment::nanos;
use crate::health::{MemberState, ResultCounts};

/// Bytes of labels to expect per member.
const LABELS: usize = 56;

/// All members of a scrape.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Each row's labels from the address on, escaped, one after another.
    labels: Vec<u8>,
    rows: Vec<Row>,
    channels: Vec<ChannelRows>,
}

#[derive(Debug)]
struct ChannelRows {
    name: String,
    rows: Range<usize>,
}

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Where its labels begin.
    start: usize,
    /// Length of the address in them.
    address: u16,
    /// Length of all of them.
    whole: u16,
    share: Share,
    pub(super) health: Health,
    pub(super) in_rotation: bool,
    pub(super) weight: u16,
    pub(super) open_picks: u32,
    /// Nanoseconds since the Unix epoch, none before the driver knows the member.
    pub(super) since: Option<u64>,
    /// Nanoseconds, none before the first probe.
    pub(super) last_duration: Option<u64>,
    /// What is told of the address, whatever its groups.
    pub(super) counts: ResultCounts,
    /// In the order of [`Health::ALL`].
    pub(super) transitions: [u64; 3],
    /// Seconds since the Unix epoch.
    pub(super) certificate_not_after: Option<i64>,
}

/// Whether a row stands for its labels.
///
/// One address may stand in several groups of a channel: those are members of
/// their own, with probes of their own. A series without a `group` label must
/// still occur once, so the first row takes over the others' counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    /// The first of its address: has all series.
    First,
    /// An earlier row has its address: only series with a group.
    SameAddress,
    /// An earlier row has all its labels: no series.
    SameLabels,
}

impl Table {
    /// Reads the snapshot.
    pub(super) fn take(observation: &Observation, entries: &[Arc<Entry>]) -> Self {
        let members = entries.iter().map(|entry| entry.channel.members().len()).sum();
        let mut table = Self {
            labels: Vec::with_capacity(members * LABELS),
            rows: Vec::with_capacity(members),
            channels: Vec::with_capacity(entries.len()),
        };
        for entry in entries {
            let first = table.rows.len();
            for member in observation.view(entry).members() {
                table.add(&member);
            }
            let rows = first..table.rows.len();
            table.merge_shared(rows.clone());
            table.channels.push(ChannelRows { name: entry.channel.name().to_owned(), rows });
        }
        table
    }

    /// (channel name, its rows).
    pub(super) fn channels(&self) -> impl Iterator<Item = (&str, &[Row])> {
        self.channels
            .iter()
            .map(|channel| (channel.name.as_str(), self.rows.get(channel.rows.clone()).unwrap_or_default()))
    }

    /// The labels from the address to the space before the value,
    /// `10.0.0.1:80",group="",backup="false"} `; none when an earlier row has the same.
    pub(super) fn labels(&self, row: &Row) -> Option<&[u8]> {
        (row.share != Share::SameLabels).then(|| self.slice(row, row.whole))
    }

    /// The address alone; none when an earlier row stands for it.
    pub(super) fn address(&self, row: &Row) -> Option<&[u8]> {
        (row.share == Share::First).then(|| self.slice(row, row.address))
    }

    fn slice(&self, row: &Row, length: u16) -> &[u8] {
        self.labels.get(row.start..row.start + usize::from(length)).unwrap_or_default()
    }

    fn add(&mut self, member: &MemberView<'_>) {
        let start = self.labels.len();
        push_address(&mut self.labels, &member.address);
        let address = self.labels.len() - start;
        self.labels.extend_from_slice(b"\",group=\"");
        push_label_value(&mut self.labels, member.member.group().unwrap_or_default());
        self.labels.extend_from_slice(match member.member.role() {
            Role::Primary => b"\",backup=\"false\"} ",
            Role::Backup => b"\",backup=\"true\"} ",
        });
        let whole = self.labels.len() - start;
        let state = member.state;
        self.rows.push(Row {
            start,
            // Hosts have at most 255 characters, group names 64.
            address: u16::try_from(address).unwrap_or(u16::MAX),
            whole: u16::try_from(whole).unwrap_or(u16::MAX),
            share: Share::First,
            health: member.health(),
            in_rotation: member.in_rotation,
            weight: member.weight,
            open_picks: member.open_picks,
            since: state.map(|state| state.since.0),
            last_duration: state.and_then(|state| state.last.as_ref()).map(|last| nanos(last.total)),
            counts: state.map_or_else(ResultCounts::default, |state| state.counts),
            transitions: state.map_or([0; 3], |state| state.transitions),
            certificate_not_after: state.and_then(|state: &MemberState| state.certificate_not_after),
        });
    }

    /// Finds rows of one channel with equal addresses: sorted by a hash, equal
    /// ones are neighbours.
    fn merge_shared(&mut self, rows: Range<usize>) {
        let mut order: Vec<(u64, usize)> = Vec::with_capacity(rows.len());
        for position in rows {
            let Some(row) = self.rows.get(position) else { continue };
            let mut hasher = DefaultHasher::new();
            self.slice(row, row.address).hash(&mut hasher);
            order.push((hasher.finish(), position));
        }
        order.sort_unstable();
        for equal in order.chunk_by(|(left, _), (right, _)| left == right) {
            // The stable part of the pair keeps the order of the configuration.
            for (nth, (_, later)) in equal.iter().enumerate().skip(1) {
                self.merge(equal.get(..nth).unwrap_or_default(), *later);
            }
        }
    }

    /// Merges the row at `later` into the first of `earlier` with its address.
    fn merge(&mut self, earlier: &[(u64, usize)], later: usize) {
        let Some(row) = self.rows.get(later).cloned() else { return };
        let (address, whole) = (self.slice(&row, row.address), self.slice(&row, row.whole));
        let mut first = None;
        let mut share = Share::SameAddress;
        for (_, position) in earlier {
            let Some(other) = self.rows.get(*position) else { continue };
            if self.slice(other, other.address) == address {
                first = first.or(Some(*position));
            }
            if self.slice(other, other.whole) == whole {
                share = Share::SameLabels;
            }
        }
        // Else the hashes are equal and the addresses are not.
        let Some(first) = first.and_then(|first| self.rows.get_mut(first)) else { return };
        first.counts.success += row.counts.success;
        first.counts.failure += row.counts.failure;
        first.counts.inconclusive += row.counts.inconclusive;
        for (mine, theirs) in first.transitions.iter_mut().zip(row.transitions) {
            *mine += theirs;
        }
        let expiries = [first.certificate_not_after, row.certificate_not_after];
        first.certificate_not_after = expiries.into_iter().flatten().min();
        if let Some(row) = self.rows.get_mut(later) {
            row.share = share;
        }
    }
}

/// `host:port`, escaped.
fn push_address(buffer: &mut Vec<u8>, address: &MemberAddress) {
    match &address.host {
        Host::Ip(IpAddr::V4(host)) => {
            // The common case, several times as fast as its `Display`.
            for (position, octet) in host.octets().into_iter().enumerate() {
                if position > 0 {
                    buffer.push(b'.');
                }
                push_number(buffer, octet.into());
            }
        }
        // Writing to memory does not fail.
        Host::Ip(IpAddr::V6(host)) => drop(write!(buffer, "[{host}]")),
        Host::Name(name) => push_label_value(buffer, name),
    }
    buffer.push(b':');
    push_number(buffer, address.port.into());
}
