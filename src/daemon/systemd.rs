//! What the service manager is told: readiness, reloads, counts, liveness.
//!
//! Every call is a no-op when no manager listens. A failed notification is
//! logged once at debug level: the daemon works without its manager.

use std::time::Duration;

use sd_notify::NotifyState;

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
