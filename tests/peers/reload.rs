//! Reloads under probing: what did not change keeps its verdict, its counts and
//! its pace; a bad configuration changes nothing.

use rustix::process::Signal;

use crate::support::config::{member, pace};
use crate::support::{Daemon, Nginx, channel, http_check, wait};

const PORTS: std::ops::Range<u16> = 8000..8004;

fn members(nginx: &Nginx) -> Vec<String> {
    PORTS.map(|port| member(nginx.ip, port)).collect()
}

/// One probe a second.
fn slow_check() -> String {
    format!("protocol = \"HTTP\"\npath = \"/health\"\nhttp_code = \"200\"\n{}", pace(2, 3, "1s", "1s"))
}

fn reload_succeeded(daemon: &Daemon) -> Option<f64> {
    daemon.metrics().value("vitald_config_last_reload_successful", &[])
}

fn last_reload(daemon: &Daemon) -> f64 {
    daemon.metrics().value("vitald_config_last_reload_success_timestamp_seconds", &[]).expect("the series")
}

/// Lines of the daemon's log that tell of a transition.
fn transition_lines(daemon: &Daemon) -> usize {
    daemon.log().lines().filter(|line| line.contains("\"from\"") && line.contains("\"to\"")).count()
}

/// Members go to other drivers while they are probed: nobody is missed, probed twice or
/// judged anew, and no reader misses anybody.
#[test]
fn members_change_drivers_with_all_that_is_known_of_them() {
    let Some(nginx) = Nginx::plain(4) else { return };
    let config = |drivers: u16| {
        let channel = channel("web", &slow_check(), &members(&nginx));
        format!("[prober]\ndrivers = {drivers}\n{channel}")
    };
    let daemon = Daemon::start(&config(1));
    for port in PORTS {
        daemon.wait_for_health("web", &nginx.member(port), "healthy");
    }
    let before = daemon.members("web");
    let lines = transition_lines(&daemon);
    let began = wait::wall_clock();
    for drivers in [4, 2, 3, 1] {
        daemon.write_config(&config(drivers));
        assert_eq!(daemon.reload().status, 200);
        let requests = nginx.requests().len();
        wait::until("two rounds", || {
            let seen = daemon.members("web");
            assert!(seen.iter().all(|member| member.is("healthy")), "{seen:?}");
            (nginx.requests().len() >= requests + 8).then_some(())
        });
    }
    let ended = wait::wall_clock();
    assert!(daemon.log().contains("4 drivers probe from now on"), "{}", daemon.log());
    assert_eq!(transition_lines(&daemon), lines);
    assert_eq!(daemon.metrics().value("vitald_probes_skipped_total", &[]), Some(0.0));
    for (port, old) in PORTS.zip(&before) {
        let mut requests: Vec<f64> = nginx.requests_to(port).iter().map(|request| request.at).collect();
        requests.retain(|at| (began..=ended).contains(at));
        let rounds = ended - began;
        let probes = requests.len() as f64;
        assert!((rounds - 2.0..=rounds + 2.0).contains(&probes), "port {port}: {probes} in {rounds} s");
        let new = daemon.member("web", &nginx.member(port));
        assert_eq!((&new.health, &new.since), (&old.health, &old.since));
        assert!(new.successes > old.successes, "the counts go on: {old:?} then {new:?}");
    }
}

#[test]
fn the_same_file_changes_nothing() {
    let Some(nginx) = Nginx::plain(4) else { return };
    let daemon = Daemon::start(&channel("web", &slow_check(), &members(&nginx)));
    for port in PORTS {
        daemon.wait_for_health("web", &nginx.member(port), "healthy");
    }
    let before = daemon.members("web");
    let lines = transition_lines(&daemon);
    let began = wait::wall_clock();
    // A reload right after each of the next 16 probes. A probe that a reload adds
    // would make twice as many.
    for _ in 0..16 {
        let count = nginx.requests().len();
        wait::until("a probe", || (nginx.requests().len() > count).then_some(()));
        assert_eq!(daemon.reload().status, 200);
        assert_eq!(reload_succeeded(&daemon), Some(1.0));
    }
    let ended = wait::wall_clock();
    for (port, old) in PORTS.zip(&before) {
        let requests = nginx.requests_to(port);
        let during = requests.iter().filter(|request| (began..=ended).contains(&request.at)).count();
        // A phase fits so often into the time, and once more at the edges.
        let most = (ended - began).floor() + 2.0;
        assert!(during as f64 <= most, "port {port}: {during} probes in {} s", ended - began);
        let new = daemon.member("web", &nginx.member(port));
        assert_eq!((&new.health, &new.since), (&old.health, &old.since));
        assert!(new.successes > old.successes, "the counts go on: {old:?} then {new:?}");
        assert_eq!(daemon.transitions("web", &nginx.member(port), "healthy"), 1.0);
    }
    assert_eq!(transition_lines(&daemon), lines, "a reload of the same file is no event");
}

