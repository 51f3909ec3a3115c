//! How many probes may run at once: what the file limit allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::MaxInFlight;

/// Files kept for everything that is not a probe: the listener and its clients,
/// logs, the resolver.
const RESERVED_FILES: usize = 320;

/// No more than this even where files abound: local ports to one address are
/// about 28,000, and a probe in flight holds one.
const MOST: usize = 16_384;

/// Raises the soft limit of open files to the hard one and returns it.
///
/// Failing to raise it is not fatal: fewer probes run at once.
pub fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(current).unwrap_or(usize::MAX)
}

/// Probes at once over all drivers.
#[must_use]
pub fn places(configured: MaxInFlight, file_limit: usize) -> usize {
    match configured {
        MaxInFlight::Auto => file_limit.saturating_sub(RESERVED_FILES).max(file_limit / 2).clamp(1, MOST),
        MaxInFlight::Limit(limit) => usize::try_from(limit.get()).unwrap_or(usize::MAX),
    }
}

/// The share of one of `drivers` drivers, never less than one.
#[must_use]
pub fn share(places: usize, drivers: usize) -> usize {
    (places / drivers.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_leaves_room_and_stays_bounded() {
        let cases = [(16, 8), (256, 128), (1_024, 704), (20_000, 16_384), (1_048_576, 16_384), (1, 1)];
        for (files, expected) in cases {
            assert_eq!(places(MaxInFlight::Auto, files), expected, "{files} files");
        }
        assert_eq!((share(9, 2), share(1, 4)), (4, 1));
    }
}
