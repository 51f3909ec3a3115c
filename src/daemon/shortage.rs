//! Says when the prober itself runs out of something: once when it begins, once
//! when it is over.
//!
//! Probes without a file descriptor or a local port are inconclusive: no verdict moves,
//! and without these lines only the metrics would show it. [`super::control`] passes the
//! drivers' counters at every beat, so there are at most two lines in two beats, however
//! many probes are concerned.

use crate::health::{DriverSnapshot, ProberReason};

/// What can run out, and how that is called.
const SCARCE: [(ProberReason, &str); 2] =
    [(ProberReason::LocalFd, "file descriptors"), (ProberReason::LocalPort, "local ports")];

/// Something has become short, or has ceased to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShortageChange {
    /// Since the last look, so many probes could not start for lack of it.
    Began {
        /// What is short.
        what: &'static str,
        /// How many.
        probes: u64,
    },
    /// Since the last look every probe could start.
    Ended {
        /// What was short.
        what: &'static str,
    },
}

/// Remembers what was short at the last look.
#[derive(Debug, Default)]
pub struct ShortageWatch {
    seen: [u64; SCARCE.len()],
    is_short: [bool; SCARCE.len()],
}

impl ShortageWatch {
    /// Takes the drivers' counters and returns what has changed.
    pub fn handle_counts(&mut self, drivers: &[DriverSnapshot]) -> Vec<ShortageChange> {
        let channels = || drivers.iter().flat_map(|driver| &driver.channels);
        let states = self.seen.iter_mut().zip(&mut self.is_short);
        let mut changes = Vec::new();
        for ((reason, what), (seen, is_short)) in SCARCE.into_iter().zip(states) {
            let count = channels().filter_map(|stats| stats.inconclusive.get(reason.index())).sum::<u64>();
            // A channel that is gone takes its counts with it.
            let probes = count.saturating_sub(std::mem::replace(seen, count));
            match (*is_short, probes) {
                (false, 1..) => changes.push(ShortageChange::Began { what, probes }),
                (true, 0) => changes.push(ShortageChange::Ended { what }),
                (false, 0) | (true, 1..) => {}
            }
            *is_short = probes > 0;
        }
        changes
    }
}

/// Writes a change to the log.
pub fn log(change: ShortageChange) {
    match change {
        ShortageChange::Began { what, probes } => {
            tracing::warn!(probes, "out of {what}: probes cannot start, no verdict moves by them");
        }
        ShortageChange::Ended { what } => tracing::info!("{what} are free again: every probe starts"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::health::ChannelStats;

    fn drivers(counts: &[(ProberReason, u64)]) -> Vec<DriverSnapshot> {
        let one = |&(reason, count): &(ProberReason, u64)| {
            let mut stats = ChannelStats::default();
            *stats.inconclusive.get_mut(reason.index()).expect("every reason has a counter") = count;
            let mut driver = DriverSnapshot::empty();
            driver.channels = vec![Arc::default(), Arc::new(stats)];
            driver
        };
        counts.iter().map(one).collect()
    }

    #[test]
    fn a_shortage_is_told_once_at_each_end() {
        use ProberReason::{LocalFd, LocalPort, LocalStall};
        let files = "file descriptors";
        let mut watch = ShortageWatch::default();
        let looks: [(&[_], &[ShortageChange]); 9] = [
            (&[], &[]),
            (&[(LocalStall, 9)], &[]),
            (&[(LocalFd, 2), (LocalFd, 5)], &[ShortageChange::Began { what: files, probes: 7 }]),
            (&[(LocalFd, 2), (LocalFd, 600)], &[]),
            (&[(LocalFd, 2), (LocalFd, 600)], &[ShortageChange::Ended { what: files }]),
            (&[(LocalFd, 2), (LocalFd, 600)], &[]),
            // A channel went: less than before is no shortage.
            (&[(LocalFd, 2)], &[]),
            (
                &[(LocalFd, 3), (LocalPort, 1)],
                &[
                    ShortageChange::Began { what: files, probes: 1 },
                    ShortageChange::Began { what: "local ports", probes: 1 },
                ],
            ),
            (
                &[(LocalFd, 3), (LocalPort, 1)],
                &[ShortageChange::Ended { what: files }, ShortageChange::Ended { what: "local ports" }],
            ),
        ];
        for (number, (counts, expected)) in looks.into_iter().enumerate() {
            assert_eq!(watch.handle_counts(&drivers(counts)), expected, "look {number}");
        }
    }
}
