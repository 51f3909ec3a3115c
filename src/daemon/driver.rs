//! One driver: a thread with its own runtime that owns a part of the members.
//!
//! Each turn it applies commands, collects finished probes, starts what is due,
//! and hands transitions on; then it sleeps until the next deadline or event. A
//! member at rest is data in the engine: it has no task and no timer. Running
//! probes are polled in the driver's own task, see `probes`.
//!
//! In the daemon a driver sleeps in an event queue of its own; see [`probe::EventQueue`].
//! Generic over [`Check`], and able to sleep in a runtime, so that tests run
//! simulated hours with made-up probes.
//!
//! Called by [`super::control`], the only sender of commands.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::probes::{Ended, Probes, Started};
use super::stall::{self, Absence, HEARTBEAT, StallMeter};
use crate::catalog::DriverCommand;
use crate::health::schedule::AHEAD;
use crate::health::{DriverSnapshot, Engine, Job, Moment, Now, ProberReason, Report, Transition};
use crate::probe::{self, absence};

/// An idle driver still takes a turn this often, to show that it lives.
const IDLE_BEAT: Duration = Duration::from_millis(500);

/// At most so many probes are started before the driver looks at answers again:
/// after a standstill thousands may be due.
const STARTS_AT_ONCE: usize = 64;

/// How one member is probed: cheap to clone, run once per probe.
pub trait Check: Clone + Send + 'static {
    /// One probe. Must end by itself soon after its timeout.
    fn run(self) -> impl Future<Output = Report> + Send + 'static;

    /// The deadline of one probe, for the stall judgement.
    fn timeout(&self) -> Duration;
}

/// What control asks of a driver.
#[derive(Debug)]
pub enum Command<C> {
    /// Apply these in order, then answer.
    Apply(Vec<DriverCommand<C>>, oneshot::Sender<()>),
    /// Show everything.
    Snapshot(oneshot::Sender<DriverSnapshot>),
    /// Run at most so many probes at once from now on.
    Places(usize),
    /// Give up running probes and end.
    Stop,
}

/// What others may see of a driver without asking it.
#[derive(Debug, Default)]
pub struct Gauge {
    progress: AtomicU64,
    unsettled: AtomicUsize,
}

impl Gauge {
    /// When the driver last began a turn.
    #[must_use]
    pub fn progress(&self) -> Moment {
        Moment(self.progress.load(Ordering::Relaxed))
    }

    /// Its probed members without a verdict.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Relaxed)
    }
}

/// Transitions of one turn, with the driver's number.
pub type TransitionBatch = (u16, Vec<Transition>);

/// The loop's parts; see the file's head.
pub struct Driver<C> {
    number: u16,
    clock: Clock,
    engine: Engine,
    /// By slot.
    seats: Vec<Seat<C>>,
    probes: Probes<Running>,
    stalls: StallMeter,
    commands: mpsc::Receiver<Command<C>>,
    transitions: mpsc::Sender<TransitionBatch>,
    /// Transitions control had no room for: the latest of each slot, so at most
    /// one a member. Offered again every turn.
    pending: BTreeMap<u32, Transition>,
    gauge: Arc<Gauge>,
    rest: Rest,
}

/// What the driver sleeps in between its turns.
enum Rest {
    /// The runtime whose task it is: tests on paused time.
    Runtime,
    /// The event queue of its own thread.
    EventQueue,
}

/// What the driver, rather than its engine, knows of a slot.
#[derive(Clone)]
struct Seat<C> {
    /// None: nobody sits there, or it is not probed.
    check: Option<C>,
    /// Where its probe runs, if one does.
    place: Option<u32>,
}

struct Running {
    job: Job,
    channel: u32,
    started: Now,
    absent_before: Absence,
    timeout: Duration,
}

enum Turn {
    Continue,
    Stop,
}

