//! A prober without file descriptors: it blames nobody, and goes on when it has
//! some again.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::support::address::own_address;
use crate::support::config::{member, pace};
use crate::support::{Answer, Backend, Daemon, channel, wait};

const MEMBERS: u16 = 10;

#[test]
fn without_descriptors_no_member_changes() {
    let ip = own_address();
    let backends: Vec<Backend> =
        (0..MEMBERS).map(|index| Backend::steady(ip, 8000 + index, Answer::Status(200))).collect();
    let members: Vec<String> = (0..MEMBERS).map(|index| member(ip, 8000 + index)).collect();
    // A socket that ended in a reset is used again, so that such probes would go on.
    let check = format!(
        "protocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n{}\n[channels.probe]\nclose = \"fin\"\n",
        pace(1, 1, "200ms", "200ms")
    );
    let daemon = Daemon::start(&channel("web", &check, &members));
    for backend in &backends {
        daemon.wait_for_health("web", &backend.address.to_string(), "healthy");
    }
    let seen = || -> usize { backends.iter().map(Backend::requests).sum() };
    let before = daemon.members("web");

    // Taken away while it runs, so that it could not prepare for it. What is open
    // stays open.
    let process = Pid::from_raw(daemon.process.id().cast_signed());
    let none = Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum };
    let usual = prlimit(process, Resource::Nofile, none).expect("an own process can be limited");
    let mut last = (seen(), wait::now());
    wait::until("the probes to stop", || {
        let now = seen();
        if now != last.0 {
            last = (now, wait::now());
        }
        (last.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
    let told = |text: &str| daemon.log().matches(text).count();
    wait::until("the log to say so", || (told("out of file descriptors") > 0).then_some(()));
    prlimit(process, Resource::Nofile, usual).expect("the limit can be raised again");

    let missed = seen();
    wait::until("two more rounds", || (seen() >= missed + 2 * usize::from(MEMBERS)).then_some(()));
    wait::until("the log to say that it is over", || {
        (told("file descriptors are free again") > 0).then_some(())
    });
    assert_eq!(told("out of file descriptors"), 1, "one line, however many probes:\n{}", daemon.log());
    let metrics = daemon.metrics();
    let inconclusive = metrics.sum("vitald_probes_total", &[("channel", "web"), ("result", "inconclusive")]);
    assert!(inconclusive >= 10.0, "{inconclusive} probes were inconclusive");
    let labels = [("channel", "web"), ("reason", "local_fd")];
    assert_eq!(metrics.sum("vitald_probes_inconclusive_total", &labels), inconclusive);
    assert_eq!(metrics.sum("vitald_probe_failures_total", &[("channel", "web")]), 0.0);
    assert_eq!(metrics.sum("vitald_member_transitions_total", &[("to", "unhealthy")]), 0.0);
    for (old, new) in before.iter().zip(daemon.members("web")) {
        assert_eq!((&old.health, &old.since), (&new.health, &new.since));
        assert!(new.successes > old.successes, "the count goes on: {old:?} then {new:?}");
    }
}
