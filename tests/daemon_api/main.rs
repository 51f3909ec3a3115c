//! The management API as the built daemon serves it: accounts, live verdicts,
//! the store, reloads.

#![cfg(feature = "daemon")]

mod audit;
mod daemon;
mod dead_mount;
mod defaults;
mod disk_format;
#[path = "../support/exchange.rs"]
mod exchange;
mod front_door;
#[expect(dead_code, reason = "network tests use all of it")]
#[path = "../support/inside.rs"]
mod inside;
mod members;
#[path = "../support/skipped.rs"]
mod skipped;
mod slow_disk;
mod weights;

use std::net::TcpListener;

use serde_json::{Value, json};

use daemon::{Daemon, Home, INSTANCE, PROJECT, until};

/// A channel of a file, whose member listens nowhere.
const FROM_FILE: &str = "[[channels]]\nname = \"from-file\"\nport = 1\nbalance_strategy = 1\n\
                         member_type = \"ip\"\n[[channels.members]]\nhost = \"127.0.0.1\"\n";

fn path(rest: &str) -> String {
    format!("/v2/{PROJECT}/apigw/instances/{INSTANCE}/vpc-channels{rest}")
}

/// A channel that checks a TCP port every second.
fn checked(name: &str, ports: &[u16]) -> Value {
    let members: Vec<Value> = ports.iter().map(|port| json!({"host": "127.0.0.1", "port": port})).collect();
    json!({"name": name, "port": 80, "balance_strategy": 1, "member_type": "ip", "members": members,
        "vpc_health_config": {"protocol": "TCP", "threshold_normal": 1, "threshold_abnormal": 1,
            "time_interval": 1, "timeout": 1}})
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} of {value}"))
}

fn create(daemon: &Daemon, body: &Value) -> String {
    text(&daemon.local_json("POST", &path(""), Some(body), 201), "/id").to_owned()
}

fn names(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.local_json("GET", &path("?limit=500"), None, 200);
    let channels = listed.pointer("/vpc_channels").and_then(Value::as_array).expect("a list");
    let mut names: Vec<String> = channels.iter().map(|channel| text(channel, "/name").to_owned()).collect();
    names.sort();
    names
}

/// The verdicts on a channel's members, in their order.
fn verdicts(daemon: &Daemon, id: &str) -> Vec<String> {
    let shown = daemon.local_json("GET", &path(&format!("/{id}")), None, 200);
    let members = shown.pointer("/members").and_then(Value::as_array).expect("members");
    members.iter().map(|member| text(member, "/health_status").to_owned()).collect()
}

