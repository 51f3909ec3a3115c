//! The prober's own network is gone: every way out ends here.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::inside::{NAMESPACE, can_unshare, inside};
use crate::support::config::member;
use crate::support::{Answer, Backend, Daemon, channel, wait};
use crate::{sharp_check, unhealthy};

/// Members and the reference target live in a network of their own, which a rule
/// before all others can cut off.
const SETUP: &str = "ip link set lo up
    ip addr add 198.51.100.1/24 dev lo
    ip rule add pref 20 lookup local
    ip rule del pref 0";

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

fn cut_off(how: &str) {
    let words = ["rule", how, "pref", "10", "to", "198.51.100.0/24", "unreachable"];
    let output = Command::new("ip").args(words).output().expect("ip can be run");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn without_a_network_the_self_check_keeps_every_verdict() {
    if can_unshare() {
        let name = "network::without_a_network_the_self_check_keeps_every_verdict";
        inside(&NAMESPACE, SETUP, name, lose_the_network);
    }
}

fn lose_the_network() {
    let backends: [Backend; 5] =
        [8000, 8001, 8002, 8003, 8004].map(|port| Backend::steady(OUTSIDE, port, Answer::Status(200)));
    let [first, ..] = &backends;
    let target = Backend::steady(OUTSIDE, 9000, Answer::Close);
    let members: Vec<String> = (0..5).map(|index| member(OUTSIDE, 8000 + index)).collect();
    let channels = channel("web", &sharp_check("300ms", "300ms"), &members);
    let checked = format!("[prober]\nreference = [\"{}\"]\n\n{channels}", target.address);
    let daemon = Daemon::start(&checked);
    let all_are = |health: &str| daemon.members("web").iter().all(|member| member.is(health)).then_some(());
    wait::until("every member to be healthy", || all_are("healthy"));

    let inconclusive = || {
        let labels = [("channel", "web"), ("reason", "local_network")];
        daemon.metrics().sum("vitald_probes_inconclusive_total", &labels)
    };
    cut_off("add");
    wait::until("probes that find no network", || (inconclusive() >= 20.0).then_some(()));
    assert_eq!(unhealthy(&daemon), 0.0, "a member was blamed");
    let shown = daemon.member("web", &first.address.to_string());
    let detail = shown.detail.unwrap_or_default();
    assert!(
        detail.starts_with(&format!("no reference target answers either ({}: ", target.address)),
        "{detail}"
    );
    cut_off("del");
    // The members are told apart again.
    first.answer_with(Answer::Status(500));
    daemon.wait_for_health("web", &first.address.to_string(), "unhealthy");
    assert_eq!(unhealthy(&daemon), 1.0);
    first.answer_with(Answer::Status(200));
    wait::until("every member to be healthy again", || all_are("healthy"));

    // Off by default: then it is every member that is gone.
    daemon.write_config(&channels);
    assert_eq!(daemon.reload().status, 200);
    cut_off("add");
    wait::until("every member to be unhealthy", || all_are("unhealthy"));
}
