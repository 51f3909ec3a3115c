//! The driver on paused time with made-up probes.

use std::sync::Mutex;
use std::task::Wake;

use tokio::sync::Notify;

use super::*;
use crate::channel::Health;
use crate::health::schedule::{Cadence, Offset, OffsetAllotter, START_WINDOW};
use crate::health::{CheckTiming, MemberReason, NewMember, Outcome, Phases, Thresholds, Timestamp};

/// What a made-up probe does.
#[derive(Clone)]
enum Script {
    Answer(Outcome),
    TakeThenAnswer(Duration, Outcome),
    /// Nothing comes until the probe's time is over.
    Silent,
    Hang,
    Panic,
    /// The prober is away for this long while the probe waits in vain.
    StallThenTimeOut(Duration),
}

#[derive(Clone)]
struct FakeProbe {
    script: Arc<Mutex<Script>>,
    timeout: Duration,
    starts: Arc<Mutex<Vec<Instant>>>,
}

impl FakeProbe {
    fn new(script: Script) -> Self {
        Self { script: Arc::new(Mutex::new(script)), timeout: SECOND, starts: Arc::default() }
    }

    fn starts(&self) -> usize {
        self.starts.lock().unwrap().len()
    }
}

fn report(outcome: Outcome) -> Report {
    Report {
        outcome,
        phases: Phases::default(),
        total: Duration::from_millis(1),
        waited: Duration::ZERO,
        status: None,
        detail: "made up".into(),
        peer: None,
        address: None,
        certificate_not_after: None,
    }
}

