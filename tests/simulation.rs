//! A million probes in simulated time: the engine of a driver against a model
//! that is too simple to be wrong.
//!
//! Members come, go and change; they fail, recover and answer late; the prober
//! stands still now and then. The model keeps the last ten results of each member
//! and counts slots by arithmetic; it shares no code with the engine.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and its slots are its own"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use vitald::channel::{Continuity, Health};
use vitald::health::schedule::{Cadence, Offset, late_after};
use vitald::health::{
    CheckTiming, Engine, Job, MemberReason, MonotonicTime, NewMember, Now, Outcome, Phases, ProberReason,
    Report, Thresholds, Timestamp,
};

const MEMBERS: u32 = 2_000;
const PROBES: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// Of the grid on which slots lie.
const STEP: u64 = 10_000_000;

/// Numbers that look random and are the same every time (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What the model knows of a member.
struct Member {
    generation: u32,
    interval: u64,
    offset: u64,
    normal: usize,
    abnormal: usize,
    added: u64,
    is_good: bool,
    /// When its running probe began.
    probing_since: Option<u64>,
    health: Health,
    last: VecDeque<bool>,
    counts: [u64; 3],
}

impl Member {
    fn new(slot: u32, generation: u32, now: u64, dice: &mut Dice) -> (Self, NewMember) {
        let interval = (1 + dice.below(5)) * SECOND;
        let phase = dice.below(u64::MAX);
        let offset = u64::try_from((u128::from(phase) * u128::from(interval)) >> 64).unwrap();
        // There are few enough probes a second for the longest step.
        let offset = offset - offset % STEP;
        let (normal, abnormal) = (1 + dice.below(10), 1 + dice.below(10));
        let timing = CheckTiming {
            cadence: Cadence { interval: Duration::from_nanos(interval), work: Duration::ZERO },
            thresholds: Thresholds {
                normal: u8::try_from(normal).unwrap(),
                abnormal: u8::try_from(abnormal).unwrap(),
            },
            offset: Offset(phase),
            window: Duration::from_secs(3),
        };
        let (initial, continuity) = (Health::Unknown, Continuity::NewMember);
        let new = NewMember { slot, generation, channel: 0, timing: Some(timing), initial, continuity };
        let member = Self {
            generation,
            interval,
            offset,
            normal: usize::try_from(normal).unwrap(),
            abnormal: usize::try_from(abnormal).unwrap(),
            added: now,
            is_good: dice.one_in(2),
            probing_since: None,
            health: Health::Unknown,
            last: VecDeque::new(),
            counts: [0; 3],
        };
        (member, new)
    }

    /// How many slots lie in (added, now].
    fn slots(&self, now: u64) -> u64 {
        let passed = |moment: u64| (moment + self.interval - self.offset) / self.interval;
        passed(now) - passed(self.added)
    }

    fn since_slot(&self, now: u64) -> u64 {
        (now + self.interval - self.offset) % self.interval
    }

    /// Slots since its running probe began, from the first one that the engine saw in
    /// time: whether the engine uses that one is open until the probe ends.
    /// Slots within a stall are seen at its end.
    fn open_slots(&self, now: u64, stall: (u64, u64)) -> u64 {
        let Some(began) = self.probing_since else { return 0 };
        let limit = late_after(Duration::from_nanos(self.interval)).as_nanos();
        let slot_after = |moment: u64| moment - self.since_slot(moment) + self.interval;
        let mut slot = slot_after(began);
        while slot <= now {
            let seen = if (stall.0 + 1..=stall.1).contains(&slot) { stall.1 } else { slot };
            if u128::from(seen - slot) <= limit {
                return (now - slot) / self.interval + 1;
            }
            slot = slot_after(seen);
        }
        0
    }

