//! `process_*`, under the names every Prometheus client library uses.
//!
//! A figure the system does not give is left out.

use std::io;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::format::{Family, Kind, Value};
use crate::health::Timestamp;
use crate::serve::stream::Text;

/// `started_at` stands for the start of the process; the daemon takes it first
/// thing, and unlike the kernel's it is not rounded to boot time in whole seconds.
pub(super) fn write(text: &mut Text<'_>, started_at: Timestamp) -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let figures = [
        (
            Family {
                name: "process_cpu_seconds_total",
                kind: Kind::Counter,
                help: "User and system CPU time spent, in seconds.",
            },
            cpu_time().map(Value::Nanos),
        ),
        (
            gauge("process_resident_memory_bytes", "Resident memory size in bytes."),
            kibibytes(&status, "VmRSS:").map(Value::Count),
        ),
        (
            gauge("process_virtual_memory_bytes", "Virtual memory size in bytes."),
            kibibytes(&status, "VmSize:").map(Value::Count),
        ),
        (gauge("process_open_fds", "Number of open file descriptors."), open_files().map(Value::from)),
        (
            gauge("process_max_fds", "Maximum number of open file descriptors."),
            getrlimit(Resource::Nofile).current.map(Value::Count),
        ),
        (gauge("process_threads", "Number of threads."), number(&status, "Threads:").map(Value::Count)),
        (
            gauge("process_start_time_seconds", "Start time of the process since the Unix epoch in seconds."),
            Some(Value::Nanos(started_at.0)),
        ),
    ];
    for (family, value) in figures {
        if let Some(value) = value {
            text.single(family, value)?;
        }
    }
    Ok(())
}

fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

fn cpu_time() -> Option<u64> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    Some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?)
}

/// The entries of `/proc/self/fd`, without the one that reads it.
fn open_files() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd").ok()?.count().checked_sub(1)
}

fn kibibytes(status: &str, field: &str) -> Option<u64> {
    number(status, field)?.checked_mul(1024)
}

fn number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_status_are_found_or_absent() {
        let status = "Name:\tvitald\nVmSize:\t  205388 kB\nVmRSS:\t   12304 kB\nThreads:\t3\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(12304 * 1024));
        assert_eq!(number(status, "Threads:"), Some(3));
        assert_eq!(number(status, "Missing:"), None);
        assert_eq!(number("Threads:\tmany\n", "Threads:"), None);
    }
}
