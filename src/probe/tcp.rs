//! The TCP check: success is an established connection.
//!
//! Nothing is sent and nothing is read, so the check ends where the attempt's
//! connect ends. How little the member notices is decided by the close mode;
//! see `attempt`.

use super::finding::Finding;

/// The finding once the connection is established.
pub(super) fn connected() -> Finding {
    Finding::success("connected")
}