#[test]
fn a_token_makes_a_channel_whose_verdicts_are_live() {
    let home = Home::new("");
    let daemon = home.start();
    let login = json!({"auth": {"identity": {"methods": ["password"], "password": {"user":
        {"name": "ops", "domain": {"name": "local"}, "password": "password"}}},
        "scope": {"project": {"name": "cn-north-4"}}}});
    let json_body = "Content-Type: application/json\r\n";
    let token = daemon.send("POST", "/v3/auth/tokens", json_body, &login.to_string());
    let token = token.header("x-subject-token").expect("a token").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let good = listener.local_addr().expect("an address").port();

    let body = checked("web", &[good, 1]).to_string();
    let stranger = daemon.send("POST", &path(""), "", &body);
    assert_eq!((stranger.status, text(&stranger.json(), "/error_code")), (401, "APIG.1000"));
    for path in ["/v2", "/v2/", "/v2/nothing", "/v2/p/apigw/instances/i/nothing"] {
        assert_eq!(daemon.send("GET", path, "", "").status, 401, "{path}");
    }
    let nothing = daemon.send("GET", "/nothing", "", "");
    assert_eq!(nothing.status, 404);
    assert_eq!(text(&nothing.json(), "/error"), "nothing is at /nothing; / lists what there is");
    let made = daemon.send("POST", &path(""), &format!("X-Auth-Token: {token}\r\n"), &body);
    assert_eq!(made.status, 201, "{}", made.text);
    let id = text(&made.json(), "/id").to_owned();

    until("verdicts", || (verdicts(&daemon, &id) == ["healthy", "unhealthy"]).then_some(()));
    drop(listener);
    until("the news", || (verdicts(&daemon, &id) == ["unhealthy", "unhealthy"]).then_some(()));
    let status = daemon.send("GET", "/v1/channels/web", "", "").json();
    assert_eq!(status["unhealthy"], 2, "{status}");

    // In effect before it is answered.
    let members = daemon.local_json("GET", &path(&format!("/{id}/members")), None, 200);
    let member = json!({"member_ids": [text(&members, "/members/0/id")]});
    daemon.local_json("POST", &path(&format!("/{id}/members/batch-disable")), Some(&member), 204);
    let status = daemon.send("GET", "/v1/channels/web", "", "").json();
    assert_eq!(status["disabled"], 1, "{status}");
    daemon.local_json("DELETE", &path(&format!("/{id}")), None, 204);
    assert_eq!(daemon.send("GET", "/v1/channels/web", "", "").status, 404);
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let home = Home::new(FROM_FILE);
    let daemon = home.start();
    let ids: Vec<String> =
        (0..20).map(|number| create(&daemon, &checked(&format!("web-{number}"), &[1]))).collect();
    daemon.local_json("DELETE", &path(&format!("/{}", ids[7])), None, 204);
    let before = names(&daemon);
    daemon.kill();
    let daemon = home.start();
    assert_eq!(names(&daemon), before);
    assert_eq!(before.len(), 20);
    let shown = daemon.local_json("GET", &path(&format!("/{}", ids[3])), None, 200);
    assert_eq!(text(&shown, "/name"), "web-3");
    daemon.local_json("GET", &path(&format!("/{}", ids[7])), None, 404);
}

#[test]
fn an_orderly_restart_goes_on_with_its_verdicts() {
    let home = Home::new("");
    let daemon = home.start();
    let id = create(&daemon, &checked("web", &[1]));
    until("a verdict", || (verdicts(&daemon, &id) == ["unhealthy"]).then_some(()));
    let since = |daemon: &Daemon| {
        let status = daemon.send("GET", "/v1/channels/web", "", "").json();
        text(&status, "/members/0/since").to_owned()
    };
    let before = since(&daemon);
    daemon.stop();
    let daemon = home.start();
    assert_eq!((verdicts(&daemon, &id), since(&daemon)), (vec!["unhealthy".to_owned()], before.clone()));
    assert_eq!(daemon.send("GET", "/readyz", "", "").status, 200, "nobody is unknown");
    daemon.stop();

    home.configure("[[channels]]\nname = \"other\"\nport = 1\nbalance_strategy = 1\n");
    let text = std::fs::read_to_string(home.path().join("vitald.toml")).expect("the configuration");
    let text = text.replace("[store]\n", "[store]\nverdict_age_limit = 0\n");
    std::fs::write(home.path().join("vitald.toml"), text).expect("the configuration");
    let daemon = home.start();
    assert_ne!(since(&daemon), before, "the limit on age is 0");
}

/// A channel of a file, whose member listens nowhere, with more lines of its check.
fn dead(name: &str, check: &str) -> String {
    format!(
        "[[channels]]\nname = \"{name}\"\nport = 1\nbalance_strategy = 1\nmember_type = \"ip\"\n\
         [channels.vpc_health_config]\nprotocol = \"TCP\"\nthreshold_normal = 1\ntime_interval = 60\n{check}\n\
         [[channels.members]]\nhost = \"127.0.0.1\"\n"
    )
}

/// Health, whose it is and since when, of a channel's first member.
fn known(daemon: &Daemon, channel: &str) -> [String; 3] {
    let status = daemon.send("GET", &format!("/v1/channels/{channel}"), "", "").json();
    ["health", "verdict_from", "since"].map(|field| text(&status, &format!("/members/0/{field}")).to_owned())
}

