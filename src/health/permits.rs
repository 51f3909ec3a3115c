//! Which probes may run when not all can: permits, and the members that wait for one.
//!
//! The [`Engine`](super::Engine) of a driver takes a permit for every probe and gives it
//! back when the probe has ended. While permits are free, members are probed when they are
//! due. Where permits run out, the members that are due wait by channel, and a permit goes
//! to the channel that holds the fewest; of those that hold equally many, to the one that
//! has waited longest. The members that wait are in one ordered set.
//!
//! A channel whose members hang holds permits for whole timeouts. Others must not have to
//! wait for those, so a channel gets another permit only while it holds fewer than
//! [`SHARE`] for each that stays free then. Of 64 permits one such channel gets 56, two
//! get 59 together, and a channel that holds none finds one free. What others could never
//! use is not kept from anybody: a channel that is alone may take every permit.
//!
//! All drivers in use have equally many permits, and the members of a channel are spread
//! evenly over them, so what is fair in each driver is fair over all of them.

use std::collections::BTreeSet;

use super::time::MonotonicTime;

/// So many permits a channel may hold for each that stays free.
const SHARE: usize = 7;

/// The permits of one driver.
#[derive(Debug, Default)]
pub(super) struct Permits {
    limit: usize,
    taken: usize,
    /// Members that are probed.
    members: usize,
    /// By channel slot.
    channels: Vec<ChannelPermits>,
    /// Who waits: the channel, when the member was due, the member.
    waiting: BTreeSet<(u32, MonotonicTime, u32)>,
    /// The channels in `waiting`, in the order in which they get permits.
    queue: BTreeSet<WaitingChannel>,
    delayed: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct ChannelPermits {
    members: usize,
    held: usize,
}

/// A channel of which members wait. The order of the fields is that of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WaitingChannel {
    held: usize,
    /// When the first of its members that wait was due.
    due: MonotonicTime,
    channel: u32,
}

/// A member that waits for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitingMember {
    pub(super) channel: u32,
    pub(super) due: MonotonicTime,
    pub(super) member: u32,
}

impl Permits {
    /// So many permits, at least one.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), ..Self::default() }
    }

    /// There are so many permits from now on, at least one; those that are taken stay so.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// How many members wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How often a member had to wait.
    pub(super) fn delayed(&self) -> u64 {
        self.delayed
    }

    /// The channel has one more member that is probed.
    pub(super) fn add_member(&mut self, channel: u32) {
        self.members += 1;
        self.channel_mut(channel, |permits| permits.members += 1);
    }

    /// The channel has one less.
    pub(super) fn remove_member(&mut self, channel: u32) {
        self.members -= 1;
        self.channel_mut(channel, |permits| permits.members -= 1);
    }

    /// Whether a member of the channel that has just come due may be probed at once.
    pub(super) fn are_free_for(&self, channel: u32) -> bool {
        self.waiting.is_empty() && self.may_take(channel)
    }

    pub(super) fn take(&mut self, channel: u32) {
        self.taken += 1;
        self.reorder(channel, |permits| permits.channel_mut(channel, |channel| channel.held += 1));
    }

    pub(super) fn give_back(&mut self, channel: u32) {
        self.taken -= 1;
        self.reorder(channel, |permits| permits.channel_mut(channel, |channel| channel.held -= 1));
    }

    /// The member waits from now on.
    pub(super) fn wait(&mut self, WaitingMember { channel, due, member }: WaitingMember) {
        self.delayed += 1;
        self.reorder(channel, |permits| {
            permits.waiting.insert((channel, due, member));
        });
    }

    /// The member waits no longer.
    pub(super) fn leave(&mut self, WaitingMember { channel, due, member }: WaitingMember) {
        self.reorder(channel, |permits| {
            permits.waiting.remove(&(channel, due, member));
        });
    }

    /// The member that is next, if there is a permit for it.
    pub(super) fn next_waiting(&self) -> Option<WaitingMember> {
        let channel = self.queue.first()?.channel;
        // Where the channel that holds the fewest may take none, no other may.
        if self.may_take(channel) { self.first_of(channel) } else { None }
    }

    fn may_take(&self, channel: u32) -> bool {
        // More than all are taken for a while after the limit was lowered.
        let free = self.limit.saturating_sub(self.taken);
        let Some(&ChannelPermits { members, held }) = self.channels.get(channel as usize) else {
            return free > 0;
        };
        match (free, held) {
            (0, _) => false,
            (_, 0) => true,
            // The second: the members of other channels, which hold one each at most, cannot
            // use all that is free.
            (free, held) => held < SHARE * (free - 1) || free > self.members - members,
        }
    }

    fn first_of(&self, channel: u32) -> Option<WaitingMember> {
        let &(of, due, member) = self.waiting.range((channel, MonotonicTime(0), 0)..).next()?;
        (of == channel).then_some(WaitingMember { channel, due, member })
    }

    /// Makes a change to a channel that may move it in the queue.
    fn reorder(&mut self, channel: u32, change: impl FnOnce(&mut Self)) {
        if let Some(before) = self.waiting_channel(channel) {
            self.queue.remove(&before);
        }
        change(self);
        if let Some(after) = self.waiting_channel(channel) {
            self.queue.insert(after);
        }
    }

    /// None while nobody of the channel waits.
    fn waiting_channel(&self, channel: u32) -> Option<WaitingChannel> {
        let WaitingMember { due, .. } = self.first_of(channel)?;
        let held = self.channels.get(channel as usize)?.held;
        Some(WaitingChannel { held, due, channel })
    }

    fn channel_mut(&mut self, channel: u32, change: impl FnOnce(&mut ChannelPermits)) {
        let index = channel as usize;
        if self.channels.len() <= index {
            self.channels.resize(index + 1, ChannelPermits::default());
        }
        if let Some(permits) = self.channels.get_mut(index) {
            change(permits);
        }
    }
}

#[cfg(test)]
mod tests;
