//! The daemon as its HTTP server sees it: implements [`serve::DaemonHandle`](crate::serve::DaemonHandle).
//!
//! Readers ask the drivers for snapshots and get pages by reference; nothing
//! here can change what they look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing_appender::non_blocking::ErrorCounter;

use super::clock::Clock;
use super::driver::DriverRequest;
use super::driver_pool::DriverHandle;
use crate::catalog::{
    Call, ChangeCounters, Channels, Client, Fault, MemberChange, MemberChanged, ReloadState, Reply,
    Requester, Snapshot,
};
use crate::health::{DriverSnapshot, MonotonicTime, Timestamp};
use crate::probe::Resolver;
use crate::serve::{DaemonHandle, Liveness, ReloadFault, ReloadSummary, SnapshotError};
use crate::store::WriteMonitor;

/// A driver that has not begun a turn for so long is stalled. An idle one begins one every two
/// seconds.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// A control loop that has not begun a turn for so long is stalled. An idle one begins one
/// at least every five seconds, to beat the watchdog.
const CONTROL_STALLED_AFTER: Duration = Duration::from_secs(10);

/// How long a driver may take to show its members.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);

/// Where the result of a reload goes.
pub type ReloadAnswer = oneshot::Sender<Result<ReloadSummary, ReloadFault>>;

/// Somebody asks for a reload.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Who.
    pub asked_by: Requester,
    /// Where the result goes; none when nobody waits for it.
    pub answer: Option<ReloadAnswer>,
}

/// A call and where its reply goes.
#[derive(Debug)]
pub struct QueuedCall {
    /// What to do.
    pub call: Call,
    /// Who asks for it.
    pub client: Client,
    /// Told once it is durable and in effect, or refused.
    pub answer: oneshot::Sender<Result<Reply, Fault>>,
}

/// What readers of the daemon share.
#[derive(Debug)]
pub struct ObserverState {
    /// The daemon's clock.
    pub clock: Clock,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// From here on the daemon counts as ready whatever its members do.
    pub ready_at: MonotonicTime,
    /// Ready once, ready for good.
    pub ready: AtomicBool,
    /// The channels, published by control.
    pub channels: watch::Receiver<Arc<Channels>>,
    /// The last reload, published by control.
    pub reload_state: watch::Receiver<ReloadState>,
    /// The drivers, by number.
    pub drivers: watch::Receiver<Vec<DriverHandle>>,
    /// When the control loop last began a turn, in nanoseconds of the clock. Control
    /// writes it.
    pub control_turn: AtomicU64,
    /// Reload requests to control; bounded, a full queue makes the client wait.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// Calls to the registrar; bounded, a full queue makes the client wait.
    pub calls: mpsc::Sender<QueuedCall>,
    /// How writes into the state directory fare.
    pub writes: Vec<WriteMonitor>,
    /// Counts changes of members and tiers.
    pub changes: Arc<ChangeCounters>,
    /// Counts the changes of names' addresses.
    pub resolver: Resolver,
    /// Counts the log lines that were dropped.
    pub lost_log_lines: Option<ErrorCounter>,
}

/// A reader's handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Observer(pub Arc<ObserverState>);

impl Observer {
    /// Whether every probed member has had a verdict, or the wait for one is over.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let shared = &self.0;
        if shared.ready.load(Ordering::Relaxed) {
            return true;
        }
        let settled = shared.drivers.borrow().iter().all(|driver| driver.gauge.unsettled() == 0);
        let ready = settled || shared.clock.now().monotonic >= shared.ready_at;
        if ready {
            shared.ready.store(true, Ordering::Relaxed);
        }
        ready
    }

    /// The control loop begins a turn.
    pub fn note_control_turn(&self) {
        self.0.control_turn.store(self.0.clock.now().monotonic.0, Ordering::Relaxed);
    }

    /// The driver that has been silent longest, if it is stalled, and for how long it has
    /// been silent. Answers at once.
    #[must_use]
    pub fn stalled_driver(&self) -> Option<(usize, Duration)> {
        let now = self.0.clock.now().monotonic;
        let silence = |driver: &DriverHandle| now.since(driver.gauge.progress());
        let longest =
            self.0.drivers.borrow().iter().map(silence).enumerate().max_by_key(|(_, silent)| *silent);
        longest.filter(|(_, silent)| *silent > STALLED_AFTER)
    }
}

impl Observer {
    /// The drivers' snapshots, by number.
    async fn ask_drivers(
        &self,
        deadline: tokio::time::Instant,
    ) -> Result<Vec<DriverSnapshot>, SnapshotError> {
        let handles = self.0.drivers.borrow().clone();
        let mut answers = Vec::with_capacity(handles.len());
        // Ask all before waiting for any: the snapshots are then close together.
        for (number, driver) in handles.iter().enumerate() {
            let (answer, snapshot) = oneshot::channel();
            let asked = driver.send(DriverRequest::Snapshot(answer));
            match tokio::time::timeout_at(deadline, asked).await {
                Ok(Ok(())) => answers.push(snapshot),
                Ok(Err(_)) => return Err(SnapshotError::ShuttingDown),
                Err(_) => return Err(silent(number)),
            }
        }
        let mut drivers = Vec::with_capacity(answers.len());
        for (number, snapshot) in answers.into_iter().enumerate() {
            match tokio::time::timeout_at(deadline, snapshot).await {
                Ok(Ok(snapshot)) => drivers.push(snapshot),
                Ok(Err(_)) => return Err(SnapshotError::ShuttingDown),
                Err(_) => return Err(silent(number)),
            }
        }
        Ok(drivers)
    }
}

