//! Restarts over a state directory that is not as it should be: a verdict file
//! that is damaged, foreign or cut, and disks that are full or read-only.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::inside::{can_unshare, inside};
use crate::sharp_check;
use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::{Answer, Backend, Daemon, channel, wait};

/// A good member and a bad one, under one state directory.
pub(crate) struct Site {
    good: Backend,
    bad: Backend,
    pub(crate) config: String,
}

impl Site {
    pub(crate) fn new(state: &Path) -> Self {
        let ip = own_address();
        let good = Backend::steady(ip, 8000, Answer::Status(200));
        let bad = Backend::steady(ip, 8001, Answer::Status(500));
        let members = [member(ip, 8000), member(ip, 8001)];
        let config = format!(
            "[store]\npath = \"{}\"\n\n{}",
            state.display(),
            channel("web", &sharp_check("1s", "1s"), &members)
        );
        Self { good, bad, config }
    }

    pub(crate) fn wait_for_verdicts(&self, daemon: &Daemon) {
        daemon.wait_for_health("web", &self.good.address.to_string(), "healthy");
        daemon.wait_for_health("web", &self.bad.address.to_string(), "unhealthy");
    }
}

/// Ends it in order, which saves.
fn stop(mut daemon: Daemon) {
    daemon.signal(Signal::TERM);
    let status = daemon.process.wait(Duration::from_secs(20), "the daemon to end");
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
}

#[test]
fn a_damaged_or_foreign_verdict_file_is_said_and_replaced() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let site = Site::new(state.path());
    let daemon = Daemon::start(&site.config);
    site.wait_for_verdicts(&daemon);
    stop(daemon);
    let file = state.path().join("verdicts");
    let whole = fs::read(&file).expect("an orderly end saves");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    if let Some(byte) = flipped.get_mut(middle) {
        *byte ^= 0x10;
    }
    let cut = whole.get(..whole.len() - 1).unwrap_or_default().to_vec();
    let damages = [
        ("a flipped bit", flipped),
        ("a cut-off end", cut),
        ("nothing", Vec::new()),
        ("another program's file", b"SQLite format 3\0 and more of it".to_vec()),
        ("a megabyte of zeros", vec![0; 1 << 20]),
    ];
    for (what, bytes) in damages {
        fs::write(&file, bytes).expect("the file can be written");
        let daemon = Daemon::start(&site.config);
        wait_for_log(&daemon, "members start at unknown");
        site.wait_for_verdicts(&daemon);
        stop(daemon);
        // What it saved in its place is good again.
        let daemon = Daemon::start(&site.config);
        wait_for_log(&daemon, "going on with saved verdicts");
        assert_eq!(daemon.get("/readyz").status, 200, "{what}: ready at once");
        stop(daemon);
    }
}

#[test]
fn a_killed_daemon_goes_on_with_its_verdicts() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let site = Site::new(state.path());
    let daemon = Daemon::start(&site.config);
    site.wait_for_verdicts(&daemon);
    let before = daemon.members("web");
    wait_for_save(state.path());
    daemon.signal(Signal::KILL);
    drop(daemon);
    let daemon = Daemon::start(&site.config);
    assert_eq!(daemon.get("/readyz").status, 200, "ready at once");
    for (old, new) in before.iter().zip(daemon.members("web")) {
        assert_eq!((&old.health, &old.since), (&new.health, &new.since));
    }
    assert_eq!(crate::unhealthy(&daemon), 0.0);
}

/// Until what is known now is saved: a save that began before is of no use.
pub(crate) fn wait_for_save(state: &Path) {
    let modified = || fs::metadata(state.join("verdicts")).and_then(|data| data.modified()).ok();
    for _ in 0..2 {
        let old = modified();
        wait::until("a save", || (modified() != old).then_some(()));
    }
}

/// Verdicts move whether they can be saved or not.
pub(crate) fn check_verdicts_move(site: &Site, daemon: &Daemon) {
    site.good.answer_with(Answer::Status(500));
    daemon.wait_for_health("web", &site.good.address.to_string(), "unhealthy");
    site.good.answer_with(Answer::Status(200));
    daemon.wait_for_health("web", &site.good.address.to_string(), "healthy");
    assert_eq!(daemon.get("/livez").status, 200);
}

