//! A state directory on a disk that hangs: a file system of its own, frozen by the
//! kernel (fsfreeze(8)). Who writes there waits until it is thawed.

use std::net::TcpListener;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::daemon::{Home, until};
use crate::inside::inside;
use crate::{checked, create, names, path, verdicts};

/// In a mount namespace of its own; the directories of the test's are on that disk.
const SETUP: &str = "
    mount -t tmpfs none /mnt
    truncate -s 24M /mnt/image
    mkfs.ext4 -q /mnt/image
    mkdir /mnt/disk
    mount -o loop /mnt/image /mnt/disk
    export TMPDIR=/mnt/disk";

/// The disk hangs until this is dropped.
struct Frozen;

impl Frozen {
    fn new() -> Self {
        freeze("--freeze");
        Self
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        freeze("--unfreeze");
    }
}

fn freeze(how: &str) {
    let freezing = Command::new("fsfreeze").args([how, "/mnt/disk"]).output().expect("fsfreeze can be run");
    assert!(freezing.status.success(), "{freezing:?}");
}

/// Whether a disk can be made here, which takes root outside of any user namespace.
fn can_mount() -> bool {
    let mounting = Command::new("unshare").args(["-m", "sh", "-ec", SETUP]).output();
    let can = mounting.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        crate::skipped::note(&format!("no disk can be mounted here: {mounting:?}"));
    }
    can
}

#[test]
fn a_disk_that_hangs_holds_up_writes_and_nothing_else() {
    if can_mount() {
        let name = "slow_disk::a_disk_that_hangs_holds_up_writes_and_nothing_else";
        inside(&["unshare", "-m"], SETUP, name, hang);
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests run in real time")]
fn hang() {
    let home = Home::new("");
    let daemon = home.start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let id = create(&daemon, &checked("web", &[port]));
    until("a verdict", || (verdicts(&daemon, &id) == ["healthy"]).then_some(()));
    let figure = |name: &str| {
        let metrics = daemon.send("GET", "/metrics", "", "").text;
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };

    std::thread::scope(|scope| {
        let frozen = Frozen::new();
        let began = Instant::now();
        let before = figure("vitald_probes_total");
        let writers: Vec<_> = (0..20)
            .map(|number| {
                let body = checked(&format!("late-{number}"), &[port]);
                let daemon = &daemon;
                scope.spawn(move || daemon.local("POST", &path(""), Some(&body)).status)
            })
            .collect();
        // Verdicts go on, and whoever reads is answered.
        drop(listener);
        until("the news", || (verdicts(&daemon, &id) == ["unhealthy"]).then_some(()));
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the same port");
        until("the good news", || (verdicts(&daemon, &id) == ["healthy"]).then_some(()));
        // Longer than between two times at which verdicts are saved: the disk hangs
        // under the saver too.
        until("six probes", || (figure("vitald_probes_total") >= before + 6.0).then_some(()));
        let rounds = figure("vitald_probes_total") - before;
        let due = began.elapsed().as_secs_f64();
        assert!(rounds >= due - 2.0, "{rounds} probes in {due} s, at one a second");
        for page in ["/livez", "/readyz", "/v1/status"] {
            assert_eq!(daemon.send("GET", page, "", "").status, 200, "{page}");
        }
        assert_eq!(names(&daemon), ["web"], "nothing shows before it is kept");
        assert!(writers.iter().all(|writer| !writer.is_finished()), "acknowledged without being kept");

        drop(frozen);
        for writer in writers {
            assert_eq!(writer.join().expect("an answer"), 201);
        }
        drop(listener);
    });
    assert_eq!(names(&daemon).len(), 21);
    assert_eq!(figure("vitald_probes_skipped_total"), 0.0, "no slot was missed");
    daemon.kill();
    let daemon = home.start();
    assert_eq!(names(&daemon).len(), 21, "what was acknowledged is there");
    assert_eq!(
        daemon.local_json("GET", &path("?limit=1"), None, 200).pointer("/total"),
        Some(&Value::from(21))
    );
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
