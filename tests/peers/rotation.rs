//! Who is in rotation while real members come and go: standby members, groups,
//! weights, disabled members, fail-open.

use crate::support::config::member;
use crate::support::{Daemon, Nginx, channel, http_check, wait};

/// Addresses in rotation, as the status says and as the metrics say.
fn in_rotation(daemon: &Daemon, name: &str) -> Vec<String> {
    let members = daemon.members(name);
    members.iter().filter(|member| member.in_rotation).map(|member| member.address.clone()).collect()
}

fn wait_for_rotation(daemon: &Daemon, name: &str, what: &str, wanted: &[String]) {
    wait::until(what, || (in_rotation(daemon, name) == wanted).then_some(()));
}

#[test]
fn standby_members_take_over_and_step_back() {
    let Some(nginx) = Nginx::plain(4) else { return };
    let [first, second, standby, spare] = [8000, 8001, 8002, 8003].map(|port| nginx.member(port));
    let members = [
        member(nginx.ip, 8000),
        member(nginx.ip, 8001),
        format!("{}\nis_backup = true", member(nginx.ip, 8002)),
        format!("{}\nis_backup = true", member(nginx.ip, 8003)),
    ];
    let daemon = Daemon::start(&channel("web", &http_check("HTTP", "/health", "200"), &members));
    let on_backup = || daemon.metrics().value("vitald_channel_on_backup", &[("channel", "web")]);
    for address in [&first, &second, &standby, &spare] {
        daemon.wait_for_health("web", address, "healthy");
    }
    wait_for_rotation(&daemon, "web", "both primaries", &[first.clone(), second.clone()]);
    assert_eq!(on_backup(), Some(0.0));

    nginx.switch_on("answer-500", 8000);
    wait_for_rotation(&daemon, "web", "the other primary alone", std::slice::from_ref(&second));
    assert_eq!(on_backup(), Some(0.0));

    nginx.switch_on("answer-500", 8001);
    wait_for_rotation(&daemon, "web", "the standby members", &[standby.clone(), spare.clone()]);
    assert_eq!(on_backup(), Some(1.0));
    assert_eq!(daemon.json("/v1/channels/web").get("on_backup"), Some(&serde_json::Value::Bool(true)));

    nginx.switch_on("answer-500", 8002);
    wait_for_rotation(&daemon, "web", "the last standby member", std::slice::from_ref(&spare));

    nginx.switch_on("answer-500", 8003);
    wait_for_rotation(&daemon, "web", "nobody", &[]);
    assert_eq!(on_backup(), Some(0.0), "nobody is not a standby");

    nginx.switch_off("answer-500", 8002);
    wait_for_rotation(&daemon, "web", "a standby member again", std::slice::from_ref(&standby));

    // One primary is enough for all standby members to step back.
    nginx.switch_off("answer-500", 8001);
    wait_for_rotation(&daemon, "web", "the primary that returned", std::slice::from_ref(&second));
    assert_eq!(on_backup(), Some(0.0));
    assert!(daemon.member("web", &standby).is("healthy"));
}

#[test]
fn all_members_down_is_nobody_or_everybody_as_configured() {
    let Some(nginx) = Nginx::plain(2) else { return };
    nginx.switch_on("answer-500", 8000);
    nginx.switch_on("answer-500", 8001);
    let members = [
        member(nginx.ip, 8000),
        format!("{}\nis_backup = true", member(nginx.ip, 8001)),
        format!("{}\nstatus = 2", member(nginx.ip, 8002)),
    ];
    let check = http_check("HTTP", "/health", "200");
    let channels = channel("closed", &check, &members)
        + &channel("open", &format!("{check}\n[channels.balance]\nfail_open = true"), &members);
    let daemon = Daemon::start(&channels);
    for name in ["closed", "open"] {
        for port in [8000, 8001] {
            daemon.wait_for_health(name, &nginx.member(port), "unhealthy");
        }
    }
    assert_eq!(in_rotation(&daemon, "closed"), [""; 0]);
    // All that are enabled, standby or not.
    assert_eq!(in_rotation(&daemon, "open"), [nginx.member(8000), nginx.member(8001)]);
}

#[test]
fn disabled_members_are_probed_and_take_nothing() {
    let Some(nginx) = Nginx::plain(2) else { return };
    let members =
        |status: u8| [member(nginx.ip, 8000), format!("{}\nstatus = {status}", member(nginx.ip, 8001))];
    let check = http_check("HTTP", "/health", "200");
    let daemon = Daemon::start(&channel("web", &check, &members(2)));
    let [enabled, disabled] = [nginx.member(8000), nginx.member(8001)];
    daemon.wait_for_health("web", &enabled, "healthy");
    let off = daemon.wait_for_health("web", &disabled, "healthy");
    assert!(!off.in_rotation && !off.enabled);
    let state = |state: &str| {
        daemon.metrics().value("vitald_channel_members", &[("channel", "web"), ("state", state)])
    };
    assert_eq!([state("healthy"), state("disabled"), state("unknown")], [Some(1.0), Some(1.0), Some(0.0)]);

    // Enabling is immediate: its verdict is there already.
    daemon.write_config(&channel("web", &check, &members(1)));
    assert_eq!(daemon.reload().status, 200);
    let on = daemon.member("web", &disabled);
    assert!(on.in_rotation && on.enabled && on.is("healthy"), "{on:?}");
    assert_eq!(daemon.transitions("web", &disabled, "healthy"), 1.0);
}

#[test]
fn weights_are_the_groups_or_the_members_own() {
    let Some(nginx) = Nginx::plain(4) else { return };
    let groups = "\n[[channels.member_groups]]\nmember_group_name = \"blue\"\nmember_group_weight = 30\n\
                  [[channels.member_groups]]\nmember_group_name = \"green\"\n";
    let members = [
        format!("{}\nweight = 2\nmember_group_name = \"blue\"", member(nginx.ip, 8000)),
        format!("{}\nweight = 7\nmember_group_name = \"green\"", member(nginx.ip, 8001)),
        member(nginx.ip, 8002),
        format!("{}\nweight = 0", member(nginx.ip, 8003)),
    ];
    let check = http_check("HTTP", "/health", "200");
    let daemon = Daemon::start(
        &(channel("grouped", &check, members.get(..2).expect("two"))
            + groups
            + &channel("alone", &check, members.get(2..).expect("two"))),
    );
    for (name, port, weight) in
        [("grouped", 8000, 30), ("grouped", 8001, 7), ("alone", 8002, 1), ("alone", 8003, 0)]
    {
        let address = nginx.member(port);
        let member = daemon.member(name, &address);
        assert_eq!((member.weight, member.in_rotation), (weight, weight > 0), "{address}");
        let labels = [("channel", name), ("member", &*address)];
        assert_eq!(daemon.metrics().value("vitald_member_weight", &labels), Some(weight as f64));
    }
    let labels = [("channel", "grouped"), ("group", "blue"), ("backup", "false")];
    assert!(daemon.metrics().value("vitald_member_in_rotation", &labels).is_some());
}
