//! Reloads: who has asked for one, and the load of the configuration, which runs beside
//! the control loop under a bound.
//!
//! [`super::run`] makes it of where the configuration comes from. [`super::control`] owns
//! it, makes its steps, and puts into effect what was loaded. At most one load runs. Whoever
//! asks meanwhile gets the next one, all of them together: the running load may have read
//! already what has changed since. A load that does not end, because its file system does
//! not answer, is abandoned. Its thread cannot be stopped, so there are never more than
//! [`ABANDONED_AT_MOST`] such threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::http_server::{self, BoundSocket};
use super::observer::{ReloadAnswer, ReloadRequest};
use crate::catalog::Requesters;
use crate::channel::VerifyCertificate;
use crate::config::{self, Config, Diagnostics, LoadProgress};
use crate::probe;
use crate::serve::ReloadFault;

/// Abandoned loads that still hang. With so many, no further load begins.
const ABANDONED_AT_MOST: usize = 2;

/// From the end of a load to the beginning of the next: however often clients ask, drivers
/// and balancers are not kept busy with reloads.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum ConfigSource {
    /// A file, read again on reload.
    File(PathBuf),
    /// A text, for the embedded demo; files in it are relative to the current directory.
    Text {
        /// What error messages call it.
        name: String,
        /// The TOML text.
        text: String,
    },
    /// What a test does in its place.
    #[cfg(test)]
    Made(MadeConfig),
}

/// A configuration that is made each time it is asked for.
#[cfg(test)]
#[derive(Clone)]
pub struct MadeConfig(pub Arc<dyn Fn() -> Result<Config, Diagnostics> + Send + Sync>);

#[cfg(test)]
impl std::fmt::Debug for MadeConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MadeConfig(..)")
    }
}

impl ConfigSource {
    /// Reads and checks the configuration. Blocks, for ever on a file system that does not
    /// answer; `progress` says on which file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self, progress: &LoadProgress) -> Result<Config, Diagnostics> {
        match self {
            Self::File(path) => config::load_watched(path, progress),
            Self::Text { name, text } => config::parse(name, text, Path::new(".")),
            #[cfg(test)]
            Self::Made(make) => (make.0)(),
        }
    }
}

/// Reads the configuration, and binds its Unix socket unless that is the one in effect.
/// Blocks, perhaps for ever. `progress` says what is being read.
pub type LoadConfig =
    Arc<dyn Fn(&LoadProgress, Option<&Path>) -> Result<LoadedConfig, ReloadFault> + Send + Sync>;

/// What a load gives.
#[derive(Debug)]
pub struct LoadedConfig {
    /// The configuration, checked.
    pub config: Config,
    /// Its Unix socket; none where it has none, or has the one in effect.
    pub socket: Option<BoundSocket>,
}

/// What loads go by: parts of the configuration in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSettings {
    /// `[prober] reload_within`.
    pub within: Duration,
    /// `[server] socket`.
    pub socket: Option<PathBuf>,
}

impl LoadSettings {
    /// Those of a configuration, and of the socket that is served.
    #[must_use]
    pub fn of(config: &Config, socket: Option<&Path>) -> Self {
        Self { within: config.prober.reload_within, socket: socket.map(Path::to_owned) }
    }
}

/// Everything about reloads but what they change.
pub struct Reloads {
    load: LoadConfig,
    settings: LoadSettings,
    stage: ReloadStage,
    /// Who gets the next load. None: nobody has asked for one.
    waiting: Option<ReloadAskers>,
    abandoned: Vec<AbandonedLoad>,
    /// No load begins before this moment.
    next: Instant,
}

/// Everybody who asked for a reload.
#[derive(Debug)]
pub struct ReloadAskers {
    /// Who they are, those among them who have gone meanwhile.
    pub asked_by: Requesters,
    /// Where the result goes. Those who have gone are dropped, so there are no more than
    /// there are connections.
    pub answers: Vec<ReloadAnswer>,
}

impl ReloadAskers {
    fn join(&mut self, later: Self) {
        self.asked_by.merge(&later.asked_by);
        self.answers.retain(|answer| !answer.is_closed());
        self.answers.extend(later.answers);
    }
}

