//! The registrar: calls of the management API, from the queue to their answers.
//!
//! ```text
//! HTTP ── call ──> queue ──> plan (own thread) ──> prepare ──> store ──> in effect ──> answers
//! ```
//!
//! Control owns it and makes its steps: it alone has the catalog. Calls that
//! arrive while a batch is under way make the next batch together, so that they
//! share one flush of the store. Planning and encoding, which take long for
//! 100,000 members, run on a thread of the blocking pool; nothing here ever
//! waits on the disk.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use crate::catalog::{self, Catalog, CatalogError, Source, Wanted};
use crate::catalog::{
    Call, Desk, Effect, Fault, FeatureSetting, Fresh, Id, InstanceSetting, Published, RecordEdit, Registry,
    Reply, Resource, UnixSeconds,
};
use crate::channel::reader::{ClientIdentityError, ReadContext};
use crate::channel::{Channel, ClientCertificate, ClientIdentity, Host, PemFile};
use crate::config::Config;
use crate::config::api::{ApiSettings, InstanceSettings};
use crate::probe::{Plan, PlanError};
use crate::store::{Batch, Collection, LocalStore, RecordKey, StoreContents, StoreError};

/// Calls waiting for the next batch. When it is full, further calls wait in
/// their connections, of which there are few.
pub const CALL_QUEUE: usize = 256;

/// Calls of one batch at most, so that the first does not wait for the last of
/// a flood.
const BATCH_CALLS: usize = 128;

/// A call and where its answer goes.
#[derive(Debug)]
pub struct QueuedCall {
    /// What to do.
    pub call: Call,
    /// Told once it is durable and in effect, or refused.
    pub answer: oneshot::Sender<Result<Reply, Fault>>,
}

/// A call that was planned: where its answer goes, and what it is if all goes well.
pub type Answered = (oneshot::Sender<Result<Reply, Fault>>, Result<Reply, Fault>);

/// What the API's rules ask of the daemon's configuration.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    identity: Option<ClientIdentity>,
    ecs: HashMap<String, Host>,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self { identity: config.backend_client_certificate.clone(), ecs: config.ecs.clone() }
    }
}

impl ReadContext for Settings {
    fn trust_anchors(&self, _: &str) -> Result<PemFile, String> {
        Err("the API names no files".to_owned())
    }

    fn client_identity(&self, _: &str, _: &str) -> Result<ClientIdentity, ClientIdentityError> {
        Err(ClientIdentityError::Certificate("the API names no files".to_owned()))
    }

    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        self.identity.clone()
    }

    fn ecs_address(&self, ecs_id: &str) -> Option<Host> {
        self.ecs.get(ecs_id).cloned()
    }
}

/// Ids at random, times from the daemon's clock.
#[derive(Debug, Clone, Copy)]
struct Maker(Clock);

impl Fresh for Maker {
    fn id(&mut self) -> Id {
        Id(fastrand::u128(..))
    }

    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0.now().wall.0 / 1_000_000_000)
    }
}

/// Why what the store holds cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that this vitald cannot read.
    #[error("the store's record of {key}: {error}")]
    Record {
        /// Which.
        key: String,
        /// What is wrong with it.
        error: catalog::RecordError,
    },
    /// `[api]` cannot be put into effect.
    #[error("{0}")]
    Setting(String),
    /// Channels of files have names that channels of the store have.
    #[error("{0}")]
    NameClash(String),
}

/// Calls, the desk they are planned on, and the store that keeps them.
pub struct Registrar {
    desk: Arc<Mutex<Desk>>,
    store: Arc<LocalStore>,
    settings: Arc<Settings>,
    maker: Maker,
    calls: mpsc::Receiver<QueuedCall>,
    /// What a reload must not change.
    fixed: (crate::config::api::Project, Vec<InstanceSettings>),
    work: Option<Pin<Box<dyn Future<Output = Step>>>>,
}

/// What control does next for the batch under way.
#[derive(Debug)]
pub enum Step {
    /// Prepare the catalog, then have it stored: [`Registrar::store`].
    Planned(Planned),
    /// Put it in effect: [`Registrar::settle`].
    Stored(Stored),
}

