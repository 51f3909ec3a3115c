//! The management API over real sockets, with a backend that only remembers.

mod client;
mod clients;
#[path = "../support/exchange.rs"]
mod exchange;
mod limits;
mod memory;
mod verdicts;

use serde_json::{Value, json};
use vitald::testing::catalog::Quotas;

use client::{Answer, Server};
use memory::{FIRST, Memory, PROJECT, SECOND};

fn server() -> Server {
    Server::start(Memory::new(Quotas::default(), &[]))
}

/// A path of the first instance.
fn path(rest: &str) -> String {
    format!("/v2/{PROJECT}/apigw/instances/{FIRST}{rest}")
}

fn small(name: &str) -> Value {
    json!({"name": name, "port": 80, "balance_strategy": 1, "member_type": "ip"})
}

fn create(server: &Server, body: &Value) -> Value {
    let answer = server.send("POST", &path("/vpc-channels"), Some(body));
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

/// What the vendor's clients need of every answer.
fn assert_well_formed(answer: &Answer, what: &str) {
    let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{what}: no X-Request-Id"));
    assert_eq!(id.len(), 32, "{what}");
    if answer.status == 204 {
        assert_eq!(answer.text, "", "{what}");
        return;
    }
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    let body = answer.json();
    assert!(body.is_object(), "{what}: {body}");
    if answer.status >= 400 {
        assert!(text(&body, "error_code").starts_with("APIG."), "{what}: {body}");
        assert!(!text(&body, "error_msg").is_empty(), "{what}: {body}");
    }
}

#[test]
fn whatever_is_sent_the_answer_is_well_formed_and_no_fault_of_ours() {
    let server = server();
    let channel = create(&server, &small("abc"));
    let id = text(&channel, "id");
    let paths = [
        "/v2".to_owned(),
        "/v2/".to_owned(),
        format!("/v2/{PROJECT}"),
        format!("/v2/{PROJECT}/other"),
        format!("/v2/{PROJECT}/apigw/instances"),
        format!("/v2/{PROJECT}/apic/vpc-channels"),
        format!("/v2/{PROJECT}/apic/vpc-channels/syncs"),
        format!("/v2/{PROJECT}/apigw/vpc-channels"),
        format!("/v2/{PROJECT}/apigw/instances/%ff/vpc-channels"),
        format!("/v2/{PROJECT}/apigw/instances/%00/vpc-channels?limit=%ff&name=%"),
        "/v2/other/apigw/instances".to_owned(),
        path(""),
        path("/features"),
        path("/vpc-channels"),
        path("/vpc-channels?limit=x"),
        path(&format!("/vpc-channels/{id}")),
        path("/vpc-channels/none"),
        path(&format!("/vpc-channels/{id}/members")),
        path(&format!("/vpc-channels/{id}/members/none")),
        path(&format!("/vpc-channels/{id}/members/batch-enable")),
        path(&format!("/vpc-channels/{id}/members/batch-disable")),
        path(&format!("/vpc-channels/{id}/health-config")),
        path(&format!("/vpc-channels/{id}/member-groups")),
        path(&format!("/vpc-channels/{id}/member-groups/none")),
    ];
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"members\":5}",
        "{\"members\":[null]}",
        "{\"members\":[[]]}",
        "{\"member_ids\":{}}",
        "{\"member_ids\":[1]}",
        "{\"member_groups\":[{}]}",
        "{\"name\":{}}",
        "{\"instance_ids\":[1]}",
        "{\"instance_ids\":[]}",
        "{\"name\":\"\\ud800\"}",
        "\u{0}",
        "{\"port\":99999999999999999999999999999999999999999999}",
        "{\"a\":1e999}",
    ];
    for path in &paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            for body in bodies {
                if method == "DELETE" && path.ends_with(id) {
                    continue;
                }
                let what = format!("{method} {path} {body:?}");
                let answer = server.send_bytes(method, path, body.as_bytes());
                assert!(answer.status < 500 && answer.status != 429, "{what}: {}", answer.text);
                assert_well_formed(&answer, &what);
            }
        }
    }
    assert_eq!(server.send("GET", &path(&format!("/vpc-channels/{id}")), None).status, 200);
}

