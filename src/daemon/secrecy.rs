//! Keeps what is in memory out of core files and away from other processes.
//!
//! Secret keys, password hashes and private keys live in this process for as
//! long as it runs. Called by [`super::run`] before the configuration is read.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// No core files, and no reading of this process's memory by others of its user
/// (prctl(2), PR_SET_DUMPABLE). Root may still look. Failing is not fatal: the
/// daemon is worth more than this.
pub fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash may write secrets into a core file: cannot be made undumpable");
    }
    // Does what the first does, should something switch that back on.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A service manager that forbids the call has set the limit itself.
    if getrlimit(Resource::Core) != none
        && let Err(error) = setrlimit(Resource::Core, none)
    {
        tracing::warn!(%error, "the limit of core files cannot be set to 0");
    }
}
