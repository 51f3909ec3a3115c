//! What happens to members when the configuration changes under their probes,
//! and how they share the prober: removal, return, switches, slow neighbours.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::address::own_address;
use crate::arena::{Daemon, members_runtime, text};
use crate::peer::{Peer, Step};
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(60);

/// One channel of an HTTP check over members.
struct Channel<'a> {
    name: &'a str,
    normal: u32,
    interval: &'a str,
    timeout: &'a str,
    codes: &'a str,
    /// More lines of the health config.
    check: &'a str,
    /// More lines of each member.
    member: &'a str,
}

const QUICK: Channel<'static> = Channel {
    name: "web",
    normal: 1,
    interval: "300ms",
    timeout: "300ms",
    codes: "200",
    check: "",
    member: "",
};

impl Channel<'_> {
    fn over(&self, members: &[&Peer]) -> String {
        let mut config = format!(
            "[[channels]]\nname = \"{}\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\
             [channels.vpc_health_config]\nprotocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"{}\"\n\
             threshold_normal = {}\nthreshold_abnormal = 1\ntime_interval = \"{}\"\ntimeout = \"{}\"\n{}\n",
            self.name, self.codes, self.normal, self.interval, self.timeout, self.check
        );
        for peer in members {
            let (host, port) = (peer.address.ip(), peer.address.port());
            let _ =
                writeln!(config, "[[channels.members]]\nhost = \"{host}\"\nport = {port}\n{}", self.member);
        }
        config
    }
}

fn good() -> Vec<Step> {
    vec![Step::ReadRequest, Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())]
}

fn silent() -> Vec<Step> {
    vec![Step::ReadRequest, Step::Hold]
}

fn serve(scripts: &[Vec<Step>]) -> Vec<Peer> {
    let ip = own_address();
    let runtime = members_runtime();
    let _inside = runtime.enter();
    scripts.iter().map(|script| Peer::serve(ip, 0, script.clone())).collect()
}

fn health(daemon: &Daemon, channel: &str, peer: &Peer) -> Option<String> {
    let members = daemon.members();
    members.get(&(channel.to_owned(), peer.address.to_string())).and_then(|member| text(member, "/health"))
}

fn wait_for(daemon: &Daemon, channel: &str, peer: &Peer, wanted: &str) {
    wait::until_within(PATIENCE, wanted, || {
        (health(daemon, channel, peer).as_deref() == Some(wanted)).then_some(())
    });
}

#[test]
fn a_member_removed_in_the_middle_of_its_probe_leaves_no_verdict() {
    let peers = serve(&[silent(), good()]);
    let [stuck, steady] = peers.as_slice() else { unreachable!() };
    let long = Channel { name: "long", interval: "30s", timeout: "30s", ..QUICK };
    let mut daemon = Daemon::start(crate::folder(), &(long.over(&[stuck]) + &QUICK.over(&[steady])));
    wait::until_within(PATIENCE, "the probe", || (stuck.open() == 1).then_some(()));
    daemon.reload(&QUICK.over(&[steady]));
    wait::until("the connection to end", || (stuck.open() == 0).then_some(()));
    let before = steady.seen();
    wait::until("more probes of the other", || (steady.seen() > before + 3).then_some(()));
    assert!(daemon.transitions().iter().all(|event| event.channel == "web"));
    assert_eq!(stuck.seen(), 1);
    assert!(!daemon.members().contains_key(&("long".to_owned(), stuck.address.to_string())));
}

#[test]
fn a_member_that_returns_starts_at_unknown_and_is_probed_once_per_interval() {
    let peers = serve(&[good(), good()]);
    let [coming, steady] = peers.as_slice() else { unreachable!() };
    let check = Channel { normal: 5, ..QUICK };
    let daemon = Daemon::start(crate::folder(), &check.over(&[steady, coming]));
    wait_for(&daemon, "web", coming, "healthy");
    wait_for(&daemon, "web", steady, "healthy");
    for _ in 0..3 {
        daemon.reload(&check.over(&[steady]));
        daemon.reload(&check.over(&[steady, coming]));
        assert_eq!(health(&daemon, "web", coming).as_deref(), Some("unknown"));
        assert_eq!(health(&daemon, "web", steady).as_deref(), Some("healthy"), "nobody else is touched");
    }
    wait_for(&daemon, "web", coming, "healthy");
    let (from, beside) = (coming.seen(), steady.seen());
    wait::until_within(PATIENCE, "twenty probes", || (steady.seen() >= beside + 20).then_some(()));
    let probes = coming.seen() - from;
    assert!((15..=25).contains(&probes), "{probes} probes while its neighbour got twenty");
}

/// Health, whose it is, and what was last known.
fn verdict(daemon: &Daemon, channel: &str, peer: &Peer) -> [Option<String>; 3] {
    let members = daemon.members();
    let member = members.get(&(channel.to_owned(), peer.address.to_string()));
    ["/health", "/verdict_from", "/last_known"].map(|field| text(member?, field))
}

