//! Changes of members at run time: overrides over what a file says, kept over reloads,
//! restarts and kills; and members of API channels, changed by the API's own rules.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, until};
use crate::{create, path, text};

/// Two members of a channel of a file that nobody probes; `first` is more of the first.
fn of_file(first: &str) -> String {
    format!(
        "[[channels]]\nname = \"web\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\
         member_groups = [{{ member_group_name = \"blue\", member_group_weight = 7 }}]\n\
         members = [{{ host = \"192.0.2.1\"{first} }}, {{ host = \"192.0.2.2\", member_group_name = \"blue\" }}]\n"
    )
}

fn change(daemon: &Daemon, member: &str, action: &str, status: u16) -> Value {
    daemon.local_json("POST", &format!("/v1/channels/web/members/{member}/{action}"), None, status)
}

/// Of each member: enabled, weight, in rotation, and the state and weight of its override.
fn members(daemon: &Daemon) -> Vec<Value> {
    let shown = daemon.local_json("GET", "/v1/channels/web", None, 200);
    let member = |member: &Value| {
        let said = &member["override"];
        json!([member["enabled"], member["weight"], member["in_rotation"], said["state"], said["weight"]])
    };
    shown.pointer("/members").and_then(Value::as_array).expect("members").iter().map(member).collect()
}

fn overrides(daemon: &Daemon) -> Vec<Value> {
    let status = daemon.local_json("GET", "/v1/status", None, 200);
    status.pointer("/overrides").and_then(Value::as_array).expect("a list").clone()
}

fn vitald(home: &Home, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vitald"));
    command.args(arguments).arg("--config").arg(home.path().join("vitald.toml"));
    command.env_remove("STATE_DIRECTORY").output().expect("the binary runs")
}

#[test]
fn an_override_rules_over_the_file_through_reload_kill_and_restart_until_it_is_reset() {
    let home = Home::new(&of_file(""));
    let daemon = home.start();
    assert_eq!(members(&daemon), [json!([true, 1, true, null, null]), json!([true, 7, true, null, null])]);
    let changed = change(&daemon, "192.0.2.1%3A80", "disable", 200);
    assert_eq!((&changed["enabled"], text(&changed, "/override/state")), (&json!(false), "disabled"));
    assert!(text(&changed, "/override/who").contains("socket (uid "), "{changed}");
    change(&daemon, "192.0.2.2", "drain", 200);
    let expected = [json!([false, 1, false, "disabled", null]), json!([true, 0, false, "drained", null])];
    assert_eq!(members(&daemon), expected, "in effect when it is answered");

    // The file says something else of the member's weight, which moves nothing.
    home.configure(&of_file(", weight = 30"));
    assert_eq!(daemon.reload().status, 200);
    let expected = [json!([false, 30, false, "disabled", null]), json!([true, 0, false, "drained", null])];
    assert_eq!(members(&daemon), expected);
    let listed = overrides(&daemon);
    daemon.kill();
    let daemon = home.start();
    assert_eq!(members(&daemon), expected);
    assert_eq!(overrides(&daemon), listed, "who and since when too");
    daemon.stop();
    let daemon = home.start();
    assert_eq!(members(&daemon), expected);

    // Enabling takes back that it was disabled or drained, and no weight.
    change(&daemon, "blue%2F192.0.2.2%3A80", "weight?weight=5", 200);
    change(&daemon, "192.0.2.2", "enable", 200);
    change(&daemon, "192.0.2.1", "enable", 200);
    let expected = [json!([true, 30, true, null, null]), json!([true, 5, true, null, 5])];
    assert_eq!(members(&daemon), expected, "an override rules over the group's weight");
    change(&daemon, "192.0.2.2", "reset", 200);
    assert_eq!(members(&daemon)[1], json!([true, 7, true, null, null]));
    assert_eq!(overrides(&daemon), [] as [Value; 0]);
    change(&daemon, "192.0.2.2", "reset", 404);
}

