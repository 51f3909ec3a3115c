//! The registrar: the one place that changes which channels there are.
//!
//! ```text
//! HTTP ── call ──> queue ──> plan (own thread) ──> prepare ──> store ──> in effect ──> answers
//! reload ──────────────────> plan ───────────────────┘
//! ```
//!
//! Control owns it and makes its steps. Calls that arrive while a batch is under way
//! make the next batch together, so that they share one flush of the store. Planning
//! and encoding, which take long for 100,000 members, run on a thread of the blocking
//! pool; nothing here ever waits on the disk. Implements [`ApiBackend`].

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::clock::Clock;
use super::driver_pool::DriverPool;
use super::fall::FileChannels;
use super::observer::{Observer, QueuedCall};
use super::override_keeper::OverrideKeeper;
use super::spreading::{Spreading, TakenOut};
use super::{DaemonError, changes, process};
use crate::catalog::{
    Call, Catalog, ChangeSet, Channels, Client, DriverKnowledge, Entry, Fault, Fresh, Id, MemberSlot,
    Overrides, Prepared, ReloadSummary, Reply, Requester, Requesters, Resources, Snapshot, Source,
    SourceError, Transaction, UnixSeconds,
};
use crate::channel::reader::ReadContext;
use crate::channel::{ClientIdentity, Host, ProbeSettings};
use crate::config::Config;
use crate::config::api::{InstanceSettings, Project};
use crate::health::MonotonicTime;
use crate::serve::api::ApiBackend;
use crate::serve::{DaemonHandle as _, SnapshotError};
use crate::store::{Batch, LocalStore};

/// Calls waiting for the next batch. When it is full, further calls wait in
/// their connections, of which there are few.
pub const CALL_QUEUE: usize = 256;

/// Calls of one batch at most, so that the first does not wait for the last of
/// a flood.
const BATCH_CALLS: usize = 128;

/// How long a snapshot serves further requests. A snapshot costs the drivers a walk
/// over their pages; thousands of requests a second share few. Changes of channels
/// are seen at once all the same.
const SHARED_FOR: Duration = Duration::from_millis(20);

/// A call that was planned: where its reply goes, and what it is if all goes well.
type PlannedCall = (oneshot::Sender<Result<Reply, Fault>>, Result<Reply, Fault>);

/// What the rules of channels ask of the daemon's configuration.
#[derive(Debug, Clone, Default)]
struct ConfigContext {
    identity: Option<ClientIdentity>,
    ecs: HashMap<String, Host>,
    probe_defaults: ProbeSettings,
}

impl ConfigContext {
    fn of(config: &Config) -> Self {
        Self {
            identity: config.backend_client_certificate.clone(),
            ecs: config.ecs.clone(),
            probe_defaults: config.probe_defaults.clone(),
        }
    }
}

impl ReadContext for ConfigContext {
    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        self.identity.clone()
    }

    fn probe_defaults(&self) -> Option<&ProbeSettings> {
        Some(&self.probe_defaults)
    }

    fn ecs_address(&self, ecs_id: &str) -> Option<Host> {
        self.ecs.get(ecs_id).cloned()
    }
}

/// Ids at random, times from the daemon's clock.
#[derive(Debug, Clone, Copy)]
struct ClockAndChance(Clock);

impl Fresh for ClockAndChance {
    fn id(&mut self) -> Id {
        Id(fastrand::u128(..))
    }

    fn now(&self) -> UnixSeconds {
        self.0.now().wall.into()
    }
}

/// The channels in effect, the drivers that probe them, and the readers that are told.
pub struct Registrar {
    catalog: Catalog,
    pool: DriverPool,
    spreading: Spreading,
    /// Publishes the channels.
    published: watch::Sender<Arc<Channels>>,
    /// Open files the system allows; bounds the probes at once.
    file_limit: usize,
    context: Arc<ConfigContext>,
    /// `store.verdict_age_limit`, for checks that are switched on again.
    age_limit: Duration,
    fresh: ClockAndChance,
    api: Option<ApiStore>,
    /// None without a state directory.
    keeper: Option<OverrideKeeper>,
    calls: mpsc::Receiver<QueuedCall>,
    /// A call that was taken from the queue and is the first of the next batch.
    next: Option<QueuedCall>,
    /// The batch under way.
    work: Option<Pin<Box<dyn Future<Output = BatchStep>>>>,
}