fn words(words: [&str; 3]) -> [Option<String>; 3] {
    words.map(|word| (word != "null").then(|| word.to_owned()))
}

#[test]
fn a_check_that_is_switched_off_and_on_goes_on_with_the_verdict() {
    let peers = serve(&[good()]);
    let [member] = peers.as_slice() else { unreachable!() };
    let slow = Channel { normal: 3, ..QUICK };
    let off = Channel { check: "status = 2", ..slow };
    let daemon = Daemon::start(crate::folder(), &slow.over(&[member]));
    wait_for(&daemon, "web", member, "healthy");
    daemon.reload(&off.over(&[member]));
    assert_eq!(verdict(&daemon, "web", member), words(["unknown", "last known", "healthy"]));
    let metrics = daemon.metrics();
    assert_eq!(metrics.value("vitald_member_up", &[("channel", "web")]), None);
    assert_eq!(metrics.value("vitald_member_in_rotation", &[("channel", "web")]), Some(1.0));
    let seen = wait::until("the last probe to end", || (member.open() == 0).then(|| member.seen()));
    // Longer than three intervals: the time is what is looked at.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(member.seen(), seen, "nothing is probed");
    daemon.reload(&slow.over(&[member]));
    assert_eq!(verdict(&daemon, "web", member), words(["healthy", "earlier check", "null"]));
    wait::until_within(PATIENCE, "the thresholds to speak", || {
        (verdict(&daemon, "web", member) == words(["healthy", "check", "null"])).then_some(())
    });
    assert!(member.seen() >= seen + 3, "the thresholds count from the beginning");
    // Out of date, it is as if nobody knew the member.
    let none = "[store]\nverdict_age_limit = 0\n";
    daemon.reload(&(none.to_owned() + &off.over(&[member])));
    daemon.reload(&(none.to_owned() + &slow.over(&[member])));
    assert_eq!(verdict(&daemon, "web", member), words(["unknown", "null", "null"]));
}

/// The rows of docs/config.md, "Changes". At this pace at most one probe comes in
/// between.
#[test]
fn a_member_known_dead_stays_out_whatever_changes() {
    let peers = serve(&[vec![Step::ReadRequest, Step::Send(b"HTTP/1.1 500 No\r\n\r\n".to_vec())]]);
    let [dead] = peers.as_slice() else { unreachable!() };
    let first = Channel { normal: 3, interval: "60s", timeout: "2s", ..QUICK }.over(&[dead]);
    let slow = first.replace("threshold_abnormal = 1", "threshold_abnormal = 9");
    let grouped = |name: &str| {
        let groups = format!("member_groups = [{{ member_group_name = \"{name}\" }}]\nmember_type");
        format!("{}member_group_name = \"{name}\"\n", slow.replace("member_type", &groups))
    };
    let daemon = Daemon::start(crate::folder(), &first);
    let lines = |lines: &str| slow.replace("[[channels.members]]", &format!("{lines}[[channels.members]]"));
    let kept = [
        ("threshold_abnormal", slow.clone()),
        ("time_interval", slow.replace("60s", "61s")),
        ("timeout", slow.replace("\"2s\"", "\"1s\"")),
        ("threshold_normal", slow.replace("threshold_normal = 3", "threshold_normal = 4")),
        ("close", lines("[channels.probe]\nclose = \"fin\"\n")),
        ("initial_state", lines("[channels.probe]\ninitial_state = \"healthy\"\n")),
        ("weight", format!("{slow}weight = 7\n")),
        ("standby", format!("{slow}is_backup = true\n")),
        ("strategy", slow.replace("balance_strategy = 1", "balance_strategy = 2")),
        ("into a group", grouped("blue")),
        ("into another group", grouped("green")),
        ("renamed, with another interval", slow.replace("\"web\"", "\"shop\"").replace("60s", "59s")),
    ];
    let carried = [
        ("path", slow.replace("path = \"/\"", "path = \"/other\"")),
        ("http_code", slow.replace("\"200\"", "\"200,204\"")),
        ("headers", lines("[channels.probe.headers]\nX-A = \"1\"\n")),
        ("renamed, with another path", slow.replace("\"web\"", "\"shop\"").replace("\"/\"", "\"/x\"")),
    ];
    let kept = kept.map(|(what, config)| (what, config, "check"));
    let carried = carried.map(|(what, config)| (what, config, "earlier check"));
    for (what, config, from) in kept.into_iter().chain(carried) {
        daemon.reload(&first);
        wait::until_within(PATIENCE, "the verdict", || {
            (verdict(&daemon, "web", dead) == words(["unhealthy", "check", "null"])).then_some(())
        });
        let before = daemon.members().into_values().next().expect("the member");
        daemon.reload(&config);
        let after = daemon.members().into_values().next().expect("the member");
        let now = ["/health", "/verdict_from"].map(|field| text(&after, field));
        assert_eq!(now, [Some("unhealthy".to_owned()), Some(from.to_owned())], "{what}");
        assert_eq!(after.get("in_rotation").and_then(Value::as_bool), Some(false), "{what}");
        assert_eq!(text(&after, "/since"), text(&before, "/since"), "{what}");
        let failures =
            |member: &Value| member.get("consecutive_failures").and_then(Value::as_u64).expect("a number");
        let (before, after) = (failures(&before), failures(&after));
        let is_as_expected = if from == "check" { after >= before } else { after <= 1 };
        assert!(is_as_expected, "{what}: {before} failures in a row, then {after}");
        assert_eq!(daemon.metrics().value("vitald_member_up", &[]), Some(0.0), "{what}");
    }
}

