//! The daemon as systemd sees it: what it says on the notification socket.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::{Answer, Backend, Daemon, channel, http_check, wait};

/// The service manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
    heard: Vec<String>,
}

impl Manager {
    fn listen() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("the folder can be written");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        Self { socket, folder, heard: Vec::new() }
    }

    fn path(&self) -> std::path::PathBuf {
        Path::new(self.folder.path()).join("notify")
    }

    /// Waits for a message with such a line; gives the whole message.
    fn hear(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let heard = &mut self.heard;
        let socket = &self.socket;
        wait::until(what, || {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).ok()?;
            let message = String::from_utf8_lossy(buffer.get(..length)?).into_owned();
            heard.push(message.clone());
            message.lines().any(&wanted).then_some(message)
        })
    }
}

#[test]
fn systemd_is_told_everything() {
    let ip = own_address();
    let backend = Backend::steady(ip, 8000, Answer::Status(200));
    let channels = channel("web", &http_check("HTTP", "/", "200"), &[member(ip, 8000)]);
    let mut manager = Manager::listen();
    let socket = manager.path();
    let mut daemon = Daemon::start_with(&channels, |command| {
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000");
    });
    manager.hear("READY=1", |line| line == "READY=1");
    let status = manager.hear("a status", |line| line.starts_with("STATUS=") && line.contains('1'));
    assert!(!status.trim().is_empty());
    // Pings keep coming, faster than the limit.
    let began = wait::now();
    for _ in 0..6 {
        manager.hear("WATCHDOG=1", |line| line == "WATCHDOG=1");
    }
    assert!(began.elapsed() < Duration::from_secs(6), "six pings took {:?}", began.elapsed());

    daemon.wait_for_health("web", &backend.address.to_string(), "healthy");
    manager.hear("the healthy member in the status", |line| {
        line.starts_with("STATUS=") && line.contains("1 healthy")
    });

    daemon.signal(Signal::HUP);
    let reloading = manager.hear("RELOADING=1", |line| line == "RELOADING=1");
    let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(stamp.is_some_and(|stamp| stamp.parse::<u64>().is_ok_and(|stamp| stamp > 0)), "{reloading}");
    manager.hear("READY=1 again", |line| line == "READY=1");

    // A refused reload ends as well, and says so.
    daemon.write_config("[[channels]]\n");
    daemon.signal(Signal::HUP);
    manager.hear("RELOADING=1", |line| line == "RELOADING=1");
    manager.hear("READY=1 after the refusal", |line| line == "READY=1");

    daemon.signal(Signal::TERM);
    manager.hear("STOPPING=1", |line| line == "STOPPING=1");
    assert_eq!(daemon.process.wait(wait::PATIENCE, "the daemon to end").code(), Some(0));
    let ready = manager.heard.iter().position(|message| message.contains("READY=1"));
    let first_ping = manager.heard.iter().position(|message| message.contains("WATCHDOG=1"));
    assert!(ready < first_ping, "{:?}", manager.heard);
}
