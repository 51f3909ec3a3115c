//! The demo's configuration: one channel for each strategy, over the backends.
//!
//! It is an ordinary configuration text, read by the ordinary rules, so that
//! the demo shows nothing a user could not write.

use std::net::SocketAddr;
use std::time::Duration;

use super::backends::Habit;

/// The backends, by the names that the live view prints.
pub(super) const HABITS: [(&str, Habit); 7] = [
    ("steady-1", Habit::Steady),
    ("steady-2", Habit::Steady),
    ("steady-3", Habit::Steady),
    ("flapping", Habit::Flapping { good: Duration::from_secs(6), bad: Duration::from_secs(5) }),
    ("slow", Habit::Slow(Duration::from_secs(2))),
    ("https", Habit::Https),
    ("standby", Habit::Steady),
];

/// What the live view explains at the start.
pub(super) const CHANNELS: [(&str, &str); 4] = [
    ("demo-wrr", "steady-1 (weight 3), steady-2 (weight 1), flapping"),
    ("demo-wleastconn", "steady-2, steady-3, slow (answers after 2 s, the timeout is 300 ms)"),
    ("demo-source", "flapping, and standby for when it is down"),
    ("demo-uri", "https, with a certificate made on the spot"),
];

/// The configuration text. `address` knows where each backend listens.
pub(super) fn text(listen: SocketAddr, address: impl Fn(&str) -> Option<SocketAddr>) -> String {
    let mut text = format!("[server]\nlisten = \"{listen}\"\n\n[prober]\nready_within = \"3s\"\n");
    text.push_str(&channel("demo-wrr", "wrr", "HTTP"));
    text.push_str(&member(&address, "steady-1", "weight = 3"));
    text.push_str(&member(&address, "steady-2", "weight = 1"));
    text.push_str(&member(&address, "flapping", ""));
    text.push_str(&channel("demo-wleastconn", "wleastconn", "HTTP"));
    text.push_str(&member(&address, "steady-2", ""));
    text.push_str(&member(&address, "steady-3", ""));
    text.push_str(&member(&address, "slow", ""));
    text.push_str(&channel("demo-source", "source", "HTTP"));
    text.push_str(&member(&address, "flapping", ""));
    text.push_str(&member(&address, "standby", "is_backup = true"));
    text.push_str(&channel("demo-uri", "uri", "HTTPS"));
    text.push_str(&member(&address, "https", ""));
    text
}

fn channel(name: &str, strategy: &str, protocol: &str) -> String {
    format!(
        r#"
[[channels]]
name = "{name}"
port = 80
balance_strategy = "{strategy}"
member_type = "ip"

[channels.vpc_health_config]
protocol = "{protocol}"
path = "/health"
http_code = "200-299"
threshold_normal = 2
threshold_abnormal = 2
time_interval = "500ms"
timeout = "300ms"
"#
    )
}

fn member(address: impl Fn(&str) -> Option<SocketAddr>, backend: &str, more: &str) -> String {
    // A backend that is not there would be a fault of this file; the port of
    // discard then shows as `refused` instead of ending the demo.
    let address = address(backend).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9)));
    format!("\n[[channels.members]]\nhost = \"{}\"\nport = {}\n{more}\n", address.ip(), address.port())
}
