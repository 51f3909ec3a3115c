//! The schedule against simple models: spread, cadence, lateness, one deadline each.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> MonotonicTime {
    MonotonicTime(seconds * SECOND)
}

/// Starts the next member that is due.
fn start_due(schedule: &mut Schedule, now: MonotonicTime) -> Option<DueMember> {
    let due = schedule.take_due(now)?;
    schedule.handle_start(due.member, now);
    Some(due)
}

/// Starts everything that is due at every deadline up to `end`.
fn run(schedule: &mut Schedule, end: MonotonicTime) -> Vec<DueMember> {
    let mut slots = Vec::new();
    while let Some(deadline) = schedule.next_deadline().filter(|deadline| *deadline <= end) {
        while let Some(slot) = start_due(schedule, deadline) {
            slots.push(slot);
        }
    }
    slots
}

fn filled(members: u32, interval: Duration, window: Duration, now: MonotonicTime) -> Schedule {
    let mut allotter = OffsetAllotter::new(0x1234_5678_9ABC_DEF0);
    let mut schedule = Schedule::default();
    for member in 0..members {
        schedule.insert(member, interval, allotter.allot(interval).offset, window, now);
    }
    schedule
}

#[test]
fn probes_are_spread_evenly_over_the_whole_interval() {
    for (members, interval) in [(10, 5), (1_000, 5), (25_000, 5), (7, 300)] {
        let mut schedule = filled(members, Duration::from_secs(interval), START_WINDOW, MonotonicTime(0));
        run(&mut schedule, at(interval));
        let slots = run(&mut schedule, at(interval * 2));
        assert_eq!(slots.len(), members as usize);
        // No 10th of the interval holds more than its share and two members more.
        let mut bins = [0u32; 10];
        for slot in &slots {
            let tenth = slot.due.0 % (interval * SECOND) * 10 / (interval * SECOND);
            bins[usize::try_from(tenth).unwrap()] += 1;
        }
        let most = *bins.iter().max().unwrap();
        assert!(most <= members.div_ceil(10) + 2, "{members} members: {bins:?}");
    }
}

#[test]
fn five_thousand_a_second_never_crowd_a_ten_millisecond_bin() {
    let mut schedule = filled(25_000, Duration::from_secs(5), START_WINDOW, MonotonicTime(0));
    run(&mut schedule, at(5));
    let mut bins: BTreeMap<u64, u32> = BTreeMap::new();
    for slot in run(&mut schedule, at(10)) {
        *bins.entry(slot.due.0 / 10_000_000).or_default() += 1;
    }
    let most = bins.values().max().copied().unwrap();
    assert!(most <= 75, "the mean is 50, the fullest bin holds {most}");
}

#[test]
fn every_member_is_probed_once_an_interval_for_a_simulated_hour() {
    let interval = Duration::from_millis(900);
    let mut schedule = filled(4, interval, START_WINDOW, MonotonicTime(0));
    let slots = run(&mut schedule, at(3_600));
    assert_eq!(slots.len(), 4 * 4_000);
    let mut last: BTreeMap<u32, MonotonicTime> = BTreeMap::new();
    for slot in slots {
        if let Some(before) = last.insert(slot.member, slot.due) {
            assert_eq!(slot.due.since(before), interval);
        }
    }
    assert_eq!(schedule.skipped(), 0);
}