/// How far the reload under way is.
enum ReloadStage {
    Idle,
    Loading(RunningLoad),
    /// It is to be put into effect before this moment.
    Loaded(Box<PendingReload>, Instant),
}

/// A thread that reads the configuration.
struct RunningLoad {
    askers: ReloadAskers,
    thread: LoadThread,
    progress: LoadProgress,
    deadline: Instant,
}

type LoadThread = JoinHandle<Result<LoadedConfig, ReloadFault>>;

/// A load whose thread still hangs.
struct AbandonedLoad {
    thread: LoadThread,
    place: String,
}

/// A configuration that is to be put into effect.
pub struct PendingReload {
    /// What was loaded.
    pub loaded: LoadedConfig,
    /// Who asked for it, and is told of the result.
    pub askers: ReloadAskers,
}

/// What happened to reloads.
pub enum ReloadStep {
    /// A load has begun.
    Began,
    /// A load has ended well: [`Reloads::take_loaded`] has it.
    Loaded,
    /// A load has failed, or what it gave was not put into effect in time.
    Failed(ReloadAskers, ReloadFault),
}

impl Reloads {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(load: LoadConfig, settings: LoadSettings) -> Self {
        let (stage, next) = (ReloadStage::Idle, Instant::now());
        Self { load, settings, stage, waiting: None, abandoned: Vec::new(), next }
    }

    /// Asks for a reload.
    pub fn ask(&mut self, ReloadRequest { asked_by, answer }: ReloadRequest) {
        let asker = ReloadAskers { asked_by: asked_by.into(), answers: answer.into_iter().collect() };
        match &mut self.waiting {
            Some(waiting) => waiting.join(asker),
            None => self.waiting = Some(asker),
        }
    }

    /// From the next load on, these hold.
    pub fn set(&mut self, settings: LoadSettings) {
        self.settings = settings;
    }

    /// The configuration that was loaded. Whoever takes it puts it into effect, or not, and
    /// answers.
    pub fn take_loaded(&mut self) -> Option<Box<PendingReload>> {
        match std::mem::replace(&mut self.stage, ReloadStage::Idle) {
            ReloadStage::Loaded(reload, _) => {
                self.next = Instant::now() + PAUSE;
                Some(reload)
            }
            stage @ (ReloadStage::Idle | ReloadStage::Loading(_)) => {
                self.stage = stage;
                None
            }
        }
    }

    /// Waits for the next thing to happen. Cancel-safe: a load stays here.
    pub async fn step(&mut self) -> ReloadStep {
        let ended = match &mut self.stage {
            ReloadStage::Idle if self.waiting.is_none() => std::future::pending().await,
            ReloadStage::Idle => {
                sleep_until(self.next).await;
                None
            }
            ReloadStage::Loading(load) => timeout_at(load.deadline, &mut load.thread).await.ok(),
            ReloadStage::Loaded(_, deadline) => {
                sleep_until(*deadline).await;
                None
            }
        };
        self.next = Instant::now() + PAUSE;
        match (std::mem::replace(&mut self.stage, ReloadStage::Idle), ended) {
            (ReloadStage::Idle, _) => match self.waiting.take() {
                Some(askers) => self.begin(askers),
                // Without askers the wait above does not end.
                None => std::future::pending().await,
            },
            (ReloadStage::Loading(load), None) => self.abandon(load),
            (ReloadStage::Loading(load), Some(Ok(Ok(loaded)))) => {
                let reload = PendingReload { loaded, askers: load.askers };
                self.stage = ReloadStage::Loaded(Box::new(reload), load.deadline);
                ReloadStep::Loaded
            }
            (ReloadStage::Loading(load), Some(Ok(Err(fault)))) => ReloadStep::Failed(load.askers, fault),
            (ReloadStage::Loading(load), Some(Err(error))) => {
                let fault = format!("reading the configuration failed: {error}");
                ReloadStep::Failed(load.askers, ReloadFault::Unavailable(fault))
            }
            (ReloadStage::Loaded(reload, _), _) => {
                let fault = "a change through the API waits for the store, and this reload has waited for it in \
                             vain: see whether the disk under the state directory answers";
                ReloadStep::Failed(reload.askers, ReloadFault::Unavailable(fault.to_owned()))
            }
        }
    }

