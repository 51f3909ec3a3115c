//! What the daemon says of itself every few seconds: a line for the service manager,
//! shortages, and log lines that were dropped.
//!
//! A task of its own, which [`super::run`] starts: it asks the drivers, and one that does
//! not answer must not keep the control loop waiting.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::observer::Observer;
use super::service;
use super::shortage::{self, ShortageWatch};
use crate::catalog::{HealthCounts, Snapshot};
use crate::serve::DaemonHandle as _;

const EVERY: Duration = Duration::from_secs(5);

/// Reports until it is dropped.
#[derive(Debug)]
pub struct Reporter {
    observer: Observer,
    shortage: ShortageWatch,
    /// The dropped log lines that the log has been told of.
    lost_log_lines: u64,
}

impl Reporter {
    /// Has reported nothing yet.
    #[must_use]
    pub fn new(observer: Observer) -> Self {
        Self { observer, shortage: ShortageWatch::default(), lost_log_lines: 0 }
    }

    /// Runs until dropped.
    pub async fn run(mut self) {
        let mut beat = interval(EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.report_lost_log_lines();
            let observed = self.observer.observe().await.ok();
            if let Some(snapshot) = &observed {
                for change in self.shortage.handle_counts(&snapshot.drivers) {
                    shortage::log(change, snapshot.max_in_flight());
                }
            }
            service::status(&status_text(observed.as_ref()));
        }
    }

    /// Says in the log that lines are missing from it, once it takes lines again.
    fn report_lost_log_lines(&mut self) {
        let lost = self.observer.lost_log_lines();
        if lost > self.lost_log_lines {
            tracing::warn!(lost, "log lines were dropped because nobody read them: {lost} since the start");
            if self.observer.lost_log_lines() == lost {
                self.lost_log_lines = lost;
            }
        }
    }
}

/// One line with counts for the service manager; without a snapshot, that a driver does not
/// answer.
#[must_use]
pub fn status_text(snapshot: Option<&Snapshot>) -> String {
    let Some(snapshot) = snapshot else { return "A driver does not answer".to_owned() };
    let mut sum = HealthCounts::default();
    let mut channels = 0;
    for entry in snapshot.channels.entries() {
        channels += 1;
        let counts = snapshot.channel(entry).member_counts();
        sum.healthy += counts.healthy;
        sum.unhealthy += counts.unhealthy;
        sum.unknown += counts.unknown;
        sum.disabled += counts.disabled;
    }
    let limited = match snapshot.waiting() {
        0 => String::new(),
        waiting => format!("; {waiting} members wait, {} probes run at once", snapshot.max_in_flight()),
    };
    format!(
        "{channels} channels: {} healthy, {} unhealthy, {} unknown, {} disabled{limited}",
        sum.healthy, sum.unhealthy, sum.unknown, sum.disabled
    )
}
