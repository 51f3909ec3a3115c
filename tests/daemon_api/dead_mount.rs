//! A directory of the configuration on a mount that does not answer: a FUSE file system
//! whose server never reads a request. Whoever looks at it waits, until it is killed.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{Daemon, Home, until};
use crate::inside::inside;
use crate::{checked, create, names, verdicts};

/// In a mount namespace of its own. The server of the file system is the descriptor, which
/// the test and its daemons inherit.
const SETUP: &str = "
    mount -t tmpfs none /mnt
    mkdir /mnt/dead
    exec 9<>/dev/fuse
    mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 none /mnt/dead";

const INCLUDE: &str = "[include]\nchannels = \"/mnt/dead/*.toml\"\n";

/// Runs the work where `/mnt/dead` does not answer, if that can be had here.
fn with_dead_mount(name: &str, work: fn()) {
    let mounting = Command::new("unshare").args(["-Urm", "sh", "-ec", SETUP]).output();
    if mounting.as_ref().is_ok_and(|output| output.status.success()) {
        inside(&["unshare", "-Urm"], SETUP, &format!("dead_mount::{name}"), work);
    } else {
        crate::skipped::note(&format!("no FUSE file system can be mounted here: {mounting:?}"));
    }
}

#[test]
fn a_reload_that_hangs_holds_up_nothing_else() {
    with_dead_mount("a_reload_that_hangs_holds_up_nothing_else", || {
        let home = Home::new("[prober]\nreload_within = \"40s\"\n");
        let manager = UnixDatagram::bind(home.path().join("notify")).expect("a socket");
        let mut command = home.command();
        command.env("NOTIFY_SOCKET", home.path().join("notify")).env("WATCHDOG_USEC", "300000");
        let daemon = Daemon::start(command, &home.path().join("sock"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let id = create(&daemon, &checked("web", &[port]));
        until("a verdict", || (verdicts(&daemon, &id) == ["healthy"]).then_some(()));
        let picked = || daemon.send("GET", "/v1/channels/web/pick", "", "").json()["member"].clone();
        assert!(picked().is_object());

        home.configure(INCLUDE);
        std::thread::scope(|scope| {
            let began = until_told(&manager, "RELOADING=1", || scope.spawn(|| daemon.reload()));
            // Who asks meanwhile waits for the next one.
            let next = scope.spawn(|| daemon.reload());
            // What changes reaches the balancers.
            drop(listener);
            until("the news", || (verdicts(&daemon, &id) == ["unhealthy"]).then_some(()));
            until("the balancer's news", || picked().is_null().then_some(()));
            // Changes are made, the watchdog is beaten.
            create(&daemon, &checked("later", &[1]));
            assert_eq!(names(&daemon), ["later", "web"]);
            for _ in 0..3 {
                until_told(&manager, "WATCHDOG=1", || ());
            }
            assert_eq!(daemon.send("GET", "/livez", "", "").status, 200);
            assert!(!began.is_finished(), "the load hangs");
            // The end waits for no load; who waits for one is told.
            kill_process(daemon.id(), Signal::TERM).expect("it runs");
            for asked in [began, next] {
                assert_eq!(asked.join().expect("an answer").status, 503);
            }
        });
        daemon.ended_well();
    });
}

/// Reads what the manager is told, until it is this.
fn until_told<T>(manager: &UnixDatagram, what: &str, act: impl FnOnce() -> T) -> T {
    manager.set_nonblocking(true).expect("a socket");
    let mut message = [0; 4096];
    while manager.recv(&mut message).is_ok() {}
    let acted = act();
    until(what, || {
        let length = manager.recv(&mut message).ok()?;
        String::from_utf8_lossy(message.get(..length)?).contains(what).then_some(())
    });
    acted
}

#[test]
fn loads_that_never_end_are_abandoned_and_a_third_does_not_begin() {
    with_dead_mount("loads_that_never_end_are_abandoned_and_a_third_does_not_begin", || {
        let home = Home::new("[prober]\nreload_within = \"1s\"\n");
        let daemon = home.start();
        home.configure(INCLUDE);
        for words in ["not read within 1s", "not read within 1s", "2 earlier reads", "2 earlier reads"] {
            let refused = daemon.reload();
            assert_eq!(refused.status, 503, "{}", refused.text);
            assert!(refused.text.contains(words) && refused.text.contains("/mnt/dead"), "{}", refused.text);
        }
        let told = |words: &str| daemon.log().lines().filter(|line| line.contains(words)).count();
        until("the log", || (told("2 earlier reads") == 1).then_some(()));
        // What is loaded now does not hang, but nobody can know that.
        home.configure("");
        assert_eq!(daemon.reload().status, 503);
        create(&daemon, &checked("web", &[1]));
        daemon.stop();
    });
}

#[test]
fn a_start_that_hangs_ends_when_it_is_told_to() {
    with_dead_mount("a_start_that_hangs_ends_when_it_is_told_to", || {
        let home = Home::new(INCLUDE);
        let mut command = home.command();
        let mut child = command.stderr(Stdio::null()).spawn().expect("the binary runs");
        let id = Pid::from_child(&child);
        until("its signal handlers", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            (caught & (1 << 14) != 0).then_some(())
        });
        kill_process(id, Signal::TERM).expect("it runs");
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    });
}
