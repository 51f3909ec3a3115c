//! Thresholds to the probe: a member whose answers are scripted, so that one
//! success or failure more or less would show.

use crate::support::address::own_address;
use crate::support::config::{member, pace};
use crate::support::{Answer, Backend, Daemon, channel, wait};

fn script(statuses: &[u16]) -> Vec<Answer> {
    statuses.iter().map(|status| Answer::Status(*status)).collect()
}

fn check(normal: u32, abnormal: u32) -> String {
    format!(
        "protocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n{}",
        pace(normal, abnormal, "150ms", "150ms")
    )
}

#[test]
fn a_run_one_short_of_the_threshold_changes_nothing() {
    let ip = own_address();
    let statuses = [
        200, 200, // up: 2 in a row
        500, 500, 200, 500, 500, 200, // never 3 in a row
        500, 200, 500, 200, 500, 200, 500, 200,
    ];
    let backend = Backend::start(ip, 8000, script(&statuses), Answer::Status(200));
    let daemon = Daemon::start(&channel("web", &check(2, 3), &[member(ip, 8000)]));
    let address = backend.address.to_string();
    wait::until("the script to end", || (backend.requests() > statuses.len() + 1).then_some(()));
    assert_eq!(daemon.transitions("web", &address, "unhealthy"), 0.0);
    assert_eq!(daemon.transitions("web", &address, "healthy"), 1.0);
}

#[test]
fn a_run_of_the_threshold_changes_the_verdict_at_its_last_probe() {
    let ip = own_address();
    let statuses = [
        200, 500, 200, 200, // up at the 4th: one failure resets the count
        500, 500, 500, // down
        200, 500, 200, // not yet up
        500, 500, 500, 500, // down already
        200, 200, // up
    ];
    let backend = Backend::start(ip, 8000, script(&statuses), Answer::Status(200));
    let daemon = Daemon::start(&channel("web", &check(2, 3), &[member(ip, 8000)]));
    let address = backend.address.to_string();
    // Whatever instant is looked at: unhealthy exactly from the third failure on
    // until the second success.
    let mut was = "unknown".to_owned();
    wait::until("the script to end", || {
        let member = daemon.member("web", &address);
        if member.failures >= 3 {
            assert!(member.is("unhealthy"), "{member:?}");
        } else if member.successes >= 2 {
            assert!(member.is("healthy"), "{member:?}");
        }
        if member.health != was {
            assert!(member.failures >= 3 || member.successes >= 2, "{was} before, then {member:?}");
            was.clone_from(&member.health);
        }
        (backend.requests() > statuses.len()).then_some(())
    });
    assert_eq!(daemon.transitions("web", &address, "unhealthy"), 1.0);
    assert_eq!(daemon.transitions("web", &address, "healthy"), 2.0);
}

#[test]
fn from_unknown_the_same_thresholds_apply() {
    let ip = own_address();
    let backend = Backend::start(ip, 8000, script(&[500, 500, 200, 500, 500, 500, 500]), Answer::Status(500));
    let daemon = Daemon::start(&channel("web", &check(2, 4), &[member(ip, 8000)]));
    let address = backend.address.to_string();
    let down = daemon.wait_for_health("web", &address, "unhealthy");
    assert!(down.failures >= 4, "{down:?}");
    assert!(backend.requests() >= 7);
    assert_eq!(daemon.transitions("web", &address, "healthy"), 0.0);
}

#[test]
fn a_check_that_is_off_sends_nothing_and_says_unknown() {
    let ip = own_address();
    let off = Backend::steady(ip, 8000, Answer::Status(200));
    let on = Backend::steady(ip, 8001, Answer::Status(200));
    let channels = channel("check-off", &format!("{}status = 2\n", check(1, 1)), &[member(ip, 8000)])
        + &channel("check-on", &check(2, 2), &[member(ip, 8001)])
        + &format!(
            "[[channels]]\nname = \"no-check\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\
             [[channels.members]]\n{}\n",
            member(ip, 8000)
        );
    let daemon = Daemon::start(&channels);
    wait::until("the other channel's probes", || (on.requests() >= 8).then_some(()));
    assert_eq!(off.accepted(), 0);
    for name in ["check-off", "no-check"] {
        let member = daemon.member(name, &off.address.to_string());
        assert!(member.is("unknown") && member.in_rotation, "{member:?}");
        assert_eq!(member.result, None);
    }
    // Nothing is up or down while nothing is known.
    let labels = [("channel", "check-off")];
    assert_eq!(daemon.metrics().value("vitald_member_up", &labels), None);
    assert_eq!(daemon.metrics().value("vitald_member_in_rotation", &labels), Some(1.0));
}

#[test]
fn probes_keep_their_interval() {
    let ip = own_address();
    let slow = Answer::SlowStatus(std::time::Duration::from_millis(60), 200);
    let backend = Backend::steady(ip, 8000, slow);
    let daemon = Daemon::start(&channel("web", &check(2, 3), &[member(ip, 8000)]));
    wait::until("forty probes", || (backend.requests() >= 40).then_some(()));
    drop(daemon);
    // Start to start: what an answer takes does not add up. A late slot is
    // skipped, so the whole may take longer on a busy machine, never shorter.
    let arrivals = backend.arrivals();
    let (Some(first), Some(last)) = (arrivals.get(1), arrivals.get(39)) else { panic!("too few") };
    let mean = last.duration_since(*first).as_secs_f64() / 38.0;
    assert!((0.145..0.2).contains(&mean), "mean gap {mean} s, wanted 0.15");
}
