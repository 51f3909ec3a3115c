//! Says when the prober itself runs out of something: once when it begins, once
//! when it is over.
//!
//! Probes without a file descriptor or a local port are inconclusive: no verdict moves.
//! Probes without a permit come late, and verdicts with them. Without these lines only
//! the metrics would show it. [`super::report`] passes the drivers' counters every
//! few seconds, so there are at most two lines in two rounds, however many probes are
//! concerned.

use crate::health::{DriverSnapshot, ProberReason};

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarce {
    /// File descriptors, and memory for sockets.
    Descriptors,
    /// Local ports.
    Ports,
    /// Permits: as many probes ran already as may run at once.
    Permits,
}

impl Scarce {
    const ALL: [Self; 3] = [Self::Descriptors, Self::Ports, Self::Permits];

    /// How many probes have met with it so far.
    fn count(self, drivers: &[DriverSnapshot]) -> u64 {
        let inconclusive = |reason: ProberReason| {
            let channels = drivers.iter().flat_map(|driver| &driver.channels);
            channels.filter_map(|stats| stats.inconclusive.get(reason.index())).sum()
        };
        match self {
            Self::Descriptors => inconclusive(ProberReason::LocalFd),
            Self::Ports => inconclusive(ProberReason::LocalPort),
            Self::Permits => drivers.iter().map(|driver| driver.delayed).sum(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Descriptors => "file descriptors",
            Self::Ports => "local ports",
            Self::Permits => "permits",
        }
    }
}

/// Something has become short, or has ceased to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShortageChange {
    /// Since the last look, so many probes could not start, or had to wait, for lack of it.
    Began(Scarce, u64),
    /// Since the last look every probe could start at once.
    Ended(Scarce),
}

/// Remembers what was short at the last look.
#[derive(Debug, Default)]
pub struct ShortageWatch {
    seen: [u64; Scarce::ALL.len()],
    is_short: [bool; Scarce::ALL.len()],
}

impl ShortageWatch {
    /// Takes the drivers' counters and returns what has changed.
    pub fn handle_counts(&mut self, drivers: &[DriverSnapshot]) -> Vec<ShortageChange> {
        let states = self.seen.iter_mut().zip(&mut self.is_short);
        let mut changes = Vec::new();
        for (what, (seen, is_short)) in Scarce::ALL.into_iter().zip(states) {
            let count = what.count(drivers);
            // A channel that is gone takes its counts with it.
            let probes = count.saturating_sub(std::mem::replace(seen, count));
            match (*is_short, probes) {
                (false, 1..) => changes.push(ShortageChange::Began(what, probes)),
                (true, 0) => changes.push(ShortageChange::Ended(what)),
                (false, 0) | (true, 1..) => {}
            }
            *is_short = probes > 0;
        }
        changes
    }
}

/// Writes a change to the log. `max_in_flight` is how many probes may run at once.
pub fn log(change: ShortageChange, max_in_flight: usize) {
    match change {
        ShortageChange::Began(Scarce::Permits, probes) => tracing::warn!(
            probes,
            max_in_flight,
            "probing is limited: {probes} probes had to wait because {max_in_flight} run at once; raise \
             `[prober] max_in_flight`, or the limit on open files where that is \"auto\""
        ),
        ShortageChange::Ended(Scarce::Permits) => {
            tracing::info!(max_in_flight, "probing is not limited any more: no probe had to wait");
        }
        ShortageChange::Began(what, probes) => {
            tracing::warn!(probes, "out of {}: probes cannot start, no verdict moves by them", what.words());
        }
        ShortageChange::Ended(what) => {
            tracing::info!("{} are free again: every probe starts", what.words());
        }
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
        let files = Scarce::Descriptors;
        let mut watch = ShortageWatch::default();
        let looks: [(&[_], &[ShortageChange]); 9] = [
            (&[], &[]),
            (&[(LocalStall, 9)], &[]),
            (&[(LocalFd, 2), (LocalFd, 5)], &[ShortageChange::Began(files, 7)]),
            (&[(LocalFd, 2), (LocalFd, 600)], &[]),
            (&[(LocalFd, 2), (LocalFd, 600)], &[ShortageChange::Ended(files)]),
            (&[(LocalFd, 2), (LocalFd, 600)], &[]),
            // A channel went: less than before is no shortage.
            (&[(LocalFd, 2)], &[]),
            (
                &[(LocalFd, 3), (LocalPort, 1)],
                &[ShortageChange::Began(files, 1), ShortageChange::Began(Scarce::Ports, 1)],
            ),
            (
                &[(LocalFd, 3), (LocalPort, 1)],
                &[ShortageChange::Ended(files), ShortageChange::Ended(Scarce::Ports)],
            ),
        ];
        for (number, (counts, expected)) in looks.into_iter().enumerate() {
            assert_eq!(watch.handle_counts(&drivers(counts)), expected, "look {number}");
        }
    }

    #[test]
    fn limited_probing_is_told_once_at_each_end() {
        let mut watch = ShortageWatch::default();
        let began = |probes| vec![ShortageChange::Began(Scarce::Permits, probes)];
        let ended = || vec![ShortageChange::Ended(Scarce::Permits)];
        let looks = [
            ([0, 0], vec![]),
            ([3, 4], began(7)),
            ([3, 90], vec![]),
            ([3, 90], ended()),
            ([3, 90], vec![]),
            ([4, 90], began(1)),
        ];
        for (number, (delayed, expected)) in looks.into_iter().enumerate() {
            let drivers = delayed.map(|delayed| DriverSnapshot { delayed, ..DriverSnapshot::empty() });
            assert_eq!(watch.handle_counts(&drivers), expected, "look {number}");
        }
    }
}
