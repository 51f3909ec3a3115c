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

fn cadence(interval: Duration) -> Cadence {
    Cadence { interval, work: Duration::from_micros(20) }
}

fn filled(members: u32, interval: Duration, window: Duration, now: MonotonicTime) -> Schedule {
    let mut allotter = OffsetAllotter::new(0x1234_5678_9ABC_DEF0);
    let (cadence, mut schedule) = (cadence(interval), Schedule::default());
    for member in 0..members {
        schedule.insert(member, cadence, allotter.allot(cadence).offset, window, now);
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
    // From the second probe on each member is on its own phase.
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
    schedule.insert(7, cadence(interval), Offset(0), START_WINDOW, MonotonicTime(0));
    let millis = |millis: u64| MonotonicTime(millis * 1_000_000);
    let taken = schedule.take_due(at(1)).unwrap();
    assert_eq!((schedule.next_deadline(), schedule.next_due(7)), (None, Some(at(1))), "nobody else");
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
    let five = cadence(Duration::from_secs(5));
    let first = allotter.allot(five);
    let second = allotter.allot(five);
    allotter.release(five, first.number);
    assert_eq!(allotter.allot(five), first);
    assert_ne!(allotter.allot(five).offset, second.offset);
    // Another interval has numbers of its own.
    assert_eq!(allotter.allot(cadence(Duration::from_secs(6))).offset, first.offset);
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
                    let offset = allotter.allot(cadence(interval)).offset;
                    schedule.insert(member, cadence(interval), offset, START_WINDOW, now);
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

/// Wakes a driver at every deadline up to `end`; says who started at each.
fn wakes(schedule: &mut Schedule, end: MonotonicTime) -> BTreeMap<MonotonicTime, Vec<u32>> {
    let mut wakes = BTreeMap::new();
    while let Some(deadline) = schedule.next_deadline().filter(|deadline| *deadline <= end) {
        let mut started = Vec::new();
        while let Some(slot) = start_due(schedule, deadline) {
            assert_eq!(slot.due, deadline, "nobody starts before its slot or after it");
            started.push(slot.member);
        }
        if !started.is_empty() {
            wakes.insert(deadline, started);
        }
    }
    wakes
}

/// When in its interval each member starts.
fn phases(wakes: &BTreeMap<MonotonicTime, Vec<u32>>, interval: Duration) -> BTreeMap<u32, u64> {
    let starts = wakes.iter().flat_map(|(at, members)| members.iter().map(move |member| (*member, at.0)));
    starts.map(|(member, at)| (member, at % nanos(interval))).collect()
}

#[test]
fn neighbours_share_a_wake_up_at_their_slot() {
    // Members, interval in ms, work in us, and the most and mean probes of a wake-up.
    let cases = [
        (2_000, 1_000, 20, 22, 20),
        (5_000, 1_000, 20, 27, 25),
        (25_000, 5_000, 30, 27, 25),
        (50_000, 1_000, 20, 34, 31),
        (500, 1_000, 400, 4, 2),
        (10, 5_000, 20, 1, 1),
        (1_000, 200, 20, 14, 12),
    ];
    for (members, interval, work, most, mean) in cases {
        let case = format!("{members} every {interval} ms");
        let (interval, work) = (Duration::from_millis(interval), Duration::from_micros(work));
        let cadence = Cadence { interval, work };
        let (mut schedule, mut allotter) = (Schedule::default(), OffsetAllotter::new(0x1234_5678_9ABC_DEF0));
        for member in 0..members {
            schedule.insert(member, cadence, allotter.allot(cadence).offset, START_WINDOW, MonotonicTime(0));
        }
        let before = phases(&wakes(&mut schedule, MonotonicTime(0) + interval * 2), interval);
        let woken = wakes(&mut schedule, MonotonicTime(0) + interval * 12);
        let probes: usize = woken.values().map(Vec::len).sum();
        let fullest = woken.values().map(Vec::len).max().unwrap();
        assert_eq!(probes, members as usize * 10, "{case}");
        assert!(fullest <= most, "{case}: {fullest} at once");
        assert!(probes / woken.len() >= mean, "{case}: {probes} in {} wake-ups", woken.len());
        assert_eq!(phases(&woken, interval), before, "{case}: nobody moves");
        assert_eq!(schedule.skipped(), 0, "{case}");
    }
}

#[test]
fn a_changed_rate_moves_a_phase_once_by_less_than_a_step() {
    let interval = Duration::from_secs(1);
    let (mut schedule, mut allotter) = (Schedule::default(), OffsetAllotter::new(7));
    let mut numbers = Vec::new();
    let mut now = MonotonicTime(0);
    let mut last: BTreeMap<u32, MonotonicTime> = BTreeMap::new();
    for members in [1_000, 3_000, 4_000, 20_000, 15_000, 2_000, 800] {
        let settled = last.clone();
        for member in 0.. {
            if member >= members.max(u32::try_from(numbers.len()).unwrap()) {
                break;
            } else if member as usize >= numbers.len() {
                let allotted = allotter.allot(cadence(interval));
                schedule.insert(member, cadence(interval), allotted.offset, START_WINDOW, now);
                numbers.push(allotted.number);
            } else if member >= members {
                allotter.release(cadence(interval), numbers[member as usize]);
                schedule.remove(member);
                last.remove(&member);
            }
        }
        numbers.truncate(members as usize);
        let mut moves: BTreeMap<u32, u32> = BTreeMap::new();
        now = now + interval * 5;
        for (moment, started) in wakes(&mut schedule, now) {
            for member in started {
                let before = last.insert(member, moment);
                let Some(before) = before.filter(|_| settled.contains_key(&member)) else { continue };
                let by = moment.since(before).abs_diff(interval);
                assert!(by < LONGEST_STEP, "{members} members: moved by {by:?}");
                *moves.entry(member).or_default() += u32::from(!by.is_zero());
            }
        }
        assert!(moves.values().all(|times| *times <= 1), "{members} members: once at most");
    }
    assert_eq!(schedule.skipped(), 0);
}

#[test]
fn drivers_take_turns() {
    let interval = cadence(Duration::from_secs(1));
    let mut allotter = OffsetAllotter::new(11);
    let mut drivers: Vec<Schedule> = (0..4).map(|_| Schedule::default()).collect();
    for (number, schedule) in (0..).zip(&mut drivers) {
        schedule.set_driver(number);
    }
    for member in 0..20_000_u32 {
        let offset = allotter.allot(interval).offset;
        drivers[member as usize % 4].insert(member, interval, offset, START_WINDOW, MonotonicTime(0));
    }
    let mut all: BTreeMap<MonotonicTime, usize> = BTreeMap::new();
    for schedule in &mut drivers {
        wakes(schedule, at(2));
        for (moment, members) in wakes(schedule, at(4)) {
            assert_eq!(all.insert(moment, members.len()), None, "two drivers wake at {moment:?}");
        }
    }
    // Four grids of 5 ms make one of 1.25 ms.
    assert_eq!(all.len(), 1_600);
    assert!(all.keys().all(|moment| moment.0 % 1_250_000 == 0));
    assert!(all.values().all(|probes| (15..=35).contains(probes)), "{:?}", all.values().max());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever checks come together: a wake-up has few probes and little work, the load is
    /// even, and slots lie one interval apart.
    #[test]
    fn any_mixture_shares_wake_ups_and_stays_even(
        seed in any::<u64>(),
        driver in 0_u16..16,
        mixture in prop::collection::vec((1_u64..100, 0_usize..3, 1_u32..400), 1..5),
    ) {
        let (mut schedule, mut allotter) = (Schedule::default(), OffsetAllotter::new(seed));
        schedule.set_driver(driver);
        let mut cadences = Vec::new();
        for (tenths, protocol, members) in mixture {
            let work = [20, 30, 400].map(Duration::from_micros)[protocol];
            let cadence = Cadence { interval: Duration::from_millis(tenths * 100), work };
            for _ in 0..members {
                let offset = allotter.allot(cadence).offset;
                schedule.insert(u32::try_from(cadences.len()).unwrap(), cadence, offset, START_WINDOW, MonotonicTime(0));
                cadences.push(cadence);
            }
        }
        let kinds = cadences.iter().collect::<BTreeSet<_>>().len();
        wakes(&mut schedule, at(20));
        let mut last: BTreeMap<u32, MonotonicTime> = BTreeMap::new();
        let mut seconds = [0_usize; 20];
        for (moment, started) in wakes(&mut schedule, at(40)) {
            // As many as are planned, and each cadence may be a little uneven.
            prop_assert!(started.len() <= usize::try_from(PROBES_A_WAKE).unwrap() + 3 * kinds, "{}", started.len());
            let costly = started.iter().filter(|member| cadences[**member as usize].work > WORK_A_WAKE / 10);
            prop_assert!(costly.count() <= 3 + 3 * kinds);
            seconds[usize::try_from((moment.0 - 1) / SECOND - 20).unwrap() % 20] += started.len();
            for member in started {
                if let Some(before) = last.insert(member, moment) {
                    prop_assert_eq!(moment.since(before), cadences[member as usize].interval);
                }
            }
        }
        let rate: f64 = cadences.iter().map(|cadence| cadence.interval.as_secs_f64().recip()).sum();
        for probes in seconds {
            let uneven = (probes as f64 - rate).abs();
            prop_assert!(uneven <= 4.0 * kinds as f64 + rate / 20.0, "{} of {}", probes, rate);
        }
        prop_assert_eq!(schedule.skipped(), 0);
    }
}
