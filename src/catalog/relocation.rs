//! Members go to other drivers, when there are more or fewer than before.
//!
//! A member belongs to the driver that the hash of its identity points at. The daemon's
//! registrar asks which members are elsewhere ([`Catalog::misplaced`]), takes a batch of them
//! out of their drivers, and has the catalog give each a slot in its new driver
//! ([`Catalog::relocate`]). Between the two nothing else may change the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::drivers::{CommandLists, DriverCommand, MemberProbe, Moving};
use super::entry::{Entry, MemberRow, MemberSlot};
use super::ids::Id;
use super::snapshot::Channels;
use super::writer::{Catalog, driver_hash};

/// Members that are to go to other drivers.
#[derive(Debug, Clone, Default)]
pub struct Relocation {
    /// By driver: the slots that they have there.
    pub slots: BTreeMap<u16, Vec<u32>>,
    members: Vec<Misplaced>,
    /// Where to go on looking; none when all members were looked at.
    pub next: Option<MemberCursor>,
}

/// A place among all members: the name of a channel, and a position in it.
pub type MemberCursor = (Arc<str>, usize);

#[derive(Debug, Clone)]
struct Misplaced {
    channel: Id,
    position: usize,
    slot: MemberSlot,
}

impl Relocation {
    /// Whether nobody was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl Catalog {
    /// How many drivers get members.
    #[must_use]
    pub fn drivers_in_use(&self) -> u16 {
        self.drivers.in_use()
    }

    /// Uses so many drivers from now on, at least one. Members that are elsewhere stay there
    /// until they are relocated.
    pub fn set_drivers_in_use(&mut self, count: u16) {
        self.drivers.set_in_use(count);
    }

    /// The first `most` members that are with another driver than their own, from `start` on.
    #[must_use]
    pub fn misplaced(&self, start: Option<&MemberCursor>, most: usize) -> Relocation {
        let mut found = Relocation::default();
        for entry in self.channels().entries() {
            let name = entry.channel().name();
            let skipped = match start {
                Some((channel, _)) if name < &**channel => continue,
                Some((channel, position)) if name == &**channel => *position,
                Some(_) | None => 0,
            };
            for (position, (member, row)) in entry.members().enumerate().skip(skipped) {
                if found.members.len() >= most {
                    found.next = Some((name.into(), position));
                    return found;
                }
                if self.drivers.driver_of(driver_hash(entry.channel(), member)) != row.slot.driver {
                    let MemberSlot { driver, index, .. } = row.slot;
                    found.slots.entry(driver).or_default().push(index);
                    found.members.push(Misplaced { channel: entry.resource.id, position, slot: row.slot });
                }
            }
        }
        found
    }

    /// Gives members slots in their own drivers that were taken out of others, by driver and
    /// slot; the others stay where they are. Says what each driver is to do, and the channels
    /// from now on.
    pub fn relocate(
        &mut self,
        relocation: Relocation,
        mut taken: BTreeMap<(u16, u32), Moving<MemberProbe>>,
    ) -> (Vec<Vec<DriverCommand<MemberProbe>>>, Arc<Channels>) {
        let mut commands = CommandLists::new(self.drivers.count());
        let mut rows: BTreeMap<Id, Vec<MemberRow>> = BTreeMap::new();
        for Misplaced { channel, position, slot } in relocation.members {
            let Some(moving) = taken.remove(&(slot.driver, slot.index)) else { continue };
            let Some(entry) = self.channels().entry(channel).cloned() else { continue };
            let Some(member) = entry.channel().members().get(position) else { continue };
            let hash = driver_hash(entry.channel(), member);
            let place = u32::try_from(position).unwrap_or(u32::MAX);
            let new = self.drivers.take(hash, entry.slot, place);
            self.drivers.give_back(slot);
            commands.push(new, DriverCommand::PutIn(new.index, new.generation, Box::new(moving)));
            let rows = rows.entry(channel).or_insert_with(|| entry.rows.to_vec());
            if let Some(row) = rows.get_mut(position) {
                row.slot = new;
            }
        }
        let mut channels = self.channels().moved();
        for (channel, rows) in rows {
            if let Some(entry) = self.channels().entry(channel) {
                channels.remove(entry);
                channels.insert(Arc::new(Entry { rows: rows.into(), ..Entry::clone(entry) }));
            }
        }
        self.publish(channels);
        (commands.finish(), Arc::clone(self.channels()))
    }
}
