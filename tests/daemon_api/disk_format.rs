//! A state directory as vitald 0.1 left it (`tests/fixtures/state-0.1`): every
//! channel, id, time and verdict is found in it, and nothing is answered or
//! exported differently.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use vitald::health::Timestamp;
use vitald::testing::store::{SavedAt, StateDirectory, VerdictFile};

use crate::daemon::{Home, INSTANCE};
use crate::text;

/// What the configuration of that daemon said besides what [`Home`] says.
const CONFIGURED: &str = r#"
[[api.instances]]
id = "11111111-2222-3333-4444-555555555555"
name = "second"
features = { vpc_health_status = "off" }
[[channels]]
name = "from-file"
port = 1
balance_strategy = 1
member_type = "ip"
member_groups = [{ member_group_name = "blue", member_group_weight = 3 }]
members = [{ host = "127.0.0.1", member_group_name = "blue" }, { host = "App.example", port = 8080 }]
[channels.vpc_health_config]
protocol = "HTTP"
path = "/health"
http_code = "200-299"
threshold_normal = 1
threshold_abnormal = 1
time_interval = "299.5s"
timeout = "500ms"
"#;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-0.1").join(name)
}

fn fixture_text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).expect("a fixture")
}

/// Puts the fixture into a state directory, its verdicts saved just now.
#[expect(clippy::disallowed_methods, reason = "verdicts are young or old by the clock")]
fn install(state: &Path) {
    let directory = Arc::new(StateDirectory::open(state).expect("a directory"));
    for name in ["store.redb", "verdicts"] {
        std::fs::copy(fixture(name), state.join(name)).expect("copied");
    }
    let file = VerdictFile::of(&directory);
    let mut verdicts = file.load().expect("verdicts of 0.1 can be read").expect("there are some");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let now = u64::try_from(now.as_nanos()).expect("before 2554");
    verdicts.saved_at = SavedAt { wall: Timestamp(now), boot: None };
    file.save(&verdicts).expect("saved");
}

fn export(state: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitald"));
    let output = command.args(["export", "--store"]).arg(state).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_state_directory_of_0_1_means_what_it_meant() {
    let home = Home::new(CONFIGURED);
    let state = home.path().join("state");
    install(&state);
    assert_eq!(export(&state, &["--format", "archive"]), fixture_text("archive.json"));
    assert_eq!(export(&state, &["--instance", INSTANCE]), fixture_text("channels.toml"));

    let daemon = home.start();
    let status = daemon.send("GET", "/v1/status", "", "").json();
    let mut found = String::new();
    let channels = status["channels"].as_array().expect("channels");
    // The second instance's `tcp` is not probed: it has no verdict to keep.
    for channel in channels.iter().filter(|channel| !text(channel, "/name").ends_with(":tcp")) {
        for member in channel["members"].as_array().expect("members") {
            let words = ["address", "health", "since"].map(|key| member[key].as_str().unwrap_or("none"));
            found += &format!("{} {}\n", text(channel, "/name"), words.join(" "));
        }
    }
    assert_eq!(found, fixture_text("verdicts.txt"));

    // Channels of files have the time of the daemon's start.
    let mut started = None;
    for line in fixture_text("answers.txt").lines() {
        let (path, expected) = line.split_once(' ').expect("a path and its answer");
        let answer = daemon.local("GET", path, None);
        let time = started.get_or_insert_with(|| start_time(&answer.json()));
        let shown = without_check_times(answer.text.trim_end());
        assert_eq!(shown.replace(&*time, "@START@"), expected, "{path}");
    }
}

fn start_time(channels: &Value) -> String {
    let channels = channels["vpc_channels"].as_array().expect("a list");
    let of_file = channels.iter().find(|channel| channel["name"] == "from-file");
    text(of_file.expect("the channel of the file"), "/create_time").to_owned()
}

/// The daemon probes meanwhile, so members may have been checked or not.
fn without_check_times(text: &str) -> String {
    let mut parts = text.split(",\"last_check_time\":\"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| kept + part.split_once('"').expect("a whole text").1)
}
