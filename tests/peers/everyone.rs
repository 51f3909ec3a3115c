//! Every member of a channel fails at once, and all come back at once: each
//! verdict takes its own threshold, no more and no less.
//!
//! `benches/probe_cost/failure` does the same with 10,000 members, against the
//! clock, and with packets that vanish.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::config::{member, pace};
use crate::support::{Daemon, Nginx, channel, wait};

const MEMBERS: u16 = 200;

/// By member, how many results in a row each verdict of this kind took.
fn verdicts(daemon: &Daemon, to: &str) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in daemon.log().lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let field = |name: &str| line.pointer(&format!("/fields/{name}")).or_else(|| line.get(name));
        if field("to").and_then(Value::as_str) == Some(to) {
            let member = field("member").and_then(Value::as_str).expect("a member").to_owned();
            let consecutive = field("consecutive").and_then(Value::as_u64).expect("a number");
            found.entry(member).or_default().push(consecutive);
        }
    }
    found
}

fn wait_for_verdicts(daemon: &Daemon, to: &str, times: usize, consecutive: u64) {
    let all = |found: &BTreeMap<String, Vec<u64>>| {
        found.len() == usize::from(MEMBERS) && found.values().all(|verdicts| verdicts.len() >= times)
    };
    let found = wait::until(&format!("everyone to be {to}"), || Some(verdicts(daemon, to)).filter(all));
    for (member, verdicts) in found {
        assert_eq!(verdicts, vec![consecutive; times], "{member} to {to}");
    }
}

#[test]
fn all_fall_and_rise_by_their_thresholds() {
    let Some(mut nginx) = Nginx::plain(MEMBERS) else { return };
    let members: Vec<String> = (0..MEMBERS).map(|index| member(nginx.ip, 8000 + index)).collect();
    let check =
        format!("protocol = \"HTTP\"\npath = \"/health\"\nhttp_code = \"200\"\n{}", pace(2, 3, "1s", "1s"));
    let daemon = Daemon::start(&channel("web", &check, &members));
    wait_for_verdicts(&daemon, "healthy", 1, 2);

    nginx.stop();
    wait_for_verdicts(&daemon, "unhealthy", 1, 3);
    assert!(daemon.members("web").iter().all(|member| !member.in_rotation));

    nginx.run();
    wait_for_verdicts(&daemon, "healthy", 2, 2);
    assert!(daemon.members("web").iter().all(|member| member.in_rotation));
    assert_eq!(verdicts(&daemon, "unhealthy").values().map(Vec::len).sum::<usize>(), usize::from(MEMBERS));
}
