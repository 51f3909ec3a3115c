//! The built binary: what it prints, where, and its exit codes (`docs/cli.md`).

#[path = "cli/support.rs"]
mod support;

#[path = "cli/basics.rs"]
mod basics;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/managed.rs"]
mod managed;
#[path = "cli/passwords.rs"]
mod passwords;
#[path = "cli/places.rs"]
mod places;
#[path = "cli/probe.rs"]
mod probe;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/run.rs"]
mod run;
#[path = "support/skipped.rs"]
mod skipped;
#[path = "cli/status.rs"]
mod status;
#[path = "cli/store_access.rs"]
mod store_access;
