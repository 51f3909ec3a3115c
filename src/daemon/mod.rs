//! Wiring: drivers, clock, signals, reload, systemd.
//!
//! | file | what it does |
//! |---|---|
//! | `control` | the loop: transitions, reloads, the end |
//! | `driver` | a thread's turn: start what is due, collect, judge stalls |
//! | `executor` | a driver's running probes |
//! | `driver_pool` | the drivers' threads |
//! | `fall` | reloads that take every channel or many members away |
//! | `observer` | snapshots for the HTTP server |
//! | `reloads` | who has asked for a reload, and the load that runs beside the loop |
//! | `registrar` | the one writer of channels: calls of the management API, reloads |
//! | `override_keeper` | overrides of members over a restart |
//! | `report` | what the daemon says of itself every few seconds |
//! | `verdicts` | verdicts over a restart: found at the start, saved every few seconds |
//! | `http_server` | the HTTP server: thread, listeners, their change on reload |
//! | `changes` | tells the log what changed of members and tiers |
//! | `catch_up` | when balancers write long orders again |
//! | `clock` | the one place that reads a clock |
//! | `process` | what the process asks of the system: open files, privacy, priorities |
//! | `service` | signals, the state directory, what the service manager is told |
//! | `spreading` | how many drivers probe, and members on their way between them |
//! | `shortage` | says when descriptors, ports or permits run out |

pub mod catch_up;
pub mod changes;
pub mod clock;
pub mod control;
pub mod driver;
pub mod driver_pool;
mod executor;
pub mod fall;
pub mod http_server;
pub mod observer;
pub mod override_keeper;
pub mod process;
pub mod registrar;
pub mod reloads;
pub mod report;
pub mod service;
pub mod shortage;
pub mod spreading;
pub mod verdicts;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::ErrorCounter;

use self::catch_up::CatchUp;
use self::clock::Clock;
use self::control::Control;
pub use self::control::TransitionEvent;
use self::driver_pool::DriverPool;
use self::http_server::{BoundListener, BoundSocket, HttpServer, HttpThread, ListenOverride, Routes};
use self::observer::{Observer, ObserverState};
use self::override_keeper::OverrideKeeper;
use self::registrar::{Backend, CALL_QUEUE, KeptState, Registrar, SharedSnapshot};
pub use self::reloads::ConfigSource;
use self::reloads::{LoadSettings, Reloads, loader, place_words, read_system, slow_load};
use self::report::{Reporter, status_text};
pub use self::service::Ending;
use self::service::{Signals, StateLocation};
use self::spreading::Spreading;
use self::verdicts::VerdictSaver;
use crate::catalog::{Catalog, ReloadState, ReloadSummary, SourceError};
use crate::config::{self, Config, Diagnostics, LoadProgress, ProberSettings};
use crate::probe::{Resolver, SystemLookup};
use crate::serve::DaemonHandle as _;
use crate::serve::auth::AuthGate;
use crate::store::{LocalStore, Recall, StateDirectory, StoreError};

/// Batches of transitions waiting for control; a full queue makes the drivers
/// merge, see [`driver::Driver`].
const TRANSITION_QUEUE: usize = 64;

/// Reload requests waiting; further clients wait in line.
const RELOAD_QUEUE: usize = 4;

/// How long a start waits for the state directory: for opening and verifying the store and
/// the verdicts, and for taking them over. 100,000 channels take a few seconds.
const STATE_WITHIN: Duration = Duration::from_secs(60);

