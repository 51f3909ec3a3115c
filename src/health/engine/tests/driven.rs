//! The engine driven as a driver drives it, on a clock of the test's own: how long a
//! failure can go unseen, and who is probed when permits run out.

use std::collections::{BTreeMap, BTreeSet};

use super::{now as at_millis, report};
use crate::channel::detection::tests::check;
use crate::channel::{Detection, Health, HealthCheck};
use crate::health::engine::*;
use crate::health::schedule::{OffsetAllotter, START_WINDOW};
use crate::health::{MemberReason, Timestamp};

/// A probe's own time begins a little after its driver has looked at the clock.
const SLACK: Duration = Duration::from_micros(50);

/// What a member does with a probe.
#[derive(Clone, Copy)]
enum Conduct {
    Answers(Duration),
    /// Answers in the last moment.
    AnswersLate,
    Silent,
}

/// A driver that wakes late by the same time at every wake.
struct Driven {
    engine: Engine,
    late: Duration,
    now: Now,
    /// By slot.
    timeouts: Vec<Duration>,
    /// Probes by the time of their end.
    running: BTreeMap<(MonotonicTime, u32), (Job, Outcome, Now)>,
    /// When each slot's probes started.
    starts: Vec<Vec<MonotonicTime>>,
    transitions: Vec<Transition>,
}

impl Driven {
    fn new(concurrency: usize, late: Duration) -> Self {
        Self {
            engine: Engine::new(concurrency),
            late,
            now: at_millis(0),
            timeouts: Vec::new(),
            running: BTreeMap::new(),
            starts: Vec::new(),
            transitions: Vec::new(),
        }
    }

    /// One more member; says its slot.
    fn add(&mut self, channel: u32, check: &HealthCheck, offset: Offset) -> u32 {
        let slot = u32::try_from(self.timeouts.len()).unwrap();
        let (cadence, thresholds) = (Cadence::from(check), Thresholds::from(check));
        let timing = Some(CheckTiming { cadence, thresholds, offset, window: START_WINDOW });
        let (initial, continuity) = (Health::Unknown, Continuity::NewMember);
        let member = NewMember { slot, generation: 1, channel, timing, initial, continuity };
        self.engine.handle_add(member, self.now);
        self.timeouts.push(check.timeout());
        self.starts.push(Vec::new());
        slot
    }

    /// Takes turns until `is_over` says so after one.
    fn run(&mut self, conduct: impl Fn(&Self, u32) -> Conduct, is_over: impl Fn(&Self) -> bool) {
        while !is_over(self) {
            let ends = self.running.first_key_value().map(|((end, _), _)| *end);
            let next = [ends, self.engine.poll_deadline()].into_iter().flatten().min().expect("a next event");
            let next = next.max(self.now.monotonic) + self.late;
            self.now = Now { monotonic: next, wall: Timestamp(next.0) };
            self.turn(&conduct);
        }
    }

    fn turn(&mut self, conduct: &impl Fn(&Self, u32) -> Conduct) {
        while let Some(entry) = self.running.first_entry()
            && entry.key().0 <= self.now.monotonic
        {
            let (job, outcome, started) = entry.remove();
            let moved = self.engine.handle_report(job, report(outcome), started, self.now);
            self.transitions.extend(moved);
        }
        while let Some(job) = self.engine.poll_job(self.now) {
            let conduct = conduct(self, job.slot);
            self.starts[job.slot as usize].push(self.now.monotonic);
            let limit = self.engine.time_limit(job, self.timeouts[job.slot as usize], self.now);
            let (takes, outcome) = match conduct {
                Conduct::Answers(after) => (after, Outcome::Success),
                Conduct::AnswersLate => (limit + SLACK, Outcome::Success),
                Conduct::Silent => (limit + SLACK, Outcome::Failure(MemberReason::ResponseTimeout)),
            };
            self.running.insert((self.now.monotonic + takes, job.slot), (job, outcome, self.now));
        }
    }
}

/// The corners of what documents allow: interval, timeout, threshold.
fn corners() -> Vec<(Duration, Duration, u8)> {
    let micros = Duration::from_micros;
    let intervals = [100_000, 100_500, 101_000, 1_000_000, 6_000_000, 6_001_000, 30_000_000, 300_000_000];
    let mut corners = BTreeSet::new();
    for interval in intervals.map(micros) {
        let timeouts = [micros(10_000), interval / 2, interval - micros(1_000), interval];
        for timeout in timeouts.map(|timeout| timeout.min(micros(30_000_000))) {
            corners.extend([1, 2, 3, 10].map(|threshold| (interval, timeout, threshold)));
        }
    }
    corners.into_iter().collect()
}

