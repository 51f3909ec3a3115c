//! A wall clock that jumps by an hour: libfaketime stands between the daemon and
//! the system's clock, and leaves the monotonic one alone.

use std::fs;
use std::path::Path;

use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::{Answer, Backend, Daemon, channel, wait};
use crate::{sharp_check, unhealthy};

const MEMBERS: u16 = 10;

/// Where the distribution puts it.
fn library() -> Option<String> {
    let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = places.iter().map(|place| format!("{place}/faketime/libfaketimeMT.so.1"));
    let found = found.into_iter().find(|file| Path::new(file).exists());
    if found.is_none() {
        crate::skipped::note("libfaketime is not installed");
    }
    found
}

#[test]
fn a_wall_clock_that_jumps_moves_no_verdict_and_no_probe() {
    let Some(library) = library() else { return };
    let ip = own_address();
    let backends: Vec<Backend> =
        (0..MEMBERS).map(|index| Backend::steady(ip, 8000 + index, Answer::Status(200))).collect();
    let members: Vec<String> = (0..MEMBERS).map(|index| member(ip, 8000 + index)).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let offset = folder.path().join("offset");
    fs::write(&offset, "+0").expect("the folder can be written");
    let channels = channel("web", &sharp_check("300ms", "300ms"), &members);
    let daemon = Daemon::start_with(&channels, |command| {
        command
            .env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", &offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    });
    wait::until("every member to be healthy", || {
        daemon.members("web").iter().all(|member| member.is("healthy")).then_some(())
    });
    let before = unhealthy(&daemon);
    for jump in ["+3600", "-3600", "+0"] {
        let from: Vec<usize> = backends.iter().map(Backend::requests).collect();
        let began = wait::now();
        fs::write(&offset, jump).expect("the folder can be written");
        wait::until("ten rounds", || {
            let done = |(backend, from): (&Backend, &usize)| backend.requests() >= from + 10;
            backends.iter().zip(&from).all(done).then_some(())
        });
        // The jump was seen: the last probe is dated by it.
        let hours: i64 = jump.parse().expect("a number of seconds");
        let at = daemon
            .members("web")
            .first()
            .and_then(|member| member.json.pointer("/last_probe/at")?.as_str().map(str::to_owned));
        let at = humantime::parse_rfc3339(&at.expect("a last probe")).expect("a time");
        let at = at.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!((at - wait::wall_clock() - hours as f64).abs() < 60.0, "{jump}: the wall shows {at}");
        // And no probe was: ten rounds of 300 ms in their time, none twice.
        let most = began.elapsed().as_secs_f64() / 0.3 + 2.0;
        for (backend, from) in backends.iter().zip(&from) {
            assert!((backend.requests() - from) as f64 <= most, "{}: a burst", backend.address);
        }
        assert_eq!(unhealthy(&daemon), before, "{jump}: a member was blamed");
    }
}
