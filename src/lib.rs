//! vitald: the health-check prober daemon and load-balancer core for VPC channels.
//!
//! How data flows; every arrow is a value, never a shared lock:
//!
//! ```text
//! files ──> config ──> catalog ──────> driver 0 ── Job ──> probe (I/O) ──┐
//!           (all       (one writer:    (engine: members,                 │ Report
//!            errors     seats, diff,    schedule, thresholds) <──────────┘
//!            at once)   publish)        driver 1 .. n
//!                          │                 │ Transition
//!                          v                 v
//!                       Directory ──>  balancers, logs
//!                          │                 │
//!                          └── Observation <─┘ (snapshots, on demand)
//!                                   │
//!                                   v
//!                       serve: metrics, status, liveness
//! ```
//!
//! | room | what it holds | may import |
//! |---|---|---|
//! | [`channel`] | what a channel is: fields, ranges, rules, rotation | nothing of ours |
//! | [`health`] | outcomes, thresholds, the schedule, snapshots | `channel` |
//! | [`balance`] | picking a member: wrr, wleastconn, source, uri | `channel` |
//! | `config` | files to channels, every error with its place | the pure rooms |
//! | `probe` | one file per protocol, resolving, TLS | the pure rooms |
//! | `store` | what survives a restart: records, verdicts | the pure rooms |
//! | `catalog` | which channels exist; the reader's view of everything | the above |
//! | `serve` | the HTTP surface | the above |
//! | `daemon` | drivers, clock, signals, reload, systemd | the above |
//! | `cli` | one file per subcommand | the above |
//!
//! As a library: [`balance::Balancer`] picks members by four strategies; see
//! `examples/balance.rs` and `docs/balance.md`.
//!
//! `channel`, `health` and `balance` are pure: time is an argument, no I/O, no
//! runtime, no logging. Without the `daemon` feature they are the whole crate.

pub mod balance;
pub mod channel;
pub mod health;

#[cfg(feature = "daemon")]
pub mod catalog;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod probe;
#[cfg(feature = "daemon")]
pub mod serve;
#[cfg(feature = "daemon")]
pub mod store;