/// Calls that were planned together.
#[derive(Debug)]
pub struct Planned {
    answers: Vec<Answered>,
    records: Result<Batch, String>,
    edits: Vec<catalog::Edit>,
}

/// A batch that the store has taken or refused.
#[derive(Debug)]
pub struct Stored {
    /// The calls, with what they get unless the batch failed.
    pub answers: Vec<Answered>,
    /// What is to be in effect; a fault when the batch failed.
    pub prepared: Result<catalog::Prepared, Fault>,
}

impl Registrar {
    /// Takes over what the store holds, and the instances and channels of the
    /// configuration.
    ///
    /// # Errors
    /// The store cannot be read or written, or does not go with the configuration.
    pub async fn open(
        store: LocalStore,
        config: &Config,
        api: &ApiSettings,
        clock: Clock,
        calls: mpsc::Receiver<QueuedCall>,
    ) -> Result<Self, RestoreError> {
        let settings = Arc::new(Settings::of(config));
        let mut maker = Maker(clock);
        let instances = instance_settings(api)?;
        let ids = instances.iter().map(|instance| Arc::clone(&instance.id)).collect();
        let mut registry = Registry::new(api.project.clone(), api.quotas, ids);
        registry.restore(decode(store.load().await?)?, &*settings);
        let mut desk = Desk::new(registry);
        // Channels of files belong to an instance, so the instances come first.
        desk.submit_delta(desk.working().with_instances(&instances, &mut maker));
        submit_files(&mut desk, config, &settings, maker).map_err(RestoreError::NameClash)?;
        let records = records_of(&desk).map_err(RestoreError::Setting)?;
        if !records.is_empty() {
            store.write(records).await?;
        }
        desk.commit();
        Ok(Self {
            desk: Arc::new(Mutex::new(desk)),
            store: Arc::new(store),
            settings,
            maker,
            calls,
            fixed: (api.project.clone(), api.instances.clone()),
            work: None,
        })
    }

    /// What readers look at.
    #[must_use]
    pub fn published(&self) -> Published {
        self.desk().published()
    }