#[test]
fn long_intervals_start_within_the_window_and_keep_their_offset() {
    let interval = Duration::from_secs(300);
    let start = at(1_000);
    let mut schedule = filled(1_000, interval, START_WINDOW, start);
    let first = run(&mut schedule, start + START_WINDOW);
    let seen: BTreeSet<u32> = first.iter().map(|slot| slot.member).collect();
    assert_eq!(seen.len(), 1_000, "everybody was probed within the window");
    let mut bins = [0u32; 10];
    for slot in &first {
        let tenth = slot.due.since(start).as_nanos() * 10 / (START_WINDOW.as_nanos() + 1);
        bins[usize::try_from(tenth).unwrap()] += 1;
    }
    assert!(bins.iter().all(|bin| (90..=112).contains(bin)), "evenly: {bins:?}");
    // From the second probe on each member is on its own offset.
    let later = run(&mut schedule, start + interval * 3);
    let mut offsets: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for slot in later {
        offsets.entry(slot.member).or_default().insert(slot.due.0 % (300 * SECOND));
    }
    assert!(offsets.values().all(|offsets| offsets.len() == 1));
}

#[test]
fn start_window_bounds_the_rate() {
    assert_eq!(start_window(1), Duration::from_secs(3));
    assert_eq!(start_window(15_000), Duration::from_secs(3));
    assert_eq!(start_window(100_000), Duration::from_secs(20));
}

#[test]
fn after_a_stall_late_slots_are_skipped_and_counted_without_a_burst() {
    let interval = Duration::from_secs(5);
    let mut schedule = filled(1_000, interval, START_WINDOW, MonotonicTime(0));
    run(&mut schedule, at(20));
    // Nothing runs for 32 s: every member missed six or seven slots.
    let wake = at(52);
    assert_eq!(start_due(&mut schedule, wake), None);
    // 32 s of 200 slots a second, every one of them accounted for.
    assert!((6_398..=6_402).contains(&schedule.skipped()), "{}", schedule.skipped());
    // And the cadence goes on where it was.
    assert_eq!(run(&mut schedule, wake + interval).len(), 1_000);
}

#[test]
fn a_member_that_was_taken_comes_back_as_it_was_or_is_skipped() {
    let interval = Duration::from_secs(1);
    let mut schedule = Schedule::default();
    schedule.insert(7, interval, Offset(0), START_WINDOW, MonotonicTime(0));
    let millis = |millis: u64| MonotonicTime(millis * 1_000_000);
    let taken = schedule.take_due(at(1)).unwrap();
    assert_eq!((schedule.next_deadline(), schedule.next_start(7)), (None, Some(at(1))), "nobody else");
    schedule.put_back(7);
    assert_eq!(schedule.take_due(millis(1_050)), Some(taken), "not too late for its slot");
    schedule.put_back(7);
    assert_eq!(schedule.take_due(millis(2_951)), None, "two slots later than its own");
    assert_eq!((schedule.skipped(), schedule.next_deadline()), (2, Some(at(3))));
    // Who has waited for a permit starts however late it is.
    schedule.take_due(at(3)).unwrap();
    schedule.handle_start(7, millis(5_500));
    assert_eq!((schedule.skipped(), schedule.next_deadline()), (4, Some(at(6))));
    schedule.take_due(at(6)).unwrap();
    assert_eq!((schedule.remove(7), schedule.remove(7)), (Some(at(6)), None));
}

#[test]
fn a_probe_that_would_reach_beyond_the_next_slot_gets_a_hundredth_less_at_most() {
    let cases = [
        // timeout, started, next slot, and what it may take, in ms
        (500, 0, 1_000, 500),
        (1_000, 0, 1_000, 1_000),
        (1_000, 3, 1_000, 997),
        (1_000, 10, 1_000, 990),
        (1_000, 50, 1_000, 990),
        (100, 1, 100, 99),
        (100, 40, 100, 99),
    ];
    for (timeout, started, next, expected) in cases {
        let at = |millis: u64| MonotonicTime(millis * 1_000_000);
        let limit = time_limit(Duration::from_millis(timeout), at(started), at(next));
        assert_eq!(limit, Duration::from_millis(expected), "{timeout} ms from {started} to {next}");
    }
}