#[test]
fn one_address_under_two_checks_has_two_verdicts() {
    let peers = serve(&[good()]);
    let [member] = peers.as_slice() else { unreachable!() };
    let other = Channel { name: "other", codes: "404", ..QUICK };
    let daemon = Daemon::start(crate::folder(), &(QUICK.over(&[member]) + &other.over(&[member])));
    wait_for(&daemon, "web", member, "healthy");
    wait_for(&daemon, "other", member, "unhealthy");
    assert_eq!(health(&daemon, "web", member).as_deref(), Some("healthy"));
}

#[test]
fn a_disabled_member_is_checked_and_takes_no_traffic() {
    let peers = serve(&[good()]);
    let [member] = peers.as_slice() else { unreachable!() };
    let disabled = Channel { member: "status = 2", ..QUICK };
    let daemon = Daemon::start(crate::folder(), &disabled.over(&[member]));
    wait_for(&daemon, "web", member, "healthy");
    let members = daemon.members();
    let state = members.values().next().and_then(|member| member.get("in_rotation")?.as_bool());
    assert_eq!(state, Some(false));
}

#[test]
fn a_member_that_hangs_is_never_probed_twice_at_once() {
    let peers = serve(&[silent(), good()]);
    let [stuck, steady] = peers.as_slice() else { unreachable!() };
    let daemon = Daemon::start(crate::folder(), &QUICK.over(&[stuck, steady]));
    wait_for(&daemon, "web", stuck, "unhealthy");
    wait::until_within(PATIENCE, "ten probes", || (stuck.seen() >= 10).then_some(()));
    // The old connection may be seen to end only after the new one has come.
    assert!(stuck.most_open() <= 2, "{} at once", stuck.most_open());
    assert_eq!(health(&daemon, "web", steady).as_deref(), Some("healthy"));
}

#[test]
fn slow_members_do_not_hold_up_the_others() {
    let mut scripts = vec![silent(); 40];
    scripts.push(good());
    let peers = serve(&scripts);
    let all: Vec<&Peer> = peers.iter().collect();
    let check = Channel { normal: 3, interval: "3s", timeout: "3s", ..QUICK };
    let quick = Channel { name: "quick", ..QUICK };
    let (last, stuck) = all.split_last().expect("a member");
    let daemon = Daemon::start(crate::folder(), &(check.over(stuck) + &quick.over(&[last])));
    wait_for(&daemon, "quick", last, "healthy");
    wait::until_within(PATIENCE, "forty hanging probes", || {
        stuck.iter().all(|peer| peer.seen() >= 2).then_some(())
    });
    // Start to start: what hangs elsewhere adds nothing.
    let probes = last.seen();
    assert!(probes >= 10, "{probes} probes of 300 ms while others hung for 3 s");
}

#[test]
fn a_long_interval_does_not_make_the_first_verdict_late() {
    let peers = serve(&vec![good(); 30]);
    let members: Vec<&Peer> = peers.iter().collect();
    let rare = Channel { interval: "300s", timeout: "5s", ..QUICK };
    let daemon = Daemon::start(crate::folder(), &rare.over(&members));
    // Far below the five minutes of the interval.
    wait::until("all first verdicts", || {
        daemon
            .members()
            .values()
            .all(|member| text(member, "/health").as_deref() == Some("healthy"))
            .then_some(())
    });
    assert!(members.iter().all(|peer| peer.seen() == 1), "one probe each");
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let peers = serve(&vec![good(); 10]);
    let members: Vec<&Peer> = peers.iter().collect();
    let rare = Channel { interval: "300s", timeout: "5s", ..QUICK };
    let config = rare.over(&members);
    let mut daemon = Daemon::start(crate::folder(), &config);
    wait::until("all first probes", || members.iter().all(|peer| peer.seen() == 1).then_some(()));
    wait::until("all first verdicts", || {
        daemon
            .members()
            .values()
            .all(|member| text(member, "/health").as_deref() == Some("healthy"))
            .then_some(())
    });
    daemon.transitions();
    for _ in 0..20 {
        daemon.reload(&config);
    }
    assert!(daemon.transitions().is_empty());
    assert!(members.iter().all(|peer| peer.seen() == 1), "no probe more");
}
