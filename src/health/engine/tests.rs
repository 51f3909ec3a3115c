//! The engine driven by hand: concurrency, generations, totals, thresholds, snapshots.

mod driven;

use proptest::prelude::*;

use super::*;
use crate::health::{MemberReason, Phases, Timestamp};

const INTERVAL: Duration = Duration::from_secs(1);

fn now(millis: u64) -> Now {
    Now {
        monotonic: MonotonicTime(millis * 1_000_000),
        wall: Timestamp(1_700_000_000_000_000_000 + millis * 1_000_000),
    }
}

fn report(outcome: Outcome) -> Report {
    Report {
        outcome,
        phases: Phases { connect: Some(Duration::from_millis(1)), ..Phases::default() },
        total: Duration::from_millis(2),
        waited: Duration::ZERO,
        status: None,
        detail: "made up".into(),
        peer: None,
        address: None,
        certificate_not_after: None,
    }
}

fn member(slot: u32, generation: u32, offset: Offset) -> NewMember {
    NewMember {
        slot,
        generation,
        channel: 0,
        timing: Some(CheckTiming {
            cadence: Cadence { interval: INTERVAL, work: Duration::ZERO },
            thresholds: Thresholds { normal: 2, abnormal: 3 },
            offset,
            window: Duration::from_secs(3),
        }),
        initial: Health::Unknown,
        continuity: Continuity::NewMember,
    }
}

/// Members whose slots are the whole seconds.
fn engine(members: u32, concurrency: usize) -> Engine {
    let mut engine = Engine::new(concurrency);
    for slot in 0..members {
        engine.handle_add(member(slot, 1, Offset(0)), now(0));
    }
    engine
}

/// Runs every due job at once with one outcome; returns the transitions.
fn turn(engine: &mut Engine, at: Now, outcome: Outcome) -> Vec<Transition> {
    let mut transitions = Vec::new();
    while let Some(job) = engine.poll_job(at) {
        transitions.extend(engine.handle_report(job, report(outcome), at, at));
    }
    transitions
}

#[test]
fn verdicts_come_after_exactly_the_threshold() {
    let mut engine = engine(1, 8);
    assert_eq!(engine.unsettled(), 1);
    assert!(turn(&mut engine, now(1_000), Outcome::Success).is_empty());
    let moved = turn(&mut engine, now(2_000), Outcome::Success);
    assert_eq!((moved[0].from, moved[0].to, moved[0].consecutive), (Health::Unknown, Health::Healthy, 2));
    assert_eq!(engine.unsettled(), 0);
    let refused = Outcome::Failure(MemberReason::Refused);
    assert!(turn(&mut engine, now(3_000), refused).is_empty());
    assert!(turn(&mut engine, now(4_000), refused).is_empty());
    let moved = turn(&mut engine, now(5_000), refused);
    assert_eq!((moved[0].to, moved[0].outcome, moved[0].at), (Health::Unhealthy, refused, now(5_000)));
    let state = engine.state(0).unwrap();
    assert_eq!((state.counts.success, state.counts.failure), (2, 3));
    assert_eq!(state.last.as_ref().unwrap().at, now(5_000).wall);
}

#[test]
fn concurrency_bounds_the_probes_and_a_full_engine_sets_no_alarm() {
    let mut engine = engine(10, 3);
    let due = now(1_000);
    let jobs: Vec<Job> = std::iter::from_fn(|| engine.poll_job(due)).collect();
    assert_eq!((jobs.len(), engine.in_flight()), (3, 3));
    let seen = engine.snapshot();
    assert_eq!((seen.concurrency, seen.waiting, seen.delayed), (3, 7, 7));
    let next_slot = Some(now(2_000).monotonic);
    assert_eq!(engine.poll_deadline(), next_slot, "a full engine must not wake for who waits");
    engine.handle_report(jobs[0], report(Outcome::Success), due, now(1_300));
    assert_eq!(engine.poll_deadline(), Some(due.monotonic), "a permit is free: at once");
    assert!(engine.poll_job(now(1_300)).is_some(), "who waited is not skipped");
    assert_eq!(engine.poll_job(now(1_300)), None);
    for slot in 0..10 {
        engine.handle_remove(slot);
    }
    assert_eq!((engine.snapshot().waiting, engine.poll_deadline()), (0, None), "nobody is left");
}