/// A file system of its own, which can be made read-only while a daemon runs: files that are
/// open for writing would prevent that, so the daemon's lock is on another one.
const SETUP: &str = "\
mkdir -p /tmp/vitald-state
mount -t tmpfs -o mode=0700 none /tmp/vitald-state
touch /tmp/vitald-state/held
mkdir /tmp/vitald-state/disk
mount -t tmpfs -o size=1m,mode=0700 none /tmp/vitald-state/disk
touch /tmp/vitald-state/disk/lock
mount --bind /tmp/vitald-state/held /tmp/vitald-state/disk/lock";

const DISK: &str = "/tmp/vitald-state/disk";

#[test]
fn a_state_directory_that_becomes_read_only_stops_nothing() {
    if can_unshare() {
        let name = "restart::a_state_directory_that_becomes_read_only_stops_nothing";
        inside(&["unshare", "-rm"], SETUP, name, || {
            let site = Site::new(Path::new(DISK));
            let daemon = Daemon::start(&site.config);
            site.wait_for_verdicts(&daemon);
            // Refused while a save has its file open.
            wait::until("the disk to be read-only", || remount("remount,ro").then_some(()));
            fs::write(Path::new(DISK).join("more"), "").expect_err("the disk is read-only");
            wait_for_log(&daemon, "Read-only file system");
            check_verdicts_move(&site, &daemon);
            assert_eq!(daemon.reload().status, 200);
            assert!(remount("remount,rw"));
            stop(daemon);
            let daemon = Daemon::start(&site.config);
            wait_for_log(&daemon, "going on with saved verdicts");
        });
    }
}

/// The daemon may be seen to run before what it wrote has been read.
fn wait_for_log(daemon: &Daemon, text: &str) {
    wait::until(text, || daemon.log().contains(text).then_some(()));
}

/// Mounts the file system itself anew, which also those see who have its directory open.
fn remount(options: &str) -> bool {
    let mount = std::process::Command::new("mount").args(["-o", options, DISK]).output();
    mount.expect("mount can be run").status.success()
}

#[test]
fn a_full_disk_stops_nothing() {
    if can_unshare() {
        let setup =
            "mkdir -p /tmp/vitald-state && mount -t tmpfs -o size=64k,mode=0700 none /tmp/vitald-state";
        inside(&["unshare", "-rm"], setup, "restart::a_full_disk_stops_nothing", || {
            let state = Path::new("/tmp/vitald-state");
            let site = Site::new(state);
            let daemon = Daemon::start(&site.config);
            site.wait_for_verdicts(&daemon);
            let filler = state.join("filler");
            // Until not a byte is free.
            let _ = fs::write(&filler, vec![0; 1 << 20]);
            wait_for_log(&daemon, "cannot write");
            check_verdicts_move(&site, &daemon);
            fs::remove_file(&filler).expect("the filler");
            stop(daemon);
            let daemon = Daemon::start(&site.config);
            wait_for_log(&daemon, "going on with saved verdicts");
        });
    }
}

#[test]
fn a_state_directory_of_somebody_else_is_refused_with_its_name() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let site = Site::new(state.path());
    let first = Daemon::start(&site.config);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("vitald.toml");
    fs::write(&config, format!("[server]\nlisten = \"127.0.0.1:0\"\n\n{}", site.config)).expect("a folder");
    let run = |config: &Path| {
        let output = crate::support::daemon::vitald().args(["run", "--config"]).arg(config).output();
        output.expect("vitald can be started")
    };
    let second = run(&config);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("in use by another vitald"), "{said}");
    stop(first);
    // A directory that is a file.
    let file = folder.path().join("file");
    fs::write(&file, "x").expect("a folder");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("an own file");
    let text = fs::read_to_string(&config).expect("the configuration");
    let path = state.path().display().to_string();
    fs::write(&config, text.replace(&path, &file.display().to_string())).expect("a folder");
    let third = run(&config);
    let said = String::from_utf8_lossy(&third.stderr).into_owned();
    assert!(!third.status.success() && said.contains(&file.display().to_string()), "{said}");
}
