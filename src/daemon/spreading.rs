//! How many drivers probe, and members on their way between them.
//!
//! A driver's thread that is busy for more than half of its time gets another beside it;
//! where one driver fewer would have plenty of time left for a while, there is one fewer.
//! The registrar owns this, control calls it with each beat. A driver that is not in use any
//! more keeps its thread, which sleeps, and its counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::driver_pool::DriverPool;
use crate::catalog::{Catalog, Channels, MemberCursor, MemberProbe, Moving, Relocation};
use crate::config::DriverNumber;
use crate::health::MonotonicTime;

/// How long a driver is looked at before its number is judged.
const WINDOW: Duration = Duration::from_secs(4);

/// A driver that is busy for more than this part of its time gets another beside it.
const BUSY: f64 = 0.5;

/// One driver fewer would have to be busy for less than this part of its time. Far enough below
/// [`BUSY`] that a driver which was just added is not taken away for it.
const CALM: f64 = 0.3;

/// For so many windows in a row: a minute.
const CALM_WINDOWS: u32 = 12;

/// Members that change drivers together: verdicts, signals and the watchdog wait meanwhile.
const MEMBERS_AT_ONCE: usize = 500;

/// The time between two batches of members.
const PAUSE: Duration = Duration::from_millis(20);

/// The time until those are looked for again who could not be taken out, as their probes ran.
const ANOTHER_TIME: Duration = Duration::from_millis(250);

/// How many drivers there should be.
#[derive(Debug)]
struct DriverGoal {
    number: DriverNumber,
    /// At most so many with `auto`.
    cores: u16,
    /// Windows in a row in which one driver fewer would have done.
    calm: u32,
}

impl DriverGoal {
    /// The number after a window in which so many were in use, each busy for such a part of its
    /// time.
    fn after(&mut self, in_use: u16, busy: &[f64]) -> u16 {
        let all: f64 = busy.iter().sum();
        let busiest = busy.iter().copied().fold(0.0, f64::max);
        let is_calm = in_use > 1 && all < CALM * f64::from(in_use - 1);
        self.calm = if is_calm { self.calm + 1 } else { 0 };
        let goal = if busiest > BUSY {
            in_use + 1
        } else if self.calm >= CALM_WINDOWS {
            self.calm = 0;
            in_use - 1
        } else {
            in_use
        };
        self.within(goal)
    }

    fn within(&self, goal: u16) -> u16 {
        match self.number {
            DriverNumber::Auto => goal.clamp(1, self.cores),
            DriverNumber::Fixed(number) => number.get(),
        }
    }
}

/// Where the walk over the members is that are to change drivers.
#[derive(Debug, Default)]
struct Walk {
    /// None: at the first member.
    next: Option<MemberCursor>,
    /// A member was found, which may still be where it was: its probe ran.
    is_another_needed: bool,
}

/// Members that were taken out of their drivers, by driver and slot.
#[derive(Debug, Default)]
pub struct TakenOut {
    relocation: Relocation,
    members: BTreeMap<(u16, u32), Moving<MemberProbe>>,
}

/// See the file's head.
#[derive(Debug)]
pub struct Spreading {
    goal: DriverGoal,
    /// The processor time of each driver when the window began.
    seen: Option<(MonotonicTime, Vec<Duration>)>,
    /// None: every member is with its driver.
    walk: Option<Walk>,
}

impl Spreading {
    /// On a machine of so many cores.
    #[must_use]
    pub fn new(number: DriverNumber, cores: usize) -> Self {
        let cores = u16::try_from(cores).unwrap_or(u16::MAX).clamp(1, DriverNumber::MOST);
        Self { goal: DriverGoal { number, cores, calm: 0 }, seen: None, walk: None }
    }