    /// What its next probe finds.
    fn outcome(&mut self, dice: &mut Dice) -> Outcome {
        if dice.one_in(12) {
            self.is_good = !self.is_good;
        }
        if dice.one_in(30) {
            return Outcome::Inconclusive(ProberReason::LocalStall);
        }
        // One result in twenty says the opposite.
        if self.is_good != dice.one_in(20) {
            Outcome::Success
        } else {
            Outcome::Failure(MemberReason::ResponseTimeout)
        }
    }

    /// Looks back at the last results; true when the verdict moves.
    fn judge(&mut self, outcome: Outcome) -> bool {
        let result = match outcome {
            Outcome::Success => true,
            Outcome::Failure(_) => false,
            Outcome::Inconclusive(_) => {
                self.counts[2] += 1;
                return false;
            }
        };
        self.counts[usize::from(!result)] += 1;
        self.last.push_front(result);
        self.last.truncate(10);
        let before = self.health;
        let has_run = |length: usize, of: bool| {
            self.last.len() >= length && self.last.iter().take(length).all(|seen| *seen == of)
        };
        if has_run(self.normal, true) {
            self.health = Health::Healthy;
        } else if has_run(self.abnormal, false) {
            self.health = Health::Unhealthy;
        }
        self.health != before
    }
}

fn at(moment: u64) -> Now {
    Now { monotonic: MonotonicTime(moment), wall: Timestamp(moment) }
}

fn report(outcome: Outcome) -> Report {
    Report {
        outcome,
        phases: Phases::default(),
        total: Duration::from_millis(1),
        waited: Duration::ZERO,
        status: None,
        detail: "simulated".into(),
        peer: None,
        address: None,
        certificate_not_after: None,
    }
}