#[test]
fn a_probe_that_ends_soon_after_the_next_slot_uses_it() {
    let mut engine = engine(1, 8);
    let job = engine.poll_job(now(1_000)).unwrap();
    assert_eq!(engine.poll_job(now(2_000)), None, "it is still being probed");
    engine.handle_report(job, report(Outcome::Success), now(1_000), now(2_050));
    assert_eq!(engine.poll_deadline(), Some(now(2_000).monotonic), "at once");
    assert_eq!(engine.poll_job(now(2_050)), Some(job));
    assert_eq!((engine.snapshot().skipped, engine.poll_deadline()), (0, Some(now(3_000).monotonic)));
}

#[test]
fn a_probe_that_ends_too_late_for_the_next_slot_skips_it() {
    let mut engine = engine(1, 8);
    let job = engine.poll_job(now(1_000)).unwrap();
    assert_eq!(engine.poll_job(now(2_000)), None);
    engine.handle_report(job, report(Outcome::Success), now(1_000), now(2_051));
    assert_eq!(engine.poll_job(now(2_051)), None);
    assert_eq!(engine.snapshot().skipped, 1);
    assert_eq!(engine.poll_job(now(3_000)), Some(job));
}

#[test]
fn results_of_replaced_and_removed_members_are_dropped() {
    let mut engine = engine(2, 8);
    let jobs: Vec<Job> = std::iter::from_fn(|| engine.poll_job(now(1_000))).collect();
    let (first, second) = (jobs.iter().find(|job| job.slot == 0), jobs.iter().find(|job| job.slot == 1));
    engine.handle_add(member(0, 2, Offset(0)), now(1_100));
    engine.handle_remove(1);
    for job in [first.unwrap(), second.unwrap()] {
        let failure = report(Outcome::Failure(MemberReason::Refused));
        assert_eq!(engine.handle_report(*job, failure, now(1_000), now(1_200)), None);
    }
    assert_eq!(engine.in_flight(), 0);
    assert_eq!(engine.state(0).unwrap().counts.failure, 0);
    assert_eq!(engine.snapshot().member(0, 1), None);
    assert_eq!(engine.snapshot().member(0, 2).unwrap().generation, 2);
    assert_eq!(engine.unsettled(), 1);
}

#[test]
fn a_member_goes_to_another_engine_with_all_that_is_known_of_it() {
    let mut one = engine(2, 10);
    for second in 1..4 {
        turn(&mut one, now(second * 1_000), Outcome::Failure(MemberReason::Refused));
    }
    let job = one.poll_job(now(4_000)).unwrap();
    assert!(one.handle_take_out(job.slot).is_none(), "its probe runs, and counts here");
    assert_eq!(one.handle_report(job, report(Outcome::Success), now(4_000), now(4_001)), None);
    let known = one.state(job.slot).unwrap().clone();
    let moving = one.handle_take_out(job.slot).unwrap();
    assert!(one.handle_take_out(job.slot).is_none(), "it is gone");
    let mut other = Engine::new(10).of_driver(1);
    other.handle_put_in(7, 5, moving);
    assert_eq!(other.state(7), Some(&MemberState { generation: 5, ..known }));
    // It is due as it was, and its row of successes goes on.
    assert_eq!(other.poll_deadline(), Some(now(5_000).monotonic));
    let job = other.poll_job(now(5_000)).unwrap();
    let moved = other.handle_report(job, report(Outcome::Success), now(5_000), now(5_001)).unwrap();
    assert_eq!((moved.slot, moved.generation, moved.consecutive), (7, 5, 2));
    assert_eq!((moved.from, moved.to), (Health::Unhealthy, Health::Healthy));
    let next = other.poll_deadline().unwrap().since(now(5_000).monotonic);
    assert!(next.abs_diff(INTERVAL) < Duration::from_millis(10), "less than a step away: {next:?}");
    // The driver that it left has the other member alone.
    turn(&mut one, now(5_000), Outcome::Success);
    assert_eq!(one.in_flight(), 0);
    let seen = one.snapshot();
    assert_eq!(seen.member(0, 1).map(|state| state.counts.success), Some(1), "nobody is probed twice");
}

/// A member of slot 0 after a change of its check.
fn changed(generation: u32, continuity: Continuity, interval: Duration, thresholds: Thresholds) -> NewMember {
    let mut member = NewMember { continuity, ..member(0, generation, Offset(0)) };
    let cadence = Cadence { interval, work: Duration::ZERO };
    let timing = CheckTiming { cadence, thresholds, offset: Offset(0), window: Duration::from_secs(3) };
    member.timing = Some(timing);
    member
}

const TWO_THREE: Thresholds = Thresholds { normal: 2, abnormal: 3 };