/// How the daemon is to run.
pub struct DaemonOptions {
    /// Where the configuration comes from.
    pub config: ConfigSource,
    /// Overrides `[server] listen`.
    pub listen: Option<SocketAddr>,
    /// Ends the daemon when cancelled.
    pub stop: CancellationToken,
    /// Called once the daemon serves, with the address it listens on.
    pub on_ready: Option<Box<dyn FnOnce(SocketAddr) + Send>>,
    /// Gets every transition, as long as it keeps up.
    pub events: Option<mpsc::Sender<TransitionEvent>>,
    /// Counts the log lines that were dropped; none where lines are never dropped.
    pub lost_log_lines: Option<ErrorCounter>,
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(Diagnostics),
    /// What the configuration asks for cannot be had, or not together.
    #[error("{0}")]
    Setting(String),
    /// The state directory or the store in it cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds cannot be taken over.
    #[error(transparent)]
    Restore(#[from] SourceError),
    /// The probes of a channel cannot be prepared.
    #[error("{0}")]
    Channels(String),
    /// The listening address cannot be bound.
    #[error(transparent)]
    Bind(#[from] http_server::BindError),
    /// The system gave no thread, event queue or signal handler.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A file system does not answer.
    #[error("cannot start: {0}")]
    Slow(String),
}

/// Runs the daemon until it is told to stop. Blocks; builds its own runtimes.
///
/// # Errors
/// Why it did not start. Once it runs, nothing outside ends it but a signal or
/// the stop handle.
pub fn run(options: DaemonOptions) -> Result<Ending, DaemonError> {
    process::keep_memory_private();
    let runtime = process::runtime_with_a_spare_thread()?;
    let ending = runtime.block_on(start_and_run(options));
    // A look-up, a load or a disk may hang; the end does not wait for it.
    runtime.shutdown_background();
    ending
}

/// Starts the daemon and runs it. A signal to end counts while it starts, too.
async fn start_and_run(options: DaemonOptions) -> Result<Ending, DaemonError> {
    let mut signals = Signals::listen(options.stop.clone())?;
    let control = tokio::select! {
        // Given up half done only when the other arm ends the process; dropping what it
        // holds waits for nothing.
        control = start(options) => control?,
        // Cancel-safe: a signal stays pending until it is returned.
        () = signals.stop() => return Ok(Ending::Stopped),
    };
    Ok(control.run(signals).await)
}

async fn start(options: DaemonOptions) -> Result<Control, DaemonError> {
    let config = first_load(&options.config).await?;
    config.notes.iter().for_each(|note| tracing::warn!("{note}"));
    let clock = Clock::start();
    let now = clock.now();
    let listen_override = if options.listen.is_some() { ListenOverride::Given } else { ListenOverride::None };
    let listen = options.listen.unwrap_or(config.server.listen);
    http_server::judge_exposure(config.api.as_ref(), &config.server, listen)?;
    let bound = http_server::bind(listen)?;
    let address = bound.address();
    let state = StateLocation::of(&config).map_err(DaemonError::Setting)?;
    let (call_queue, calls) = mpsc::channel(CALL_QUEUE);
    let OpenedState { directory, kept, recall } =
        open_state(state.clone(), clock, config.store.verdict_age_limit).await?;
    let saver = directory.map(|directory| VerdictSaver::new(&directory, clock));
    let mut writes: Vec<_> = kept.store.iter().map(|store| store.monitor().clone()).collect();
    writes.extend(saver.as_ref().map(|saver| saver.monitor().clone()));
    writes.extend(kept.keeper.as_ref().map(|keeper| keeper.monitor().clone()));

    let file_limit = process::raise_file_limit();
    let concurrency = process::concurrency(config.prober.max_in_flight, file_limit);
    let (transition_queue, transitions) = mpsc::channel(TRANSITION_QUEUE);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let spreading = Spreading::new(config.prober.drivers, cores);
    let pool = DriverPool::start(clock, spreading.first(), concurrency, transition_queue)?;
    let (resolver, refresher) = Resolver::new(SystemLookup, config.prober.resolve_interval);
    tokio::spawn(refresher.run());
    let mut catalog = Catalog::new(spreading.first(), fastrand::u64(..), resolver.clone());
    catalog.set_recall(recall);

    let (published, channel_reader) = watch::channel(Arc::clone(catalog.channels()));
    let (reload_state, reload_reader) =
        watch::channel(ReloadState { successful: true, last_success: now.wall });
    let (reload_queue, requests) = mpsc::channel(RELOAD_QUEUE);
    let observer = Observer(Arc::new(ObserverState {
        clock,
        started_at: now.wall,
        ready_at: now.monotonic + config.prober.ready_within,
        ready: AtomicBool::new(false),
        channels: channel_reader,
        reload_state: reload_reader,
        drivers: pool.handles(),
        control_turn: AtomicU64::new(now.monotonic.0),
        reloads: reload_queue,
        calls: call_queue,
        writes,
        changes: Arc::clone(catalog.change_counters()),
        resolver,
        lost_log_lines: options.lost_log_lines,
    }));
    catalog.reference().replace(config.prober.reference.clone());
    let opening =
        Registrar::open(&config, (kept, calls), clock, (catalog, pool, spreading, file_limit), published);
    let (registrar, summary) =
        timeout(STATE_WITHIN, opening).await.map_err(|_| state.slow(STATE_WITHIN))??;
    // Served only now: a client finds every channel, and readiness means something.
    let server = serve(&config, (bound, listen_override), observer.clone(), clock).await?;
    let settings = LoadSettings::of(&config, server.socket());
    observer.note_control_turn();
    let control = Control {
        reloads: Reloads::new(loader(options.config), settings),
        config: Config { channels: Vec::new(), ..config },
        fault: None,
        registrar,
        state,
        saver,
        server,
        observer,
        reload_state,
        transitions,
        requests,
        next_move: None,
        catch_up: CatchUp::default(),
        events: options.events,
    };
    announce(&control.observer, address, summary, concurrency).await;
    tokio::spawn(Reporter::new(control.observer.clone()).run());
    if let Some(on_ready) = options.on_ready {
        on_ready(address);
    }
    Ok(control)
}

/// Serves on what is bound, and on the Unix socket that the configuration names.
async fn serve(
    config: &Config,
    (bound, listen_override): (BoundListener, ListenOverride),
    observer: Observer,
    clock: Clock,
) -> Result<HttpServer, DaemonError> {
    let (sender, addresses) = watch::channel(Vec::new());
    let api = match &config.api {
        Some(api) => {
            let recent = SharedSnapshot::default();
            Some((gate(api, clock)?, Backend { observer: observer.clone(), addresses, recent }))
        }
        None => None,
    };
    let bound = (bound, first_socket(config).await?);
    let (thread, routes) = (HttpThread::start()?, Routes { observer, api });
    Ok(HttpServer::open(thread, bound, listen_override, &config.server, routes, sender)?)
}

/// Tells the log and the service manager that members are probed.
async fn announce(observer: &Observer, address: SocketAddr, summary: ReloadSummary, concurrency: usize) {
    tracing::info!(
        %address,
        channels = summary.channels,
        members = summary.members,
        places = concurrency,
        version = env!("CARGO_PKG_VERSION"),
        "probing"
    );
    service::ready(&status_text(observer.observe().await.ok().as_ref()));
}

/// Reads the configuration for the first time.
async fn first_load(source: &ConfigSource) -> Result<Config, DaemonError> {
    let (progress, source) = (LoadProgress::default(), source.clone());
    let place = progress.clone();
    // `reload_within` is yet to be read.
    let within = ProberSettings::default().reload_within;
    let load = move || {
        let config = source.load(&place).map_err(DaemonError::Config)?;
        read_system(&config);
        Ok(config)
    };
    beside(within, load, || DaemonError::Slow(slow_load(within, &place_words(&progress)))).await
}

/// What is found in the state directory at the start.
struct OpenedState {
    directory: Option<Arc<StateDirectory>>,
    kept: KeptState,
    recall: Option<Arc<Recall>>,
}

async fn open_state(
    state: StateLocation,
    clock: Clock,
    verdict_age_limit: Duration,
) -> Result<OpenedState, DaemonError> {
    let place = state.clone();
    let open = move || {
        let directory = state.open()?;
        let store = directory.as_ref().filter(|_| state.has_api()).map(LocalStore::open).transpose()?;
        let recall =
            directory.as_ref().and_then(|directory| verdicts::recall(directory, clock, verdict_age_limit));
        let overrides = directory.as_ref().map(OverrideKeeper::open).transpose()?;
        let (keeper, overrides) = overrides.unzip();
        let kept = KeptState { store, keeper, overrides: overrides.unwrap_or_default() };
        Ok(OpenedState { directory, kept, recall })
    };
    beside(STATE_WITHIN, open, || place.slow(STATE_WITHIN)).await
}

async fn first_socket(config: &Config) -> Result<Option<BoundSocket>, DaemonError> {
    let server = config.server.clone();
    let within = config.prober.reload_within;
    let bind = move || Ok(http_server::bind_socket(&server, None)?);
    beside(within, bind, || {
        DaemonError::Slow(format!(
            "[server] socket was not made within {within:?}: see whether its file system answers"
        ))
    })
    .await
}

/// Has a thread do what may block. After a while the start fails without waiting for it.
async fn beside<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> Result<T, DaemonError> + Send + 'static,
    slow: impl FnOnce() -> DaemonError,
) -> Result<T, DaemonError> {
    match timeout(within, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.map_err(io::Error::other)?,
        Err(_) => Err(slow()),
    }
}

fn gate(api: &config::api::ApiSettings, clock: Clock) -> Result<AuthGate, DaemonError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    AuthGate::new(api, Arc::new(move || clock.now()), cores)
        .map_err(|error| DaemonError::Setting(format!("the system has no random numbers: {error}")))
}

#[cfg(test)]
mod tests;