/// What there is only with a management API.
struct ApiStore {
    store: Arc<LocalStore>,
    /// What a reload must not change.
    fixed: (Project, Vec<InstanceSettings>),
}

/// What the state directory holds for the registrar, and what keeps it there.
#[derive(Debug)]
pub struct KeptState {
    /// None without an API.
    pub store: Option<LocalStore>,
    /// None without a state directory.
    pub keeper: Option<OverrideKeeper>,
    /// What operators have said of members before.
    pub overrides: Overrides,
}

/// What a new configuration means for the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconfigured {
    /// They are as they were.
    Same(ReloadSummary),
    /// One at least has changed, come or gone.
    Changed(ReloadSummary),
}

/// What is to be done next for the batch under way.
#[derive(Debug)]
pub enum BatchStep {
    /// Its calls were planned together.
    Planned {
        /// The calls, with what they get unless the batch fails.
        calls: Vec<PlannedCall>,
        /// What changes, and everything as it is to be.
        change: (ChangeSet, Resources),
        /// What the store must hold before.
        records: Result<Batch, String>,
    },
    /// The store has taken or refused it.
    Stored {
        /// The calls, with what they get unless the batch failed.
        calls: Vec<PlannedCall>,
        /// What is to be in effect, if anything changes.
        prepared: Result<Option<Prepared>, Fault>,
    },
}

impl Registrar {
    /// Puts the configuration's channels into effect, and what the store holds.
    ///
    /// # Errors
    /// The store cannot be read or written, or does not go with the configuration, or
    /// the probes of a channel cannot be prepared.
    pub async fn open(
        config: &Config,
        (kept, calls): (KeptState, mpsc::Receiver<QueuedCall>),
        clock: Clock,
        (catalog, pool, spreading, file_limit): (Catalog, DriverPool, Spreading, usize),
        published: watch::Sender<Arc<Channels>>,
    ) -> Result<(Self, ReloadSummary), DaemonError> {
        let context = Arc::new(ConfigContext::of(config));
        let mut fresh = ClockAndChance(clock);
        let KeptState { store, keeper, overrides } = kept;
        if !overrides.is_empty() {
            tracing::info!(overrides = overrides.len(), "going on with overrides of members");
        }
        let mut base = config.api.as_ref().map_or_else(Resources::without_api, Resources::of_settings);
        base.set_overrides(overrides);
        let mut transaction = Transaction::new(base, &*context);
        let mut api_store = None;
        if let (Some(api), Some(store)) = (&config.api, store) {
            transaction.restore(&store.load().await?)?;
            transaction.put_instances(&api.instances, &mut fresh)?;
            let fixed = (api.project.clone(), api.instances.clone());
            api_store = Some(ApiStore { store: Arc::new(store), fixed });
        }
        put_files(&mut transaction, config, fresh)?;
        transaction.give_up_checks_without_tls();
        let (changes, resources) = transaction.finish();
        let (work, age_limit) = (None, config.store.verdict_age_limit);
        let (api, next) = (api_store, None);
        let mut registrar = Self {
            catalog,
            pool,
            spreading,
            published,
            file_limit,
            context,
            age_limit,
            fresh,
            api,
            keeper,
            calls,
            next,
            work,
        };
        let prepared = registrar.catalog.prepare(&changes, resources);
        let prepared = prepared.map_err(|error| DaemonError::Channels(error.to_string()))?;
        let records = changes.records().map_err(|error| DaemonError::Setting(unwritable(&error)))?;
        if let Some(api) = registrar.api.as_ref().filter(|_| !records.is_empty()) {
            api.store.write(records).await?;
        }
        let (summary, recalled) = registrar.commit(prepared).await;
        registrar.tell_recalled(recalled);
        // Who comes later was not there before the restart.
        registrar.catalog.set_recall(None);
        Ok((registrar, summary))
    }