#[test]
fn an_override_of_a_member_that_is_gone_waits_for_it_and_is_no_others() {
    let home = Home::new(&of_file(""));
    let daemon = home.start();
    change(&daemon, "192.0.2.1", "drain", 200);
    // Another server in its place, and then no channel at all.
    home.configure(&of_file("").replace("192.0.2.1", "192.0.2.3"));
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(members(&daemon)[0], json!([true, 1, true, null, null]));
    let gone = &overrides(&daemon)[0];
    assert_eq!((text(gone, "/member"), &gone["is_there"]), ("192.0.2.1:80", &json!(false)));
    let check = vitald(&home, &["check"]);
    let shown = String::from_utf8_lossy(&check.stdout);
    assert!(
        shown.contains("override: 192.0.2.1:80 of web is drained, by ") && shown.contains("gone"),
        "{shown}"
    );
    home.configure("[prober]\nmin_channels = 0\n");
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(overrides(&daemon).len(), 1);
    let status = vitald(&home, &["status"]);
    let shown = String::from_utf8_lossy(&status.stdout);
    assert!(shown.contains("override: 192.0.2.1:80 of web is drained, by "), "{shown}");

    home.configure(&of_file(""));
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(members(&daemon)[0], json!([true, 0, false, "drained", null]));
    home.configure("[prober]\nmin_channels = 0\n");
    assert_eq!(daemon.reload().status, 200);
    let output = vitald(&home, &["member", "reset", "web", "192.0.2.1:80"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(overrides(&daemon), [] as [Value; 0]);
}

#[test]
fn a_member_of_the_api_is_changed_by_the_apis_rules_and_for_good() {
    let home = Home::new("");
    let daemon = home.start();
    let body = json!({"name": "web", "port": 80, "balance_strategy": 1, "member_type": "ip",
        "member_groups": [{"member_group_name": "blue", "member_group_weight": 7}],
        "members": [{"host": "192.0.2.1", "weight": 3}, {"host": "192.0.2.2", "member_group_name": "blue"}]});
    let id = create(&daemon, &body);
    let listed = daemon.local_json("GET", &path(&format!("/{id}/members")), None, 200);
    let of = |host: &str| {
        let members = listed["members"].as_array().expect("members");
        let member = members.iter().find(|member| member["host"] == host).expect("the member");
        text(member, "/id").to_owned()
    };
    change(&daemon, &of("192.0.2.1"), "disable", 200);
    change(&daemon, "192.0.2.1", "drain", 200);
    let refused = change(&daemon, "192.0.2.2", "drain", 409);
    assert!(text(&refused, "/error").contains("the weight of the group \"blue\""), "{refused}");
    change(&daemon, "192.0.2.1", "reset", 404);
    let expected = [json!([false, 0, false, null, null]), json!([true, 7, true, null, null])];
    assert_eq!(members(&daemon), expected);
    daemon.kill();
    let daemon = home.start();
    assert_eq!(members(&daemon), expected, "kept as every change of the API");
    let shown = daemon.local_json("GET", &path(&format!("/{id}")), None, 200);
    assert_eq!((&shown["members"][0]["status"], &shown["members"][0]["weight"]), (&json!(2), &json!(0)));
    assert_eq!(overrides(&daemon), [] as [Value; 0]);
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    let twice = of_file(", port = 80").replace(
        "member_group_name = \"blue\" }",
        "member_group_name = \"blue\" }, \
        { host = \"192.0.2.1\", port = 80, member_group_name = \"blue\" }",
    );
    let home = Home::new(&twice);
    let daemon = home.start();
    let said = |member: &str, action: &str, status: u16| {
        text(&change(&daemon, member, action, status), "/error").to_owned()
    };
    let several = said("192.0.2.1", "disable", 409);
    assert!(several.ends_with("say which: 192.0.2.1:80, blue/192.0.2.1:80"), "{several}");
    let nobody = said("192.0.2.9", "disable", 404);
    assert!(nobody.contains("its members: 192.0.2.1:80, blue/192.0.2.2:80"), "{nobody}");
    for action in ["weight", "weight?weight=10001", "weight?weight=-1", "weight?weight=1&weight=2"] {
        assert!(said("192.0.2.2", action, 400).contains("0 to 10000"), "{action}");
    }
    assert!(said("192.0.2.2", "drain?weight=1", 400).contains("not known"));
    assert!(said("192.0.2.2", "remove", 404).contains("enable, disable, drain, weight or reset"));
    let other = daemon.local_json("POST", "/v1/channels/nope/members/x/drain", None, 404);
    assert_eq!(text(&other, "/error"), "no channel is named \"nope\"");
    // Over TCP with an API it takes an administrator, and the header that pages cannot send.
    let path = "/v1/channels/web/members/192.0.2.2/drain";
    assert_eq!(daemon.send("POST", path, "", "").status, 403);
    assert_eq!(daemon.send("POST", path, "X-Vitald-Action: reload\r\n", "").status, 403);
    assert_eq!(daemon.send("POST", path, "X-Vitald-Action: member\r\n", "").status, 401);
    assert_eq!(daemon.send("GET", path, "", "").status, 405);
    assert_eq!(overrides(&daemon), [] as [Value; 0]);

    let output = vitald(&home, &["disable", "web", "192.0.2.1"]);
    assert_eq!(output.status.code(), Some(2));
    let output = vitald(&home, &["weight", "web", "blue/192.0.2.1:80", "3"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.starts_with("192.0.2.1:80 of web: enabled, weight 3; over its file: weight 3, by "),
        "{shown}"
    );
}

/// A directory in the place of the file's draft stands in for a disk that takes nothing.
#[test]
fn a_change_that_cannot_be_kept_is_refused_and_told() {
    let home = Home::new(&of_file(""));
    let daemon = home.start();
    change(&daemon, "192.0.2.1", "drain", 200);
    let draft = home.path().join("state/overrides.new");
    std::fs::create_dir(&draft).expect("made");
    let refused = change(&daemon, "192.0.2.2", "disable", 503);
    assert!(text(&refused, "/error").contains("nothing has changed: cannot write "), "{refused}");
    assert_eq!(members(&daemon)[1], json!([true, 7, true, null, null]));
    let status = daemon.local_json("GET", "/v1/status", None, 200);
    let kinds = status["store"].as_array().expect("a list");
    let kept = kinds.iter().find(|kind| kind["kind"] == "overrides").expect("the kind");
    assert_eq!((&kept["up"], &kept["write_failures"]), (&json!(false), &json!(1)));
    std::fs::remove_dir(&draft).expect("removed");
    change(&daemon, "192.0.2.2", "disable", 200);
    daemon.kill();

    // A file that is not as it was written is no reason to bring members back.
    let file = home.path().join("state/overrides");
    let whole = std::fs::read_to_string(&file).expect("the file");
    std::fs::write(&file, whole.replace("drained", "enabled")).expect("written");
    let output = home.command().output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("its checksum is missing or wrong"), "{said}");
    std::fs::write(&file, whole).expect("written");
    assert_eq!(overrides(&home.start()).len(), 2);
}

#[test]
fn without_a_state_directory_nothing_is_promised() {
    let home = Home::new("");
    let file = home.path().join("vitald.toml");
    let place = home.path().display();
    let text_of = format!("[server]\nlisten = \"127.0.0.1:0\"\nsocket = \"{place}/sock\"\n{}", of_file(""));
    std::fs::write(&file, text_of).expect("the configuration");
    let daemon = home.start();
    let refused = change(&daemon, "192.0.2.1", "drain", 503);
    assert!(text(&refused, "/error").contains("set [store] path"), "{refused}");
    assert_eq!(members(&daemon)[0], json!([true, 1, true, null, null]));
}

/// A channel whose one member is at this port.
fn checked(port: u16) -> String {
    format!(
        "[[channels]]\nname = \"web\"\nport = {port}\nbalance_strategy = 1\nmember_type = \"ip\"\n\
         members = [{{ host = \"127.0.0.1\" }}]\n[channels.vpc_health_config]\nprotocol = \"TCP\"\n\
         threshold_normal = 1\nthreshold_abnormal = 10\ntime_interval = \"200ms\"\ntimeout = \"200ms\"\n"
    )
}

fn wait(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let output = vitald(home, &[&["wait", "web"], arguments].concat());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn waiting_ends_when_it_is_so_and_says_what_is_missing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let home = Home::new(&checked(port));
    let daemon = home.start();
    assert_eq!(wait(&home, &["--for", "healthy"]).0, Some(0));
    assert_eq!(wait(&home, &["127.0.0.1", "--for", "healthy", "--fresh"]).0, Some(0));
    assert_eq!(wait(&home, &["--for", "members=1", "--fresh"]).0, Some(0));
    let (code, said) = wait(&home, &["--for", "members=2", "--timeout", "10ms"]);
    assert!(code == Some(1) && said.contains("not within 10ms: 1 of 2 members of web"), "{said}");

    // The verdict is that of before for ten more probes; a fresh probe says more.
    drop(listener);
    let is_failing = || {
        let shown = daemon.local_json("GET", "/v1/channels/web", None, 200);
        let member = &shown["members"][0];
        (member["consecutive_failures"] != 0 && member["health"] == "healthy").then_some(())
    };
    until("the first failure", is_failing);
    let (code, said) = wait(&home, &["--for", "healthy", "--fresh", "--timeout", "700ms"]);
    assert!(code == Some(1) && said.contains("0 of 1 members"), "{said}");

    let name = format!("127.0.0.1:{port}");
    let (code, said) = wait(&home, &[&name, "--for", "drained", "--timeout", "10ms"]);
    assert!(code == Some(1) && said.contains(&format!("{name} of web is ")), "{said}");
    change(&daemon, "127.0.0.1", "drain", 200);
    assert_eq!(wait(&home, &[&name, "--for", "drained", "--timeout", "10ms"]).0, Some(0));

    for wrong in [
        &["--for", "drained", "--fresh"][..],
        &["127.0.0.1", "--for", "members=1"],
        &["--for", "sunny"],
        &["127.0.0.2", "--for", "healthy"],
    ] {
        assert_eq!(wait(&home, wrong).0, Some(2), "{wrong:?}");
    }
    let output = vitald(&home, &["wait", "nope", "--for", "healthy"]);
    assert_eq!(output.status.code(), Some(2));
    daemon.kill();
    let socket = home.path().join("sock");
    let (code, said) =
        wait(&home, &["--for", "healthy", "--timeout", "10ms", "--socket", socket_text(&socket)]);
    assert!(code == Some(3) && said.contains("not within 10ms: cannot reach a daemon"), "{said}");
}

fn socket_text(socket: &Path) -> &str {
    socket.to_str().expect("UTF-8")
}