#[test]
fn another_question_carries_the_verdict_over_until_its_thresholds_speak() {
    for (outcome, results) in [(FAILURE, 3), (SUCCESS, 2)] {
        let mut engine = engine(1, 8);
        (1..=3).for_each(|second| drop(turn(&mut engine, now(second * 1_000), FAILURE)));
        let before = engine.state(0).unwrap().clone();
        engine.handle_add(changed(1, Continuity::CarriedOver, INTERVAL, TWO_THREE), now(3_500));
        let state = engine.state(0).unwrap();
        assert_eq!((state.health, state.verdict_from), (Health::Unhealthy, VerdictFrom::EarlierCheck));
        assert_eq!((state.consecutive_failures, state.since), (0, before.since));
        assert_eq!((state.counts, state.transitions), (before.counts, before.transitions));
        assert_eq!(state.last, None, "the last probe asked something else");
        assert_eq!(engine.unsettled(), 0, "a verdict that was carried over is one");
        let mut transitions = 0;
        for result in 1..=results {
            let from = engine.state(0).unwrap().verdict_from;
            assert_eq!(from, VerdictFrom::EarlierCheck, "before result {result}");
            transitions += turn(&mut engine, now(3_000 + result * 1_000), outcome).len();
        }
        let state = engine.state(0).unwrap();
        assert_eq!(state.verdict_from, VerdictFrom::Check);
        let is_confirmed = outcome == FAILURE;
        assert_eq!(state.health == Health::Unhealthy, is_confirmed);
        // A verdict that is confirmed has not moved.
        assert_eq!((transitions == 0, state.since == before.since), (is_confirmed, is_confirmed));
    }
}

#[test]
fn another_pace_keeps_verdict_and_counts_and_a_running_probe() {
    let mut engine = engine(1, 8);
    (1..=3).for_each(|second| drop(turn(&mut engine, now(second * 1_000), FAILURE)));
    turn(&mut engine, now(4_000), SUCCESS);
    let running = engine.poll_job(now(5_000)).unwrap();
    let before = engine.state(0).unwrap().clone();
    engine.handle_add(changed(1, Continuity::Kept, INTERVAL * 2, TWO_THREE), now(5_100));
    assert_eq!(engine.state(0), Some(&before));
    let moved = engine.handle_report(running, report(SUCCESS), now(5_000), now(5_200));
    assert_eq!(moved.map(|moved| (moved.from, moved.to)), Some((Health::Unhealthy, Health::Healthy)));
    assert_eq!(engine.poll_job(now(5_900)), None, "the next probe is an interval of two seconds away");
    assert_eq!(engine.in_flight(), 0);
}

#[test]
fn a_count_beyond_a_lower_threshold_takes_effect_at_the_next_result() {
    let mut engine = engine(1, 8);
    (1..=2).for_each(|second| drop(turn(&mut engine, now(second * 1_000), SUCCESS)));
    (3..=4).for_each(|second| drop(turn(&mut engine, now(second * 1_000), FAILURE)));
    engine.handle_thresholds(0, Thresholds { normal: 2, abnormal: 1 });
    assert_eq!(engine.state(0).unwrap().health, Health::Healthy, "not before");
    assert!(turn(&mut engine, now(5_000), INCONCLUSIVE).is_empty());
    let moved = turn(&mut engine, now(6_000), FAILURE);
    assert_eq!(moved.iter().map(|it| (it.to, it.consecutive)).collect::<Vec<_>>(), [(Health::Unhealthy, 3)]);
}

#[test]
fn a_check_that_is_switched_off_leaves_what_was_known() {
    let mut engine = engine(1, 8);
    (1..=3).for_each(|second| drop(turn(&mut engine, now(second * 1_000), FAILURE)));
    let off = NewMember { timing: None, ..changed(2, Continuity::LastKnown, INTERVAL, TWO_THREE) };
    engine.handle_add(off, now(3_500));
    let state = engine.state(0).unwrap().clone();
    assert_eq!(
        (state.health, state.verdict_from),
        (Health::Unknown, VerdictFrom::LastKnown(Health::Unhealthy))
    );
    assert_eq!((state.confirmed, state.since), (ConfirmedAt::at(now(3_000).wall), now(3_500).wall));
    assert_eq!((engine.unsettled(), engine.poll_job(now(9_000))), (0, None));
    // The catalog says what it goes on with when it is asked again.
    engine.handle_add(changed(3, Continuity::NewMember, INTERVAL, TWO_THREE), now(9_000));
    assert_eq!(engine.unsettled(), 1);
    let known = state.known().through(Continuity::CarriedOver, now(9_000).wall).unwrap();
    engine.handle_resume(0, 3, known);
    let state = engine.state(0).unwrap();
    assert_eq!((state.health, state.verdict_from), (Health::Unhealthy, VerdictFrom::EarlierCheck));
    assert_eq!((state.counts.failure, engine.unsettled()), (3, 0));
}