#[test]
fn a_returned_offset_is_used_again() {
    let mut allotter = OffsetAllotter::new(5);
    let interval = Duration::from_secs(5);
    let first = allotter.allot(interval);
    let second = allotter.allot(interval);
    allotter.release(interval, first.number);
    assert_eq!(allotter.allot(interval), first);
    assert_ne!(allotter.allot(interval).offset, second.offset);
    // Another interval has numbers of its own.
    assert_eq!(allotter.allot(Duration::from_secs(6)).offset, first.offset);
}

#[test]
fn late_after_is_a_twentieth_within_bounds() {
    let cases = [(200, 50), (1_000, 50), (2_000, 100), (5_000, 250), (20_000, 1_000), (300_000, 1_000)];
    for (interval, limit) in cases {
        assert_eq!(late_after(Duration::from_millis(interval)), Duration::from_millis(limit), "{interval}");
    }
}

proptest! {
    /// However members come, go and are polled: one deadline for every live
    /// member, never in the past once everything due was polled, and no member
    /// twice within one interval.
    #[test]
    fn one_deadline_per_live_member(
        operations in prop::collection::vec((0u8..4, 0u32..12, 1u64..3_000), 1..200),
    ) {
        let mut schedule = Schedule::default();
        let mut allotter = OffsetAllotter::new(1);
        let mut live: BTreeMap<u32, Duration> = BTreeMap::new();
        let mut last: BTreeMap<u32, MonotonicTime> = BTreeMap::new();
        let mut now = MonotonicTime(0);
        for (operation, member, millis) in operations {
            match operation {
                0 => {
                    let interval = Duration::from_millis(100 + millis);
                    schedule.insert(member, interval, allotter.allot(interval).offset, START_WINDOW, now);
                    live.insert(member, interval);
                    last.remove(&member);
                }
                1 => {
                    schedule.remove(member);
                    live.remove(&member);
                    last.remove(&member);
                }
                _ => {
                    now = now + Duration::from_millis(millis);
                    while let Some(slot) = start_due(&mut schedule, now) {
                        let interval = live[&slot.member];
                        prop_assert!(slot.due <= now);
                        if let Some(before) = last.insert(slot.member, slot.due) {
                            let gap = slot.due.since(before).as_nanos();
                            prop_assert_eq!(gap % interval.as_nanos(), 0);
                            prop_assert!(gap > 0);
                        }
                    }
                    prop_assert!(schedule.next_deadline().is_none_or(|deadline| deadline > now));
                }
            }
            prop_assert_eq!(schedule.queue.len(), live.len());
        }
    }
}

#[test]
fn neighbours_share_a_wake_up_and_no_slot_is_used_twice() {
    let interval = Duration::from_secs(1);
    let mut schedule = filled(5_000, interval, START_WINDOW, MonotonicTime(0));
    schedule.set_ahead(AHEAD);
    let (mut wakes, mut starts) = (0, vec![Vec::new(); 5_000]);
    let mut early = vec![BTreeSet::new(); 5_000];
    while let Some(deadline) = schedule.next_deadline().filter(|deadline| *deadline <= at(10)) {
        wakes += 1;
        while let Some(slot) = start_due(&mut schedule, deadline) {
            assert!(slot.due.since(deadline) < AHEAD, "{slot:?} at {deadline:?}");
            starts[slot.member as usize].push(slot.due);
            early[slot.member as usize].insert(slot.due.since(deadline));
        }
        // Looking between two wakes, as when an answer comes, starts nobody.
        assert_eq!(start_due(&mut schedule, deadline + AHEAD * 9 / 10), None);
    }
    assert!(wakes <= 10_001, "{wakes} wake-ups in 10,000 ms for 50,000 probes");
    // The first slot may lie in the start window.
    assert!(early.iter().all(|early| early.len() <= 2), "each member by its own time, every time");
    assert_eq!(schedule.skipped(), 0);
    for starts in starts {
        assert!((9..=11).contains(&starts.len()));
        assert!(starts.windows(2).all(|pair| pair[1].since(pair[0]) == interval), "{starts:?}");
    }
}