#[test]
fn paths_and_methods_that_are_not_there() {
    let server = server();
    let unknown = server.send("GET", &format!("/v2/{PROJECT}/apigw/instances/{FIRST}/apis"), None);
    assert_eq!((unknown.status, text(&unknown.json(), "error_code")), (404, "APIG.0101"));
    let method = server.send("PATCH", &path("/vpc-channels"), None);
    assert_eq!((method.status, text(&method.json(), "error_code")), (405, "APIG.0101"));
    assert_eq!(method.header("allow"), Some("GET, POST"));
    let project = server.send("GET", "/v2/other/apigw/instances", None);
    assert_eq!((project.status, text(&project.json(), "error_code")), (403, "APIG.1005"));
    let stranger = server.send_without_credentials("GET", &path("/vpc-channels"));
    assert_eq!(stranger.status, 401);
}

#[test]
fn other_paths_name_nothing_and_other_methods_are_refused() {
    let server = server();
    let others = [
        "/v2".to_owned(),
        "/v2/".to_owned(),
        "/v2/x".to_owned(),
        format!("/v2/{PROJECT}"),
        format!("/v2/{PROJECT}/apigw"),
        format!("/v2/{PROJECT}/apigw/"),
        format!("/v2/{PROJECT}/apigw/vpc-channels"),
        format!("/v2/{PROJECT}/apigw/instances/"),
        "/v2//apigw/instances".to_owned(),
        format!("/v2/{PROJECT}/other/instances"),
        path("/vpc-channels/c/"),
        path("/vpc-channels/c/members/m/x"),
        path("/vpc-channels/%ff"),
    ];
    for path in others {
        let answer = server.send("GET", &path, None);
        assert_eq!((answer.status, text(&answer.json(), "error_code")), (404, "APIG.0101"), "{path}");
        assert!(answer.header("x-request-id").is_some(), "{path}");
    }
    let escaped = server.send("GET", &format!("/v2/{PROJECT}/apigw/instances/a%2Fb"), None);
    assert_eq!((escaped.status, text(&escaped.json(), "error_code")), (404, "APIG.3030"));
    assert!(text(&escaped.json(), "error_msg").ends_with("id:a/b"));
    let foreign = server.send("GET", "/v2/p/apigw/instances", None);
    assert_eq!((foreign.status, text(&foreign.json(), "error_code")), (403, "APIG.1005"));
    for method in ["HEAD", "PATCH", "OPTIONS"] {
        let answer = server.send(method, &path("/vpc-channels/c"), None);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, PUT, DELETE")), "{method}");
    }
}

#[test]
fn every_broken_rule_is_told_with_its_place() {
    let server = server();
    let mut body = small("abc");
    body["port"] = json!(0);
    body["members"] = json!([{"host": "192.0.2.1", "weight": -1}, {}]);
    let answer = server.send("POST", &path("/vpc-channels"), Some(&body)).json();
    assert_eq!(text(&answer, "error_code"), "APIG.2004");
    assert!(text(&answer, "error_msg").contains("parameterName:port."));
    let fields: Vec<&str> =
        answer["details"].as_array().expect("a list").iter().map(|detail| text(detail, "field")).collect();
    assert_eq!(fields, ["port", "members[0].weight", "members[1].host"]);
}

#[test]
fn an_address_at_which_no_server_can_be_is_refused_with_its_place() {
    let server = server();
    for (host, why) in [
        ("0.0.0.0", "the unspecified address, which no server has"),
        ("::", "the unspecified address, which no server has"),
        ("239.255.0.1", "a multicast address, which no server has"),
    ] {
        let mut body = small("abc");
        body["members"] = json!([{"host": "192.0.2.1"}, {"host": host}]);
        let answer = server.send("POST", &path("/vpc-channels"), Some(&body));
        assert_eq!(answer.status, 400, "{host}");
        let detail = json!({"field": "members[1].host", "problem": format!("`host` is \"{host}\", {why}"),
            "remedy": "write an address that a server listens on"});
        assert_eq!(answer.json()["details"], json!([detail]));
    }
}

