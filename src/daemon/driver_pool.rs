//! The drivers' threads: started once, told what to probe, joined at the end.
//!
//! [`super::control`] owns the pool and is the only sender of commands. [`super::observer`]
//! asks the drivers for snapshots.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Waker;
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::driver::{Driver, DriverRequest, Gauge, TransitionBatch};
use super::process;
use crate::catalog::{DriverCommand, MemberProbe};
use crate::health::DriverSnapshot;
use crate::probe::{self, EventQueue};

/// Requests waiting at a driver. Control and readers wait when it is full.
const REQUEST_QUEUE: usize = 64;

/// Commands carried out without a turn between them, so that a reload of many members
/// never holds up the probes that are due.
const COMMANDS_AT_ONCE: usize = 1_000;

/// One core makes tens of thousands of probes a second; more threads than this
/// only cost memory.
const MOST_DRIVERS: usize = 16;

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
    handles: Vec<DriverHandle>,
    threads: Vec<JoinHandle<()>>,
}

impl DriverPool {
    /// Starts one driver per core. Called in the runtime that outlives them.
    ///
    /// # Errors
    /// The system gave no thread or no event queue.
    pub fn start(
        clock: Clock,
        concurrency: usize,
        transitions: &mpsc::Sender<TransitionBatch>,
    ) -> std::io::Result<Self> {
        let drivers = thread::available_parallelism().map_or(1, usize::from).min(MOST_DRIVERS);
        let share = process::share(concurrency, drivers);
        let mut pool = Self { handles: Vec::new(), threads: Vec::new() };
        for number in (0_u16..).take(drivers) {
            let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
            let gauge = Arc::new(Gauge::default());
            let queue = EventQueue::open()?;
            let waker = queue.waker();
            let handle = DriverHandle { requests, waker: waker.clone(), gauge: Arc::clone(&gauge) };
            let mut driver =
                Driver::new(number, clock, share, request_queue, transitions.clone(), gauge, waker);
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
            pool.handles.push(handle);
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// The drivers, by number.
    #[must_use]
    pub fn handles(&self) -> &[DriverHandle] {
        &self.handles
    }

    /// Has every driver carry out its commands, and returns when all have. Drivers that
    /// are gone are passed over: the daemon is ending.
    pub async fn apply(&self, commands: Vec<Vec<DriverCommand<MemberProbe>>>) {
        let mut pending = Vec::new();
        for (handle, mut commands) in self.handles.iter().zip(commands) {
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
        for handle in &self.handles {
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
    pub async fn set_concurrency(&self, concurrency: usize) {
        let share = process::share(concurrency, self.handles.len());
        for handle in &self.handles {
            let _ = handle.send(DriverRequest::SetConcurrency(share)).await;
        }
    }

    /// Ends all drivers. Running probes are given up.
    pub async fn stop(self) {
        for handle in &self.handles {
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
