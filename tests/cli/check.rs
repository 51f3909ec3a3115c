//! `vitald check`: what a good configuration means, and every error of a bad one.

use std::path::PathBuf;

use crate::support::{command, run, vitald};

/// A configuration file in a directory of its own.
pub(crate) struct ConfigFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl ConfigFile {
    pub(crate) fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("vitald.toml");
        std::fs::write(&path, text).expect("write");
        Self { _directory: directory, path }
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }
}

const GOOD: &str = r#"
[[channels]]
name = "web"
port = 18080
balance_strategy = 1
member_type = "ip"

[channels.vpc_health_config]
protocol = "HTTP"
path = "/health"
threshold_normal = 2
threshold_abnormal = 3
time_interval = 5
timeout = 2
http_code = "200"

[[channels.members]]
host = "127.0.0.1"

[[channels.members]]
host = "127.0.0.2"
is_backup = true
status = 2

[[channels]]
name = "unchecked"
port = 1
balance_strategy = "source"
member_type = "ip"
"#;

#[test]
fn a_good_configuration_is_summed_up_with_its_detection_times() {
    let file = ConfigFile::new(GOOD);
    let outcome = vitald(&["check", "--config", file.path()]).expect_code(0);
    assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);
    let expected = format!(
        "\
CHANNEL    STRATEGY  MEMBERS                    CHECK                                 DOWN WITHIN  UP WITHIN  FIRST VERDICT
web        wrr       2 (1 standby, 1 disabled)  HTTP GET /health every 5s, timeout 2s          17s        12s            17s
unchecked  source    0                          none                                             -          -              -

{} is good: 2 channels, 2 members, 0.4 probes a second
",
        file.path()
    );
    // Columns are compared by their cells: widths are the table's affair.
    let cells = |text: &str| -> Vec<String> {
        text.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(cells(&outcome.stdout), cells(&expected), "{}", outcome.stdout);

    let json = vitald(&["check", "--json", "--config", file.path()]).expect_code(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let web = json.pointer("/channels/0").expect("the first channel");
    assert_eq!(web.pointer("/name").and_then(|name| name.as_str()), Some("web"));
    assert_eq!(web.pointer("/detection/down_seconds").and_then(|seconds| seconds.as_f64()), Some(17.0));
    assert_eq!(web.pointer("/detection/up_seconds").and_then(|seconds| seconds.as_f64()), Some(12.0));
    assert!(json.pointer("/channels/1/detection").expect("key").is_null());
}

#[test]
fn defaults_of_probes_are_shown_without_secrets() {
    let defaults = "[defaults.probe]\nhost = \"app.internal\"\nclose = \"fin\"\n\
                    headers = { X-Key = { value = \"hidden-value\", secret = true }, X-Probe = \"yes\" }\n\
                    [[channels]]\nname = \"own\"\nport = 1\nbalance_strategy = 1\n\
                    probe = { close = \"reset\", headers = { x-key = false } }\n";
    let file = ConfigFile::new(&format!("{defaults}{GOOD}"));
    let shown = vitald(&["check", "--config", file.path()]).expect_code(0).stdout;
    let line =
        "[defaults.probe]: close = fin, headers.X-Key = ***, headers.X-Probe = yes, host = app.internal";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
    let json = vitald(&["check", "--json", "--config", file.path()]).expect_code(0).stdout;
    assert!(!json.contains("hidden-value"), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["probe_defaults"]["headers.X-Key"], "***");
    assert_eq!(json["channels"][0]["probe_defaults"], serde_json::json!(["headers.X-Probe", "host"]));
    let all = serde_json::json!(["close", "headers.X-Key", "headers.X-Probe", "host"]);
    assert_eq!(json["channels"][1]["probe_defaults"], all);
}

#[test]
fn a_bad_one_shows_every_error_and_is_78() {
    let text = GOOD.replace("timeout = 2", "timeout = 6\nfrob = 1").replace("port = 18080", "port = 70000");
    let file = ConfigFile::new(&text);
    let outcome = vitald(&["check", "--config", file.path()]).expect_code(78);
    assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    for part in
        ["error[E009]", "error[E002]", "error[E005]", file.path(), "frob", "70000", "3 errors in 1 file"]
    {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains('\x1b'), "colour in a pipe");

    let outcome = vitald(&["check", "--json", "--config", file.path()]).expect_code(78);
    let json: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let errors = json.pointer("/errors").and_then(|errors| errors.as_array()).expect("errors");
    let codes: Vec<&str> = errors.iter().filter_map(|error| error.get("code")?.as_str()).collect();
    assert_eq!(codes, ["E005", "E009", "E002"]);
    assert_eq!(errors[0].get("line").and_then(|line| line.as_u64()), Some(4));
    assert_eq!(errors[0].get("file").and_then(|file| file.as_str()), Some(file.path()));
}

#[test]
fn a_missing_file_is_78_and_named() {
    let outcome = vitald(&["check", "--config", "/nonexistent/vitald.toml"]).expect_code(78);
    assert!(outcome.stderr.contains("/nonexistent/vitald.toml"), "{}", outcome.stderr);
}

#[test]
fn the_environment_names_the_file_and_the_argument_wins() {
    let (good, bad) = (ConfigFile::new(GOOD), ConfigFile::new("frob = 1"));
    run(command(&["check"]).env("VITALD_CONFIG", good.path())).expect_code(0);
    run(command(&["check"]).env("VITALD_CONFIG", bad.path())).expect_code(78);
    run(command(&["check", "--config", good.path()]).env("VITALD_CONFIG", bad.path())).expect_code(0);
}

#[test]
fn run_refuses_a_bad_configuration_with_78() {
    let bad = ConfigFile::new("frob = 1");
    let outcome = vitald(&["run", "--config", bad.path()]).expect_code(78);
    assert!(outcome.stderr.contains("error[E002]"), "{}", outcome.stderr);
}

#[test]
fn what_only_preparing_the_probes_shows_is_78_everywhere() {
    let text = GOOD.replace("\"HTTP\"", "\"HTTPS\"").replace(
        "[[channels.members]]\nhost = \"127.0.0.1\"",
        "[channels.probe]\ntls = { verify = true }\n\n[[channels.members]]\nhost = \"127.0.0.1\"",
    );
    let file = ConfigFile::new(&text);
    for name in ["check", "probe", "run"] {
        // A machine without trust anchors.
        let mut command = command(&[name, "--config", file.path()]);
        let command = command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nonexistent");
        let outcome = run(command).expect_code(78);
        assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
        assert!(outcome.stderr.starts_with("error: channel \"web\": "), "{name}: {}", outcome.stderr);
    }
}

#[test]
fn an_api_without_a_socket_is_noted() {
    let note = "[api] without [server] socket";
    for (server, is_noted) in [("", true), ("[server]\nsocket = \"/run/vitald/sock\"\n", false)] {
        let file = ConfigFile::new(&format!("{server}[api]\n{GOOD}"));
        let outcome = vitald(&["check", "--config", file.path()]).expect_code(0);
        assert_eq!(outcome.stdout.contains(&format!("note: {note}")), is_noted, "{}", outcome.stdout);
        assert_eq!(outcome.stdout.contains("SIGHUP"), is_noted, "{}", outcome.stdout);
    }
}