#[test]
fn a_details_answer_has_every_documented_field_and_type() {
    let server = server();
    let mut body = small("abc");
    body["member_groups"] = json!([{"member_group_name": "blue", "member_group_weight": 0}]);
    body["members"] = json!([{"host": "192.0.2.1", "member_group_name": "blue"}]);
    body["vpc_health_config"] = json!({"protocol": "TCP", "threshold_normal": 1, "threshold_abnormal": 1,
        "time_interval": 1, "timeout": 1});
    let created = create(&server, &body);
    let detail = server.send("GET", &path(&format!("/vpc-channels/{}", text(&created, "id"))), None).json();
    let kinds = |value: &Value| -> Vec<(String, &'static str)> {
        let kind = |value: &Value| match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_u64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let object = value.as_object().expect("an object");
        let mut kinds: Vec<_> = object.iter().map(|(key, value)| (key.clone(), kind(value))).collect();
        kinds.sort();
        kinds
    };
    let expect = |pairs: &[(&str, &'static str)]| -> Vec<(String, &'static str)> {
        pairs.iter().map(|(key, kind)| ((*key).to_owned(), *kind)).collect()
    };
    assert_eq!(
        kinds(&detail),
        expect(&[
            ("balance_strategy", "integer"),
            ("create_time", "string"),
            ("dict_code", "string"),
            ("id", "string"),
            ("member_groups", "array"),
            ("member_type", "string"),
            ("members", "array"),
            ("microservice_info", "null"),
            ("name", "string"),
            ("port", "integer"),
            ("status", "integer"),
            ("type", "integer"),
            ("vpc_channel_type", "string"),
            ("vpc_health_config", "object"),
        ])
    );
    assert_eq!(
        kinds(&detail["members"][0]),
        expect(&[
            ("create_time", "string"),
            ("ecs_id", "string"),
            ("ecs_name", "string"),
            ("health_status", "string"),
            ("host", "string"),
            ("id", "string"),
            ("is_backup", "boolean"),
            ("member_group_id", "string"),
            ("member_group_name", "string"),
            ("port", "integer"),
            ("status", "integer"),
            ("vpc_channel_id", "string"),
            ("weight", "integer"),
        ])
    );
    assert_eq!(detail["members"][0]["weight"], 0, "the group's weight, zero though it is");
    assert_eq!(detail["vpc_health_config"]["path"], "");
    let time = text(&detail, "create_time");
    assert_eq!((time.len(), time.ends_with('Z')), (20, true), "{time}");
}

#[test]
fn a_restart_finds_what_was_acknowledged() {
    let memory = Memory::new(Quotas::default(), &[]);
    let server = Server::start(memory.clone());
    let first = create(&server, &small("abc"));
    let second = create(&server, &small("other"));
    let members = json!({"members": [{"host": "192.0.2.1"}]});
    server.send("POST", &path(&format!("/vpc-channels/{}/members", text(&first, "id"))), Some(&members));
    server.send("DELETE", &path(&format!("/vpc-channels/{}", text(&second, "id"))), None);
    let resources = memory.restarted();
    let names: Vec<_> =
        resources.channels(None).map(|channel| channel.configured.name().to_owned()).collect();
    assert_eq!(names, ["abc"]);
    assert_eq!(resources.channels(None).next().map(|channel| channel.configured.members().len()), Some(1));
}

#[test]
fn the_description_names_exactly_what_there_is() {
    let server = server();
    let described = server.send_without_credentials("GET", "/v1/openapi.json");
    assert_eq!((described.status, described.header("content-type")), (200, Some("application/json")));
    let described = described.json();
    let paths = described["paths"].as_object().expect("an object");
    let mut calls = 0;
    for (template, methods) in paths {
        if !template.starts_with("/v2/") {
            continue;
        }
        let concrete = template
            .replace("{project_id}", PROJECT)
            .replace("{instance_id}", SECOND)
            .replace("{vpc_channel_id}", "none")
            .replace("{member_id}", "none")
            .replace("{member_group_id}", "none");
        let answer = server.send("PATCH", &concrete, None);
        let allowed = answer.header("allow").unwrap_or_else(|| panic!("{template} is not there"));
        let mut described: Vec<String> = methods
            .as_object()
            .expect("an object")
            .keys()
            .filter(|key| *key != "parameters")
            .map(|method| method.to_uppercase())
            .collect();
        let mut allowed: Vec<&str> = allowed.split(", ").collect();
        described.sort();
        allowed.sort_unstable();
        assert_eq!(described, allowed, "{template}");
        calls += described.len();
    }
    // 17 calls and 5 of instances and features in two families, 4 of projects.
    assert_eq!(calls, 2 * (17 + 5) + 4);
}

/// The described names of features are those that can be set, and no others are taken.
#[test]
fn every_described_feature_is_kept_and_answered() {
    let memory = Memory::new(Quotas::default(), &[]);
    let server = Server::start(memory.clone());
    let described = server.send_without_credentials("GET", "/v1/openapi.json").json();
    let names = &described["components"]["schemas"]["FeatureToggle"]["properties"]["name"]["enum"];
    let names: Vec<&str> = names.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(names.len(), 3 + 41);
    let set = |name: &str, config: &str| {
        let body = json!({"name": name, "enable": true, "config": config});
        server.send("POST", &path("/features"), Some(&body))
    };
    let effective = &["vpc_name_modifiable", "vpc_health_status", "backend_client_certificate"];
    for name in names.iter().filter(|name| !effective.contains(name)) {
        let config = format!("{{\"kept\": \"{name}\"}}");
        let answer = set(name, &config);
        assert_eq!(answer.status, 201, "{name}: {}", answer.text);
        let answer = answer.json();
        assert_eq!((text(&answer, "name"), text(&answer, "config")), (*name, config.as_str()));
        assert_eq!(text(&answer, "id").len(), 32);
    }
    let longest = "x".repeat(64 * 1024);
    assert_eq!(set("ssl_ciphers", &longest).status, 201);
    assert_eq!(set("ssl_ciphers", &format!("{longest}x")).json()["error_code"], "APIG.2012");
    let listed = server.send("GET", &path("/features?limit=500"), None).json();
    assert_eq!(listed["total"], 4 + 41);
    for name in ["waf", "app-api-key", "", "RATELIMIT"] {
        let answer = set(name, "on");
        let expected = if name.is_empty() { "APIG.2001" } else { "APIG.2000" };
        assert_eq!((answer.status, text(&answer.json(), "error_code")), (400, expected), "{name}");
    }
    let unknown = set("waf", "on").json();
    assert_eq!(text(&unknown, "error_msg"), "unrecognized feature waf");

    // A restart finds them again; another instance has none of them.
    let kept = memory.restarted();
    assert_eq!(kept.instance(FIRST).expect("the first").stored.len(), 41);
    assert_eq!(kept.instance(SECOND).expect("the second").stored.len(), 0);
}

#[test]
fn a_missing_parameter_has_the_code_of_its_family() {
    let server = server();
    let unnamed = json!({"port": 80, "balance_strategy": 1, "member_type": "ip", "instance_ids": [SECOND]});
    let roma = format!("/v2/{PROJECT}/apic");
    let cases = [
        ("POST", format!("{roma}/vpc-channels"), "APIG.2011"),
        ("PUT", format!("{roma}/vpc-channels"), "APIG.2011"),
        ("POST", format!("{roma}/instances/{FIRST}/vpc-channels"), "APIG.2011"),
        ("POST", path("/vpc-channels"), "APIG.2001"),
    ];
    for (method, path, code) in cases {
        let answer = server.send(method, &path, Some(&unnamed));
        let body = answer.json();
        assert_eq!((answer.status, text(&body, "error_code")), (400, code), "{method} {path}");
        let message = match code {
            "APIG.2011" => {
                "The request parameters must be specified,parameterName:name. \
                 Please refer to the support documentation"
            }
            _ => "The request parameters must be specified, parameter name:name",
        };
        assert_eq!(text(&body, "error_msg"), message, "{method} {path}");
        assert_eq!(body["details"][0]["field"], "name");
    }
}