impl<C: Check> Driver<C> {
    /// A driver without members. `commands` and `transitions` are bounded: a full
    /// command queue makes control wait; a full transition queue makes the driver
    /// keep the latest transition of each member and go on probing.
    #[must_use]
    pub fn new(
        number: u16,
        clock: Clock,
        places: usize,
        commands: mpsc::Receiver<Command<C>>,
        transitions: mpsc::Sender<TransitionBatch>,
        gauge: Arc<Gauge>,
    ) -> Self {
        Self {
            number,
            clock,
            engine: Engine::new(places).ahead_by(AHEAD),
            seats: Vec::new(),
            probes: Probes::default(),
            stalls: StallMeter::default(),
            commands,
            transitions,
            pending: BTreeMap::new(),
            gauge,
            rest: Rest::Runtime,
        }
    }

    /// The same on a thread with an event queue ([`probe::EventQueue`]), where
    /// [`Driver::run`] blocks the thread instead of being pending. `bell` ends its
    /// wait from other threads; whoever sends a command rings it.
    #[must_use]
    pub fn on_event_queue(self, bell: Waker) -> Self {
        Self { rest: Rest::EventQueue, probes: Probes::with_bell(bell), ..self }
    }

    /// Runs until [`Command::Stop`] or until control is gone.
    pub async fn run(mut self) {
        loop {
            let woke = self.clock.now();
            self.gauge.progress.store(woke.moment.0, Ordering::Relaxed);
            self.handle_wake(woke.moment);
            if let Turn::Stop = self.handle_commands() {
                return;
            }
            self.collect_ended();
            self.start_due();
            self.offer_transitions();
            self.gauge.unsettled.store(self.engine.unsettled(), Ordering::Relaxed);

            let now = self.clock.now().moment;
            let beat = now + if self.engine.in_flight() > 0 { HEARTBEAT } else { IDLE_BEAT };
            let wake_at = self.engine.poll_deadline().map_or(beat, |deadline| deadline.min(beat));
            self.stalls.handle_sleep(now, wake_at);
            let turn = match self.rest {
                Rest::Runtime => self.rest_in_runtime(now, wake_at).await,
                Rest::EventQueue => {
                    let is_any_woken = self.probes.is_any_woken();
                    probe::wait_until(self.clock.instant(if is_any_woken { now } else { wake_at }));
                    Turn::Continue
                }
            };
            if let Turn::Stop = turn {
                return;
            }
        }
    }

    async fn rest_in_runtime(&mut self, now: Moment, wake_at: Moment) -> Turn {
        if wake_at <= now {
            // More is due: let the runtime look at the sockets, then go on.
            tokio::task::yield_now().await;
            return Turn::Continue;
        }
        tokio::select! {
            // Cancel-safe: mpsc::recv loses nothing when dropped.
            command = self.commands.recv() => {
                self.handle_wake(self.clock.now().moment);
                return command.map_or(Turn::Stop, |command| self.handle_command(command));
            }
            // Cancel-safe: see there.
            ended = self.probes.ended() => {
                self.handle_wake(self.clock.now().moment);
                self.handle_ended(ended);
            }
            // Cancel-safe: a sleep holds nothing.
            () = tokio::time::sleep_until(self.clock.instant(wake_at)) => {}
        }
        Turn::Continue
    }

    fn collect_ended(&mut self) {
        while let Some(ended) = self.probes.next_ended() {
            self.handle_ended(ended);
        }
    }

    fn handle_wake(&mut self, now: Moment) {
        self.stalls.handle_wake(now);
        self.stalls.handle_suspended(self.clock.suspended());
        absence::set_total(self.stalls.absence_at(now).total);
    }

    fn handle_commands(&mut self) -> Turn {
        loop {
            match self.commands.try_recv() {
                Ok(command) => {
                    if let Turn::Stop = self.handle_command(command) {
                        return Turn::Stop;
                    }
                }
                Err(TryRecvError::Empty) => return Turn::Continue,
                Err(TryRecvError::Disconnected) => return Turn::Stop,
            }
        }
    }

