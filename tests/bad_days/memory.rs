//! No memory: a control group that holds no more. What probing needs it has; what
//! the kernel ends goes on with its verdicts when it is started again.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rustix::process::Signal;

use crate::group::Group;
use crate::restart::{Site, check_verdicts_move, wait_for_save};
use crate::support::Daemon;
use crate::unhealthy;

/// Members of a configuration that does not fit.
const TOO_MANY: u32 = 150_000;

#[test]
fn without_memory_probing_goes_on_and_a_kill_loses_no_verdict() {
    let Some(group) = Group::of("memory") else { return };
    let state = tempfile::tempdir().expect("a temporary folder");
    let site = Site::new(state.path());
    let mut daemon = Daemon::start(&site.config);
    site.wait_for_verdicts(&daemon);
    // Only what it takes from now on counts.
    group.add(daemon.process.id());
    group.limit_memory(16 << 20);
    for _ in 0..3 {
        check_verdicts_move(&site, &daemon);
        assert_eq!(daemon.reload().status, 200);
    }
    let blamed = unhealthy(&daemon);
    wait_for_save(state.path());
    let before = daemon.members("web");

    let members: Vec<String> = (0..TOO_MANY)
        .map(|number| {
            let [_, high, middle, low] = number.to_be_bytes();
            format!("[[channels.members]]\nhost = \"127.{}.{middle}.{low}\"\n", 100 + high)
        })
        .collect();
    let more = format!(
        "{}\n[[channels]]\nname = \"more\"\nport = 1\nbalance_strategy = 1\nmember_type = \"ip\"\n{}",
        site.config,
        members.concat()
    );
    daemon.write_config(&more);
    daemon.signal(Signal::HUP);
    let status = daemon.process.wait(Duration::from_secs(60), "the kernel to end it");
    assert_eq!(status.signal(), Some(9), "{status}:\n{}", daemon.log());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    drop(daemon);

    let daemon = Daemon::start(&site.config);
    assert_eq!(daemon.get("/readyz").status, 200, "ready at once");
    for (old, new) in before.iter().zip(daemon.members("web")) {
        assert_eq!((&old.health, &old.since), (&new.health, &new.since));
    }
    assert_eq!((blamed, unhealthy(&daemon)), (4.0, 0.0));
}