/// When a driver wakes late, a probe starts and ends late by as much: once each, however
/// many probes there were.
#[test]
fn what_check_promises_holds_at_every_corner() {
    for (interval, timeout, threshold) in corners() {
        let check = check(interval, timeout, threshold, threshold);
        let bounds = Detection::of(&check, START_WINDOW);
        for (late, offset) in [(0, 0), (0, 1 << 61), (100, 0x9E37_79B9_7F4A_7C15), (1_000, u64::MAX)] {
            let late = Duration::from_micros(late);
            let case = format!("{interval:?}, {timeout:?}, {threshold}, late by {late:?}, offset {offset:x}");
            let mut driven = Driven::new(8, late);
            let slot = driven.add(0, &check, Offset(offset)) as usize;
            let unseen_since = |driven: &Driven, since: MonotonicTime| {
                let moved = driven.transitions.last().expect("a transition");
                moved.at.monotonic.since(since).saturating_sub(late * 2 + SLACK)
            };

            driven.run(|_, _| Conduct::Silent, |driven| driven.transitions.len() == 1);
            assert!(unseen_since(&driven, MonotonicTime(0)) <= bounds.first, "first: {case}");
            // A first probe that was brought forward may still run when the member is due.
            let skipped = driven.engine.snapshot().skipped;
            assert!(skipped <= u64::from(interval > START_WINDOW * 2), "{case}");

            // It is back just after a probe began.
            let probes = driven.starts[slot].len();
            let first_good = move |driven: &Driven| driven.starts[slot].len() > probes;
            let conduct =
                |driven: &Driven, _| if first_good(driven) { Conduct::AnswersLate } else { Conduct::Silent };
            driven.run(conduct, |driven| driven.transitions.len() == 2);
            let up = unseen_since(&driven, driven.starts[slot][probes]);
            assert!(up <= bounds.up, "up after {up:?}, not {:?}: {case}", bounds.up);

            // And gone again just after another began.
            let probes = driven.starts[slot].len();
            let conduct = |driven: &Driven, _| match driven.starts[slot].len() > probes {
                true => Conduct::Silent,
                false => Conduct::Answers(Duration::ZERO),
            };
            driven.run(conduct, |driven| driven.transitions.len() == 3);
            let down = unseen_since(&driven, driven.starts[slot][probes]);
            assert!(down <= bounds.down, "down after {down:?}, not {:?}: {case}", bounds.down);
            assert_eq!(driven.engine.snapshot().skipped, skipped, "{case}");
        }
    }
}

#[test]
fn lateness_does_not_add_up_over_silent_probes() {
    let second = Duration::from_secs(1);
    for late in [100, 1_000, 9_000].map(Duration::from_micros) {
        let mut driven = Driven::new(8, late);
        driven.add(0, &check(second, second, 3, 3), Offset(1 << 60));
        driven.run(|_, _| Conduct::Silent, |driven| driven.starts[0].len() == 1_000);
        let (first, last) = (driven.starts[0][0], driven.starts[0][999]);
        assert!(last.since(first) <= second * 999 + late + SLACK, "{:?}: {late:?} late", last.since(first));
        assert_eq!(driven.engine.snapshot().skipped, 0, "{late:?} late");
    }
}

/// 64 permits for 450 members that hang, and eleven channels of 60 members that answer.
#[test]
fn channels_without_trouble_are_on_time_while_another_hangs() {
    let second = Duration::from_secs(1);
    let check = check(second, second, 3, 3);
    let mut driven = Driven::new(64, Duration::from_micros(100));
    let mut allotter = OffsetAllotter::new(0);
    for slot in 0..450 + 11 * 60_u32 {
        let channel = if slot < 450 { 0 } else { 1 + slot % 11 };
        driven.add(channel, &check, allotter.allot(Cadence::from(&check)).offset);
    }
    let conduct = |_: &Driven, slot| match slot {
        0..450 => Conduct::Silent,
        _ => Conduct::Answers(Duration::from_millis(2)),
    };
    driven.run(conduct, |driven| driven.now.monotonic >= at_millis(20_000).monotonic);
    for starts in &driven.starts[450..] {
        assert!((19..=21).contains(&starts.len()), "{} probes of 20", starts.len());
        let gaps = starts.windows(2).map(|pair| pair[1].since(pair[0]));
        let longest = gaps.max().expect("many");
        assert!(longest <= second + Duration::from_millis(2), "{longest:?} between two probes");
    }
    let hanging: Vec<usize> = driven.starts[..450].iter().map(Vec::len).collect();
    let (least, most, all) = (hanging.iter().min(), hanging.iter().max(), hanging.iter().sum::<usize>());
    assert!(all >= 56 * 18, "{all} probes of the channel that hangs");
    assert!(most.unwrap() - least.unwrap() <= 1, "its members are probed in turn: {least:?} to {most:?}");
    let seen = driven.engine.snapshot();
    assert!((300..=400).contains(&seen.waiting), "{} wait", seen.waiting);
    assert!(seen.delayed > 1_000 && seen.in_flight <= 64, "{} of {}", seen.in_flight, seen.delayed);
}

#[test]
fn when_everything_hangs_each_channel_has_its_share() {
    let second = Duration::from_secs(1);
    let check = check(second, second, 3, 3);
    let mut driven = Driven::new(64, Duration::from_micros(100));
    let mut allotter = OffsetAllotter::new(0);
    // 300, 60 and 6 members.
    for slot in 0..366_u32 {
        let channel = u32::from(slot >= 300) + u32::from(slot >= 360);
        driven.add(channel, &check, allotter.allot(Cadence::from(&check)).offset);
    }
    driven.run(|_, _| Conduct::Silent, |driven| driven.now.monotonic >= at_millis(21_000).monotonic);
    let probes = |slots: std::ops::Range<usize>| driven.starts[slots].iter().map(Vec::len).sum::<usize>();
    let [large, middle, small] = [probes(0..300), probes(300..360), probes(360..366)];
    assert!(small >= 6 * 19, "what needs less than its share gets what it needs: {small}");
    assert!(large.abs_diff(middle) <= large / 10, "the others share the rest: {large} and {middle}");
}