    fn begin(&mut self, askers: ReloadAskers) -> ReloadStep {
        self.abandoned.retain(|load| !load.thread.is_finished());
        if self.abandoned.len() >= ABANDONED_AT_MOST {
            let places: Vec<&str> = self.abandoned.iter().map(|load| &*load.place).collect();
            let fault = format!(
                "{} earlier reads of the configuration still hang, {}, and no other begins before one of them \
                 ends: make the file system there answer, or restart vitald",
                places.len(),
                places.join(" and ")
            );
            return ReloadStep::Failed(askers, ReloadFault::Unavailable(fault));
        }
        let progress = LoadProgress::default();
        let (load, place, socket) = (Arc::clone(&self.load), progress.clone(), self.settings.socket.clone());
        let thread = tokio::task::spawn_blocking(move || load(&place, socket.as_deref()));
        let deadline = Instant::now() + self.settings.within;
        self.stage = ReloadStage::Loading(RunningLoad { askers, thread, progress, deadline });
        ReloadStep::Began
    }

    /// Those who wait are refused too: what they ask for would hang at the same place.
    fn abandon(&mut self, load: RunningLoad) -> ReloadStep {
        let RunningLoad { mut askers, thread, progress, .. } = load;
        if let Some(waiting) = self.waiting.take() {
            askers.join(waiting);
        }
        let place = place_words(&progress);
        let fault = slow_load(self.settings.within, &place);
        self.abandoned.push(AbandonedLoad { thread, place });
        ReloadStep::Failed(askers, ReloadFault::Unavailable(fault))
    }
}

/// What a reload reads and binds, on a thread of its own.
#[must_use]
pub fn loader(source: ConfigSource) -> LoadConfig {
    Arc::new(move |progress: &LoadProgress, in_effect: Option<&Path>| {
        let config = source.load(progress).map_err(|diagnostics| ReloadFault::Refused {
            full: diagnostics.to_string().into(),
            brief: diagnostics.brief().into(),
        })?;
        read_system(&config);
        let socket = http_server::bind_socket(&config.server, in_effect);
        let socket = socket.map_err(|error| ReloadFault::refused(&error.to_string()))?;
        Ok(LoadedConfig { config, socket })
    })
}

/// Reads what probes need to know of the system: the ports of its own connections, and its
/// authorities if a channel of files is verified by them, or one of the API may be. Blocks.
pub fn read_system(config: &Config) {
    probe::read_local_ports();
    let of_files = || config.channels.iter().map(|file| &file.channel.probe().tls);
    let defaults = &config.probe_defaults.tls;
    if of_files().any(|tls| tls.verify == VerifyCertificate::Yes && tls.ca.is_none())
        || (defaults.verify == Some(VerifyCertificate::Yes) && defaults.ca.is_none())
    {
        probe::read_system_authorities();
    }
}

/// Where a load hangs: `at /etc/vitald/channels.d`.
#[must_use]
pub fn place_words(progress: &LoadProgress) -> String {
    progress
        .place()
        .map_or_else(|| "before its first file".to_owned(), |path| format!("at {}", path.display()))
}