#[test]
fn sighup_reloads_too() {
    let Some(nginx) = Nginx::plain(4) else { return };
    let daemon = Daemon::start(&channel("web", &slow_check(), &members(&nginx)));
    for port in PORTS {
        daemon.wait_for_health("web", &nginx.member(port), "healthy");
    }
    let before = daemon.members("web");
    let stamp = last_reload(&daemon);
    daemon.signal(Signal::HUP);
    wait::until("the reload", || (last_reload(&daemon) > stamp).then_some(()));
    for old in before {
        let new = daemon.member("web", &old.address);
        assert_eq!((new.health, new.since), (old.health, old.since));
        assert!(new.successes >= old.successes);
    }
}

#[test]
fn only_the_changed_member_starts_anew() {
    let Some(nginx) = Nginx::plain(5) else { return };
    // Five successes to be up, so that a member that starts anew is seen at it.
    let check = format!(
        "protocol = \"HTTP\"\npath = \"/health\"\nhttp_code = \"200\"\n{}",
        pace(5, 3, "500ms", "500ms")
    );
    let daemon = Daemon::start(&channel("web", &check, &members(&nginx)));
    for port in PORTS {
        daemon.wait_for_health("web", &nginx.member(port), "healthy");
    }
    let before = daemon.members("web");

    // Weights and roles are not what is probed.
    let mut changed = members(&nginx);
    if let [first, second, ..] = changed.as_mut_slice() {
        first.push_str("\nweight = 9");
        second.push_str("\nis_backup = true");
    }
    daemon.write_config(&channel("web", &check, &changed));
    assert_eq!(daemon.reload().status, 200);
    let after: Vec<_> = daemon.members("web");
    assert_eq!(after.first().map(|member| member.weight), Some(9));
    assert!(after.iter().all(|member| member.is("healthy")), "{after:?}");

    // Another port is another member.
    *changed.last_mut().expect("a member") = member(nginx.ip, 8004);
    daemon.write_config(&channel("web", &check, &changed));
    assert_eq!(daemon.reload().status, 200);
    let fresh = daemon.member("web", &nginx.member(8004));
    assert!(fresh.is("unknown") && fresh.successes < 5, "{fresh:?}");
    for old in before.iter().take(3) {
        let new = daemon.member("web", &old.address);
        assert_eq!((&new.health, &new.since), (&old.health, &old.since));
        assert!(new.successes >= old.successes, "{old:?} then {new:?}");
    }
    let gone = nginx.member(8003);
    assert!(daemon.members("web").iter().all(|member| member.address != gone));
    assert!(!daemon.metrics().text.contains(&gone), "a removed member leaves the metrics at once");
    daemon.wait_for_health("web", &nginx.member(8004), "healthy");
    // Nobody asks the removed member any more.
    let asked = nginx.requests_to(8003).len();
    let others = nginx.requests().len();
    wait::until("more probes of the others", || (nginx.requests().len() >= others + 8).then_some(()));
    assert_eq!(nginx.requests_to(8003).len(), asked);
}

#[test]
fn another_check_carries_verdicts_over_until_its_own() {
    let Some(nginx) = Nginx::plain(4) else { return };
    let daemon = Daemon::start(&channel("web", &http_check("HTTP", "/health", "200"), &members(&nginx)));
    for port in PORTS {
        daemon.wait_for_health("web", &nginx.member(port), "healthy");
    }
    daemon.write_config(&channel("web", &http_check("HTTP", "/health", "204"), &members(&nginx)));
    assert_eq!(daemon.reload().status, 200);
    for port in PORTS {
        let carried = daemon.member("web", &nginx.member(port));
        let from = carried.json.get("verdict_from").and_then(serde_json::Value::as_str);
        // The new check may have spoken already.
        let is_carried = carried.is("healthy") && from == Some("earlier check");
        assert!(is_carried || carried.is("unhealthy") && from == Some("check"), "{carried:?}");
        assert_eq!(carried.successes, 0, "{carried:?}");
        daemon.wait_for_health("web", &nginx.member(port), "unhealthy");
    }
}

