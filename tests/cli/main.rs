//! The built binary: what it prints, where, and its exit codes (`docs/cli.md`).

mod support;

mod basics;
mod check;
mod demo;
mod hostile;
mod managed;
mod passwords;
mod places;
mod probe;
mod readme;
mod reload;
mod run;
#[path = "../support/skipped.rs"]
mod skipped;
mod status;
mod store_access;
