//! What the prober found, as clients read it; and channels of files.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use vitald::channel::Health;
use vitald::testing::catalog::Quotas;
use vitald::testing::config;

use crate::client::Server;
use crate::memory::{FIRST, Memory, PROJECT};
use crate::{create, path, text};

fn checked(name: &str) -> Value {
    json!({
        "name": name,
        "port": 80,
        "balance_strategy": 1,
        "member_type": "ip",
        "members": [{"host": "192.0.2.1"}, {"host": "192.0.2.2", "port": 81}],
        "vpc_health_config": {"protocol": "TCP", "threshold_normal": 1, "threshold_abnormal": 1,
            "time_interval": 1, "timeout": 1},
    })
}

#[test]
fn verdicts_are_live() {
    let memory = Memory::new(Quotas::default(), &[]);
    let server = Server::start(memory.clone());
    let id = text(&create(&server, &checked("abc")), "id").to_owned();
    let look = || {
        let shown = server.send("GET", &path(&format!("/vpc-channels/{id}")), None).json();
        let health: Vec<String> = shown["members"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|member| text(member, "health_status").to_owned())
            .collect();
        (shown["status"].as_u64(), health)
    };
    let checked_at = || {
        let shown = server.send("GET", &path(&format!("/vpc-channels/{id}/members")), None).json();
        shown["members"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| it["last_check_time"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(look(), (Some(1), vec!["unknown".to_owned(), "unknown".to_owned()]));
    assert_eq!(checked_at(), [Value::Null, Value::Null]);
    memory.set_verdict("192.0.2.1:80", Health::Unhealthy);
    memory.set_verdict("192.0.2.2:81", Health::Healthy);
    assert_eq!(look(), (Some(1), vec!["unhealthy".to_owned(), "healthy".to_owned()]));
    assert_eq!(checked_at(), ["2026-01-01T00:00:59Z"; 2]);
    memory.set_verdict("192.0.2.2:81", Health::Unhealthy);
    assert_eq!(look(), (Some(2), vec!["unhealthy".to_owned(), "unhealthy".to_owned()]));
    let listed = server.send("GET", &path("/vpc-channels"), None).json();
    assert_eq!(listed["vpc_channels"][0]["status"], 2);
    let members =
        server.send("GET", &path(&format!("/vpc-channels/{id}/members?name=192.0.2.2")), None).json();
    assert_eq!(members["members"][0]["health_status"], "unhealthy");
}

/// Drained members take no traffic, but the check finds nothing wrong with them.
#[test]
fn a_channel_of_drained_members_is_normal_while_one_is_not_unhealthy() {
    let channel = |name: &str, fail_open: bool| {
        format!(
            "[[channels]]\nname = \"{name}\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\
             members = [{{ host = \"192.0.2.1\", weight = 0 }}, {{ host = \"192.0.2.2\", weight = 0 }}]\n\
             balance = {{ fail_open = {fail_open} }}\n\
             [channels.vpc_health_config]\nprotocol = \"TCP\"\nthreshold_normal = 1\n\
             threshold_abnormal = 1\ntime_interval = 1\ntimeout = 1\n"
        )
    };
    let text = channel("closed", false) + &channel("open", true);
    let parsed = config::parse("vitald.toml", &text, Path::new(".")).expect("a good file");
    let files: Vec<_> = parsed.channels.iter().map(|file| Arc::clone(&file.channel)).collect();
    let memory = Memory::new(Quotas::default(), &files);
    let server = Server::start(memory.clone());
    let statuses = || {
        let listed = server.send("GET", &path("/vpc-channels"), None).json();
        [0, 1].map(|place| listed["vpc_channels"][place]["status"].as_u64())
    };
    memory.set_verdict("192.0.2.1:80", Health::Unhealthy);
    memory.set_verdict("192.0.2.2:80", Health::Healthy);
    assert_eq!(statuses(), [Some(1); 2]);
    memory.set_verdict("192.0.2.2:80", Health::Unhealthy);
    assert_eq!(statuses(), [Some(2); 2]);
}

#[test]
fn channels_of_files_are_shown_and_not_written() {
    let parsed = config::parse(
        "vitald.toml",
        "[[channels]]\nname = \"from-file\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\
         [[channels.members]]\nhost = \"192.0.2.1\"\n\
         [channels.vpc_health_config]\nprotocol = \"TCP\"\nthreshold_normal = 1\nthreshold_abnormal = 1\n\
         time_interval = \"1500ms\"\ntimeout = \"300ms\"\n",
        Path::new("."),
    )
    .expect("a good file");
    let files: Vec<_> = parsed.channels.iter().map(|file| Arc::clone(&file.channel)).collect();
    let server = Server::start(Memory::new(Quotas::default(), &files));
    let listed = server.send("GET", &path("/vpc-channels"), None).json();
    let id = text(&listed["vpc_channels"][0], "id").to_owned();
    let shown = server.send("GET", &path(&format!("/vpc-channels/{id}")), None).json();
    assert_eq!(text(&shown, "name"), "from-file");
    // Whole seconds, rounded up.
    assert_eq!(shown["vpc_health_config"]["time_interval"], 2);
    assert_eq!(shown["vpc_health_config"]["timeout"], 1);
    for (method, rest, body) in [
        ("PUT", "", json!({})),
        ("DELETE", "", json!({})),
        ("POST", "/members", json!({})),
        ("PUT", "/members", json!({})),
        ("POST", "/members/batch-disable", json!({})),
        ("PUT", "/health-config", json!({})),
        ("POST", "/member-groups", json!({})),
    ] {
        let answer = server.send(method, &path(&format!("/vpc-channels/{id}{rest}")), Some(&body));
        let refusal = answer.json();
        assert_eq!((answer.status, text(&refusal, "error_code")), (403, "APIG.1113"), "{method} {rest}");
        assert!(text(&refusal, "error_msg").contains("/etc/vitald/vitald.toml"), "{refusal}");
    }
}

#[test]
fn project_answers_use_words_for_the_type() {
    let memory = Memory::new(Quotas::default(), &[]);
    let server = Server::start(memory);
    let toggle = json!({"name": "vpc_name_modifiable", "enable": true, "config": "off"});
    server.send("POST", &format!("/v2/{PROJECT}/apic/instances/{FIRST}/features"), Some(&toggle));
    let mut body = checked("abc");
    body["instance_ids"] = json!([FIRST]);
    let made = server.send("POST", &format!("/v2/{PROJECT}/apic/vpc-channels"), Some(&body));
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let channel = &made["project_vpc_channels"][0];
    assert_eq!((text(channel, "type"), text(channel, "instance_id")), ("BUILTIN", FIRST));
    assert_eq!(channel["members"].as_array().map(Vec::len), Some(2));
}