/// docs/config.md, "Changes": the same over a restart as in a reload.
#[test]
fn a_restart_carries_verdicts_over_as_a_reload_does() {
    let (quick, slow) = ("threshold_abnormal = 1\ntimeout = 1", "threshold_abnormal = 9\ntimeout = 2");
    let http = "threshold_abnormal = 9\ntimeout = 2\nport = 2";
    let off = "threshold_abnormal = 9\ntimeout = 2\nstatus = 2";
    let home = Home::new(&dead("web", quick));
    let daemon = home.start();
    until("a verdict", || {
        let status = daemon.send("GET", "/v1/channels/web", "", "").json();
        (status["unhealthy"] == 1).then_some(())
    });
    let [_, _, since] = known(&daemon, "web");
    daemon.stop();
    // Each goes on from the one before.
    let rows = [
        ("thresholds and timeout", "web", slow, "check"),
        ("renamed, with another timeout", "shop", quick, "check"),
        ("another port is asked", "shop", http, "earlier check"),
        ("the same again", "shop", http, "earlier check"),
    ];
    for (what, name, check, from) in rows {
        home.configure(&dead(name, check));
        let daemon = home.start();
        assert_eq!(known(&daemon, name), ["unhealthy", from, &since], "{what}");
        assert_eq!(daemon.send("GET", "/readyz", "", "").status, 200, "{what}: nobody is unknown");
        daemon.stop();
    }
    home.configure(&dead("shop", off));
    let daemon = home.start();
    let [health, from, _] = known(&daemon, "shop");
    assert_eq!([health, from], ["unknown", "last known"]);
    daemon.stop();
    home.configure(&dead("shop", http));
    let daemon = home.start();
    let [health, from, _] = known(&daemon, "shop");
    assert_eq!([health, from], ["unhealthy", "earlier check"]);
}

/// docs/config.md, "Changes": the same through the API.
#[test]
fn calls_carry_verdicts_over_as_a_reload_does() {
    let home = Home::new("");
    let daemon = home.start();
    let mut body = checked("web", &[1]);
    body["vpc_health_config"]["time_interval"] = json!(60);
    let id = create(&daemon, &body);
    until("a verdict", || (verdicts(&daemon, &id) == ["unhealthy"]).then_some(()));
    let [_, _, since] = known(&daemon, "web");
    let mut config = body["vpc_health_config"].clone();
    let mut put = |key: &str, value: Value| {
        config[key] = value;
        let at = path(&format!("/{id}/health-config"));
        daemon.local_json("PUT", &at, Some(&config), 200);
        known(&daemon, "web")
    };
    assert_eq!(put("threshold_abnormal", json!(9)), ["unhealthy", "check", &since]);
    assert_eq!(put("time_interval", json!(61)), ["unhealthy", "check", &since]);
    assert_eq!(put("port", json!(2)), ["unhealthy", "earlier check", &since]);
    let [health, from, _] = put("status", json!(2));
    assert_eq!([health, from], ["unknown", "last known"]);
    assert_eq!(verdicts(&daemon, &id), ["unknown"]);
    let [health, from, again] = put("status", json!(1));
    assert_eq!([health, from], ["unhealthy", "earlier check"]);
    // Into a group.
    body["member_groups"] = json!([{"member_group_name": "blue"}]);
    body["members"][0]["member_group_name"] = json!("blue");
    body.as_object_mut().expect("an object").remove("vpc_health_config");
    daemon.local_json("PUT", &path(&format!("/{id}")), Some(&body), 200);
    assert_eq!(known(&daemon, "web"), ["unhealthy", "earlier check", &again]);
}

#[test]
fn a_reload_keeps_what_the_api_made_and_refuses_a_clash() {
    let home = Home::new(FROM_FILE);
    let daemon = home.start();
    let id = create(&daemon, &checked("web", &[1]));
    until("a verdict", || (verdicts(&daemon, &id) == ["unhealthy"]).then_some(()));

    home.configure(&FROM_FILE.replace("from-file", "renamed"));
    let reload = daemon.reload();
    assert_eq!(reload.status, 200, "{}", reload.text);
    assert_eq!(names(&daemon), ["renamed", "web"]);
    assert_eq!(verdicts(&daemon, &id), ["unhealthy"]);

    home.configure(&FROM_FILE.replace("from-file", "web"));
    let reload = daemon.reload();
    assert!(reload.status >= 400 && reload.text.contains("named \\\"web\\\" already"), "{}", reload.text);
    assert_eq!(names(&daemon), ["renamed", "web"]);

    let switched_off = format!("{FROM_FILE}[server.tls]\ncertificate = \"no\"\n");
    home.configure(&switched_off);
    assert!(daemon.reload().status >= 400);
    create(&daemon, &checked("later", &[1]));
    assert_eq!(names(&daemon), ["later", "renamed", "web"]);
}

