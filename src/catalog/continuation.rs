//! What the members of a change go on with: which of them stay in their channel, and what
//! is known of those that appear, from the place that they left or from before a restart.
//!
//! Called by the writer. `channel::Continuity` and `health::Resumed` say what a verdict is
//! worth after the change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, MemberSlot};
use crate::channel::{Channel, CheckQuestion, Continuity, Member, MemberIdentity, MemberQuestion};
use crate::health::{DriverSnapshot, MemberState, Resumed, Timestamp, VerdictFrom};
use crate::store::{AddressKey, ChannelKeys, MemberKeys, OwnerKey, Recall, RecalledVerdict, WholeKeys};

/// Which members a channel has before and after a change.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    /// Of each member after the change, where it stood before; none when it appears.
    pub(super) before: Vec<Option<u32>>,
    /// Where those stood that leave.
    pub(super) leaving: Vec<u32>,
    /// Whether the host of some member that stays is spelled in another way, so that the
    /// balancer knows it by another name.
    pub(super) is_respelled: bool,
}

impl Pairing {
    pub(super) fn of(old: Option<&Channel>, new: &Channel) -> Self {
        let members = old.map(Channel::members).unwrap_or_default();
        let mut places: HashMap<MemberIdentity, u32> = old
            .into_iter()
            .flat_map(|old| (0..).zip(members).map(move |(place, member)| (old.host_identity(member), place)))
            .collect();
        let mut is_respelled = false;
        let before = new.members().iter().map(|member| {
            let place = places.remove(&new.host_identity(member))?;
            let there = members.get(place as usize)?;
            is_respelled |= there.host() != member.host();
            Some(place)
        });
        let before = before.collect();
        let mut leaving: Vec<u32> = places.into_values().collect();
        leaving.sort_unstable();
        Self { before, leaving, is_respelled }
    }

    pub(super) fn stays(&self) -> bool {
        self.before.iter().any(Option::is_some)
    }

    pub(super) fn appears(&self) -> bool {
        self.before.iter().any(Option::is_none)
    }
}

/// What the drivers know just before a change.
#[derive(Debug)]
pub struct DriverKnowledge {
    /// In the order of `MemberSlot::driver`.
    pub drivers: Vec<DriverSnapshot>,
    /// When they knew it.
    pub now: Timestamp,
    /// How old a verdict may be with which a check goes on that was switched off.
    pub age_limit: Duration,
}

impl DriverKnowledge {
    /// What they know of a member.
    pub(super) fn of(&self, slot: MemberSlot) -> Option<Resumed> {
        let driver = self.drivers.get(usize::from(slot.driver))?;
        driver.member(slot.index, slot.generation).map(MemberState::known)
    }

    /// What is left after a change of what was known of a member. Nothing, where its check
    /// is switched on again and the verdict is older than `age_limit`.
    pub(super) fn through(&self, known: Resumed, continuity: Continuity) -> Option<Resumed> {
        let is_last_known = matches!(known.from, VerdictFrom::LastKnown(_));
        let is_asked_again = is_last_known && continuity == Continuity::CarriedOver;
        if is_asked_again && !known.is_within(self.age_limit, self.now) {
            return None;
        }
        known.through(continuity, self.now)
    }
}

/// Members that leave their place in a change, by their address.
#[derive(Default)]
pub(super) struct Departures {
    members: HashMap<MemberIdentity, Vec<Departed>>,
}

struct Departed {
    channel: Arc<Channel>,
    asked: Option<Arc<CheckQuestion>>,
    position: usize,
    known: Resumed,
}

impl Departures {
    /// Adds members of a channel that are known, by their positions.
    pub(super) fn add(
        &mut self,
        entry: &Entry,
        positions: impl Iterator<Item = usize>,
        known: &DriverKnowledge,
    ) {
        let channel = entry.channel();
        let asked = channel.check_question().map(Arc::new);
        for position in positions {
            let (Some(member), Some(row)) = (channel.members().get(position), entry.rows.get(position))
            else {
                continue;
            };
            let Some(known) = known.of(row.slot) else { continue };
            let identity = channel.host_identity(member).outside_groups();
            let (channel, asked) = (Arc::clone(channel), asked.clone());
            self.members.entry(identity).or_default().push(Departed { channel, asked, position, known });
        }
    }

    /// What is known of a member that appears with the address of one that left.
    pub(super) fn find(
        &self,
        channel: &Channel,
        member: &Member,
        asked: Option<&CheckQuestion>,
    ) -> Option<(Continuity, Resumed)> {
        let address = channel.host_identity(member).outside_groups();
        let after = asked.map(|asked| MemberQuestion::of(asked, channel, member));
        let departed = self.members.get(&address)?.iter().filter_map(|departed| {
            let (old, asked) = (&departed.channel, departed.asked.as_deref());
            let member = old.members().get(departed.position)?;
            let before = asked.map(|asked| MemberQuestion::of(asked, old, member));
            // Both have the same address, by which the other one was found.
            let continuity = Continuity::of((&(), before.as_ref()), (&(), after.as_ref()));
            Some((continuity, departed.known))
        });
        best(departed)
    }
}

/// Of several things known of one address: a verdict on the very question that is asked
/// first, then the latest conclusive one.
fn best(known: impl Iterator<Item = (Continuity, Resumed)>) -> Option<(Continuity, Resumed)> {
    known.max_by_key(|(continuity, known)| (*continuity == Continuity::Kept, known.rank()))
}

/// What the members of channels go on with that was kept over a restart. `entries` are all
/// channels that the daemon starts with; the answer has a list for each, in their order.
pub(super) fn recalled(recall: &Recall, entries: &[&Entry]) -> Vec<Vec<Option<Resumed>>> {
    let keys: Vec<Vec<MemberKeys>> = entries
        .iter()
        .map(|entry| {
            let keys = ChannelKeys::of(entry.channel());
            entry.members().map(|(member, _)| keys.member(member)).collect()
        })
        .collect();
    // A channel and group that still have the address have given no member away.
    let there: HashSet<(AddressKey, OwnerKey)> =
        keys.iter().flatten().map(|keys| (keys.address, keys.owner)).collect();
    let members = entries.iter().zip(keys).map(|(entry, keys)| {
        let wholes = if recall.has_wholes() { WholeKeys::of(entry.channel()) } else { None };
        let members = entry.members().zip(keys).map(|((member, _), keys)| {
            let found = recalled_by(recall, keys, &there);
            found.or_else(|| recall.whole(wholes.as_ref()?.member(member)))
        });
        members.collect()
    });
    members.collect()
}

fn recalled_by(
    recall: &Recall,
    MemberKeys { address, owner, question }: MemberKeys,
    there: &HashSet<(AddressKey, OwnerKey)>,
) -> Option<Resumed> {
    let compared = |verdict: &RecalledVerdict| {
        let before = (&address, verdict.question.as_ref());
        (Continuity::of(before, (&address, question.as_ref())), verdict.resumed)
    };
    let verdicts = recall.at(address);
    let own = verdicts.iter().find(|verdict| verdict.owner == owner).map(compared);
    let gone = || verdicts.iter().filter(|verdict| !there.contains(&(address, verdict.owner)));
    let (continuity, known) = own.or_else(|| best(gone().map(compared)))?;
    known.through(continuity, recall.now)
}