    /// Whether a batch is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    /// The next step of the batch under way; without one, waits for calls.
    /// Cancel-safe: the batch stays here, and calls stay in their queue.
    pub async fn step(&mut self) -> BatchStep {
        if self.work.is_none() {
            let first = match self.next.take() {
                Some(first) => first,
                None => match self.calls.recv().await {
                    Some(first) => first,
                    None => return std::future::pending().await,
                },
            };
            let calls = self.batch(first);
            self.work = Some(Box::pin(self.plan(calls)));
        }
        match &mut self.work {
            Some(work) => {
                let step = work.await;
                self.work = None;
                step
            }
            None => std::future::pending().await,
        }
    }

    /// A call with those that wait behind it and may share its fate.
    fn batch(&mut self, first: QueuedCall) -> Vec<QueuedCall> {
        // Overrides are kept in a file of their own: with calls that the store keeps, one
        // could succeed and the other fail.
        let is_alone = |queued: &QueuedCall| matches!(queued.call, Call::ChangeMember(_));
        let mut calls = vec![first];
        while calls.len() < BATCH_CALLS && !calls.iter().any(is_alone) {
            match self.calls.try_recv() {
                Ok(call) if is_alone(&call) => {
                    self.next = Some(call);
                    break;
                }
                Ok(call) => calls.push(call),
                Err(_) => break,
            }
        }
        calls
    }

    /// Does what a step asks for: has a planned batch stored, or puts a stored one into
    /// effect and answers its calls.
    pub async fn handle_step(&mut self, step: BatchStep) {
        match step {
            BatchStep::Planned { calls, change, records } => self.store(calls, change, records),
            BatchStep::Stored { calls, prepared } => {
                let result = match prepared {
                    Ok(Some(prepared)) => {
                        self.commit(prepared).await;
                        Ok(())
                    }
                    Ok(None) => Ok(()),
                    Err(fault) => Err(fault),
                };
                for (answer, reply) in calls {
                    // A refusal stands whatever became of the others.
                    let reply = reply.and_then(|reply| result.clone().map(|()| reply));
                    // The client may have gone; the change stands.
                    let _ = answer.send(reply);
                }
            }
        }
    }

    /// Ends the batch under way, if there is one.
    pub async fn finish_batch(&mut self) {
        while self.is_busy() {
            let step = self.step().await;
            self.handle_step(step).await;
        }
    }

    /// Puts a new configuration into effect, planned on what is in effect now. No batch may
    /// be under way.
    ///
    /// # Errors
    /// Why it cannot be; nothing has changed then.
    pub async fn reconfigure(
        &mut self,
        config: &Config,
        asked_by: &Requesters,
    ) -> Result<Reconfigured, String> {
        let context = Arc::new(ConfigContext::of(config));
        let base = self.catalog.channels().resources.clone();
        let mut transaction = Transaction::new(base, &*context);
        transaction.set_requesters(asked_by.clone());
        if let (Some(api), Some(calls)) = (&config.api, &self.api) {
            if (&api.project, &api.instances) != (&calls.fixed.0, &calls.fixed.1) {
                return Err("[api.project] or [[api.instances]] changed, which takes a restart of vitald; \
                            restart it, or put the old ones back"
                    .to_owned());
            }
            transaction.set_quotas(api.quotas);
        }
        put_files(&mut transaction, config, self.fresh).map_err(|error| error.to_string())?;
        let (changes, resources) = transaction.finish();
        let prepared = self.catalog.prepare(&changes, resources).map_err(|error| error.to_string())?;
        self.context = context;
        self.age_limit = config.store.verdict_age_limit;
        self.pool.set_concurrency(process::concurrency(config.prober.max_in_flight, self.file_limit)).await;
        self.spreading.reconfigure(config.prober.drivers, &mut self.catalog, &mut self.pool).await;
        self.catalog.reference().replace(config.prober.reference.clone());
        // Files have no records, so the store need not know.
        let (summary, _) = self.commit(prepared).await;
        Ok(if changes.is_empty() { Reconfigured::Same(summary) } else { Reconfigured::Changed(summary) })
    }

