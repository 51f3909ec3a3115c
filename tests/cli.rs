//! The built binary: what it prints, where, and its exit codes (`docs/cli.md`).

#[path = "cli/support.rs"]
mod support;

#[path = "cli/basics.rs"]
mod basics;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/status.rs"]
mod status;
