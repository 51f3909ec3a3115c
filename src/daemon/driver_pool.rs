//! The drivers' threads: started when they are needed, told what to probe, joined at the end.
//!
//! [`super::control`] owns the pool and is the only sender of commands. [`super::observer`]
//! asks the drivers for snapshots.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::Clock;
use super::driver::{Driver, DriverRequest, Gauge, TransitionBatch};
use super::process;
use crate::catalog::{DriverCommand, MemberProbe, Moving};
use crate::health::DriverSnapshot;
use crate::probe::{self, EventQueue};

/// Requests waiting at a driver. Control and readers wait when it is full.
const REQUEST_QUEUE: usize = 64;

/// Commands carried out without a turn between them, so that a reload of many members
/// never holds up the probes that are due.
const COMMANDS_AT_ONCE: usize = 1_000;

/// A driver, as other threads reach it.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    /// Bounded; full means that the driver is behind, and the sender waits.
    requests: mpsc::Sender<DriverRequest<MemberProbe>>,
    /// Ends the driver's sleep.
    waker: Waker,
    /// What can be seen without asking.
    pub gauge: Arc<Gauge>,
}

impl DriverHandle {
    /// Waits for room, then sends.
    ///
    /// # Errors
    /// The driver is gone.
    pub async fn send(&self, request: DriverRequest<MemberProbe>) -> Result<(), DriverGone> {
        self.requests.send(request).await.map_err(|_| DriverGone)?;
        self.waker.wake_by_ref();
        Ok(())
    }
}

/// The driver has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverGone;

/// All drivers and their threads.
#[derive(Debug)]
pub struct DriverPool {
    clock: Clock,
    transitions: mpsc::Sender<TransitionBatch>,
    /// The drivers, by number.
    handles: watch::Sender<Vec<DriverHandle>>,
    threads: Vec<JoinHandle<()>>,
    /// The first so many have members.
    in_use: usize,
    /// How many probes run at once over all drivers.
    concurrency: usize,
    /// What each driver was told of it.
    permits: Vec<usize>,
}

impl DriverPool {
    /// Starts so many drivers. Called in the runtime that outlives them.
    ///
    /// # Errors
    /// The system gave no thread or no event queue.
    pub fn start(
        clock: Clock,
        drivers: u16,
        concurrency: usize,
        transitions: mpsc::Sender<TransitionBatch>,
    ) -> std::io::Result<Self> {
        let handles = watch::Sender::new(Vec::new());
        let in_use = usize::from(drivers);
        let permits = Vec::new();
        let mut pool =
            Self { clock, transitions, handles, threads: Vec::new(), in_use, concurrency, permits };
        for _ in 0..drivers {
            pool.start_one(process::share(concurrency, in_use))?;
        }
        Ok(pool)
    }

    fn start_one(&mut self, permits: usize) -> std::io::Result<()> {
        let number = u16::try_from(self.threads.len()).unwrap_or(u16::MAX);
        let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
        let gauge = Arc::new(Gauge::default());
        gauge.note_progress(self.clock.now().monotonic);
        let queue = EventQueue::open()?;
        let waker = queue.waker();
        let handle = DriverHandle { requests, waker: waker.clone(), gauge: Arc::clone(&gauge) };
        let transitions = self.transitions.clone();
        let mut driver = Driver::new(number, self.clock, permits, request_queue, transitions, gauge, waker);
        // What a probe does beside its socket (a name's first answer, the
        // self-check) waits in the daemon's own runtime.
        let runtime = Handle::current();
        let thread = thread::Builder::new().name(format!("driver-{number}")).spawn(move || {
            let _in_runtime = runtime.enter();
            queue.install();
            while let ControlFlow::Continue(until) = driver.turn() {
                probe::wait_until(until);
            }
        })?;
        self.threads.push(thread);
        self.permits.push(permits);
        self.handles.send_modify(|handles| handles.push(handle));
        Ok(())
    }

