//! Probes against real sockets: one misbehaving member per reason.
//!
//! Each case asserts the reason, the detail and the phases that were reached.

mod http;
mod https;
mod local;
mod members;
mod resolve;
mod tcp;
