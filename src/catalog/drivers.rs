//! The drivers as the catalog's writer sees them: which member has which slot, and the
//! commands for each driver.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use super::entry::{ChannelSlot, MemberSlot};
use crate::health::schedule::start_window;
use crate::health::{NewMember, Resumed, Thresholds};
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
    /// Forgets a member.
    Remove(u32),
    /// Starts the counters of a channel slot from zero.
    ResetChannel(u32),
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
    pub(super) fn new(count: usize) -> Self {
        let driver = |number| DriverSlots { number, ..DriverSlots::default() };
        Self { first: driver(0), others: (1..count).zip(1..).map(|(_, number)| driver(number)).collect() }
    }

    pub(super) fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// A free slot of the driver that a hash points at, under a generation that no member
    /// had there.
    pub(super) fn take(&mut self, hash: u64, channel: ChannelSlot, position: u32) -> MemberSlot {
        // 0 is the first.
        let number = hash % (self.others.len() as u64 + 1);
        let other = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
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
