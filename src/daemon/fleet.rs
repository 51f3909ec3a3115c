//! The drivers' threads: started once, told of changes, joined at the end.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::driver::{Check, Command, Driver, Gauge, TransitionBatch};
use super::limits;
use super::observer::{CommandSender, DriverHandle};
use crate::catalog::{DriverCommand, MemberProbe};
use crate::health::Report;
use crate::probe::{self, EventQueue};

/// Commands waiting at a driver. Control and readers wait when it is full.
const COMMAND_QUEUE: usize = 64;

/// Changes applied without a turn between them, so that a reload of many members
/// never holds up the probes that are due.
const CHANGES_AT_ONCE: usize = 1_000;

/// One core makes tens of thousands of probes a second; more threads than this
/// only cost memory.
const MOST_DRIVERS: usize = 16;

impl Check for MemberProbe {
    async fn run(self) -> Report {
        probe::run(&self.plan, &self.target).await
    }

    fn timeout(&self) -> Duration {
        self.plan.timeout()
    }
}

/// All drivers and their threads.
#[derive(Debug)]
pub struct Fleet {
    handles: Vec<DriverHandle>,
    threads: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Starts one driver per core. Called in the runtime that outlives them.
    ///
    /// # Errors
    /// The system gave no thread or no event queue.
    pub fn start(
        clock: Clock,
        places: usize,
        transitions: &mpsc::Sender<TransitionBatch>,
    ) -> std::io::Result<Self> {
        let drivers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_DRIVERS);
        let mut fleet = Self { handles: Vec::new(), threads: Vec::new() };
        for number in 0..drivers {
            let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
            let gauge = Arc::new(Gauge::default());
            let queue = EventQueue::open()?;
            let bell = queue.bell()?;
            let transitions = transitions.clone();
            let share = limits::share(places, drivers);
            let commands = CommandSender { commands, bell: bell.clone() };
            let handle = DriverHandle { commands, gauge: Arc::clone(&gauge) };
            // What a probe does beside its socket (a name's first answer, the
            // self-check) waits in the daemon's own runtime.
            let runtime = Handle::current();
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let thread = std::thread::Builder::new().name(format!("driver-{number}")).spawn(move || {
                queue.install();
                let driver = Driver::new(number, clock, share, command_queue, transitions, gauge)
                    .on_event_queue(bell.waker_for_this_thread());
                runtime.block_on(driver.run());
            })?;
            fleet.handles.push(handle);
            fleet.threads.push(thread);
        }
        Ok(fleet)
    }

    /// The drivers, by number.
    #[must_use]
    pub fn handles(&self) -> &[DriverHandle] {
        &self.handles
    }

    /// Has every driver apply its changes, and returns when all have. Drivers that
    /// are gone are passed over: the daemon is ending.
    pub async fn apply(&self, changes: Vec<Vec<DriverCommand<MemberProbe>>>) {
        let mut pending = Vec::new();
        for (handle, mut changes) in self.handles.iter().zip(changes) {
            while !changes.is_empty() {
                let rest = changes.split_off(changes.len().min(CHANGES_AT_ONCE));
                let (done, applied) = oneshot::channel();
                let _ =
                    handle.commands.send(Command::Apply(std::mem::replace(&mut changes, rest), done)).await;
                pending.push(applied);
            }
        }
        for applied in pending {
            let _ = applied.await;
        }
    }

    /// Sets how many probes run at once over all drivers.
    pub async fn set_places(&self, places: usize) {
        let share = limits::share(places, self.handles.len());
        for handle in &self.handles {
            let _ = handle.commands.send(Command::Places(share)).await;
        }
    }

    /// Ends all drivers. Running probes are given up.
    pub async fn stop(self) {
        for handle in &self.handles {
            let _ = handle.commands.send(Command::Stop).await;
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
