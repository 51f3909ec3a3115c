//! Addresses that no other test uses: a loopback address for each.
//!
//! All of 127.0.0.0/8 is the machine itself on Linux. With an address of its
//! own a test picks its ports freely, and a port that it leaves closed stays
//! closed.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

/// A loopback address that is this caller's alone. Processes differ in the two
/// low bytes (their id), callers within one in the second.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let second = 64 + NEXT.fetch_add(1, Ordering::Relaxed) % 128;
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, second, high, low)
}
