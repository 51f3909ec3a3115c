//! Members of a channel that have one address.
//!
//! One address may stand in several groups of a channel: those are members of
//! their own, with probes of their own. A series without a `group` label must
//! still occur once, so the first of them takes over the others' counts. Only who
//! shares is kept, so a channel where nobody does costs a scrape no memory.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::catalog::{ChannelView, MemberView};
use crate::health::ResultCounts;

/// Who shares an address, by position in the channel.
#[derive(Debug, Default)]
pub(super) struct Sharing(HashMap<usize, Share>);

/// What a member that shares its address has of the series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Share {
    /// The first of its address: has all series, those by address with these sums.
    First(Counts),
    /// An earlier member has its address: only series with a group.
    SameAddress,
    /// An earlier member has all its labels: no series.
    SameLabels,
}

/// What is told of an address, whatever its groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) results: ResultCounts,
    /// In the order of [`Health::ALL`](crate::channel::Health::ALL).
    pub(super) transitions: [u32; 3],
    /// Seconds since the Unix epoch.
    pub(super) certificate_not_after: Option<i64>,
}

impl Sharing {
    /// Looks through a channel. By the rules of `channel` no two members of one group
    /// have one address, so without two groups nobody shares.
    pub(super) fn among(view: ChannelView<'_>) -> Self {
        let members = view.entry.channel.members();
        let first = members.first().and_then(|member| member.group());
        if members.iter().all(|member| member.group() == first) {
            return Self::default();
        }
        let mut order: Vec<(u64, usize)> = view.members().map(|member| hash_of(&member)).zip(0..).collect();
        order.sort_unstable();
        let mut sharing = Self::default();
        for equal in order.chunk_by(|(left, _), (right, _)| left == right) {
            // Within equal hashes the positions keep the order of the configuration.
            for (nth, (_, later)) in equal.iter().enumerate().skip(1) {
                sharing.compare(view, equal.get(..nth).unwrap_or_default(), *later);
            }
        }
        sharing
    }

    /// Finds out what a member shares with earlier ones whose address has its hash.
    fn compare(&mut self, view: ChannelView<'_>, earlier: &[(u64, usize)], later: usize) {
        let Some(member) = view.member(later) else { return };
        let mut same = earlier
            .iter()
            .filter_map(|(_, position)| Some((*position, view.member(*position)?)))
            .filter(|(_, other)| other.address() == member.address())
            .peekable();
        // Else the hashes are equal and the addresses are not.
        let Some((first, of_first)) = same.peek().copied() else { return };
        let has_all = same.any(|(_, other)| {
            other.member.group() == member.member.group() && other.member.role() == member.member.role()
        });
        let sums = self.0.entry(first).or_insert_with(|| Share::First(Counts::of(&of_first)));
        if let Share::First(sums) = sums {
            sums.add(Counts::of(&member));
        }
        self.0.insert(later, if has_all { Share::SameLabels } else { Share::SameAddress });
    }

    /// What a member shares; none when its address is its own.
    pub(super) fn of(&self, position: usize) -> Option<&Share> {
        if self.0.is_empty() { None } else { self.0.get(&position) }
    }
}

impl Counts {
    /// A member's own.
    pub(super) fn of(member: &MemberView<'_>) -> Self {
        let Some(state) = member.state else { return Self::default() };
        Self {
            results: state.counts,
            transitions: state.transitions,
            certificate_not_after: state.certificate_not_after,
        }
    }

    fn add(&mut self, other: Self) {
        self.results.success += other.results.success;
        self.results.failure += other.results.failure;
        self.results.inconclusive += other.results.inconclusive;
        for (mine, theirs) in self.transitions.iter_mut().zip(other.transitions) {
            *mine = mine.saturating_add(theirs);
        }
        let expiries = [self.certificate_not_after, other.certificate_not_after];
        self.certificate_not_after = expiries.into_iter().flatten().min();
    }
}

fn hash_of(member: &MemberView<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    member.address().hash(&mut hasher);
    hasher.finish()
}