#[test]
fn a_bad_configuration_keeps_the_old_one() {
    let Some(nginx) = Nginx::plain(4) else { return };
    let good = channel("web", &slow_check(), &members(&nginx));
    let daemon = Daemon::start(&good);
    for port in PORTS {
        daemon.wait_for_health("web", &nginx.member(port), "healthy");
    }
    let before = daemon.members("web");
    let stamp = last_reload(&daemon);
    assert_eq!(reload_succeeded(&daemon), Some(1.0));

    daemon.write_config(&good.replace("threshold_normal = 2", "threshold_normal = 99"));
    let refused = daemon.reload();
    assert_eq!(refused.status, 422);
    // Over TCP the place, and nothing that stands there.
    assert!(
        refused.text().contains("E005 ") && refused.text().contains("vitald.toml:"),
        "{}",
        refused.text()
    );
    assert!(!refused.text().contains("threshold_normal"), "{}", refused.text());
    assert_eq!(reload_succeeded(&daemon), Some(0.0));
    assert_eq!(last_reload(&daemon), stamp);

    let command = daemon.command(&["reload"]);
    assert_eq!(command.status.code(), Some(78));
    let message = String::from_utf8_lossy(&command.stderr).into_owned();
    assert!(message.contains("E005 ") && message.contains("vitald check"), "{message}");
    wait::until("the whole text in the log", || daemon.log().contains("threshold_normal").then_some(()));

    // A signal has nobody to answer: the gauge says it.
    daemon.write_config(&good);
    assert_eq!(daemon.command(&["reload"]).status.code(), Some(0));
    assert_eq!(reload_succeeded(&daemon), Some(1.0));
    daemon.write_config("[[channels]]\nname = ");
    daemon.signal(Signal::HUP);
    wait::until("the refusal", || (reload_succeeded(&daemon) == Some(0.0)).then_some(()));

    for old in before {
        let new = daemon.member("web", &old.address);
        assert_eq!((&new.health, &new.since), (&old.health, &old.since));
        assert!(new.successes >= old.successes);
    }
    daemon.write_config(&good);
    daemon.signal(Signal::HUP);
    wait::until("the recovery", || (reload_succeeded(&daemon) == Some(1.0)).then_some(()));
}

#[test]
fn included_files_come_and_go() {
    let Some(nginx) = Nginx::plain(2) else { return };
    let main = channel("web", &slow_check(), &[member(nginx.ip, 8000)]);
    let daemon = Daemon::start(&main);
    let folder = daemon.config_path().with_file_name("channels.d");
    daemon.write_config(&format!("[include]\nchannels = \"channels.d/*\"\n\n{main}"));
    // A pattern whose directory is not there would name nothing for good.
    assert_eq!(daemon.reload().status, 422);
    std::fs::create_dir_all(&folder).expect("the folder can be written");
    // As the vendor's API takes it: lower-case words, whole seconds.
    let body = format!(
        r#"{{"name":"api","port":80,"balance_strategy":1,"member_type":"ip","type":2,
            "vpc_health_config":{{"protocol":"http","path":"/health","method":"GET","port":0,"threshold_normal":2,
            "threshold_abnormal":2,"time_interval":1,"timeout":1,"http_code":"200","enable_client_ssl":false}},
            "members":[{{"host":"{}","port":8001,"weight":1,"is_backup":false,"status":1}}]}}"#,
        nginx.ip
    );
    std::fs::write(folder.join("api.json"), body).expect("the folder can be written");
    assert_eq!(daemon.reload().status, 200);
    daemon.wait_for_health("api", &nginx.member(8001), "healthy");
    std::fs::remove_file(folder.join("api.json")).expect("the file is there");
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(daemon.get("/v1/channels/api").status, 404);
    assert!(!daemon.metrics().text.contains("channel=\"api\""));
}