/// What is said of a load that did not end in time.
#[must_use]
pub fn slow_load(within: Duration, place: &str) -> String {
    format!(
        "the configuration was not read within {within:?} and was given up {place}: see whether the file \
         system there answers"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tokio::sync::oneshot;
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::catalog::{Client, Requester};
    use crate::serve::ReloadSummary;

    const WITHIN: Duration = Duration::from_secs(30);

    /// A load that hangs until it is told what to answer; `began` tells of each.
    struct Hanging {
        began: Receiver<Sender<Result<(), ReloadFault>>>,
        reloads: Reloads,
    }

    impl Hanging {
        fn new() -> Self {
            let (tell, began) = channel();
            let tell = Mutex::new(tell);
            let load: LoadConfig = Arc::new(move |_: &LoadProgress, _: Option<&Path>| {
                let (go_on, told) = channel();
                tell.lock().unwrap().send(go_on).unwrap();
                // Dropped: the test is over.
                told.recv().unwrap_or(Ok(()))?;
                Ok(LoadedConfig { config: Config::default(), socket: None })
            });
            Self { began, reloads: Reloads::new(load, LoadSettings { within: WITHIN, socket: None }) }
        }

        fn ask(&mut self) -> oneshot::Receiver<Result<ReloadSummary, ReloadFault>> {
            let (answer, result) = oneshot::channel();
            let asked_by = Requester::Reload(Client { name: "ops@local".into(), request_id: "1".into() });
            self.reloads.ask(ReloadRequest { asked_by, answer: Some(answer) });
            result
        }

        /// Begins a load, which hangs.
        async fn begin(&mut self) -> Sender<Result<(), ReloadFault>> {
            advance(PAUSE).await;
            assert!(matches!(self.reloads.step().await, ReloadStep::Began));
            self.began.recv().unwrap()
        }

        async fn is_quiet(&mut self) -> bool {
            timeout(Duration::ZERO, self.reloads.step()).await.is_err()
        }
    }

    fn refused(step: ReloadStep) -> (usize, String) {
        match step {
            ReloadStep::Failed(askers, fault) => (askers.answers.len(), fault.to_string()),
            ReloadStep::Began | ReloadStep::Loaded => panic!("not refused"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_load_runs_and_whoever_asks_meanwhile_shares_the_next() {
        let mut hanging = Hanging::new();
        assert!(hanging.is_quiet().await, "nobody has asked");
        let _first = hanging.ask();
        let go_on = hanging.begin().await;
        let _others: Vec<_> = (0..100).map(|_| hanging.ask()).collect();
        drop(hanging.ask());
        hanging.reloads.ask(ReloadRequest { asked_by: Requester::Signal, answer: None });
        assert!(hanging.is_quiet().await, "the first load still runs");
        go_on.send(Ok(())).unwrap();
        assert!(matches!(hanging.reloads.step().await, ReloadStep::Loaded));
        assert!(hanging.is_quiet().await, "no load begins while one waits to be in effect");
        assert_eq!(hanging.reloads.take_loaded().unwrap().askers.answers.len(), 1);
        assert!(hanging.is_quiet().await, "nor before a pause");
        let go_on = hanging.begin().await;
        go_on.send(Err(ReloadFault::Unavailable("no".to_owned()))).unwrap();
        assert_eq!(refused(hanging.reloads.step().await), (100, "no".to_owned()));
        advance(10 * PAUSE).await;
        assert!(hanging.is_quiet().await, "everybody was answered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_never_ends_is_abandoned_and_a_third_does_not_begin() {
        let mut hanging = Hanging::new();
        let mut threads = Vec::new();
        for _ in 0..ABANDONED_AT_MOST {
            let _first = hanging.ask();
            threads.push(hanging.begin().await);
            let _waits = hanging.ask();
            advance(WITHIN - Duration::from_millis(1)).await;
            assert!(hanging.is_quiet().await, "not yet");
            advance(Duration::from_millis(1)).await;
            let (answers, why) = refused(hanging.reloads.step().await);
            assert_eq!(answers, 2, "who waited would wait in vain");
            assert!(why.contains("not read within 30s") && why.contains("before its first file"), "{why}");
        }
        let _third = hanging.ask();
        advance(PAUSE).await;
        let (answers, why) = refused(hanging.reloads.step().await);
        assert!(answers == 1 && why.contains("2 earlier reads of the configuration still hang"), "{why}");
        // The mount answers again: one of them ends, and nobody hears of what it read.
        threads.remove(0).send(Ok(())).unwrap();
        while hanging.reloads.abandoned.iter().all(|load| !load.thread.is_finished()) {
            tokio::task::yield_now().await;
        }
        let _fourth = hanging.ask();
        threads.push(hanging.begin().await);
        assert!(hanging.is_quiet().await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_put_into_effect_in_time_is_refused() {
        let mut hanging = Hanging::new();
        let _first = hanging.ask();
        hanging.begin().await.send(Ok(())).unwrap();
        assert!(matches!(hanging.reloads.step().await, ReloadStep::Loaded));
        advance(WITHIN).await;
        let (answers, why) = refused(hanging.reloads.step().await);
        assert!(answers == 1 && why.contains("disk under the state directory"), "{why}");
        assert!(hanging.reloads.take_loaded().is_none());
    }
}