#[test]
fn channels_of_files_are_shown_and_not_written() {
    let home = Home::new(FROM_FILE);
    let daemon = home.start();
    let listed = daemon.local_json("GET", &path("?name=from-file"), None, 200);
    let id = text(&listed, "/vpc_channels/0/id").to_owned();
    for (method, rest, body) in [
        ("DELETE", format!("/{id}"), None),
        ("POST", format!("/{id}/members"), Some(json!({"members": [{"host": "127.0.0.2"}]}))),
    ] {
        let refused = daemon.local_json(method, &path(&rest), body.as_ref(), 403);
        assert_eq!(text(&refused, "/error_code"), "APIG.1113");
        assert!(text(&refused, "/error_msg").contains("vitald.toml"), "{refused}");
    }
    let refused = daemon.local_json("POST", &path(""), Some(&checked("from-file", &[1])), 400);
    assert_eq!(text(&refused, "/error_code"), "APIG.3208");
}

/// A limit on the size of files stands in for a full disk.
#[test]
fn a_full_disk_is_told_and_changes_nothing() {
    let home = Home::new("[api.quotas]\nchannels = 10000\n");
    let vitald = home.command();
    let mut command = std::process::Command::new("sh");
    // An ignored SIGXFSZ stays ignored in the program that is started.
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 512; exec \"$0\" \"$@\""]).arg(vitald.get_program());
    command.args(vitald.get_args());
    let daemon = Daemon::start(command, &home.path().join("sock"));
    let ports: Vec<u16> = (1..150).collect();
    let refused = (0..1000).find_map(|number| {
        let answer = daemon.local("POST", &path(""), Some(&checked(&format!("web-{number}"), &ports)));
        (answer.status != 201).then_some(answer)
    });
    let refused = refused.expect("the disk is full at some time");
    assert_eq!((refused.status, text(&refused.json(), "/error_code")), (500, "APIG.9999"));
    assert!(refused.text.contains("store.redb"), "{}", refused.text);
    let before = names(&daemon);
    let metrics = daemon.send("GET", "/metrics", "", "").text;
    assert!(metrics.contains("vitald_store_up{kind=\"channels\"} 0\n"), "{metrics}");
    assert!(metrics.contains("vitald_store_write_failures_total{kind=\"channels\"} 1\n"), "{metrics}");
    let known = daemon.send("GET", "/v1/status", "", "").json();
    assert_eq!((&known["store"][0]["up"], &known["store"][0]["write_failures"]), (&json!(false), &json!(1)));
    assert!(text(&known, "/store/0/error").contains("store.redb"), "{known}");
    let mut command = std::process::Command::new(vitald.get_program());
    let status = command.args(["status", "--url", &format!("http://{}", daemon.address())]).output();
    let shown = String::from_utf8(status.expect("the binary runs").stdout).expect("UTF-8");
    assert!(shown.contains("channels are not saved: cannot write "), "{shown}");
    assert_eq!(known["channels"].as_array().map(Vec::len), Some(before.len()));
    daemon.kill();
    assert_eq!(names(&home.start()), before);
}

#[test]
fn without_a_place_for_its_channels_the_api_does_not_start() {
    let home = Home::new("");
    let file = home.path().join("vitald.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("/state\"")).collect();
    std::fs::write(&file, without.join("\n")).expect("the configuration");
    let output = home.command().output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("set [store] path"), "{said}");

    // As systemd would have it.
    let state = home.path().join("state");
    let mut command = home.command();
    command.env("STATE_DIRECTORY", &state);
    let daemon = Daemon::start(command, &home.path().join("sock"));
    assert_eq!(names(&daemon), Vec::<String>::new());
    assert!(daemon.address().ip().is_loopback() && state.join("store.redb").is_file());
    let second = home.command().env("STATE_DIRECTORY", &state).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(1) && said.contains("in use by another vitald"), "{said}");
}