impl Probe for FakeProbe {
    async fn run(self, time: Duration) -> Report {
        self.starts.lock().unwrap().push(Instant::now());
        let script = self.script.lock().unwrap().clone();
        match script {
            Script::Answer(outcome) => report(outcome),
            Script::TakeThenAnswer(duration, outcome) => {
                tokio::time::sleep(duration).await;
                report(outcome)
            }
            Script::Silent => {
                tokio::time::sleep(time).await;
                report(Outcome::Failure(MemberReason::ResponseTimeout))
            }
            Script::Hang => std::future::pending().await,
            Script::Panic => panic!("made to panic"),
            Script::StallThenTimeOut(duration) => {
                tokio::time::advance(duration).await;
                report(Outcome::Failure(MemberReason::ResponseTimeout))
            }
        }
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Ends the sleep of a driver that rests in the runtime.
#[derive(Default)]
struct Sleeper(Notify);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// What a driver's thread does, on paused time.
async fn run(mut driver: Driver<FakeProbe>, sleeper: Arc<Sleeper>) {
    while let ControlFlow::Continue(until) = driver.turn() {
        if until <= Instant::now() {
            tokio::task::yield_now().await;
        } else {
            let _ = tokio::time::timeout_at(until, sleeper.0.notified()).await;
        }
    }
}

struct Bench {
    sleeper: Arc<Sleeper>,
    requests: mpsc::Sender<DriverRequest<FakeProbe>>,
    transitions: mpsc::Receiver<TransitionBatch>,
    gauge: Arc<Gauge>,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn start(concurrency: usize) -> Self {
        let (requests, request_queue) = mpsc::channel(4);
        let (transition_queue, transitions) = mpsc::channel(1);
        let gauge = Arc::new(Gauge::default());
        let clock = Clock::simulated(Timestamp(1_700_000_000_000_000_000));
        let sleeper = Arc::new(Sleeper::default());
        let waker = Waker::from(Arc::clone(&sleeper));
        let seen = Arc::clone(&gauge);
        let driver = Driver::new(3, clock, concurrency, request_queue, transition_queue, gauge, waker);
        let task = tokio::spawn(run(driver, Arc::clone(&sleeper)));
        Self { sleeper, requests, transitions, gauge: seen, task }
    }

    async fn send(&self, request: DriverRequest<FakeProbe>) {
        self.requests.send(request).await.unwrap();
        self.sleeper.0.notify_one();
    }

    async fn apply(&self, commands: Vec<DriverCommand<FakeProbe>>) {
        let (done, applied) = oneshot::channel();
        self.send(DriverRequest::Apply(commands, done)).await;
        applied.await.unwrap();
    }

    async fn snapshot(&self) -> DriverSnapshot {
        let (answer, snapshot) = oneshot::channel();
        self.send(DriverRequest::Snapshot(answer)).await;
        snapshot.await.unwrap()
    }

    async fn stop(self) {
        self.send(DriverRequest::Stop).await;
        self.task.await.unwrap();
    }
}

fn member(slot: u32, generation: u32, interval: Duration) -> NewMember {
    let mut allotter = OffsetAllotter::new(1 << 60);
    let cadence = Cadence { interval, work: Duration::ZERO };
    let offset = (0..=slot).map(|_| allotter.allot(cadence).offset).last().unwrap_or(Offset(0));
    let thresholds = Thresholds { normal: 2, abnormal: 3 };
    let timing = CheckTiming { cadence, thresholds, offset, window: START_WINDOW };
    let (initial, continuity) = (Health::Unknown, Continuity::NewMember);
    NewMember { slot, generation, channel: 0, timing: Some(timing), initial, continuity }
}

fn assign(members: u32, interval: Duration, check: &FakeProbe) -> Vec<DriverCommand<FakeProbe>> {
    (0..members).map(|slot| DriverCommand::Assign(member(slot, 1, interval), Some(check.clone()))).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_hour_of_probes_keeps_the_cadence() {
    let bench = Bench::start(100);
    let check = FakeProbe::new(Script::TakeThenAnswer(Duration::from_millis(300), Outcome::Success));
    bench.apply(assign(4, SECOND, &check)).await;
    tokio::time::sleep(SECOND * 3_600).await;
    let snapshot = bench.snapshot().await;
    let counts: Vec<u64> = (0..4).map(|slot| snapshot.member(slot, 1).unwrap().counts.success).collect();
    assert!(counts.iter().all(|count| (3_599..=3_600).contains(count)), "{counts:?}");
    assert_eq!(snapshot.skipped, 0);
    let starts = check.starts.lock().unwrap().clone();
    let mut gaps: Vec<Duration> = starts.windows(5).map(|five| five[4] - five[0]).collect();
    gaps.dedup();
    // Timers are 1 ms; four members at once each second, start to start.
    assert!(gaps.iter().all(|gap| gap.as_millis().abs_diff(1_000) <= 1), "{gaps:?}");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn transitions_reach_control_with_their_reason() {
    let mut bench = Bench::start(100);
    let check = FakeProbe::new(Script::Answer(Outcome::Failure(MemberReason::Refused)));
    bench.apply(assign(1, SECOND, &check)).await;
    let (number, batch) = bench.transitions.recv().await.unwrap();
    assert_eq!((number, batch.len()), (3, 1));
    assert_eq!((batch[0].from, batch[0].to, batch[0].consecutive), (Health::Unknown, Health::Unhealthy, 3));
    assert_eq!(check.starts(), 3);
    assert_eq!(bench.gauge.unsettled(), 0);
    bench.stop().await;
}

/// The timeout is as long as the interval, so each probe ends when the next is due.
#[tokio::test(start_paused = true)]
async fn a_silent_member_is_probed_in_every_interval() {
    for interval in [100, 1_000, 30_000].map(Duration::from_millis) {
        let mut bench = Bench::start(100);
        let silent = FakeProbe { timeout: interval, ..FakeProbe::new(Script::Silent) };
        let began = Instant::now();
        bench.apply(assign(1, interval, &silent)).await;
        let (_, batch) = bench.transitions.recv().await.unwrap();
        let found = began.elapsed();
        assert_eq!((batch[0].to, batch[0].consecutive), (Health::Unhealthy, 3));
        // The first slot, two more, the timeout, and the timers of a runtime.
        let bound = interval * 4 + Duration::from_millis(10);
        assert!(found <= bound, "{interval:?}: found after {found:?}");
        tokio::time::sleep(interval * 100).await;
        let probes = silent.starts();
        assert!((102..=104).contains(&probes), "{interval:?}: {probes} probes");
        assert_eq!(bench.snapshot().await.skipped, 0, "{interval:?}");
        bench.stop().await;
    }
}

/// 300 members hang, and share 64 permits with 200 members that answer.
#[tokio::test(start_paused = true)]
async fn a_channel_that_hangs_delays_no_other() {
    let bench = Bench::start(64);
    let silent = FakeProbe::new(Script::Silent);
    let good = FakeProbe::new(Script::TakeThenAnswer(Duration::from_millis(3), Outcome::Success));
    let commands = assign(500, SECOND, &silent).into_iter().map(|command| match command {
        DriverCommand::Assign(member, _) if member.slot >= 300 => {
            DriverCommand::Assign(NewMember { channel: 1, ..member }, Some(good.clone()))
        }
        command => command,
    });
    bench.apply(commands.collect()).await;
    tokio::time::sleep(SECOND * 20).await;
    let snapshot = bench.snapshot().await;
    let counts: Vec<u64> = (300..500).map(|slot| snapshot.member(slot, 1).unwrap().counts.success).collect();
    assert!(counts.iter().all(|count| (19..=20).contains(count)), "{counts:?}");
    assert!(snapshot.waiting > 150 && snapshot.delayed > 0, "{} wait", snapshot.waiting);
    assert_eq!(snapshot.concurrency, 64);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn more_permits_start_everybody_who_waits() {
    let bench = Bench::start(1);
    let silent = FakeProbe { timeout: SECOND * 30, ..FakeProbe::new(Script::Silent) };
    bench.apply(assign(500, SECOND * 60, &silent)).await;
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!((silent.starts(), bench.snapshot().await.waiting), (1, 499));
    bench.send(DriverRequest::SetConcurrency(1_000)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((silent.starts(), bench.snapshot().await.waiting), (500, 0));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deaf_control_loses_no_verdict_and_stops_no_probe() {
    let mut bench = Bench::start(100);
    let check = FakeProbe::new(Script::Answer(Outcome::Success));
    bench.apply(assign(1, SECOND, &check)).await;
    // The queue holds one batch; three more transitions must wait and merge.
    for outcome in [Outcome::Success, Outcome::Failure(MemberReason::Reset), Outcome::Success] {
        *check.script.lock().unwrap() = Script::Answer(outcome);
        tokio::time::sleep(SECOND * 10).await;
    }
    *check.script.lock().unwrap() = Script::Answer(Outcome::Failure(MemberReason::Closed));
    tokio::time::sleep(SECOND * 10).await;
    assert!(check.starts() >= 39);
    let first = bench.transitions.recv().await.unwrap().1;
    assert_eq!((first[0].from, first[0].to), (Health::Unknown, Health::Healthy));
    let merged = bench.transitions.recv().await.unwrap().1;
    assert_eq!((merged.len(), merged[0].from, merged[0].to), (1, Health::Healthy, Health::Unhealthy));
    let state = bench.snapshot().await.member(0, 1).unwrap().clone();
    assert_eq!(state.transitions, [0, 2, 2], "every transition is counted, seen or not");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panicking_probe_ends_its_task_and_blames_nobody() {
    let bench = Bench::start(1);
    let check = FakeProbe::new(Script::Panic);
    bench.apply(assign(1, SECOND, &check)).await;
    tokio::time::sleep(SECOND * 5).await;
    let snapshot = bench.snapshot().await;
    let state = snapshot.member(0, 1).unwrap();
    assert_eq!((state.counts.inconclusive, state.health), (5, Health::Unknown));
    assert_eq!(state.last.as_ref().unwrap().detail, "the probe panicked: made to panic");
    assert_eq!(snapshot.in_flight, 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_driver_waits_for_a_result_without_spinning() {
    let bench = Bench::start(2);
    let check = FakeProbe::new(Script::TakeThenAnswer(SECOND * 10, Outcome::Success));
    bench.apply(assign(50, SECOND, &check)).await;
    // On paused time a spinning loop would never let the clock move on.
    tokio::time::sleep(SECOND * 100).await;
    let snapshot = bench.snapshot().await;
    assert!((18..=22).contains(&check.starts()), "{} probes in 100 s", check.starts());
    assert!(snapshot.skipped > 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn removing_or_changing_a_member_gives_up_its_probe() {
    let bench = Bench::start(2);
    let check = FakeProbe::new(Script::Hang);
    bench.apply(assign(2, SECOND, &check)).await;
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(bench.snapshot().await.in_flight, 2);
    let steady = FakeProbe::new(Script::Answer(Outcome::Success));
    let changed = DriverCommand::Assign(member(1, 2, SECOND), Some(steady.clone()));
    bench.apply(vec![DriverCommand::Remove(0), changed]).await;
    tokio::time::sleep(SECOND * 2).await;
    let snapshot = bench.snapshot().await;
    assert_eq!(snapshot.channels[0].inconclusive[ProberReason::Cancelled.index()], 2);
    assert_eq!((snapshot.member(1, 2).unwrap().counts.success, steady.starts()), (2, 2));
    bench.stop().await;
}

/// A member may change in the very moment in which its probe ends.
#[tokio::test(start_paused = true)]
async fn every_probe_is_counted_however_members_change() {
    let bench = Bench::start(2);
    let take = Duration::from_millis(100);
    let check = FakeProbe::new(Script::TakeThenAnswer(take, Outcome::Success));
    for generation in 1..60 {
        let starts = check.starts();
        bench.apply(vec![DriverCommand::Assign(member(0, generation, SECOND), Some(check.clone()))]).await;
        while check.starts() == starts {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(take - Duration::from_millis(1)).await;
        for _ in 0..generation % 4 {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
    tokio::time::sleep(take * 2).await;
    let snapshot = bench.snapshot().await;
    assert_eq!(snapshot.in_flight, 0);
    let cancelled = snapshot.channels[0].inconclusive[ProberReason::Cancelled.index()];
    let counted = snapshot.member(0, 59).unwrap().counts.success + cancelled;
    assert_eq!(counted, check.starts() as u64, "{cancelled} of them cancelled");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refreshed_check_keeps_verdict_and_offset() {
    let bench = Bench::start(2);
    let old = FakeProbe::new(Script::Answer(Outcome::Success));
    bench.apply(assign(1, SECOND, &old)).await;
    tokio::time::sleep(SECOND * 5).await;
    let new = FakeProbe::new(Script::Answer(Outcome::Success));
    bench.apply(vec![DriverCommand::Refresh(0, Thresholds { normal: 2, abnormal: 3 }, new.clone())]).await;
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!((old.starts(), new.starts()), (5, 5));
    assert_eq!(bench.snapshot().await.member(0, 1).unwrap().consecutive_successes, 10);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_prober_moves_no_verdict_and_bursts_at_nobody() {
    let bench = Bench::start(100);
    let check = FakeProbe::new(Script::Answer(Outcome::Success));
    bench.apply(assign(20, SECOND, &check)).await;
    tokio::time::sleep(SECOND * 5).await;
    *check.script.lock().unwrap() = Script::StallThenTimeOut(SECOND * 30);
    let before = check.starts();
    // One probe meets the stall; all others find their slots long gone.
    while check.starts() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    *check.script.lock().unwrap() = Script::Answer(Outcome::Success);
    let at_wake = check.starts();
    assert!(at_wake - before <= 2, "{} probes around the stall", at_wake - before);
    tokio::time::sleep(SECOND).await;
    assert!(
        (19..=21).contains(&(check.starts() - at_wake)),
        "{} in the next second",
        check.starts() - at_wake
    );
    let snapshot = bench.snapshot().await;
    let states: Vec<_> = (0..20).map(|slot| snapshot.member(slot, 1).unwrap()).collect();
    assert!(states.iter().all(|state| state.health == Health::Healthy && state.counts.failure == 0));
    assert!(snapshot.channels[0].inconclusive[ProberReason::LocalStall.index()] >= 1);
    assert!(snapshot.skipped >= 20 * 29, "{} slots skipped", snapshot.skipped);
    bench.stop().await;
}
