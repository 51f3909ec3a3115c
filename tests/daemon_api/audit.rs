//! The audit of the built daemon: its lines of the log, and its counters.

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, INSTANCE, until};
use crate::front_door::{connect_from, log_in};
use crate::{create, path, text};

const NAMES: [&str; 7] = ["call", "result", "status", "error", "auth_failure", "principal", "source"];

/// The events so far.
fn events(daemon: &Daemon) -> Vec<Value> {
    let lines: Vec<Value> = daemon.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    lines.into_iter().filter(|line| line["target"] == "vitald::audit").collect()
}

/// One event more than there were; its fields of [`NAMES`], `-` for absent ones.
#[track_caller]
fn next(daemon: &Daemon, seen: &mut usize) -> (Value, String) {
    let event = until("an event of the audit", || events(daemon).get(*seen).cloned());
    *seen += 1;
    let words = NAMES.map(|name| match event.get(name) {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    });
    (event.clone(), words.join(" "))
}

fn metric(daemon: &Daemon, series: &str) -> u64 {
    let text = daemon.send("GET", "/metrics", "", "").text;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("{series} is not there")).trim().parse().expect("a number")
}

#[test]
fn who_did_what_and_who_was_refused_is_in_the_log_and_counted() {
    let home = Home::new("");
    let mut command = home.command();
    // The audit is there whatever the level.
    command.args(["--log-level", "vitald=info,error"]);
    let daemon = Daemon::start(command, &home.path().join("sock"));
    let mut seen = 0;
    let user_id = rustix::process::getuid().as_raw();

    let logged_in = log_in(connect_from(1, &daemon), "ops", "password");
    let token = logged_in.header("x-subject-token").expect("a token").to_owned();
    assert_eq!(next(&daemon, &mut seen).1, "create_token done 201 - - ops@local 127.0.1.1");
    log_in(connect_from(2, &daemon), "ops", "hunter2hunter2");
    assert_eq!(next(&daemon, &mut seen).1, "create_token refused 401 - password ops@local 127.0.1.2");
    // Somebody types the password where the name belongs.
    log_in(connect_from(2, &daemon), "hunter2hunter2", "ops");
    assert_eq!(next(&daemon, &mut seen).1, "create_token refused 401 - password - 127.0.1.2");

    let body = json!({"name": "web", "port": 80, "balance_strategy": 1, "member_type": "ip"}).to_string();
    let made = daemon.send("POST", &path(""), &format!("X-Auth-Token: {token}\r\n"), &body);
    let id = text(&made.json(), "/id").to_owned();
    let (event, words) = next(&daemon, &mut seen);
    assert_eq!(words, "create_channel done 201 - - ops@local 127.0.0.1");
    assert_eq!(
        (&event["instance"], &event["channel"], &event["channel_name"]),
        (&json!(INSTANCE), &json!(id), &json!("web"))
    );
    assert_eq!(event["request_id"].as_str(), made.header("x-request-id"));
    assert_eq!(event["message"], "audit: create_channel 201 by ops@local from 127.0.0.1");

    let unknown = format!("X-Auth-Token: {token}x\r\n");
    assert_eq!(daemon.send("GET", &path(""), &unknown, "").status, 401);
    assert_eq!(next(&daemon, &mut seen).1, "list_channels refused 401 APIG.1002 token_unknown - 127.0.0.1");
    assert_eq!(daemon.send("DELETE", &path(&format!("/{id}/members/M")), "", "").status, 401);
    let (event, words) = next(&daemon, &mut seen);
    assert_eq!(words, "delete_member refused 401 APIG.1000 token_missing - 127.0.0.1");
    assert_eq!((&event["channel"], &event["member"]), (&json!(id), &json!("M")));

    // Over the socket, of which the system says whose process is the other end.
    create(&daemon, &json!({"name": "other", "port": 80, "balance_strategy": 1, "member_type": "ip"}));
    let socket = format!("local socket (uid {user_id}) unix:uid={user_id}");
    assert_eq!(next(&daemon, &mut seen).1, format!("create_channel done 201 - - {socket}"));
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(next(&daemon, &mut seen).1, format!("reload done 200 - - {socket}"));
    assert_eq!(daemon.local("GET", "/v1/export", None).status, 200);
    assert_eq!(next(&daemon, &mut seen).1, format!("export done 200 - - {socket}"));
    assert_eq!(daemon.send("POST", "/v1/reload", "X-Vitald-Action: reload\r\n", "").status, 401);
    assert_eq!(next(&daemon, &mut seen).1, "reload refused 401 - token_missing - 127.0.0.1");

    // Reads that succeed are counted only.
    let before = metric(&daemon, "vitald_api_requests_total{call=\"list_channels\",code=\"200\"}");
    daemon.local_json("GET", &path(""), None, 200);
    daemon.reload();
    assert_eq!(next(&daemon, &mut seen).1, format!("reload done 200 - - {socket}"));
    for (series, count) in [
        ("vitald_api_requests_total{call=\"list_channels\",code=\"200\"}", before + 1),
        ("vitald_api_requests_total{call=\"create_channel\",code=\"201\"}", 2),
        ("vitald_api_requests_total{call=\"create_token\",code=\"401\"}", 2),
        ("vitald_api_requests_total{call=\"delete_channel\",code=\"204\"}", 0),
        ("vitald_api_auth_failures_total{kind=\"password\"}", 2),
        ("vitald_api_auth_failures_total{kind=\"token_unknown\"}", 1),
        ("vitald_api_auth_failures_total{kind=\"token_missing\"}", 2),
        ("vitald_api_auth_failures_total{kind=\"origin\"}", 0),
    ] {
        assert_eq!(metric(&daemon, series), count, "{series}");
    }
    assert_eq!(events(&daemon).len(), seen);
    for secret in ["hunter2hunter2", &token, "\"password\":"] {
        assert!(!daemon.log().contains(secret), "{secret} is in the log:\n{}", daemon.log());
    }
}