    /// How many drivers the daemon starts with.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.goal.within(1)
    }

    /// Whether members are to change drivers.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.walk.is_some()
    }

    /// Takes the configured number from a reload.
    pub async fn reconfigure(&mut self, number: DriverNumber, catalog: &mut Catalog, pool: &mut DriverPool) {
        self.goal.number = number;
        let goal = self.goal.within(catalog.drivers_in_use());
        self.use_drivers(goal, catalog, pool).await;
    }

    /// Judges how busy the drivers were, and begins to use more or fewer.
    pub async fn handle_beat(&mut self, now: MonotonicTime, catalog: &mut Catalog, pool: &mut DriverPool) {
        pool.share_permits().await;
        let spent = pool.spent();
        let (began, before) = match &self.seen {
            Some((began, before)) if before.len() == spent.len() => (*began, before),
            Some(_) | None => {
                self.seen = Some((now, spent));
                return;
            }
        };
        let window = now.since(began);
        if window < WINDOW {
            return;
        }
        let busy = spent.iter().zip(before);
        let busy = busy.map(|(now, before)| now.saturating_sub(*before).as_secs_f64() / window.as_secs_f64());
        let busy: Vec<f64> = busy.collect();
        self.seen = Some((now, spent));
        // While members are under way a driver is busy with those that leave.
        if self.walk.is_none() {
            let goal = self.goal.after(catalog.drivers_in_use(), &busy);
            self.use_drivers(goal, catalog, pool).await;
        }
    }

    async fn use_drivers(&mut self, goal: u16, catalog: &mut Catalog, pool: &mut DriverPool) {
        let in_use = catalog.drivers_in_use();
        if goal == in_use {
            return;
        }
        if let Err(error) = pool.set_in_use(goal).await {
            tracing::error!(%error, "another driver cannot be started, {in_use} go on probing");
            return;
        }
        catalog.set_drivers_in_use(goal);
        tracing::info!(drivers = goal, "{goal} drivers probe from now on, {in_use} did before");
        (self.seen, self.walk) = (None, Some(Walk::default()));
    }

    /// Takes some members out of drivers that are not theirs any more.
    pub async fn take_out(&mut self, catalog: &Catalog, pool: &DriverPool) -> TakenOut {
        let Some(walk) = &self.walk else { return TakenOut::default() };
        let relocation = catalog.misplaced(walk.next.as_ref(), MEMBERS_AT_ONCE);
        let mut members = BTreeMap::new();
        for (driver, slots) in &relocation.slots {
            let taken = pool.take_out(*driver, slots.clone()).await;
            members.extend(taken.into_iter().map(|(slot, moving)| ((*driver, slot), moving)));
        }
        TakenOut { relocation, members }
    }

    /// Puts members into their drivers that were just taken out; returns the channels from now
    /// on, and when to go on with others. None: every member is with its driver.
    pub async fn put_in(
        &mut self,
        taken: TakenOut,
        catalog: &mut Catalog,
        pool: &mut DriverPool,
    ) -> (Arc<Channels>, Option<Duration>) {
        let TakenOut { relocation, members } = taken;
        let (next, is_empty) = (relocation.next.clone(), relocation.is_empty());
        let (commands, channels) = catalog.relocate(relocation, members);
        pool.apply(commands).await;
        pool.share_permits().await;
        let Some(walk) = &mut self.walk else { return (channels, None) };
        walk.is_another_needed |= !is_empty;
        walk.next = next;
        if walk.next.is_some() {
            return (channels, Some(PAUSE));
        }
        let pause = walk.is_another_needed.then_some(ANOTHER_TIME);
        self.walk = pause.map(|_| Walk::default());
        // What was spent on moving says nothing of probing.
        self.seen = None;
        (channels, pause)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn goal(number: DriverNumber) -> DriverGoal {
        DriverGoal { number, cores: 4, calm: 0 }
    }

    #[test]
    fn a_busy_driver_gets_another_and_a_calm_minute_takes_one_away() {
        let mut goal = goal(DriverNumber::Auto);
        assert_eq!(goal.after(1, &[0.49]), 1, "one does");
        assert_eq!(goal.after(1, &[0.55]), 2);
        assert_eq!(goal.after(2, &[0.3, 0.9]), 3, "the busiest counts");
        assert_eq!(goal.after(4, &[0.9; 4]), 4, "a driver for each core at most");
        // What has just been one driver's half is no calm for two.
        for _ in 0..CALM_WINDOWS * 2 {
            assert_eq!(goal.after(2, &[0.26, 0.26]), 2);
        }
        for _ in 1..CALM_WINDOWS {
            assert_eq!(goal.after(2, &[0.1, 0.1]), 2, "it may be busy again soon");
        }
        assert_eq!(goal.after(2, &[0.2, 0.2]), 2, "the minute begins anew");
        for _ in 1..CALM_WINDOWS {
            assert_eq!(goal.after(2, &[0.1, 0.1]), 2);
        }
        assert_eq!(goal.after(2, &[0.1, 0.1]), 1);
        assert_eq!(goal.after(1, &[0.0]), 1);
    }

    #[test]
    fn a_fixed_number_stays() {
        let mut goal = goal(DriverNumber::Fixed(NonZeroU16::new(6).unwrap()));
        assert_eq!(goal.after(6, &[0.9; 6]), 6);
        assert_eq!(goal.within(1), 6, "more than there are cores, if somebody wants it");
        for _ in 0..CALM_WINDOWS {
            assert_eq!(goal.after(6, &[0.0; 6]), 6);
        }
    }
}
