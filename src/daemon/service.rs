//! The daemon as a service: its configuration, its signals, its state directory, and
//! what the service manager is told.
//!
//! Called by [`super::run`] and [`super::control`]. A notification does nothing when no
//! manager listens; one that fails is logged at debug level, as the daemon works
//! without its manager.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Diagnostics};
use crate::store::{StateDirectory, StoreError};

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
}

impl ConfigSource {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Config, Diagnostics> {
        match self {
            Self::File(path) => config::load(path),
            Self::Text { name, text } => config::parse(name, text, std::path::Path::new(".")),
        }
    }
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Orderly, after a signal or through the stop handle.
    Stopped,
    /// By a second signal of this number, without waiting.
    Forced(i32),
}

/// What a signal or the stop handle asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalRequest {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM, SIGINT, or the stop handle.
    Stop,
}

/// The signals the daemon listens to.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    stop: CancellationToken,
}

impl Signals {
    /// Takes over SIGHUP, SIGTERM and SIGINT. Must run inside a runtime.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn listen(stop: CancellationToken) -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stop,
        })
    }

    /// The next request. Cancel-safe: signals stay pending until returned.
    pub async fn next(&mut self) -> SignalRequest {
        // Cancel-safe, each arm: a signal stays pending until `recv` returns it, and
        // `cancelled` only waits.
        tokio::select! {
            _ = self.hangup.recv() => SignalRequest::Reload,
            _ = self.terminate.recv() => SignalRequest::Stop,
            _ = self.interrupt.recv() => SignalRequest::Stop,
            () = self.stop.cancelled() => SignalRequest::Stop,
        }
    }

    /// Waits for one more SIGTERM or SIGINT and says which number it was.
    pub async fn second_stop(&mut self) -> i32 {
        // Cancel-safe, both arms: a signal stays pending until `recv` returns it.
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}

/// Where state is kept, and for what; fixed when the daemon starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLocation {
    /// The state directory; none keeps nothing.
    path: Option<PathBuf>,
    has_api: bool,
}

impl StateLocation {
    /// `[store] path`, else the first directory of `$STATE_DIRECTORY`, as
    /// systemd sets it.
    ///
    /// # Errors
    /// There is an API and no place for what it makes.
    pub fn of(config: &Config) -> Result<Self, String> {
        let of_manager = || {
            let listed = std::env::var_os("STATE_DIRECTORY")?;
            std::env::split_paths(&listed).find(|path| path.is_absolute())
        };
        let path = config.store.path.clone().or_else(of_manager);
        let has_api = config.api.is_some();
        if path.is_none() && has_api {
            return Err("[api] needs a place for the channels it makes: set [store] path = \
                        \"/var/lib/vitald\", or StateDirectory=vitald in the systemd unit"
                .to_owned());
        }
        Ok(Self { path, has_api })
    }

    /// Whether a new configuration keeps it.
    ///
    /// # Errors
    /// It would take a restart.
    pub fn judge(&self, config: &Config) -> Result<(), String> {
        let new = Self::of(config)?;
        if new.has_api != self.has_api {
            let (verb, is) = if new.has_api { ("on", "off") } else { ("off", "on") };
            return Err(format!(
                "[api] was switched {verb}, which takes a restart of vitald; restart it, or leave the API {is}"
            ));
        }
        if new.path != self.path {
            return Err("[store] path changed, which takes a restart of vitald; restart it, or put the old \
                        one back"
                .to_owned());
        }
        Ok(())
    }

    /// Makes and locks the directory, if there is to be one; with an API there is.
    ///
    /// # Errors
    /// It is in use, or the system refused.
    pub fn open(&self) -> Result<Option<Arc<StateDirectory>>, StoreError> {
        self.path.as_deref().map(|path| StateDirectory::open(path).map(Arc::new)).transpose()
    }
}

/// The daemon serves and probes.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; `ready` ends it. The timestamp lets `Type=notify-reload`
/// managers tell this reload from an earlier one.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(stamp) => send(&[NotifyState::Reloading, stamp]),
        Err(error) => tracing::debug!(%error, "no monotonic clock for the service manager"),
    }
}

/// The daemon ends.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The drivers make progress.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often the manager wants to hear of progress, if it does.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not reached");
    }
}
