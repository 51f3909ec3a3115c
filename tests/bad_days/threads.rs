//! No thread: a control group in which no further one may be made.

use std::fs;
use std::process::Command;

use crate::group::Group;
use crate::restart::{Site, check_verdicts_move};
use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::process::Process;
use crate::support::{Daemon, channel, wait};
use crate::{sharp_check, unhealthy};

#[test]
fn without_threads_everything_waits_for_those_there_are() {
    let Some(group) = Group::of("pids") else { return };
    let state = tempfile::tempdir().expect("a temporary folder");
    let site = Site::new(state.path());
    let daemon = Daemon::start(&site.config);
    site.wait_for_verdicts(&daemon);
    group.add(daemon.process.id());
    let threads = || fs::read_dir(format!("/proc/{}/task", daemon.process.id())).expect("it runs").count();
    group.limit("pids.max", "1");
    let before = threads();
    let blamed = unhealthy(&daemon);
    for round in 0..3 {
        check_verdicts_move(&site, &daemon);
        // A name is looked up in a thread, and so is a configuration read.
        let named =
            channel("named", &sharp_check("1s", "1s"), &["host = \"localhost\"\nport = 1".to_owned()]);
        daemon.write_config(&format!("{}\n{}", site.config, if round == 1 { named } else { String::new() }));
        assert_eq!(daemon.reload().status, 200, "{}", daemon.log());
        if round == 1 {
            wait::until("the name's verdict", || {
                daemon.members("named").iter().all(|member| member.is("unhealthy")).then_some(())
            });
        }
    }
    assert!(threads() <= before, "{before} threads, then {}", threads());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    group.limit("pids.max", "max");
    check_verdicts_move(&site, &daemon);
    assert!(unhealthy(&daemon) > blamed);
}

#[test]
fn a_start_without_threads_ends_with_a_word() {
    let Some(group) = Group::of("pids") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("vitald.toml");
    let ip = own_address();
    let channels = channel("web", &sharp_check("1s", "1s"), &[member(ip, 8000)]);
    fs::write(&config, format!("[server]\nlisten = \"{ip}:0\"\n\n{channels}")).expect("a folder");
    let enter = format!("echo $$ > {}; exec \"$@\"", group.procs().display());
    // One thread, and as many more as it makes before it probes.
    for most in 1..=4 {
        group.limit("pids.max", &most.to_string());
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh", env!("CARGO_BIN_EXE_vitald"), "run", "--config"]).arg(&config);
        command.stderr(fs::File::create(&log).expect("a folder"));
        let mut process = Process::new(command.spawn().expect("a shell"));
        let status = process.wait(wait::PATIENCE, "it to give up");
        let said = fs::read_to_string(&log).expect("a log");
        assert_eq!(status.code(), Some(1), "{most} threads: {said}");
        assert!(said.contains("cannot start") && !said.contains("panicked"), "{most} threads: {said}");
    }
}
