//! `vitald export` and `vitald import` on a store that no daemon uses.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::support::vitald;

const INSTANCE: &str = "eddc4d25480b4cd6b512f270a1b8b341";

fn tag(number: u8) -> Value {
    json!({"id": format!("{number:032x}"), "created": 1_700_000_000 + u64::from(number)})
}

fn with(mut one: Value, other: &Value) -> Value {
    one.as_object_mut().expect("an object").extend(other.as_object().expect("an object").clone());
    one
}

/// One instance; a channel with everything that a configuration can say, and a
/// small one.
fn archive() -> Value {
    let group = json!({"member_group_name": "blue", "member_group_remark": "left", "member_group_weight": 30,
        "microservice_port": 0, "updated": 1_700_000_100});
    let first = json!({"host": "192.0.2.1", "port": 81, "weight": 2, "is_backup": false, "status": 1,
        "member_group_name": "blue"});
    let second = json!({"host": "2001:db8::1", "port": 0, "is_backup": true, "status": 2});
    let web = json!({"name": "web", "port": 80, "balance_strategy": 3, "member_type": "ip",
        "vpc_channel_type": "builtin",
        "member_groups": [with(group, &tag(3))],
        "members": [with(first, &tag(4)), with(second, &tag(5))],
        "vpc_health_config": {"protocol": "http", "path": "/health", "method": "GET", "http_code": "200,210-299",
            "port": 0, "threshold_normal": 2, "threshold_abnormal": 3, "time_interval": 5, "timeout": 2,
            "enable_client_ssl": false, "status": 1}});
    let shop = json!({"name": "shop", "port": 8080, "balance_strategy": 1, "member_type": "ip",
        "vpc_channel_type": "builtin"});
    let features = ["vpc_name_modifiable", "vpc_health_status", "backend_client_certificate", "vpc_backup"];
    let features = features.map(|name| {
        let is_on = name != "backend_client_certificate";
        json!({"name": name, "enable": is_on, "config": if is_on { "on" } else { "" }, "updated": 1_700_000_000})
    });
    let instance = json!({"format": 1, "kind": "instance", "id": INSTANCE, "name": "local",
        "created": 1_700_000_000, "features": features});
    let channel = |number, channel: Value| {
        with(
            json!({"format": 1, "kind": "channel", "instance_id": INSTANCE, "channel": channel}),
            &tag(number),
        )
    };
    let web = with(channel(2, web), &json!({"health_check": tag(6)}));
    json!({"vitald_archive": 1, "records": [instance, web, channel(1, shop)]})
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn an_archive_goes_into_an_empty_store_and_comes_out_the_same() {
    let place = tempfile::tempdir().expect("tempdir");
    let (file, store) = (place.path().join("vitald.archive"), place.path().join("state"));
    let (file, store) = (text_of(&file), text_of(&store));
    std::fs::write(file, archive().to_string()).expect("write");
    let outcome = vitald(&["import", "--store", store, file]).expect_code(0);
    assert_eq!(outcome.stdout, format!("{store}: 2 channels, 1 instance\n"));
    let outcome = vitald(&["export", "--store", store, "--format", "archive"]).expect_code(0);
    let exported: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(exported, archive());

    // Never over what is there.
    let outcome = vitald(&["import", "--store", store, file]).expect_code(1);
    assert!(outcome.stderr.contains("2 channels already"), "{}", outcome.stderr);
}

#[test]
fn what_is_exported_is_a_configuration() {
    let place = tempfile::tempdir().expect("tempdir");
    let (file, store) = (place.path().join("vitald.archive"), place.path().join("state"));
    let (file, store) = (text_of(&file), text_of(&store));
    std::fs::write(file, archive().to_string()).expect("write");
    vitald(&["import", "--store", store, file]).expect_code(0);

    let config = place.path().join("vitald.toml");
    let main = |text: &str| std::fs::write(&config, text).expect("write");
    let check = || {
        let outcome = vitald(&["check", "--json", "--config", text_of(&config)]).expect_code(0);
        let document: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        let mut channels = document["channels"].as_array().expect("a list").clone();
        for channel in &mut channels {
            channel.as_object_mut().expect("an object").remove("file");
        }
        channels
    };
    let all = vitald(&["export", "--store", store]).expect_code(0).stdout;
    main(&all);
    let expected = check();
    assert_eq!(expected.len(), 2);

    for format in ["toml", "json"] {
        let directory = place.path().join(format);
        vitald(&["export", "--store", store, "--format", format, "--out", text_of(&directory)])
            .expect_code(0);
        main(&format!("[include]\nchannels = \"{format}/*\"\n"));
        assert_eq!(check(), expected, "{format}");
        // A second time there is something, and it stays.
        let outcome = vitald(&["export", "--store", store, "--format", format, "--out", text_of(&directory)])
            .expect_code(1);
        assert!(outcome.stderr.contains("shop") && outcome.stderr.contains("exists"), "{}", outcome.stderr);
    }
    let one = vitald(&["export", "--store", store, "--channel", "web"]).expect_code(0).stdout;
    assert_eq!(std::fs::read_to_string(place.path().join("toml/web.toml")).expect("read"), one);
}

#[test]
fn what_cannot_be_done_says_why() {
    let place = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| place.path().join(name);
    let (state, config, good, bad) =
        (path("state"), path("vitald.toml"), path("good.toml"), path("bad.toml"));
    std::fs::write(&good, "name = \"web\"\nport = 80\nbalance_strategy = 1\n").expect("write");
    std::fs::write(&bad, "name = \"web\"\nport = 0\nbalance_strategy = 1\n").expect("write");
    std::fs::write(path("broken.archive"), r#"{"vitald_archive":1,"records":[{}]}"#).expect("write");
    std::fs::write(&config, "[server]\n").expect("write");
    let (state, config) = (text_of(&state), text_of(&config));
    let (good, bad, archive) = (text_of(&good), text_of(&bad), path("broken.archive"));
    let archive = text_of(&archive);
    // A writer, so that a command that opens it ends all the same.
    let fifo = path("fifo.toml");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    let written = fifo.clone();
    std::thread::spawn(move || std::fs::write(written, "name"));
    let fifo = text_of(&fifo);
    let cases: [(&[&str], i32, &str); 9] = [
        (&["export", "--store", state], 1, "no store"),
        (&["export", "--config", config], 2, "no daemon and no store"),
        (&["export", "--config", config, "--format", "archive", "--channel", "web"], 2, "leave --channel"),
        (&["import", "--store", state, "absent.toml"], 1, "cannot read absent.toml"),
        (&["import", "--store", state, fifo], 1, "it is not a regular file"),
        (&["import", "--store", state, good], 1, "through the running daemon"),
        (&["import", "--store", state, good, bad], 78, "E005"),
        (&["import", "--store", state, archive], 78, "damaged"),
        (&["import", "--store", state, archive, good], 2, "imported alone"),
    ];
    for (arguments, code, words) in cases {
        let outcome = vitald(arguments).expect_code(code);
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stdout.is_empty(), "{arguments:?}");
    }
    assert!(!Path::new(state).exists(), "nothing makes a store by accident");
}

#[test]
fn a_store_in_use_is_left_alone() {
    let place = tempfile::tempdir().expect("tempdir");
    let store = place.path().join("state");
    let file = place.path().join("vitald.archive");
    std::fs::write(&file, archive().to_string()).expect("write");
    vitald(&["import", "--store", text_of(&store), text_of(&file)]).expect_code(0);
    let held = vitald::testing::store::StateDirectory::open(&store).expect("nobody else has it");
    for arguments in
        [&["export", "--store", text_of(&store)][..], &["import", "--store", text_of(&store), text_of(&file)]]
    {
        let outcome = vitald(arguments).expect_code(1);
        assert!(outcome.stderr.contains("in use") && outcome.stderr.contains("socket"), "{}", outcome.stderr);
    }
    drop(held);
}
