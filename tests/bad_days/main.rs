//! The prober's own bad days: starved, stopped, out of ports, memory or threads,
//! behind a broken resolver, without a network, with a wrong wall clock, with readers
//! that do not read. It must blame
//! nobody for what is its own, and go on by itself when the day is over.
//!
//! The built daemon, seen from outside. What needs a network or clock of its own
//! runs itself once more inside one. See also `tests/peers/{shortage,stopped}.rs`.

#[expect(dead_code, unused_imports, reason = "tests/peers uses all of it")]
#[path = "../peers/support/mod.rs"]
mod support;

#[path = "../support/inside.rs"]
mod inside;
#[path = "../support/skipped.rs"]
mod skipped;

mod clock;
mod greedy_members;
mod group;
mod log_sink;
mod memory;
mod names;
mod network;
mod ports;
mod readers;
mod restart;
mod starvation;
mod threads;

use support::config::pace;

/// An HTTP check whose every result is a verdict.
fn sharp_check(interval: &str, timeout: &str) -> String {
    format!("protocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n{}", pace(1, 1, interval, timeout))
}

/// How often members were called unhealthy.
fn unhealthy(daemon: &support::Daemon) -> f64 {
    daemon.metrics().sum("vitald_member_transitions_total", &[("to", "unhealthy")])
}
