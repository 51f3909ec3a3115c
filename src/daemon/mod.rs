//! Wiring: drivers, clock, signals, reload, systemd.

pub mod clock;
pub mod driver;
pub mod stall;
