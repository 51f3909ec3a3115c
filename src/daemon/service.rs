//! The daemon as a service: its signals, its state directory, and what the service manager
//! is told.
//!
//! Called by [`super::run`] and [`super::control`]. A notification does nothing when no
//! manager listens; one that fails is logged at debug level, as the daemon works
//! without its manager.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::DaemonError;
use crate::config::Config;
use crate::store::{StateDirectory, StoreError};

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Orderly, after a signal or through the stop handle.
    Stopped,
    /// Not wholly: a disk did not answer, and what was not written by then is lost.
    Unsaved,
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
    pub fn listen(stop: CancellationToken) -> io::Result<Self> {
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

    /// Waits for SIGTERM, SIGINT or the stop handle; SIGHUP stays pending.
    pub async fn stop(&mut self) {
        // Cancel-safe, each arm: a signal stays pending until `recv` returns it, and
        // `cancelled` only waits.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.stop.cancelled() => {}
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

    /// The state directory; none keeps nothing.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether there is an API, which keeps its channels there.
    #[must_use]
    pub fn has_api(&self) -> bool {
        self.has_api
    }

    /// What is said when the directory did not answer in time.
    #[must_use]
    pub fn slow(&self, within: Duration) -> DaemonError {
        let path = self.path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
        DaemonError::Slow(format!(
            "the state directory{path} did not answer within {within:?}: see whether its disk works"
        ))
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

/// A reload has ended, well or not.
pub fn reloaded() {
    send(&[NotifyState::Ready]);
}

/// A reload begins; `reloaded` ends it. The timestamp lets `Type=notify-reload`
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

/// Sends to the manager that `$NOTIFY_SOCKET` names.
fn send(states: &[NotifyState<'_>]) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send_to(Path::new(&path), states)
    {
        tracing::debug!(%error, "the service manager was not reached");
    }
}

/// Never waits: of a manager that does not read its messages the further ones are lost.
fn send_to(path: &Path, states: &[NotifyState<'_>]) -> io::Result<()> {
    let lines: Vec<String> = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(lines.concat().as_bytes(), path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send_to(&path, &[NotifyState::Ready, NotifyState::Status("good")]).unwrap();
        // The kernel's queue has room for a few hundred messages at most.
        let full = (0..100_000).find_map(|_| send_to(&path, &[NotifyState::Watchdog]).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let mut first = [0; 64];
        let length = manager.recv(&mut first).unwrap();
        assert_eq!(first.get(..length), Some(&b"READY=1\nSTATUS=good\n"[..]));
    }
}
