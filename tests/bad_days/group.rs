//! A control group (cgroups(7)) of a test's own, of whichever version is there.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Removed when dropped: every process in it must have ended, or left it.
pub(crate) struct Group(PathBuf);

impl Group {
    /// With this controller. Without control groups the test is skipped, which it
    /// cannot be in CI.
    pub(crate) fn of(controller: &str) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("vitald-test-{}-{number}", std::process::id());
        let second = PathBuf::from("/sys/fs/cgroup");
        let first = second.join(controller);
        let made = if first.is_dir() {
            fs::create_dir(first.join(&name)).map(|()| Self(first.join(&name)))
        } else {
            fs::write(second.join("cgroup.subtree_control"), format!("+{controller}"))
                .and_then(|()| fs::create_dir(second.join(&name)))
                .map(|()| Self(second.join(&name)))
        };
        made.inspect_err(|error| crate::skipped::note(&format!("no control group can be made here: {error}")))
            .ok()
    }

    /// Where processes are named that join.
    pub(crate) fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    pub(crate) fn add(&self, process: u32) {
        fs::write(self.procs(), process.to_string()).expect("a process can join");
    }

    pub(crate) fn limit(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).expect("a limit can be set");
    }

    /// Memory, in bytes; none of it is swapped out.
    pub(crate) fn limit_memory(&self, bytes: u64) {
        let is_second = self.0.join("memory.max").exists();
        self.limit(if is_second { "memory.max" } else { "memory.limit_in_bytes" }, &bytes.to_string());
        if is_second && self.0.join("memory.swap.max").exists() {
            self.limit("memory.swap.max", "0");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever ended a moment ago is still being taken out.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
