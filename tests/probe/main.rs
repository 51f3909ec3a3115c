//! Probes against real sockets: one misbehaving member per reason.
//!
//! Each case asserts the reason, the detail and the phases that were reached.

mod http;
mod members;
mod tcp;
