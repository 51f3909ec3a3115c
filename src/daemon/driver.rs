//! One driver: owns a part of the members, and probes them on a thread of its own.
//!
//! A driver works in turns. In a turn it answers requests, collects finished probes,
//! starts those that are due, and hands verdicts on; the turn returns until when the
//! thread may sleep. A member at rest is data in the engine: it has no task and no
//! timer. Running probes are polled inside the turn, see `executor`.
//!
//! [`super::driver_pool`] calls the turns and sleeps in the thread's event queue between
//! them. Unit tests sleep in a runtime on paused time instead, and probe with a made-up
//! [`Probe`].

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::clock::Clock;
use super::executor::{Ended, Executor, Started};
use crate::catalog::{DriverCommand, MemberProbe, Moving};
use crate::channel::Continuity;
use crate::health::time::nanos;
use crate::health::{DriverSnapshot, Engine, Job, MonotonicTime, Now, ProberReason, Report, Transition};
use crate::probe;
use crate::probe::stall::{self, HEARTBEAT, StallMeter, StalledTime};

/// An idle driver still takes a turn this often, to show that it lives.
const IDLE_BEAT: Duration = Duration::from_secs(2);

/// How often it reads its thread's processor time, which takes a system call.
const SPENT_EVERY: Duration = Duration::from_millis(250);

/// At most so many probes are started before the driver looks at answers again:
/// after a standstill thousands may be due.
const STARTS_AT_ONCE: usize = 64;

/// How one member is probed: cheap to clone, run once per probe.
pub trait Probe: Clone + Send + 'static {
    /// One probe. Must end by itself soon after `time`, which is its timeout or a little
    /// less ([`Engine::time_limit`]).
    fn run(self, time: Duration) -> impl Future<Output = Report> + Send + 'static;

    /// The deadline of one probe, by which stalls are judged.
    fn timeout(&self) -> Duration;

    /// Goes on with what `before`, the probe of the same slot until now, has learnt of the
    /// member.
    fn succeed(&self, _before: &Self) {}
}

impl Probe for MemberProbe {
    async fn run(self, time: Duration) -> Report {
        probe::run_within(time, &self.plan, &self.target).await
    }

    fn timeout(&self) -> Duration {
        self.plan.timeout()
    }

    fn succeed(&self, before: &Self) {
        self.target.succeed(&before.target);
    }
}

/// What control and readers ask of a driver.
#[derive(Debug)]
pub enum DriverRequest<P> {
    /// Apply these in order, then answer.
    Apply(Vec<DriverCommand<P>>, oneshot::Sender<()>),
    /// Give up those of these members that are at rest, which go to another driver, and answer
    /// with them, by slot.
    TakeOut(Vec<u32>, oneshot::Sender<Vec<(u32, Moving<P>)>>),
    /// Show everything.
    Snapshot(oneshot::Sender<DriverSnapshot>),
    /// Run at most so many probes at once from now on.
    SetConcurrency(usize),
    /// Give up running probes and end.
    Stop,
}

/// What others may see of a driver without asking it.
#[derive(Debug, Default)]
pub struct Gauge {
    progress: AtomicU64,
    unsettled: AtomicUsize,
    in_flight: AtomicUsize,
    spent: AtomicU64,
}

impl Gauge {
    /// The driver begins a turn, or is about to be started.
    pub fn note_progress(&self, now: MonotonicTime) {
        self.progress.store(now.0, Ordering::Relaxed);
    }

    /// When the driver last began a turn.
    #[must_use]
    pub fn progress(&self) -> MonotonicTime {
        MonotonicTime(self.progress.load(Ordering::Relaxed))
    }

    /// Its probed members without a verdict.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Relaxed)
    }

    /// Its probes that ran at the end of its last turn.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The processor time of its thread, as of a moment ago.
    #[must_use]
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }
}

/// Transitions of one turn, with the driver's number.
pub type TransitionBatch = (u16, Vec<Transition>);

/// See the file's head.
pub struct Driver<P> {
    number: u16,
    clock: Clock,
    engine: Engine,
    /// By slot.
    slots: Vec<DriverSlot<P>>,
    executor: Executor<Running>,
    stalls: StallMeter,
    requests: mpsc::Receiver<DriverRequest<P>>,
    transitions: mpsc::Sender<TransitionBatch>,
    /// Transitions control had no room for: the latest of each slot, so at most
    /// one a member. Offered again every turn.
    pending: BTreeMap<u32, Transition>,
    gauge: Arc<Gauge>,
    /// When to read the thread's processor time again.
    next_spent: MonotonicTime,
}