#[test]
fn only_directives_that_name_it_silence_the_audit() {
    for (level, is_there) in [("vitald=info,vitald::audit=off", false), ("vitald::daemon=info,off", true)] {
        let home = Home::new("");
        let mut command = home.command();
        command.args(["--log-level", level]);
        let daemon = Daemon::start(command, &home.path().join("sock"));
        assert_eq!(daemon.reload().status, 200);
        let channel = json!({"name": "web", "port": 80, "balance_strategy": 1, "member_type": "ip"});
        create(&daemon, &channel);
        // Everything that was logged is written before the end.
        let log = daemon.stop_with_log();
        assert_eq!(log.contains("vitald::audit"), is_there, "{level}:\n{log}");
    }
}

/// The lines of the log about channels, whose fields these are.
fn changes(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = lines.filter(|line| line["target"] == "vitald::daemon::changes");
    ours.map(|line| text(&line, "/message").to_owned()).collect()
}

#[test]
fn what_people_and_files_change_names_who_asked() {
    let of_file = |line: &str| {
        format!(
            "[[channels]]\nname = \"of-file\"\nport = 1\nbalance_strategy = 1\nmember_type = \"ip\"\n\
             [[channels.members]]\nhost = \"127.0.0.1\"\n{line}"
        )
    };
    let home = Home::new(&of_file(""));
    let daemon = home.start();
    let members = json!([{"host": "127.0.0.1"}, {"host": "127.0.0.2", "is_backup": true}]);
    let id = create(
        &daemon,
        &json!({"name": "web", "port": 80, "balance_strategy": 1,
        "member_type": "ip", "members": members}),
    );
    let listed = daemon.local_json("GET", &path(&format!("/{id}/members")), None, 200);
    let listed = listed["members"].as_array().expect("a list");
    let primary = listed.iter().find(|member| member["host"] == "127.0.0.1").expect("it is there");
    assert_eq!(changes(&daemon), Vec::<String>::new(), "who comes has not changed");

    let ids = json!({"member_ids": [primary["id"]]});
    let switched = daemon.local("POST", &path(&format!("/{id}/members/batch-disable")), Some(&ids));
    assert_eq!(switched.status, 204);
    let user_id = rustix::process::getuid().as_raw();
    let request = switched.header("x-request-id").expect("an id").to_owned();
    let who = format!("local socket (uid {user_id}) (request {request})");
    until("the lines", || (changes(&daemon).len() == 2).then_some(()));
    assert_eq!(changes(&daemon)[0], format!("127.0.0.1:80 of web is disabled; asked for by {who}"));
    assert_eq!(changes(&daemon)[1], "web: standby members take over, no primary member can take traffic");
    assert!(daemon.log().contains(&format!("\"asked_by\":\"{who}\"")));

    home.configure(&of_file("weight = 7\n"));
    let reloaded = daemon.reload();
    let result = reloaded.json();
    assert_eq!(
        ["channels_added", "channels_removed", "channels_changed", "added", "removed", "changed"]
            .map(|count| result[count].as_u64()),
        [0, 0, 1, 0, 0, 1].map(Some)
    );
    until("the line", || (changes(&daemon).len() == 3).then_some(()));
    let line = changes(&daemon).remove(2);
    let begin = "127.0.0.1:1 of of-file has weight 7, it was 1; asked for by reload by local socket";
    assert!(line.starts_with(begin), "{line}");
    for (series, count) in [
        ("vitald_changes_total{kind=\"disable\",by=\"client\"}", 1),
        ("vitald_changes_total{kind=\"tier_standby\",by=\"client\"}", 1),
        ("vitald_changes_total{kind=\"weight\",by=\"reload\"}", 1),
        ("vitald_changes_total{kind=\"tier_primary\",by=\"verdict\"}", 0),
    ] {
        assert_eq!(metric(&daemon, series), count, "{series}");
    }
}

/// Nobody listens there, so one probe is enough for a verdict.
#[test]
fn a_verdict_that_has_standby_members_take_over_is_told_and_saved_verdicts_only_when_they_are_of_use() {
    let channel = |host: &str| {
        format!(
            "[[channels]]\nname = \"web\"\nport = 1\nbalance_strategy = 1\nmember_type = \"ip\"\n\
             vpc_health_config = {{ protocol = \"TCP\", threshold_normal = 1, threshold_abnormal = 1, \
             time_interval = 1, timeout = 1 }}\n[[channels.members]]\nhost = \"{host}\"\n\
             [[channels.members]]\nhost = \"127.0.0.9\"\nis_backup = true\nport = 2\n"
        )
    };
    let home = Home::new(&channel("127.0.0.1"));
    let daemon = home.start();
    until("nobody serves", || {
        changes(&daemon).iter().any(|line| line == "web: no member takes traffic").then_some(())
    });
    assert!(metric(&daemon, "vitald_changes_total{kind=\"tier_nobody\",by=\"verdict\"}") >= 1);
    daemon.stop();
    let daemon = home.start();
    assert!(daemon.log().contains("going on with saved verdicts"), "{}", daemon.log());
    daemon.stop();
    home.configure(&channel("127.0.0.1").replace("\"web\"", "\"new\"").replace("127.0.0", "127.0.7"));
    let daemon = home.start();
    assert!(!daemon.log().contains("going on with saved verdicts"), "{}", daemon.log());
    assert!(daemon.log().contains("no saved verdict is of a member"), "{}", daemon.log());
}