#[test]
fn a_slot_that_is_given_to_somebody_else_starts_from_nothing() {
    let mut engine = engine(1, 8);
    turn(&mut engine, now(1_000), Outcome::Success);
    engine.handle_remove(0);
    engine.handle_add(changed(3, Continuity::Kept, INTERVAL, TWO_THREE), now(2_600));
    assert_eq!(engine.state(0), Some(&MemberState::new(3, Health::Unknown, now(2_600).wall)));
}

#[test]
fn inconclusive_results_are_counted_apart_and_move_nothing() {
    let mut engine = engine(1, 8);
    for second in 1..20 {
        let stalled = Outcome::Inconclusive(ProberReason::LocalStall);
        assert!(turn(&mut engine, now(second * 1_000), stalled).is_empty());
    }
    let state = engine.state(0).unwrap();
    assert_eq!((state.health, state.counts.inconclusive), (Health::Unknown, 19));
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.channels[0].inconclusive[ProberReason::LocalStall.index()], 19);
    assert_eq!(snapshot.channels[0].total.count(), 0);
}

#[test]
fn a_snapshot_stays_as_it_was_taken() {
    let mut engine = engine(130, 1_000);
    let before = engine.snapshot();
    turn(&mut engine, now(1_000), Outcome::Success);
    assert!(before.member(129, 1).unwrap().last.is_none());
    assert!(engine.snapshot().member(129, 1).unwrap().last.is_some());
    assert_eq!(engine.snapshot().channels[0].connect.count(), 130);
}

#[test]
fn unprobed_members_stay_as_they_are_and_count_as_settled() {
    let mut engine = Engine::new(4);
    engine.handle_add(NewMember { timing: None, ..member(5, 1, Offset(0)) }, now(0));
    assert_eq!((engine.unsettled(), engine.poll_deadline()), (0, None));
    assert_eq!(engine.poll_job(now(60_000)), None);
    assert_eq!(engine.state(5).unwrap().health, Health::Unknown);
}

#[test]
fn a_cancelled_probe_lets_another_start() {
    let mut engine = engine(1, 1);
    let job = engine.poll_job(now(1_000)).unwrap();
    engine.handle_remove(0);
    engine.handle_cancelled(job);
    assert_eq!(engine.in_flight(), 0);
    assert_eq!(engine.snapshot().channels[0].inconclusive[ProberReason::Cancelled.index()], 1);
}

#[test]
fn a_resumed_member_goes_on_where_it_was() {
    let since = Timestamp(1_600_000_000_000_000_000);
    let kept = |health, failures| Resumed {
        health,
        from: match health {
            Health::Unknown => VerdictFrom::InitialState,
            _ => VerdictFrom::Check,
        },
        consecutive_successes: 0,
        consecutive_failures: failures,
        since,
        confirmed: ConfirmedAt::at(since),
    };
    let mut engine = engine(3, 10);
    engine.handle_resume(0, 1, kept(Health::Healthy, 2));
    engine.handle_resume(1, 1, kept(Health::Unknown, 2));
    engine.handle_resume(2, 7, kept(Health::Healthy, 0));
    assert_eq!(
        engine.unsettled(),
        2,
        "an unknown one is unsettled, one of another generation is not resumed"
    );
    assert_eq!(engine.state(0).map(|state| (state.health, state.since)), Some((Health::Healthy, since)));

    // The third failure in a row is the first one after the restart.
    let transitions = turn(&mut engine, now(1000), Outcome::Failure(MemberReason::Refused));
    let moved: Vec<_> = transitions.iter().map(|it| (it.slot, it.from, it.to)).collect();
    let expected = [(0, Health::Healthy, Health::Unhealthy), (1, Health::Unknown, Health::Unhealthy)];
    assert_eq!(moved, expected);
    assert_eq!(engine.unsettled(), 1);

    // It was probed already: that counts on.
    engine.handle_resume(2, 1, kept(Health::Healthy, 0));
    let state = engine.state(2).unwrap();
    assert_eq!((state.health, state.consecutive_failures), (Health::Healthy, 1));
    assert_eq!(state.confirmed, ConfirmedAt::at(now(1000).wall));
    engine.handle_resume(0, 1, kept(Health::Healthy, 0));
    let state = engine.state(0).unwrap();
    assert_eq!(state.health, Health::Unhealthy, "its check has reached a verdict already");
}