    /// The channels in effect that come from files.
    #[must_use]
    pub fn file_channels(&self) -> FileChannels {
        let resources = self.catalog.channels().resources.channels(None);
        let files = resources.filter(|resource| matches!(resource.source, Source::File(_)));
        let channels = files.map(|resource| &resource.configured);
        channels.map(|channel| (channel.name().to_owned(), channel.members().len())).collect()
    }

    /// The channel and the position of the member in a slot, if it still has it.
    #[must_use]
    pub fn occupant(&self, slot: MemberSlot) -> Option<(&Arc<Entry>, usize)> {
        self.catalog.occupant(slot)
    }

    /// Judges how many drivers there should be.
    pub async fn handle_beat(&mut self) {
        let now = self.fresh.0.now().monotonic;
        self.spreading.handle_beat(now, &mut self.catalog, &mut self.pool).await;
    }

    /// Whether members are to change drivers.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.spreading.is_moving()
    }

    /// Takes some members out of drivers that are not theirs any more. No batch may be under
    /// way, and nothing may change the channels before [`Registrar::put_in`].
    pub async fn take_out(&mut self) -> TakenOut {
        self.spreading.take_out(&self.catalog, &self.pool).await
    }

    /// Puts them into their drivers. Says when to go on with others; none: all are there.
    pub async fn put_in(&mut self, taken: TakenOut) -> Option<Duration> {
        let (channels, pause) = self.spreading.put_in(taken, &mut self.catalog, &mut self.pool).await;
        self.published.send_replace(channels);
        pause
    }

    /// Closes the store; acknowledged writes are safe whatever it says.
    pub async fn close_store(&self) {
        if let Some(api) = &self.api
            && let Err(error) = api.store.close().await
        {
            tracing::warn!(%error, "the store did not close in order");
        }
    }

    /// Ends the drivers.
    pub async fn stop(self) {
        self.pool.stop().await;
    }

    /// Puts a prepared change into effect: the drivers are told first, then readers.
    /// Gives what it amounts to, and how many members go on where they were before a restart.
    async fn commit(&mut self, mut prepared: Prepared) -> (ReloadSummary, usize) {
        if prepared.asks_drivers() {
            let (drivers, now) = (self.pool.snapshots().await, self.fresh.0.now().wall);
            prepared.learn(DriverKnowledge { drivers, now, age_limit: self.age_limit });
        }
        let committed = self.catalog.commit(prepared);
        let summary = committed.summary();
        self.pool.apply(committed.drivers).await;
        self.published.send_replace(committed.channels);
        changes::tell(&committed.log);
        (summary, committed.recalled)
    }

    /// Says whether the verdicts of before the restart are of use.
    fn tell_recalled(&self, members: usize) {
        let Some(recall) = self.catalog.recall() else { return };
        let (saved, age_seconds) = (recall.members(), recall.age.as_secs());
        match members {
            0 => tracing::info!(saved, age_seconds, "no saved verdict is of a member that there is now"),
            members => tracing::info!(members, saved, age_seconds, "going on with saved verdicts"),
        }
    }

    /// Plans calls beside the control loop.
    fn plan(&self, calls: Vec<QueuedCall>) -> impl Future<Output = BatchStep> + use<> {
        let (context, fresh) = (Arc::clone(&self.context), self.fresh);
        let base = self.catalog.channels().resources.clone();
        let planning = tokio::task::spawn_blocking(move || plan(base, &context, fresh, calls));
        async move {
            // Planning contains its panics, and the runtime outlives control.
            planning.await.unwrap_or_else(|error| BatchStep::Stored {
                calls: Vec::new(),
                prepared: Err(Fault::Unavailable(error.to_string())),
            })
        }
    }

    /// Prepares a planned batch and begins to store it.
    fn store(
        &mut self,
        calls: Vec<PlannedCall>,
        (changes, resources): (ChangeSet, Resources),
        records: Result<Batch, String>,
    ) {
        let overrides = changes.overrides().cloned();
        let ready = records.map_err(Fault::NotStored).and_then(|records| {
            let prepared = if changes.is_empty() {
                None
            } else {
                let unprepared =
                    |error| Fault::Unavailable(format!("the probes cannot be prepared: {error}"));
                Some(self.catalog.prepare(&changes, resources).map_err(unprepared)?)
            };
            Ok((records, prepared))
        });
        let store = self.api.as_ref().map(|api| Arc::clone(&api.store));
        let keeper = self.keeper.clone();
        self.work = Some(Box::pin(async move {
            let prepared = match (ready, store, overrides) {
                (Ok((records, prepared)), Some(store), _) if !records.is_empty() => {
                    let written = store.write(records).await;
                    written.map(|_| prepared).map_err(|error| Fault::NotStored(error.to_string()))
                }
                // A batch of the one kind has nothing of the other, see `batch`.
                (Ok((_, prepared)), _, Some(overrides)) => {
                    OverrideKeeper::save(keeper, overrides).await.map(|()| prepared)
                }
                (ready, _, None) => ready.map(|(_, prepared)| prepared),
                (Err(fault), _, Some(_)) => Err(fault),
            };
            BatchStep::Stored { calls, prepared }
        }));
    }
}