/// What the driver, rather than its engine, knows of a slot.
#[derive(Clone)]
struct DriverSlot<P> {
    /// None: the slot is free, or its member is not probed.
    probe: Option<P>,
    /// The executor's task in which its probe runs, if one does.
    task: Option<u32>,
}

struct Running {
    job: Job,
    started: Now,
    stalled_before: StalledTime,
    timeout: Duration,
}

impl<P: Probe> Driver<P> {
    /// A driver without members, which `waker` wakes between its turns. `requests` and
    /// `transitions` are bounded: a full request queue makes control wait; a full
    /// transition queue makes the driver keep the latest transition of each member and
    /// go on probing.
    #[must_use]
    pub fn new(
        number: u16,
        clock: Clock,
        concurrency: usize,
        requests: mpsc::Receiver<DriverRequest<P>>,
        transitions: mpsc::Sender<TransitionBatch>,
        gauge: Arc<Gauge>,
        waker: Waker,
    ) -> Self {
        Self {
            number,
            clock,
            engine: Engine::new(concurrency).of_driver(number),
            slots: Vec::new(),
            executor: Executor::new(waker),
            stalls: StallMeter::default(),
            requests,
            transitions,
            pending: BTreeMap::new(),
            gauge,
            next_spent: MonotonicTime(0),
        }
    }

    /// Takes one turn. Says until when to sleep, unless the waker wakes the driver
    /// before; breaks after [`DriverRequest::Stop`] or when control is gone.
    pub fn turn(&mut self) -> ControlFlow<(), Instant> {
        let began = self.clock.now().monotonic;
        self.gauge.note_progress(began);
        self.note_spent(began);
        self.stalls.handle_wake(began);
        if let Some(suspended) = self.clock.suspended() {
            self.stalls.handle_suspended(suspended);
        }
        stall::set_total(self.stalls.stalled_at(began).total);
        self.handle_requests()?;
        while let Some(ended) = self.executor.next_ended() {
            self.handle_ended(ended);
        }
        self.start_due();
        self.offer_transitions();
        self.gauge.unsettled.store(self.engine.unsettled(), Ordering::Relaxed);
        self.gauge.in_flight.store(self.engine.in_flight(), Ordering::Relaxed);

        let now = self.clock.now().monotonic;
        let beat = now + if self.engine.in_flight() > 0 { HEARTBEAT } else { IDLE_BEAT };
        let wake_at = self.engine.poll_deadline().map_or(beat, |deadline| deadline.min(beat));
        self.stalls.handle_sleep(now, wake_at);
        let until = if self.executor.is_any_ready() { now } else { wake_at };
        ControlFlow::Continue(self.clock.instant(until))
    }

    fn note_spent(&mut self, now: MonotonicTime) {
        if now >= self.next_spent {
            self.next_spent = now + SPENT_EVERY;
            if let Some(spent) = self.clock.thread_time() {
                self.gauge.spent.store(nanos(spent), Ordering::Relaxed);
            }
        }
    }