    /// The drivers, by number, as there come to be more.
    #[must_use]
    pub fn handles(&self) -> watch::Receiver<Vec<DriverHandle>> {
        self.handles.subscribe()
    }

    /// Starts drivers until there are so many, and divides the permits among the first so many.
    ///
    /// # Errors
    /// The system gave no thread or no event queue; as many as before are in use.
    pub async fn set_in_use(&mut self, drivers: u16) -> std::io::Result<()> {
        let drivers = usize::from(drivers);
        while self.threads.len() < drivers {
            // More when the others have given theirs back.
            self.start_one(1)?;
        }
        self.in_use = drivers;
        self.share_permits().await;
        Ok(())
    }

    /// The processor time of each driver's thread so far.
    #[must_use]
    pub fn spent(&self) -> Vec<Duration> {
        self.handles.borrow().iter().map(|handle| handle.gauge.spent()).collect()
    }

    /// Takes members out of a driver that are at rest.
    pub async fn take_out(&self, driver: u16, slots: Vec<u32>) -> Vec<(u32, Moving<MemberProbe>)> {
        let handle = self.handles.borrow().get(usize::from(driver)).cloned();
        let Some(handle) = handle else { return Vec::new() };
        let (answer, taken) = oneshot::channel();
        let _ = handle.send(DriverRequest::TakeOut(slots, answer)).await;
        // One that is gone has nothing: the daemon is ending.
        taken.await.unwrap_or_default()
    }

    /// Has every driver carry out its commands, and returns when all have. Drivers that
    /// are gone are passed over: the daemon is ending.
    pub async fn apply(&self, commands: Vec<Vec<DriverCommand<MemberProbe>>>) {
        let mut pending = Vec::new();
        let handles = self.handles.borrow().clone();
        for (handle, mut commands) in handles.iter().zip(commands) {
            while !commands.is_empty() {
                let rest = commands.split_off(commands.len().min(COMMANDS_AT_ONCE));
                let (done, applied) = oneshot::channel();
                let next = std::mem::replace(&mut commands, rest);
                let _ = handle.send(DriverRequest::Apply(next, done)).await;
                pending.push(applied);
            }
        }
        for applied in pending {
            let _ = applied.await;
        }
    }

    /// What the drivers know, by number. One that is gone knows nothing: the daemon is
    /// ending.
    pub async fn snapshots(&self) -> Vec<DriverSnapshot> {
        let mut pending = Vec::new();
        let handles = self.handles.borrow().clone();
        for handle in &handles {
            let (answer, snapshot) = oneshot::channel();
            let _ = handle.send(DriverRequest::Snapshot(answer)).await;
            pending.push(snapshot);
        }
        let mut snapshots = Vec::new();
        for snapshot in pending {
            snapshots.push(snapshot.await.unwrap_or_else(|_| DriverSnapshot::empty()));
        }
        snapshots
    }

    /// Sets how many probes run at once over all drivers.
    pub async fn set_concurrency(&mut self, concurrency: usize) {
        self.concurrency = concurrency;
        self.share_permits().await;
    }

    /// Gives each driver its part of the permits. One gets less for now while others still run
    /// more than their part, because there were fewer drivers or more permits.
    pub async fn share_permits(&mut self) {
        let handles = self.handles.borrow().clone();
        let running: Vec<usize> = handles.iter().map(|handle| handle.gauge.in_flight()).collect();
        let permits = process::shares(self.concurrency, self.in_use, &running);
        for ((handle, before), now) in handles.iter().zip(&self.permits).zip(&permits) {
            if before != now {
                let _ = handle.send(DriverRequest::SetConcurrency(*now)).await;
            }
        }
        self.permits = permits;
    }

    /// Ends all drivers. Running probes are given up.
    pub async fn stop(self) {
        let handles = self.handles.borrow().clone();
        for handle in &handles {
            let _ = handle.send(DriverRequest::Stop).await;
        }
        let joined = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                // A driver that panicked has already said so on stderr.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}
