//! The drivers as the catalog's writer sees them: which member has which slot, and the
//! commands for each driver.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use super::entry::{ChannelSlot, MemberSlot};
use crate::health::schedule::start_window;
use crate::health::{MovingMember, NewMember, Resumed, Thresholds, Transition};
use crate::probe::{Plan, Target};

/// How one member is probed.
#[derive(Debug, Clone)]
pub struct MemberProbe {
    /// What all members of the channel share.
    pub plan: Arc<Plan>,
    /// How the member is called and where it is.
    pub target: Target,
}

/// A change to the members of one driver. Generic over the probe so that drivers
/// can be tested with made-up ones.
#[derive(Debug, Clone)]
pub enum DriverCommand<P> {
    /// Takes a member, or gives the one in a taken slot another check. Without a probe it
    /// is never probed.
    Assign(NewMember, Option<P>),
    /// A new probe and thresholds, which ask the same as often: verdict, counts and offset
    /// stay.
    Refresh(u32, Thresholds, P),
    /// Lets the member that a slot was just given to, by this generation, go on where it
    /// was: before the daemon's restart, in another place, or before it was switched off.
    Resume(u32, u32, Resumed),
    /// Goes on with a member of another driver, in this slot under this generation.
    PutIn(u32, u32, Box<Moving<P>>),
    /// Forgets a member.
    Remove(u32),
    /// Starts the counters of a channel slot from zero.
    ResetChannel(u32),
}

/// A member on its way from one driver to another.
#[derive(Debug, Clone)]
pub struct Moving<P> {
    /// What is known of it.
    pub member: MovingMember,
    /// How it is probed; none: it never is.
    pub probe: Option<P>,
    /// The transition that control has not taken from its driver yet.
    pub pending: Option<Transition>,
}

/// What a change amounts to, in numbers of what it is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReloadSummary {
    /// Channels in effect now.
    pub channels: usize,
    /// Channels that are new.
    pub channels_added: usize,
    /// Channels that are gone.
    pub channels_removed: usize,
    /// Channels that stay and are another in anything.
    pub channels_changed: usize,
    /// Members in effect now.
    pub members: usize,
    /// Members that are new; one that only has another group is none.
    pub added: usize,
    /// Members that are gone.
    pub removed: usize,
    /// Members that stay and were switched on or off, or have another weight, group or
    /// role.
    pub changed: usize,
    /// Members that stay with a check that begins anew: it asks something else, or was
    /// switched on or off.
    pub restarted: usize,
}

/// Numbers from 0, the lowest free one first.
#[derive(Debug, Default)]
pub(super) struct NumberPool {
    next: u32,
    free: BTreeSet<u32>,
}

impl NumberPool {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, number: u32) {
        self.free.insert(number);
    }
}

/// The member in a slot, so that a transition can be named.
#[derive(Debug, Clone, Copy)]
pub(super) struct Occupant {
    pub(super) generation: u32,
    pub(super) channel: ChannelSlot,
    /// Its place among the channel's members.
    pub(super) position: u32,
}

/// The slots of all drivers, of which there is at least one.
#[derive(Debug)]
pub(super) struct Drivers {
    first: DriverSlots,
    others: Vec<DriverSlots>,
    /// The first so many get members; those above have none, or are to lose them.
    in_use: u16,
}

/// The slots of one driver.
#[derive(Debug, Default)]
struct DriverSlots {
    number: u16,
    pool: NumberPool,
    /// By slot: the member that has it, or had it last.
    occupants: Vec<Occupant>,
}

impl Drivers {
    /// So many drivers, at least one, all in use.
    pub(super) fn new(in_use: u16) -> Self {
        let mut drivers = Self { first: DriverSlots::default(), others: Vec::new(), in_use: 1 };
        drivers.set_in_use(in_use);
        drivers
    }

    /// Uses so many drivers from now on, at least one.
    pub(super) fn set_in_use(&mut self, in_use: u16) {
        self.in_use = in_use.max(1);
        for number in (1..self.in_use).skip(self.others.len()) {
            self.others.push(DriverSlots { number, ..DriverSlots::default() });
        }
    }

    pub(super) fn in_use(&self) -> u16 {
        self.in_use
    }

    pub(super) fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// The driver in use that a hash points at.
    pub(super) fn driver_of(&self, hash: u64) -> u16 {
        jump(hash, self.in_use)
    }