const SUCCESS: Outcome = Outcome::Success;
const FAILURE: Outcome = Outcome::Failure(MemberReason::Refused);
const INCONCLUSIVE: Outcome = Outcome::Inconclusive(ProberReason::LocalStall);

fn run(thresholds: Thresholds, initial: Health, results: &str) -> String {
    let mut state = MemberState::new(0, initial, Timestamp(0));
    let letters = results.chars().enumerate().map(|(at, letter)| {
        let outcome = match letter {
            's' => SUCCESS,
            'f' => FAILURE,
            _ => INCONCLUSIVE,
        };
        thresholds.judge(&mut state, outcome, Timestamp(at as u64));
        state.health.word().chars().next().unwrap()
    });
    letters.collect()
}

/// Every row is (normal, abnormal), the initial health, the results, and the
/// health after each: `u`nknown or `u`nhealthy are told apart by the row.
#[test]
fn every_state_meets_every_outcome() {
    let two_three = Thresholds { normal: 2, abnormal: 3 };
    let rows = [
        // From unknown the same thresholds apply.
        (two_three, Health::Unknown, "ss", "uh"),
        (two_three, Health::Unknown, "sfs", "uuu"),
        (two_three, Health::Unknown, "sfss", "uuuh"),
        // Interleaved results never trip a threshold (docs/health-checking.md, "Thresholds").
        (two_three, Health::Healthy, "fsfsfs", "hhhhhh"),
        (two_three, Health::Healthy, "fff", "hhu"),
        (two_three, Health::Healthy, "ffsff", "hhhhh"),
        (two_three, Health::Unhealthy, "sfs", "uuu"),
        (two_three, Health::Unhealthy, "ss", "uh"),
        // Inconclusive results neither count nor reset.
        (two_three, Health::Healthy, "ffiiif", "hhhhhu"),
        (two_three, Health::Unhealthy, "siiis", "uuuuh"),
        (two_three, Health::Unknown, "iiiii", "uuuuu"),
        // Thresholds of one follow each result.
        (Thresholds { normal: 1, abnormal: 1 }, Health::Unknown, "sfsfi", "huhuu"),
    ];
    for (thresholds, initial, results, expected) in rows {
        assert_eq!(run(thresholds, initial, results), expected, "{initial:?} {results}");
    }
}

#[test]
fn counts_and_time_of_a_transition() {
    let mut state = MemberState::new(7, Health::Unknown, Timestamp(1));
    let thresholds = Thresholds { normal: 1, abnormal: 2 };
    assert_eq!(thresholds.judge(&mut state, SUCCESS, Timestamp(2)), Some(Health::Unknown));
    assert_eq!(thresholds.judge(&mut state, FAILURE, Timestamp(3)), None);
    assert_eq!(state.since, Timestamp(2));
    assert_eq!(thresholds.judge(&mut state, FAILURE, Timestamp(4)), Some(Health::Healthy));
    assert_eq!((state.since, state.transitions), (Timestamp(4), [0, 1, 1]));
    assert_eq!((state.consecutive_successes, state.consecutive_failures), (0, 2));
}

proptest! {
    /// The model: look back at the conclusive results; the verdict is that of
    /// the last run that reached its threshold.
    #[test]
    fn agrees_with_looking_back(
        normal in 1u8..=10, abnormal in 1u8..=10, results in prop::collection::vec(0u8..3, 0..200),
    ) {
        let thresholds = Thresholds { normal, abnormal };
        let mut state = MemberState::new(0, Health::Unknown, Timestamp(0));
        let mut conclusive = Vec::new();
        for result in results {
            let outcome = [SUCCESS, FAILURE, INCONCLUSIVE][usize::from(result)];
            thresholds.judge(&mut state, outcome, Timestamp(0));
            if result < 2 {
                conclusive.push(result);
            }
            let expected = (1..=conclusive.len()).rev().find_map(|end| {
                let last = conclusive[end - 1];
                let run = conclusive[..end].iter().rev().take_while(|seen| **seen == last).count();
                match last {
                    0 if run >= usize::from(normal) => Some(Health::Healthy),
                    1 if run >= usize::from(abnormal) => Some(Health::Unhealthy),
                    _ => None,
                }
            });
            prop_assert_eq!(state.health, expected.unwrap_or(Health::Unknown));
        }
    }
}