impl DaemonHandle for Observer {
    async fn observe(&self) -> Result<Snapshot, SnapshotError> {
        let shared = &self.0;
        let deadline = tokio::time::Instant::now() + SNAPSHOT_PATIENCE;
        loop {
            let before = Arc::clone(&shared.channels.borrow());
            let drivers = self.ask_drivers(deadline).await?;
            let channels = Arc::clone(&shared.channels.borrow());
            // Members that went to another driver meanwhile would be missing. At the deadline the
            // drivers are asked in vain.
            if channels.has_relocated_since(&before) {
                continue;
            }
            return Ok(Snapshot {
                taken_at: shared.clock.now().wall,
                started_at: shared.started_at,
                ready: self.is_ready(),
                channels,
                drivers,
                changes: shared.changes.read(),
                reload: *shared.reload_state.borrow(),
                address_changes: shared.resolver.changes(),
                writes: shared.writes.iter().map(|monitor| (monitor.stored(), monitor.state())).collect(),
            });
        }
    }

    fn liveness(&self) -> Liveness {
        let turn = MonotonicTime(self.0.control_turn.load(Ordering::Relaxed));
        let silent = self.0.clock.now().monotonic.since(turn);
        if silent > CONTROL_STALLED_AFTER {
            return Liveness::ControlStalled { silent };
        }
        match self.stalled_driver() {
            Some((driver, silent)) => Liveness::Stalled { driver, silent },
            None => Liveness::Alive,
        }
    }

    fn lost_log_lines(&self) -> u64 {
        let lost = self.0.lost_log_lines.as_ref().map_or(0, ErrorCounter::dropped_lines);
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    async fn reload(&self, client: Client) -> Result<ReloadSummary, ReloadFault> {
        let ended = || ReloadFault::Unavailable("the daemon is shutting down".to_owned());
        let (answer, result) = oneshot::channel();
        let request = ReloadRequest { asked_by: Requester::Reload(client), answer: Some(answer) };
        self.0.reloads.send(request).await.map_err(|_| ended())?;
        result.await.map_err(|_| ended())?
    }

    async fn change_member(&self, change: MemberChange, client: Client) -> Result<MemberChanged, Fault> {
        match self.call(Call::ChangeMember(change), client).await? {
            Reply::MemberChanged(changed) => Ok(changed),
            other => Err(Fault::Unavailable(format!("a change of a member was answered with {other:?}"))),
        }
    }
}

impl Observer {
    /// Has the registrar do a call; waits while its queue is full.
    pub async fn call(&self, call: Call, client: Client) -> Result<Reply, Fault> {
        let ended = || Fault::Unavailable("the daemon is shutting down".to_owned());
        let (answer, reply) = oneshot::channel();
        self.0.calls.send(QueuedCall { call, client, answer }).await.map_err(|_| ended())?;
        reply.await.map_err(|_| ended())?
    }
}

fn silent(driver: usize) -> SnapshotError {
    SnapshotError::DriverSilent { driver, waited: SNAPSHOT_PATIENCE }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::catalog::tests::in_effect;
    use crate::probe::SystemLookup;

    #[tokio::test(start_paused = true)]
    async fn a_control_loop_that_does_not_turn_is_stalled_after_ten_seconds() {
        let clock = Clock::simulated(Timestamp(0));
        let channels = in_effect(Vec::new(), 1);
        let observer = Observer(Arc::new(ObserverState {
            clock,
            started_at: Timestamp(0),
            ready_at: clock.now().monotonic,
            ready: AtomicBool::new(false),
            channels: watch::channel(channels).1,
            reload_state: watch::channel(ReloadState { successful: true, last_success: Timestamp(0) }).1,
            drivers: watch::channel(Vec::new()).1,
            control_turn: AtomicU64::new(0),
            reloads: mpsc::channel(1).0,
            calls: mpsc::channel(1).0,
            resolver: Resolver::new(SystemLookup, Duration::from_secs(30)).0,
            writes: Vec::new(),
            changes: Arc::default(),
            lost_log_lines: None,
        }));
        observer.note_control_turn();
        advance(CONTROL_STALLED_AFTER).await;
        assert_eq!(observer.liveness(), Liveness::Alive);
        advance(Duration::from_secs(1)).await;
        let silent = CONTROL_STALLED_AFTER + Duration::from_secs(1);
        assert_eq!(observer.liveness(), Liveness::ControlStalled { silent });
        observer.note_control_turn();
        assert_eq!(observer.liveness(), Liveness::Alive);
    }
}