    /// A free slot of the driver that a hash points at, under a generation that no member
    /// had there.
    pub(super) fn take(&mut self, hash: u64, channel: ChannelSlot, position: u32) -> MemberSlot {
        // 0 is the first.
        let other = usize::from(self.driver_of(hash)).checked_sub(1);
        let driver = other.and_then(|other| self.others.get_mut(other)).unwrap_or(&mut self.first);
        let index = driver.pool.take();
        let mut occupant = Occupant { generation: 0, channel, position };
        match driver.occupants.get_mut(index as usize) {
            Some(last) => {
                occupant.generation = last.generation.wrapping_add(1);
                *last = occupant;
            }
            // Numbers come without gaps, so this is the next one.
            None => driver.occupants.push(occupant),
        }
        MemberSlot { driver: driver.number, index, generation: occupant.generation }
    }

    pub(super) fn give_back(&mut self, slot: MemberSlot) {
        if let Some(driver) = self.of(slot) {
            driver.pool.give_back(slot.index);
        }
    }

    /// The member that stays in a slot has another generation or position.
    pub(super) fn occupy(&mut self, slot: MemberSlot, channel: ChannelSlot, position: u32) {
        let occupant = self.of(slot).and_then(|driver| driver.occupants.get_mut(slot.index as usize));
        if let Some(occupant) = occupant {
            *occupant = Occupant { generation: slot.generation, channel, position };
        }
    }

    /// Who has a slot in this very generation.
    pub(super) fn occupant(&self, slot: MemberSlot) -> Option<Occupant> {
        let driver = match slot.driver {
            0 => &self.first,
            number => self.others.get(usize::from(number) - 1)?,
        };
        let occupant = *driver.occupants.get(slot.index as usize)?;
        (occupant.generation == slot.generation).then_some(occupant)
    }

    /// The driver of a slot; there is one for every slot that was taken.
    fn of(&mut self, slot: MemberSlot) -> Option<&mut DriverSlots> {
        match slot.driver {
            0 => Some(&mut self.first),
            number => self.others.get_mut(usize::from(number) - 1),
        }
    }
}

/// A number below `count` for a hash, such that one more or less moves as few hashes as can
/// be (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014).
fn jump(mut hash: u64, count: u16) -> u16 {
    let (mut number, mut next) = (0, 0_u64);
    while next < u64::from(count) {
        number = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = (number + 1).saturating_mul(1 << 31) / ((hash >> 33) + 1);
    }
    u16::try_from(number).unwrap_or_default()
}

/// What the drivers are told of one change, by driver.
pub(super) struct CommandLists {
    /// They come first, so that a freed slot can be used again.
    removals: Vec<Vec<DriverCommand<MemberProbe>>>,
    others: Vec<Vec<DriverCommand<MemberProbe>>>,
    pub(super) counts: ReloadSummary,
    /// Members that are asked the same at another interval.
    pub(super) rescheduled: usize,
}

impl CommandLists {
    pub(super) fn new(drivers: usize) -> Self {
        let empty = || (0..drivers).map(|_| Vec::new()).collect::<Vec<_>>();
        Self { removals: empty(), others: empty(), counts: ReloadSummary::default(), rescheduled: 0 }
    }

    pub(super) fn remove(&mut self, slot: MemberSlot) {
        self.counts.removed += 1;
        if let Some(commands) = self.removals.get_mut(usize::from(slot.driver)) {
            commands.push(DriverCommand::Remove(slot.index));
        }
    }

    pub(super) fn push(&mut self, slot: MemberSlot, command: DriverCommand<MemberProbe>) {
        if let Some(commands) = self.others.get_mut(usize::from(slot.driver)) {
            commands.push(command);
        }
    }

    pub(super) fn reset_channel(&mut self, slot: ChannelSlot) {
        for commands in &mut self.others {
            commands.push(DriverCommand::ResetChannel(slot.0));
        }
    }

    /// The commands of each driver in order. The first probes of all members that
    /// begin anew, or at another interval, are spread together.
    pub(super) fn finish(self) -> Vec<Vec<DriverCommand<MemberProbe>>> {
        let window = start_window(self.counts.added + self.counts.restarted + self.rescheduled);
        let mut drivers = self.removals;
        for (commands, others) in drivers.iter_mut().zip(self.others) {
            commands.extend(others);
            for command in commands {
                if let DriverCommand::Assign(NewMember { timing: Some(timing), .. }, _) = command {
                    timing.window = window;
                }
            }
        }
        drivers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_driver_moves_only_its_own_share() {
        let hashes = || (0..10_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for count in 1..16 {
            let moved = hashes().filter(|hash| jump(*hash, count) != jump(*hash, count + 1));
            let moved: Vec<u16> = moved.map(|hash| jump(hash, count + 1)).collect();
            assert!(moved.iter().all(|to| *to == count), "to the new driver only");
            let share = 10_000 / (usize::from(count) + 1);
            assert!(moved.len().abs_diff(share) < share / 5, "{} of {share}", moved.len());
        }
    }
}
