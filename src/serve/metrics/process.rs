//! The fixed series of the process: `process_*` and the build.
//!
//! Series whose names and labels never change go through the `prometheus` crate's
//! registry and encoder. Each scrape fills a registry of its own with what the system
//! says at that moment; a figure that the system does not give is left out.

use std::io;

use prometheus::core::Collector;
use prometheus::{Counter, Encoder, Gauge, Opts, Registry, TextEncoder};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::catalog::ReloadState;
use crate::health::Timestamp;
use crate::serve::stream::Text;

/// The revision the binary was built from, as the build was told.
pub(super) const REVISION: &str = match option_env!("VITALD_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Writes them. `started_at` stands for the start of the process; the daemon
/// takes it first thing, and unlike the kernel's it is not rounded to whole
/// seconds of boot time.
pub(super) fn write(text: &mut Text<'_>, started_at: Timestamp, reload: ReloadState) -> io::Result<()> {
    let registry = Registry::new();
    fill(&registry, started_at, reload).map_err(io::Error::other)?;
    TextEncoder::new().encode(&registry.gather(), &mut text.buffer).map_err(io::Error::other)?;
    text.pause()
}

fn fill(registry: &Registry, started_at: Timestamp, reload: ReloadState) -> prometheus::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let build = Opts::new("vitald_build_info", "Always 1; version and revision are labels.")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("revision", REVISION);
    set(registry, Gauge::with_opts(build)?, Some(1.0))?;
    if let Some(seconds) = cpu_time() {
        let counter =
            Counter::new("process_cpu_seconds_total", "User and system CPU time spent in seconds.")?;
        counter.inc_by(seconds);
        register(registry, counter)?;
    }
    let gauges = [
        (
            "vitald_config_last_reload_successful",
            "Whether the last load of the configuration was accepted.",
            Some(f64::from(u8::from(reload.successful))),
        ),
        (
            "vitald_config_last_reload_success_timestamp_seconds",
            "When a configuration was last accepted.",
            Some(reload.last_success.as_seconds()),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            kibibytes(&status, "VmRSS:").map(float),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            kibibytes(&status, "VmSize:").map(float),
        ),
        ("process_open_fds", "Number of open file descriptors.", open_files().map(float)),
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            getrlimit(Resource::Nofile).current.map(float),
        ),
        ("process_threads", "Number of threads.", number(&status, "Threads:").map(float)),
        (
            "process_start_time_seconds",
            "Start time of the process since the Unix epoch in seconds.",
            Some(started_at.as_seconds()),
        ),
    ];
    for (name, help, value) in gauges {
        set(registry, Gauge::new(name, help)?, value)?;
    }
    Ok(())
}

/// Registers a gauge that has a value.
fn set(registry: &Registry, gauge: Gauge, value: Option<f64>) -> prometheus::Result<()> {
    let Some(value) = value else { return Ok(()) };
    gauge.set(value);
    register(registry, gauge)
}

fn register(registry: &Registry, collector: impl Collector + 'static) -> prometheus::Result<()> {
    registry.register(Box::new(collector))
}

#[expect(clippy::cast_precision_loss, reason = "sizes and counts of a process stay below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "a sum of seconds stays below 2^53")]
fn cpu_time() -> Option<f64> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    Some(time.tv_sec as f64 + f64::from(nanos) / 1e9)
}

/// The entries of `/proc/self/fd`, without the one that reads it.
fn open_files() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(entries.checked_sub(1)?).ok()
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