/// Plans calls, one after another, and encodes what the store must hold.
fn plan(
    base: Resources,
    context: &ConfigContext,
    mut fresh: ClockAndChance,
    calls: Vec<QueuedCall>,
) -> BatchStep {
    let mut transaction = Transaction::new(base, context);
    let planned = calls.into_iter().map(|QueuedCall { call, client, answer }| {
        transaction.set_requesters(Requester::Call(client).into());
        let reply = transaction.plan(&call, &mut fresh);
        (answer, reply)
    });
    let calls = planned.collect();
    let change = transaction.finish();
    let records = change.0.records().map_err(|error| unwritable(&error));
    BatchStep::Planned { calls, change, records }
}

fn put_files(
    transaction: &mut Transaction<'_>,
    config: &Config,
    fresh: ClockAndChance,
) -> Result<(), SourceError> {
    let files = config.channels.iter().map(|file| (&file.channel, &*file.file));
    transaction.put_files(files, fresh.now())
}

fn unwritable(error: &serde_json::Error) -> String {
    format!("a record cannot be written: {error}")
}

/// The daemon as the management API sees it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Backend {
    /// What readers get.
    pub observer: Observer,
    /// Where the daemon serves, published by control.
    pub addresses: watch::Receiver<Vec<SocketAddr>>,
    /// The latest snapshot.
    pub recent: SharedSnapshot,
}

/// When it was taken, and the snapshot.
type TakenSnapshot = (MonotonicTime, Arc<Snapshot>);

/// A snapshot that several requests share.
#[derive(Debug, Clone, Default)]
pub struct SharedSnapshot(Arc<Mutex<Option<TakenSnapshot>>>);

impl SharedSnapshot {
    /// A snapshot of just now. Cancel-safe: a caller that is dropped gives way to the next in
    /// line.
    async fn observe(&self, observer: &Observer) -> Result<Arc<Snapshot>, SnapshotError> {
        let mut held = self.0.lock().await;
        let now = observer.0.clock.now().monotonic;
        if let Some((taken, snapshot)) = &*held
            && now.since(*taken) < SHARED_FOR
            && Arc::ptr_eq(&snapshot.channels, &observer.0.channels.borrow())
        {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(observer.observe().await?);
        let is_first = held.replace((now, Arc::clone(&snapshot))).is_none();
        if is_first {
            // Drops the pages, so that the drivers need not copy them.
            let held = Arc::clone(&self.0);
            tokio::spawn(async move {
                tokio::time::sleep(SHARED_FOR).await;
                held.lock().await.take();
            });
        }
        Ok(snapshot)
    }
}

impl ApiBackend for Backend {
    fn channels(&self) -> Arc<Channels> {
        Arc::clone(&self.observer.0.channels.borrow())
    }

    async fn write(&self, call: Call, client: Client) -> Result<Reply, Fault> {
        self.observer.call(call, client).await
    }

    async fn observe(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        self.recent.observe(&self.observer).await
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.borrow().clone()
    }
}