    /// Every channel there is to be, of files and of the API.
    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        self.desk().working().channels(None).map(|resource| wanted(resource)).collect()
    }

    /// The same for the start, which must not fail because of one channel: where
    /// the probes of a channel of the API cannot be prepared, for lack of a
    /// client certificate that was there when it was made, its members are not
    /// probed.
    #[must_use]
    pub fn wanted_at_start(&self) -> Vec<Wanted> {
        let mut all = self.wanted();
        for wanted in all.iter_mut().filter(|wanted| wanted.source == Source::Api) {
            if let Err(error) = check_certificate(&wanted.channel) {
                let channel = wanted.channel.name();
                tracing::error!(channel, %error, "the members of {channel} are not probed");
                wanted.channel = Arc::new(Channel::clone(&wanted.channel).with_health_check(None));
            }
        }
        all
    }

    /// Whether a batch is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    /// The next step of the batch under way; without one, waits for calls.
    /// Cancel-safe: the batch stays here, and calls stay in their queue.
    pub async fn step(&mut self) -> Step {
        if self.work.is_none() {
            let Some(first) = self.calls.recv().await else { return std::future::pending().await };
            let mut calls = vec![first];
            while calls.len() < BATCH_CALLS
                && let Ok(call) = self.calls.try_recv()
            {
                calls.push(call);
            }
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

    /// Prepares a planned batch and begins to store it.
    pub fn store(&mut self, planned: Planned, catalog: &Catalog) {
        let Planned { answers, records, edits } = planned;
        let ready = records
            .map_err(Fault::NotStored)
            .and_then(|records| Ok((records, catalog.prepare(edits).map_err(unprepared)?)));
        let store = Arc::clone(&self.store);
        self.work = Some(Box::pin(async move {
            let prepared = match ready {
                Ok((records, prepared)) if records.is_empty() => Ok(prepared),
                Ok((records, prepared)) => {
                    let written = store.write(records).await;
                    written.map(|_| prepared).map_err(|error| Fault::NotStored(error.to_string()))
                }
                Err(fault) => Err(fault),
            };
            Step::Stored(Stored { answers, prepared })
        }));
    }

    /// Shows readers a batch that is durable and in effect, or forgets one that
    /// is not, and answers its calls.
    pub fn settle(&mut self, answers: Vec<Answered>, result: Result<(), Fault>) {
        match &result {
            Ok(()) => self.desk().commit(),
            Err(_) => self.desk().roll_back(),
        }
        for (answer, outcome) in answers {
            // A refusal stands whatever became of the others.
            let outcome = outcome.and_then(|outcome| result.clone().map(|()| outcome));
            // The client may have gone; the change stands.
            let _ = answer.send(outcome);
        }
    }

    /// Takes a new configuration onto the desk and into the store. To be ended
    /// with [`Registrar::commit`] or [`Registrar::roll_back`]; no batch may be
    /// under way.
    ///
    /// # Errors
    /// Why it cannot be taken; nothing has changed.
    pub async fn reconfigure(&mut self, config: &Config, api: &ApiSettings) -> Result<(), String> {
        if (&api.project, &api.instances) != (&self.fixed.0, &self.fixed.1) {
            return Err("[api.project] or [[api.instances]] changed, which takes a restart of vitald; \
                        restart it, or put the old ones back"
                .to_owned());
        }
        let settings = Arc::new(Settings::of(config));
        let records = {
            let mut desk = self.desk();
            let submitted = submit_files(&mut desk, config, &settings, self.maker);
            submitted.and_then(|()| records_of(&desk))
        };
        let stored = match records {
            Ok(records) if records.is_empty() => Ok(()),
            Ok(records) => self.store.write(records).await.map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        if stored.is_ok() {
            self.desk().set_quotas(api.quotas);
            self.settings = settings;
        } else {
            self.roll_back();
        }
        stored
    }

    /// Shows readers what [`Registrar::reconfigure`] took.
    pub fn commit(&self) {
        self.desk().commit();
    }

    /// Forgets what is not committed.
    pub fn roll_back(&self) {
        self.desk().roll_back();
    }

    /// Closes the store; acknowledged writes are safe whatever it says.
    pub async fn close(&self) {
        if let Err(error) = self.store.close().await {
            tracing::warn!(%error, "the store did not close in order");
        }
    }

    /// A panic while planning left whole deltas; the batch is rolled back.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    fn plan(&self, calls: Vec<QueuedCall>) -> impl Future<Output = Step> + use<> {
        let (desk, settings, maker) = (Arc::clone(&self.desk), Arc::clone(&self.settings), self.maker);
        let planning = tokio::task::spawn_blocking(move || plan(&mut lock(&desk), &settings, maker, calls));
        async move {
            // Planning contains its panics, and the runtime outlives control.
            let planned = planning.await.unwrap_or_else(|error| Planned {
                answers: Vec::new(),
                records: Err(error.to_string()),
                edits: Vec::new(),
            });
            Step::Planned(planned)
        }
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does the calls on the desk, one after another.
fn plan(desk: &mut Desk, settings: &Settings, mut maker: Maker, calls: Vec<QueuedCall>) -> Planned {
    let mut answers = Vec::with_capacity(calls.len());
    for QueuedCall { call, answer } in calls {
        let before = desk.pending();
        // A call that hits a mistake of ours must not take the API with it.
        let submitted = catch_unwind(AssertUnwindSafe(|| submit(desk, &call, settings, &mut maker)));
        let outcome = submitted.unwrap_or_else(|_| {
            while desk.pending() > before {
                desk.undo_last();
            }
            Err(Fault::Unavailable("the call met a mistake in vitald; please report it".to_owned()))
        });
        answers.push((answer, outcome));
    }
    let edits = desk.effects().into_iter().map(edit).collect();
    Planned { answers, records: records_of(desk), edits }
}

/// One call on the desk. What only preparing the probes shows is found here, so
/// that it fails this call and not its whole batch.
fn submit(desk: &mut Desk, call: &Call, settings: &Settings, maker: &mut Maker) -> Result<Reply, Fault> {
    let planned = desk.working().plan(call, settings, maker)?;
    for resource in planned.delta.channels.iter().filter_map(|edit| edit.after.as_ref()) {
        check_certificate(&resource.effective)
            .map_err(|error| Fault::Invalid("enable_client_ssl", error.to_string()))?;
    }
    desk.submit_delta(planned.delta);
    Ok(planned.outcome)
}

/// Whether a channel's checks can present the certificate that they are to
/// present. The rest of a channel of the API cannot fail to be prepared.
fn check_certificate(channel: &Channel) -> Result<(), PlanError> {
    match channel.health_check() {
        Some(check) if check.client_certificate() == ClientCertificate::Present => {
            Plan::new(check, channel.probe()).map(drop)
        }
        _ => Ok(()),
    }
}

fn unprepared(error: CatalogError) -> Fault {
    Fault::Unavailable(format!("the probes cannot be prepared: {error}"))
}

fn edit(effect: Effect) -> catalog::Edit {
    catalog::Edit {
        was: effect.before.map(|channel| channel.name().to_owned()),
        wanted: effect.after.map(|resource| wanted(&resource)),
    }
}

fn wanted(resource: &Resource) -> Wanted {
    Wanted { channel: Arc::clone(&resource.effective), source: resource.source.clone() }
}

/// Puts the channels of files on the desk, and brings up to date what depends
/// on them and on the daemon's settings.
fn submit_files(desk: &mut Desk, config: &Config, settings: &Settings, maker: Maker) -> Result<(), String> {
    let files = config.channels.iter().map(|file| (&file.channel, &*file.file));
    let delta = desk.working().with_files(files, maker.now()).map_err(|clashes| {
        let lines: Vec<String> = clashes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    desk.submit_delta(delta);
    desk.submit_delta(desk.working().refreshed(settings));
    Ok(())
}

/// What the store must hold before the desk's changes may be seen.
fn records_of(desk: &Desk) -> Result<Batch, String> {
    let mut batch = Batch::new();
    for edit in desk.records() {
        let json = |error: serde_json::Error| format!("a record cannot be written: {error}");
        match edit {
            RecordEdit::PutChannel(resource) => {
                let bytes = catalog::ApiRecord::encode_channel(resource).map_err(json)?;
                batch.put(channel_key(resource.id), bytes);
            }
            RecordEdit::RemoveChannel(id) => {
                batch.remove(channel_key(id));
            }
            RecordEdit::PutInstance(instance) => {
                let bytes = catalog::ApiRecord::encode_instance(instance).map_err(json)?;
                batch.put(RecordKey::new(Collection::Instances, instance.id.as_bytes()), bytes);
            }
            RecordEdit::RemoveInstance(id) => {
                batch.remove(RecordKey::new(Collection::Instances, id.as_bytes()));
            }
        }
    }
    Ok(batch)
}

fn channel_key(id: Id) -> RecordKey {
    RecordKey::new(Collection::Channels, id.to_string())
}

/// Every record is read or none: half a store is no state to go on with.
fn decode(contents: StoreContents) -> Result<Vec<catalog::ApiRecord>, RestoreError> {
    let is_ours = |key: &RecordKey| matches!(key.collection, Collection::Channels | Collection::Instances);
    let records = contents.records.into_iter().filter(|record| is_ours(&record.key));
    let read = records.map(|record| {
        catalog::ApiRecord::decode(&record.value).map_err(|error| {
            let kind = match record.key.collection {
                Collection::Instances => "instance",
                _ => "channel",
            };
            let key = format!("{kind} {}", String::from_utf8_lossy(&record.key.id));
            RestoreError::Record { key, error }
        })
    });
    read.collect()
}

fn instance_settings(api: &ApiSettings) -> Result<Vec<InstanceSetting>, RestoreError> {
    let of_instance = |instance: &InstanceSettings| {
        let features = instance.features.iter().map(|&(name, is_on)| {
            let config = if is_on { "on" } else { "off" };
            FeatureSetting::read(name, is_on, config).map_err(|fault| {
                let why = fault.details().into_iter().next().map_or_else(|| fault.message(), |it| it.problem);
                RestoreError::Setting(format!(
                    "[[api.instances]] {}: features.{} = \"{config}\": {why}",
                    instance.id,
                    name.word()
                ))
            })
        });
        let features = features.collect::<Result<Vec<_>, _>>()?;
        Ok(InstanceSetting { id: instance.id.as_str().into(), name: instance.name.clone(), features })
    };
    api.instances.iter().map(of_instance).collect()
}