    fn handle_command(&mut self, command: Command<C>) -> Turn {
        match command {
            Command::Apply(changes, done) => {
                for change in changes {
                    self.handle_change(change);
                }
                self.gauge.unsettled.store(self.engine.unsettled(), Ordering::Relaxed);
                // Nobody listens any more: control has gone on without us.
                let _ = done.send(());
            }
            Command::Snapshot(answer) => {
                let _ = answer.send(self.engine.snapshot());
            }
            Command::Places(places) => self.engine.handle_places(places),
            Command::Stop => return Turn::Stop,
        }
        Turn::Continue
    }

    fn handle_change(&mut self, change: DriverCommand<C>) {
        match change {
            DriverCommand::Assign(member, check) => {
                self.abort(member.slot);
                let index = member.slot as usize;
                if self.seats.len() <= index {
                    self.seats.resize(index + 1, Seat { check: None, place: None });
                }
                if let Some(seat) = self.seats.get_mut(index) {
                    seat.check = check;
                }
                self.engine.handle_add(member, self.clock.now());
            }
            DriverCommand::Refresh(slot, check) => {
                if let Some(seat) = self.seats.get_mut(slot as usize) {
                    seat.check = Some(check);
                }
            }
            DriverCommand::Resume(slot, generation, resumed) => {
                self.engine.handle_resume(slot, generation, resumed);
            }
            DriverCommand::Remove(slot) => {
                self.abort(slot);
                self.pending.remove(&slot);
                if let Some(seat) = self.seats.get_mut(slot as usize) {
                    seat.check = None;
                }
                self.engine.handle_remove(slot);
            }
            DriverCommand::ResetChannel(channel) => self.engine.handle_channel_reset(channel),
        }
    }

    /// Gives up the running probe of a slot.
    fn abort(&mut self, slot: u32) {
        let place = self.seats.get_mut(slot as usize).and_then(|seat| seat.place.take());
        if let Some(running) = place.and_then(|place| self.probes.cancel(place)) {
            self.engine.handle_cancelled(running.channel);
        }
    }

    fn start_due(&mut self) {
        for _ in 0..STARTS_AT_ONCE {
            let now = self.clock.now();
            let Some(job) = self.engine.poll_job(now) else { return };
            let check = self.seats.get(job.slot as usize).and_then(|seat| seat.check.clone());
            let (Some(check), Some(channel)) = (check, self.engine.channel_of(job.slot)) else {
                let report = Report::inconclusive(ProberReason::Internal, "a due member without a check");
                self.engine.handle_report(job, report, now, now);
                continue;
            };
            let timeout = check.timeout();
            let absent_before = self.stalls.absence_at(now.moment);
            absence::set_total(absent_before.total);
            let running = Running { job, channel, started: now, absent_before, timeout };
            match self.probes.start(check.run(), running) {
                Started::Ended(ended) => self.handle_ended(ended),
                Started::Running(place) => {
                    if let Some(seat) = self.seats.get_mut(job.slot as usize) {
                        seat.place = Some(place);
                    }
                }
            }
        }
    }

    fn handle_ended(&mut self, ended: Ended<Running>) {
        let Ended { about: running, report } = ended;
        if let Some(seat) = self.seats.get_mut(running.job.slot as usize) {
            seat.place = None;
        }
        if !self.engine.is_current(running.job) {
            // Its member changed as it ended: it was a probe, of another check.
            return self.engine.handle_cancelled(running.channel);
        }
        let report = report.unwrap_or_else(|panic| Report::inconclusive(ProberReason::Internal, panic));
        let now = self.clock.now();
        let absent = self.stalls.absence_at(now.moment).since(running.absent_before);
        let report = stall::excuse(report, running.timeout, absent);
        let moved = self.engine.handle_report(running.job, report, running.started, now);
        if let Some(transition) = moved {
            self.keep(transition);
        }
    }

    /// Keeps a transition until control takes it. One that nobody has seen yet is
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
#[path = "driver/tests.rs"]
mod tests;
