//! Signals and the stop handle as wishes: reload, stop, stop at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What somebody outside asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
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

    /// The next wish. Cancel-safe: signals stay pending until returned.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            () = self.stop.cancelled() => Wish::Stop,
        }
    }

    /// Waits for one more SIGTERM or SIGINT and says which number it was.
    pub async fn second_stop(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}
