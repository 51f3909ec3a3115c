//! What the process asks of the system for itself: open files, privacy, threads and
//! their priorities.
//!
//! Called by [`super::run`] and wherever a thread starts. A limit, a priority or privacy
//! that the system refuses is logged, and the daemon goes on without it.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, nice, set_dumpable_behavior, setrlimit,
};

use tokio::runtime::{Builder, Handle, Runtime};

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

/// How many probes may run at once, over all drivers.
#[must_use]
pub fn concurrency(configured: MaxInFlight, file_limit: usize) -> usize {
    match configured {
        MaxInFlight::Auto => file_limit.saturating_sub(RESERVED_FILES).max(file_limit / 2).clamp(1, MOST),
        MaxInFlight::Limit(limit) => usize::try_from(limit.get()).unwrap_or(usize::MAX),
    }
}

/// The share of one of `drivers` drivers, never less than one.
#[must_use]
pub fn share(concurrency: usize, drivers: usize) -> usize {
    (concurrency / drivers.max(1)).max(1)
}

/// The permits of each driver, of which the first `in_use` have members, when each runs so
/// many probes now: equal shares, and one for each of the others. While some run more than
/// theirs, the rest get less, so that no more run together than before.
#[must_use]
pub fn shares(concurrency: usize, in_use: usize, running: &[usize]) -> Vec<usize> {
    let others = running.len().saturating_sub(in_use);
    let share = share(concurrency.saturating_sub(others), in_use);
    let due = (0..running.len()).map(|number| if number < in_use { share } else { 1 });
    let over: usize = due.clone().zip(running).map(|(due, running)| running.saturating_sub(due)).sum();
    let with_room = running.iter().take(in_use).filter(|running| **running < share).count();
    let less = over.div_ceil(with_room.max(1));
    let now =
        due.zip(running).map(|(due, running)| if *running < due { due - less.min(due - 1) } else { due });
    now.collect()
}

/// How much lower the priority of serving threads is than that of drivers (nice(2)).
const SERVING_NICENESS: i32 = 10;

/// Lowers the priority of the calling thread alone. Called as a thread starts that
/// writes answers or does blocking work.
///
/// An answer to a scrape of many members takes tens of milliseconds of a core. On a
/// machine with one core the probes that come due meanwhile would wait for the
/// scheduler. While a driver wants to run, such a thread gets a tenth of the core.
/// Where a filter of system calls forbids the change, all threads stay equal.
pub fn lower_priority() {
    // On Linux the value belongs to the calling thread, not to the process.
    if let Err(error) = nice(SERVING_NICENESS) {
        tracing::debug!(%error, "a serving thread keeps its priority");
    }
}

/// Keeps secret keys, password hashes and private keys out of core files, and away
/// from other processes of the same user (prctl(2), `PR_SET_DUMPABLE`); root may still
/// look. Called before the configuration is read.
pub fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash may write secrets into a core file: cannot be made undumpable");
    }
    // Does what the first does, should something switch that back on.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A service manager that forbids the call has set the limit itself.
    if getrlimit(Resource::Core) != none
        && let Err(error) = setrlimit(Resource::Core, none)
    {
        tracing::warn!(%error, "the limit of core files cannot be set to 0");
    }
}

/// A runtime that keeps one thread for blocking work. Without one the runtime
/// panics where the system gives no further thread; with one, work waits for it.
///
/// # Errors
/// The system gives no event queue, or no thread even now.
pub fn runtime_with_a_spare_thread() -> io::Result<Runtime> {
    const FOR_GOOD: Duration = Duration::from_secs(u32::MAX as u64);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(FOR_GOOD)
        .on_thread_start(lower_priority)
        .build()?;
    // The runtime would panic where this fails.
    thread::Builder::new().spawn(|| {})?.join().map_err(|_| io::Error::other("an empty thread panicked"))?;
    runtime.spawn_blocking(|| {});
    Ok(runtime)
}

/// A thread with a runtime of its own, made there: it must not be dropped on a
/// thread of another runtime, as it would be where no thread can be had for it.
///
/// # Errors
/// Those of `build`, or the system gives no thread.
pub fn thread_with_runtime(
    name: String,
    build: fn() -> io::Result<Runtime>,
    work: impl FnOnce(Runtime) + Send + 'static,
) -> io::Result<(Handle, JoinHandle<()>)> {
    // Holds one message, and one is sent: it is never full.
    let (say, said) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(name).spawn(move || match build() {
        Ok(runtime) => {
            // The receiver waits: see below.
            let _ = say.send(Ok(runtime.handle().clone()));
            work(runtime);
        }
        Err(error) => drop(say.send(Err(error))),
    })?;
    let handle = said.recv().map_err(io::Error::other)??;
    Ok((handle, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_leaves_room_and_stays_bounded() {
        let cases = [(16, 8), (256, 128), (1_024, 704), (20_000, 16_384), (1_048_576, 16_384), (1, 1)];
        for (files, expected) in cases {
            assert_eq!(concurrency(MaxInFlight::Auto, files), expected, "{files} files");
        }
        assert_eq!((share(9, 2), share(1, 4)), (4, 1));
        assert_eq!(shares(100, 1, &[70]), [100]);
        assert_eq!(shares(100, 2, &[30, 0]), [50, 50]);
        assert_eq!(shares(100, 2, &[80, 0]), [50, 20], "80 run still, and 20 may begin");
        assert_eq!(shares(100, 2, &[100, 0]), [50, 1]);
        assert_eq!(shares(101, 1, &[10, 30]), [71, 1], "the second has none of its own any more");
    }
}
