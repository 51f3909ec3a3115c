//! Probing goes before serving: threads that can wait stand back.
//!
//! An answer to a scrape of many members takes tens of milliseconds of a core. On a
//! machine with one core the probes that come due meanwhile would wait for the
//! scheduler to take turns. The thread that writes answers, and those for blocking
//! work, therefore ask for less: while a driver wants to run they get a tenth.
//!
//! Called as such a thread starts.

/// How much nicer these threads are than the drivers (nice(2)).
const STEP: i32 = 10;

/// Lowers the priority of the calling thread alone. Asking for less needs no
/// privilege; where a filter of system calls forbids it, everybody stays equal.
pub fn stand_back() {
    // On Linux the value belongs to the calling thread, not to the process.
    if let Err(error) = rustix::process::nice(STEP) {
        tracing::debug!(%error, "a serving thread keeps its priority");
    }
}