    fn handle_requests(&mut self) -> ControlFlow<()> {
        loop {
            match self.requests.try_recv() {
                Ok(request) => self.handle_request(request)?,
                Err(TryRecvError::Empty) => return ControlFlow::Continue(()),
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
        }
    }

    fn handle_request(&mut self, request: DriverRequest<P>) -> ControlFlow<()> {
        match request {
            DriverRequest::Apply(commands, done) => {
                for command in commands {
                    self.handle_command(command);
                }
                self.gauge.unsettled.store(self.engine.unsettled(), Ordering::Relaxed);
                // Nobody listens any more: control has gone on without us.
                let _ = done.send(());
            }
            DriverRequest::TakeOut(slots, answer) => {
                let taken = slots.into_iter().filter_map(|slot| Some((slot, self.take_out(slot)?)));
                // Nobody listens any more: the daemon is ending.
                let _ = answer.send(taken.collect());
            }
            DriverRequest::Snapshot(answer) => {
                let _ = answer.send(self.engine.snapshot());
            }
            DriverRequest::SetConcurrency(concurrency) => self.engine.handle_concurrency(concurrency),
            DriverRequest::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn handle_command(&mut self, command: DriverCommand<P>) {
        match command {
            DriverCommand::Assign(member, probe) => {
                // A running probe that asks what is still asked counts.
                if member.continuity != Continuity::Kept {
                    self.abort(member.slot);
                }
                self.set_probe(member.slot, probe);
                self.engine.handle_add(member, self.clock.now());
            }
            DriverCommand::Refresh(slot, thresholds, probe) => {
                self.set_probe(slot, Some(probe));
                self.engine.handle_thresholds(slot, thresholds);
            }
            DriverCommand::Resume(slot, generation, resumed) => {
                self.engine.handle_resume(slot, generation, resumed);
            }
            DriverCommand::PutIn(slot, generation, moving) => {
                let Moving { member, probe, pending } = *moving;
                self.set_probe(slot, probe);
                self.engine.handle_put_in(slot, generation, member);
                if let Some(transition) = pending {
                    self.keep(Transition { slot, generation, ..transition });
                }
            }
            DriverCommand::Remove(slot) => {
                self.abort(slot);
                self.pending.remove(&slot);
                self.set_probe(slot, None);
                self.engine.handle_remove(slot);
            }
            DriverCommand::ResetChannel(channel) => self.engine.handle_channel_reset(channel),
        }
    }

    fn set_probe(&mut self, slot: u32, probe: Option<P>) {
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, DriverSlot { probe: None, task: None });
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let (Some(before), Some(probe)) = (&slot.probe, &probe) {
            probe.succeed(before);
        }
        slot.probe = probe;
    }

    fn take_out(&mut self, slot: u32) -> Option<Moving<P>> {
        let member = self.engine.handle_take_out(slot)?;
        let probe = self.slots.get_mut(slot as usize).and_then(|slot| slot.probe.take());
        Some(Moving { member, probe, pending: self.pending.remove(&slot) })
    }

    /// Gives up the running probe of a slot.
    fn abort(&mut self, slot: u32) {
        let task = self.slots.get_mut(slot as usize).and_then(|slot| slot.task.take());
        if let Some(running) = task.and_then(|task| self.executor.cancel(task)) {
            self.engine.handle_cancelled(running.job);
        }
    }

    fn start_due(&mut self) {
        for _ in 0..STARTS_AT_ONCE {
            let now = self.clock.now();
            let Some(job) = self.engine.poll_job(now) else { return };
            let probe = self.slots.get(job.slot as usize).and_then(|slot| slot.probe.clone());
            let Some(probe) = probe else {
                let report = Report::inconclusive(ProberReason::Internal, "a due member without a check");
                self.engine.handle_report(job, report, now, now);
                continue;
            };
            let timeout = probe.timeout();
            let stalled_before = self.stalls.stalled_at(now.monotonic);
            stall::set_total(stalled_before.total);
            let running = Running { job, started: now, stalled_before, timeout };
            let time = self.engine.time_limit(job, timeout, now);
            match self.executor.start(probe.run(time), running) {
                Started::Ended(ended) => self.handle_ended(ended),
                Started::Running(task) => {
                    if let Some(slot) = self.slots.get_mut(job.slot as usize) {
                        slot.task = Some(task);
                    }
                }
            }
        }
    }

    fn handle_ended(&mut self, ended: Ended<Running>) {
        let Ended { about: running, report } = ended;
        if let Some(slot) = self.slots.get_mut(running.job.slot as usize) {
            slot.task = None;
        }
        if !self.engine.is_current(running.job) {
            // Its member changed as it ended: it was a probe, of another check.
            return self.engine.handle_cancelled(running.job);
        }
        let report = report.unwrap_or_else(|panic| Report::inconclusive(ProberReason::Internal, panic));
        let now = self.clock.now();
        let stalled = self.stalls.stalled_at(now.monotonic).since(running.stalled_before);
        let report = stall::excuse(report, running.timeout, stalled);
        let moved = self.engine.handle_report(running.job, report, running.started, now);
        if let Some(transition) = moved {
            self.keep(transition);
        }
    }

    /// Keeps a transition until control takes it. One that control has not taken yet is
    /// merged with its successor: control learns the latest verdict and where it
    /// started from.
    fn keep(&mut self, mut transition: Transition) {
        if let Some(unseen) = self.pending.remove(&transition.slot)
            && unseen.generation == transition.generation
        {
            transition.from = unseen.from;
        }
        if transition.from != transition.to {
            self.pending.insert(transition.slot, transition);
        }
    }

    fn offer_transitions(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let Ok(permit) = self.transitions.try_reserve() else { return };
        permit.send((self.number, std::mem::take(&mut self.pending).into_values().collect()));
    }
}

#[cfg(test)]
mod tests;
