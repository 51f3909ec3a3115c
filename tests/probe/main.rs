//! Probes against real sockets: one misbehaving member per reason.
//!
//! Each case asserts the reason, the detail and the phases that were reached.

mod certificates;
mod http;
mod https;
#[path = "../support/inside.rs"]
mod inside;
mod lifecycle;
mod local;
mod members;
mod queue;
mod reference;
mod resolve;
#[path = "../support/skipped.rs"]
mod skipped;
mod stall;
mod tcp;
mod tls_members;
#[path = "../support/uncommon.rs"]
mod uncommon;
