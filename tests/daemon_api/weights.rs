//! Which members weights leave in rotation, by the request shapes that clients send: what
//! `docs/api.md` says of them, "Weights".

#![expect(clippy::indexing_slicing, reason = "what is missing is null, and fails the test")]

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home};
use crate::{create, path, text};

/// What the daemon shows of a channel's rotation.
#[derive(Debug, PartialEq)]
struct Rotation {
    tier: String,
    nobody: Value,
    /// `host weight`, and why it is out, if it is.
    members: Vec<String>,
}

fn rotation(tier: &str, nobody: Value, members: &[&str]) -> Rotation {
    let members = members.iter().map(|&member| member.to_owned()).collect();
    Rotation { tier: tier.to_owned(), nobody, members }
}

/// What the status says. The metrics and the balancer must say the same.
#[track_caller]
fn seen(daemon: &Daemon, channel: &str) -> Rotation {
    let status = daemon.send("GET", &format!("/v1/channels/{channel}"), "", "").json();
    let metrics = daemon.send("GET", &format!("/metrics?channel={channel}"), "", "").text;
    let pick = daemon.send("GET", &format!("/v1/channels/{channel}/pick?source=10.0.0.1&uri=/a"), "", "");
    let mut members = Vec::new();
    let mut in_rotation = Vec::new();
    for member in status["members"].as_array().expect("members") {
        let (address, weight) = (text(member, "/address"), &member["weight"]);
        let backup = &member["backup"];
        let is_in = member["in_rotation"].as_bool().expect("a boolean");
        let line = format!(
            "vitald_member_in_rotation{{channel=\"{channel}\",member=\"{address}\",group=\"{}\",\
             backup=\"{backup}\"}} {}\n",
            member["group"].as_str().unwrap_or_default(),
            u8::from(is_in),
        );
        assert!(metrics.contains(&line), "{line} in {metrics}");
        if is_in {
            in_rotation.push(address.to_owned());
        }
        let host = address.trim_end_matches(":80");
        members.push(match member["out_of_rotation"].as_str() {
            Some(why) => format!("{host} {weight} {why}"),
            None => format!("{host} {weight}"),
        });
        assert_eq!(is_in, member["out_of_rotation"].is_null(), "{member}");
    }
    let picked = pick.json();
    assert_eq!(picked["tier"], status["tier"], "{picked}");
    match picked["member"]["address"].as_str() {
        Some(address) => assert!(in_rotation.contains(&address.to_owned()), "{picked}"),
        None => assert!(in_rotation.is_empty() && picked["reason"].is_string(), "{picked}"),
    }
    let line = format!(
        "vitald_channel_on_backup{{channel=\"{channel}\"}} {}\n",
        u8::from(text(&status, "/tier") == "backup")
    );
    assert!(metrics.contains(&line), "{line} in {metrics}");
    Rotation { tier: text(&status, "/tier").to_owned(), nobody: status["nobody"].clone(), members }
}

/// As Terraform's `apig_channel` writes a channel: a list that was left out is `null`.
fn channel(strategy: u8, members: &Value) -> Value {
    json!({"name": format!("web{strategy}"), "port": 80, "balance_strategy": strategy, "member_type": "ip",
        "member_groups": null, "members": members})
}

/// As Terraform's `apig_channel` writes a `member` block: a weight that was left out is 0.
fn member(host: &str, weight: u16) -> Value {
    json!({"host": host, "weight": weight, "is_backup": false, "port": 0})
}

#[test]
fn members_as_terraform_writes_them() {
    let home = Home::new("");
    let daemon = home.start();
    for strategy in 1..=4 {
        let name = format!("web{strategy}");
        // `apig_channel` whose `member` blocks have no weight.
        let body = channel(strategy, &json!([member("192.0.2.1", 0), member("192.0.2.2", 0)]));
        let id = create(&daemon, &body);
        let drained = ["192.0.2.1 0 weight_zero", "192.0.2.2 0 weight_zero"];
        assert_eq!(
            seen(&daemon, &name),
            rotation("nobody", json!("all_weights_zero"), &drained),
            "{strategy}"
        );
        let shown = daemon.local_json("GET", &path(&format!("/{id}")), None, 200);
        assert_eq!(shown["members"][0]["weight"], 0, "read back as it was written");

        // One of them has a weight.
        let body = channel(strategy, &json!([member("192.0.2.1", 0), member("192.0.2.2", 1)]));
        daemon.local_json("PUT", &path(&format!("/{id}")), Some(&body), 200);
        let one = ["192.0.2.1 0 weight_zero", "192.0.2.2 1"];
        assert_eq!(seen(&daemon, &name), rotation("primary", Value::Null, &one), "{strategy}");

        // `apig_vpc_channel`, whose weight is 1 unless written, and clients that leave it out.
        let body = channel(strategy, &json!([{"host": "192.0.2.1", "weight": 1}, {"host": "192.0.2.2"}]));
        daemon.local_json("PUT", &path(&format!("/{id}")), Some(&body), 200);
        let both = ["192.0.2.1 1", "192.0.2.2 1"];
        assert_eq!(seen(&daemon, &name), rotation("primary", Value::Null, &both), "{strategy}");

        // `apig_channel_member_group` without a weight, or with one, and `apig_channel_member`,
        // which has none to write.
        let groups = json!({"member_groups": [{"member_group_name": "blue"},
            {"member_group_name": "green", "member_group_weight": 20}]});
        daemon.local_json("POST", &path(&format!("/{id}/member-groups")), Some(&groups), 201);
        for (host, group) in [("192.0.2.3", "blue"), ("192.0.2.4", "green")] {
            let body = json!({"members": [{"member_group_name": group, "port": 80, "host": host}]});
            daemon.local_json("POST", &path(&format!("/{id}/members")), Some(&body), 201);
        }
        let all = ["192.0.2.1 1", "192.0.2.2 1", "192.0.2.3 1", "192.0.2.4 20"];
        assert_eq!(seen(&daemon, &name), rotation("primary", Value::Null, &all), "{strategy}");
    }
}

#[test]
fn standby_members_take_over_from_drained_primaries() {
    let home = Home::new("");
    let daemon = home.start();
    let standby = json!({"host": "192.0.2.3", "is_backup": true});
    for strategy in 1..=4 {
        let name = format!("web{strategy}");
        let members = |weights: [u16; 2]| {
            json!([member("192.0.2.1", weights[0]), member("192.0.2.2", weights[1]), standby])
        };
        let id = create(&daemon, &channel(strategy, &members([0, 2])));
        let normal = ["192.0.2.1 0 weight_zero", "192.0.2.2 2", "192.0.2.3 1 inactive_tier"];
        assert_eq!(seen(&daemon, &name), rotation("primary", Value::Null, &normal), "{strategy}");
        let drained = channel(strategy, &members([0, 0]));
        daemon.local_json("PUT", &path(&format!("/{id}")), Some(&drained), 200);
        let standby = ["192.0.2.1 0 weight_zero", "192.0.2.2 0 weight_zero", "192.0.2.3 1"];
        assert_eq!(seen(&daemon, &name), rotation("backup", Value::Null, &standby), "{strategy}");
    }
}
