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
//! | `registrar` | the one writer of channels: calls of the management API, reloads |
//! | `verdicts` | verdicts over a restart: found at the start, saved every few seconds |
//! | `http_server` | the HTTP server: thread, listeners, their change on reload |
//! | `catch_up` | when balancers write long orders again |
//! | `clock` | the one place that reads a clock |
//! | `process` | what the process asks of the system: open files, privacy, priorities |
//! | `service` | signals, the state directory, what the service manager is told |
//! | `shortage` | says when descriptors, ports or permits run out |

pub mod catch_up;
pub mod clock;
pub mod control;
pub mod driver;
pub mod driver_pool;
mod executor;
pub mod fall;
pub mod http_server;
pub mod observer;
pub mod process;
pub mod registrar;
pub mod service;
pub mod shortage;
pub mod verdicts;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::ErrorCounter;

use self::catch_up::CatchUp;
use self::clock::Clock;
use self::control::Control;
pub use self::control::TransitionEvent;
use self::driver_pool::DriverPool;
use self::http_server::{HttpServer, HttpThread, ListenOverride, Routes};
use self::observer::{Observer, ObserverState};
use self::registrar::{Backend, CALL_QUEUE, Registrar, SharedSnapshot};
pub use self::service::{ConfigSource, Ending};
use self::service::{Signals, StateLocation};
use self::shortage::ShortageWatch;
use self::verdicts::VerdictSaver;
use crate::catalog::{Catalog, ReloadState, SourceError};
use crate::config::{self, Config, Diagnostics};
use crate::probe::{Resolver, SystemLookup};
use crate::serve::auth::AuthGate;
use crate::store::{LocalStore, StoreError};

/// Batches of transitions waiting for control; a full queue makes the drivers
/// merge, see [`driver::Driver`].
const TRANSITION_QUEUE: usize = 64;

/// Reload requests waiting; further clients wait in line.
const RELOAD_QUEUE: usize = 4;

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
}

/// Runs the daemon until it is told to stop. Blocks; builds its own runtimes.
///
/// # Errors
/// Why it did not start. Once it runs, nothing outside ends it but a signal or
/// the stop handle.
pub fn run(options: DaemonOptions) -> Result<Ending, DaemonError> {
    process::keep_memory_private();
    let config = options.config.load().map_err(DaemonError::Config)?;
    config.notes.iter().for_each(|note| tracing::warn!("{note}"));
    let runtime = process::runtime_with_a_spare_thread()?;
    let ending = runtime.block_on(start(options, config));
    // A name look-up may hang in the system's resolver; the end does not wait for it.
    runtime.shutdown_background();
    ending
}

async fn start(options: DaemonOptions, config: Config) -> Result<Ending, DaemonError> {
    let clock = Clock::start();
    let now = clock.now();
    let signals = Signals::listen(options.stop)?;
    let listen_override = if options.listen.is_some() { ListenOverride::Given } else { ListenOverride::None };
    let listen = options.listen.unwrap_or(config.server.listen);
    http_server::judge_exposure(config.api.as_ref(), &config.server, listen)?;
    let bound = http_server::bind(listen)?;
    let address = bound.address();
    let state = StateLocation::of(&config).map_err(DaemonError::Setting)?;
    let (call_queue, calls) = mpsc::channel(CALL_QUEUE);
    let directory = state.open()?;
    let mut writes = Vec::new();
    let api = match (&config.api, &directory) {
        (Some(_), Some(directory)) => {
            let store = LocalStore::open(directory)?;
            writes.push(store.monitor().clone());
            Some((store, calls))
        }
        _ => None,
    };
    let limit = config.store.verdict_age_limit;
    let recall = directory.as_ref().and_then(|directory| verdicts::recall(directory, clock, limit));
    let saver = directory.map(|directory| VerdictSaver::new(&directory, clock));
    writes.extend(saver.as_ref().map(|saver| saver.monitor().clone()));

    let file_limit = process::raise_file_limit();
    let concurrency = process::concurrency(config.prober.max_in_flight, file_limit);
    let (transition_queue, transitions) = mpsc::channel(TRANSITION_QUEUE);
    let pool = DriverPool::start(clock, concurrency, &transition_queue)?;
    let (resolver, refresher) = Resolver::new(SystemLookup, config.prober.resolve_interval);
    tokio::spawn(refresher.run());
    let mut catalog = Catalog::new(pool.handles().len(), fastrand::u64(..), resolver.clone());
    catalog.set_recall(recall);

    let (published, channel_reader) = watch::channel(Arc::clone(catalog.channels()));
    let (reload_state, reload_reader) =
        watch::channel(ReloadState { successful: true, last_success: now.wall });
    let (reload_queue, reloads) = mpsc::channel(RELOAD_QUEUE);
    let observer = Observer(Arc::new(ObserverState {
        clock,
        started_at: now.wall,
        ready_at: now.monotonic + config.prober.ready_within,
        ready: AtomicBool::new(false),
        channels: channel_reader,
        reload_state: reload_reader,
        drivers: pool.handles().to_vec(),
        reloads: reload_queue,
        writes,
        resolver,
        lost_log_lines: options.lost_log_lines,
    }));
    catalog.reference().replace(config.prober.reference.clone());
    let (registrar, summary) =
        Registrar::open(&config, api, clock, (catalog, pool, file_limit), published).await?;
    // Served only now: a client finds every channel, and readiness means something.
    let (addresses, address_reader) = watch::channel(Vec::new());
    let api = match &config.api {
        Some(api) => {
            let recent = SharedSnapshot::default();
            let backend =
                Backend { observer: observer.clone(), calls: call_queue, addresses: address_reader, recent };
            Some((gate(api, clock)?, backend))
        }
        None => None,
    };
    let routes = Routes { observer: observer.clone(), api };
    let server =
        HttpServer::open(HttpThread::start()?, bound, listen_override, &config.server, routes, addresses)?;
    let control = Control {
        config: options.config,
        registrar,
        state,
        saver,
        server,
        observer,
        shortage: ShortageWatch::default(),
        reload_state,
        transitions,
        reloads,
        catch_up: CatchUp::default(),
        events: options.events,
        lost_log_lines: 0,
    };
    tracing::info!(
        %address,
        channels = summary.channels,
        members = summary.members,
        places = concurrency,
        version = env!("CARGO_PKG_VERSION"),
        "probing"
    );
    service::ready(&control.status_line().await);
    if let Some(on_ready) = options.on_ready {
        on_ready(address);
    }
    Ok(control.run(signals).await)
}

fn gate(api: &config::api::ApiSettings, clock: Clock) -> Result<AuthGate, DaemonError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    AuthGate::new(api, Arc::new(move || clock.now()), cores)
        .map_err(|error| DaemonError::Setting(format!("the system has no random numbers: {error}")))
}