/// Everything that is going on.
struct World {
    engine: Engine,
    dice: Dice,
    members: Vec<Option<Member>>,
    generations: u32,
    /// Probes under way: when they end, whose, what they will find, when they began.
    under_way: BinaryHeap<Reverse<(u64, u32, u32, u64)>>,
    started: u64,
    moved: u64,
    /// Slots of members that are gone.
    slots_gone: u64,
    /// The last stall: when the last turn before it was, and the first one after it.
    stall: (u64, u64),
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            engine: Engine::new(1_000_000),
            dice: Dice(0x9E37_79B9_7F4A_7C15),
            members: Vec::new(),
            generations: 0,
            under_way: BinaryHeap::new(),
            started: 0,
            moved: 0,
            slots_gone: 0,
            stall: (0, 0),
        };
        world.members.resize_with(MEMBERS as usize, || None);
        for slot in 0..MEMBERS {
            world.add(slot, 0);
        }
        world
    }

    fn add(&mut self, slot: u32, now: u64) {
        self.generations += 1;
        let (member, new) = Member::new(slot, self.generations, now, &mut self.dice);
        self.engine.handle_add(new, at(now));
        self.members[slot as usize] = Some(member);
    }

    fn remove(&mut self, slot: u32, now: u64) {
        if let Some(member) = self.members[slot as usize].take() {
            self.slots_gone += member.slots(now) - member.open_slots(now, self.stall);
            self.engine.handle_remove(slot);
        }
    }

    /// One step at `now`: results first, then what is due.
    fn turn(&mut self, now: u64) {
        while let Some(Reverse((end, slot, generation, began))) = self.under_way.peek().copied() {
            if end > now {
                break;
            }
            self.under_way.pop();
            self.finish(Job { slot, generation, channel: 0 }, began, now);
        }
        while let Some(job) = self.engine.poll_job(at(now)) {
            self.start(job, now);
        }
    }

    fn start(&mut self, job: Job, now: u64) {
        self.started += 1;
        let member = self.members[job.slot as usize].as_mut().expect("nobody probes a member that is gone");
        assert_eq!(job.generation, member.generation);
        assert!(member.probing_since.is_none(), "two probes of member {} at once", job.slot);
        member.probing_since = Some(now);
        let late = member.since_slot(now);
        let limit = late_after(Duration::from_nanos(member.interval)).as_nanos();
        assert!(u128::from(late) <= limit, "member {} was probed {late} ns after its slot", job.slot);
        // Most answer at once, some after more than an interval.
        let duration =
            if self.dice.one_in(50) { self.dice.below(6 * SECOND) } else { self.dice.below(SECOND / 4) };
        self.under_way.push(Reverse((now + duration, job.slot, job.generation, now)));
    }

    fn finish(&mut self, job: Job, began: u64, now: u64) {
        let Some(member) =
            self.members[job.slot as usize].as_mut().filter(|member| member.generation == job.generation)
        else {
            // Its member went: the result must not count for whoever has the slot now.
            let stale = report(Outcome::Failure(MemberReason::Refused));
            assert_eq!(self.engine.handle_report(job, stale, at(began), at(now)), None);
            return;
        };
        member.probing_since = None;
        let outcome = member.outcome(&mut self.dice);
        let before = member.health;
        let moves = member.judge(outcome);
        let transition = self.engine.handle_report(job, report(outcome), at(began), at(now));
        let told = transition.map(|moved| (moved.slot, moved.from, moved.to));
        assert_eq!(told, moves.then_some((job.slot, before, member.health)));
        self.moved += u64::from(moves);
        let state = self.engine.state(job.slot).expect("a live member has a state");
        assert_eq!(state.health, member.health);
    }

    /// Now and then somebody comes, goes, or gets another check.
    fn churn(&mut self, now: u64) {
        for _ in 0..self.dice.below(4) {
            let slot = u32::try_from(self.dice.below(MEMBERS.into())).unwrap();
            let is_there = self.members[slot as usize].is_some();
            self.remove(slot, now);
            if !is_there || self.dice.one_in(2) {
                self.add(slot, now);
            }
        }
    }

    fn check(&self, now: u64) {
        let living =
            || self.members.iter().zip(0..).filter_map(|(member, slot)| Some((member.as_ref()?, slot)));
        let slots: u64 =
            living().map(|(member, _)| member.slots(now) - member.open_slots(now, self.stall)).sum();
        let snapshot = self.engine.snapshot();
        assert_eq!(self.started + snapshot.skipped, slots + self.slots_gone, "a slot is lost or doubled");
        assert_eq!(snapshot.in_flight, self.under_way.len());
        assert_eq!(
            self.engine.unsettled(),
            living().filter(|(member, _)| member.health == Health::Unknown).count()
        );
        for (member, slot) in living() {
            let state = snapshot.member(slot, member.generation).expect("a live member is shown");
            let counts = state.counts;
            assert_eq!([counts.success, counts.failure, counts.inconclusive], member.counts, "member {slot}");
            assert_eq!(state.health, member.health, "member {slot}");
        }
    }
}

#[test]
fn a_million_probes_agree_with_the_model() {
    let mut world = World::new();
    let mut now = 0;
    let (mut next_churn, mut next_stall, mut next_check) = (SECOND, 20 * SECOND, 60 * SECOND);
    while world.started < PROBES {
        let last_turn = now;
        let ends = world.under_way.peek().map_or(u64::MAX, |Reverse((end, ..))| *end);
        let due = world.engine.poll_deadline().map_or(u64::MAX, |deadline| deadline.0);
        now = now.max(ends.min(due).min(next_churn));
        if now >= next_stall {
            // The prober stands still for up to half a minute.
            now += world.dice.below(30 * SECOND);
            world.stall = (last_turn, now);
            next_stall = now + 20 * SECOND + world.dice.below(60 * SECOND);
        }
        world.turn(now);
        if now >= next_churn {
            world.churn(now);
            next_churn = now + world.dice.below(2 * SECOND);
        }
        if now >= next_check {
            world.check(now);
            next_check = now + 60 * SECOND;
        }
    }
    world.check(now);
    assert!(world.moved > 20_000, "only {} verdicts moved", world.moved);
    assert!(world.engine.snapshot().skipped > 10_000, "the stalls skipped nothing");
}
