//! Child processes that end with the test.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// A child that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("the child can be signalled");
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the child can be waited for")
    }

    pub(crate) fn wait(&mut self, within: Duration, what: &str) -> ExitStatus {
        wait::until_within(within, what, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also ends a stopped child. It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a program of another package is. Without it the test cannot run: that
/// is a failure in CI, and elsewhere a skip that `tests/run` names.
pub(crate) fn peer_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{name} is missing");
        if let Some(list) = std::env::var_os("VITALD_SKIPPED_TESTS") {
            let mut list =
                std::fs::OpenOptions::new().append(true).create(true).open(list).expect("the list");
            std::io::Write::write_all(&mut list, format!("{test}: {name} is not installed\n").as_bytes())
                .expect("the list of skipped tests can be written");
        }
    }
    found
}
