//! Tables of good and bad values, for files and API bodies alike.

use super::*;
use crate::channel::document::{Map, Pair, Place};
use crate::channel::{ClientIdentity, Host, PemFile, Protocol, Role, SecretFile};

/// A world whose one file is a seed.
struct Nothing;

impl ReadContext for Nothing {
    fn trust_anchors(&self, _: &str) -> Result<PemFile, String> {
        Err("there is no such file".to_owned())
    }

    fn client_identity(&self, _: &str, _: &str) -> Result<ClientIdentity, ClientIdentityError> {
        Err(ClientIdentityError::Certificate("there is no such file".to_owned()))
    }

    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        None
    }

    fn secret_file(&self, path: &str) -> Result<SecretFile, FileProblem> {
        let text = match path {
            "seed" => "F00d\n",
            "long" => "000000000000000000000000000000001",
            _ => "",
        };
        Ok(SecretFile { path: path.into(), text: text.to_owned() })
    }

    fn ecs_address(&self, ecs_id: &str) -> Option<Host> {
        (ecs_id == "known").then(|| Host::Ip([192, 0, 2, 9].into()))
    }
}

fn value(kind: Kind) -> Value {
    Value { place: Place::default(), kind }
}

pub(super) fn text(text: &str) -> Kind {
    Kind::String(text.to_owned())
}

pub(super) fn table<const N: usize>(entries: [(&str, Kind); N]) -> Kind {
    let entries = entries.into_iter().map(|(key, kind)| Pair {
        key: key.to_owned().into(),
        key_place: Place::default(),
        value: value(kind),
    });
    Kind::Table(Map { entries: entries.collect() })
}

fn list<const N: usize>(items: [Kind; N]) -> Kind {
    Kind::Array(items.into_iter().map(value).collect())
}

/// The smallest channel, with keys replaced or added.
pub(super) fn channel<const N: usize>(changes: [(&str, Kind); N]) -> Value {
    let Kind::Table(mut base) = table([
        ("name", text("web")),
        ("port", Kind::Integer(80)),
        ("balance_strategy", Kind::Integer(1)),
        ("member_type", text("ip")),
    ]) else {
        unreachable!("table makes tables")
    };
    let Kind::Table(changes) = table(changes) else { unreachable!("table makes tables") };
    for change in changes.entries {
        base.entries.retain(|entry| entry.key != change.key);
        base.entries.push(change);
    }
    value(Kind::Table(base))
}

fn health<const N: usize>(changes: [(&str, Kind); N]) -> Kind {
    let Kind::Table(mut base) = table([
        ("protocol", text("TCP")),
        ("threshold_normal", Kind::Integer(2)),
        ("threshold_abnormal", Kind::Integer(3)),
        ("time_interval", Kind::Integer(5)),
        ("timeout", Kind::Integer(1)),
    ]) else {
        unreachable!("table makes tables")
    };
    let Kind::Table(changes) = table(changes) else { unreachable!("table makes tables") };
    for change in changes.entries {
        base.entries.retain(|entry| entry.key != change.key);
        base.entries.push(change);
    }
    Kind::Table(base)
}

pub(super) fn read(document: &Value, dialect: Dialect) -> Result<Channel, Vec<(&'static str, String)>> {
    let code = |rule: Rule| &*rule.code().leak();
    read_channel(document, dialect, &Nothing)
        .map_err(|violations| violations.iter().map(|v| (code(v.rule), v.path.to_string())).collect())
}

fn breaches(document: &Value, dialect: Dialect) -> Vec<(&'static str, String)> {
    read(document, dialect).err().unwrap_or_default()
}

#[test]
fn the_minimal_body_has_the_documented_defaults() {
    for dialect in [Dialect::File, Dialect::Api] {
        let channel = read(&channel([]), dialect).expect("minimal");
        assert_eq!((channel.name(), channel.port().get()), ("web", 80));
        assert_eq!(channel.strategy(), Strategy::WeightedRoundRobin);
        assert_eq!(channel.kind(), ChannelKind::Builtin);
        assert!(channel.members().is_empty() && channel.groups().is_empty());
        assert_eq!(channel.health_check(), None);
        assert_eq!(channel.probe(), &ProbeOptions::default());
    }
}

#[test]
fn numbers_hold_at_both_ends_of_their_ranges() {
    let member = |key: &'static str, number| {
        channel([("members", list([table([("host", text("192.0.2.1")), (key, Kind::Integer(number))])]))])
    };
    let group = |key: &'static str, number| {
        channel([(
            "member_groups",
            list([table([("member_group_name", text("blue")), (key, Kind::Integer(number))])]),
        )])
    };
    let check =
        |key: &'static str, number| channel([("vpc_health_config", health([(key, Kind::Integer(number))]))]);
    let top = |key: &'static str, number| channel([(key, Kind::Integer(number))]);
    type Make<'m> = &'m dyn Fn(&'static str, i128) -> Value;
    let cases: [(Make<'_>, &str, i128, i128); 13] = [
        (&top, "port", 1, 65535),
        (&top, "balance_strategy", 1, 4),
        (&member, "port", 0, 65535),
        (&member, "weight", 0, 10_000),
        (&member, "status", 1, 2),
        (&group, "member_group_weight", 0, 100),
        (&group, "microservice_port", 0, 65535),
        (&check, "port", 0, 65535),
        (&check, "threshold_normal", 1, 10),
        (&check, "threshold_abnormal", 1, 10),
        (&check, "time_interval", 1, 300),
        (&check, "status", 1, 2),
        // The default interval of these tests is 5 s.
        (&check, "timeout", 1, 5),
    ];
    for dialect in [Dialect::File, Dialect::Api] {
        for (make, key, least, most) in &cases {
            for number in [*least, *most] {
                assert_eq!(breaches(&make(key, number), dialect), [], "{key} = {number}");
            }
            let outside = [*least - 1, *most + 1, i128::MAX, i128::MIN];
            for number in outside {
                let found = breaches(&make(key, number), dialect);
                assert!(
                    matches!(found.as_slice(), [("E005" | "E009", path)] if path.ends_with(key)),
                    "{key} = {number}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn every_field_refuses_every_other_type() {
    let wrong = [Kind::Other("date"), Kind::Float(1.0)];
    for dialect in [Dialect::File, Dialect::Api] {
        for kind in &wrong {
            for key in CHANNEL_KEYS {
                // Files only.
                if dialect == Dialect::Api && ["probe", "balance"].contains(&key) {
                    continue;
                }
                let found = breaches(&channel([(key, kind.clone())]), dialect);
                assert_eq!(found, [("E004", key.to_owned())], "{key}");
            }
            for key in health_check::KEYS {
                let found =
                    breaches(&channel([("vpc_health_config", health([(key, kind.clone())]))]), dialect);
                let expected = [("E004", format!("vpc_health_config.{key}"))];
                // Without a protocol nothing else of HTTP is looked at.
                assert_eq!(found, expected, "{key}");
            }
        }
    }
}

#[test]
fn the_api_ignores_what_it_does_not_know_and_reads_null_as_absent() {
    let document = channel([
        ("colour", text("blue")),
        ("probe", Kind::Integer(1)),
        ("members", Kind::Null),
        ("member_groups", Kind::Null),
        ("vpc_health_config", Kind::Null),
        ("dict_code", text("")),
        ("vpc_channel_type", text("")),
        ("type", Kind::Integer(0)),
    ]);
    assert_eq!(breaches(&document, Dialect::Api), []);
    assert_eq!(
        breaches(&document, Dialect::File),
        [("E002", "colour".to_owned()), ("E004", "probe".to_owned())]
    );
}

#[test]
fn the_first_of_equal_members_and_groups_wins_in_the_api_only() {
    let document = channel([
        (
            "member_groups",
            list([
                table([("member_group_name", text("blue")), ("member_group_weight", Kind::Integer(1))]),
                table([("member_group_name", text("blue")), ("member_group_weight", Kind::Integer(2))]),
            ]),
        ),
        (
            "members",
            list([
                table([("host", text("A.test"))]),
                // The channel's port, spelled out; names compare without case.
                table([("host", text("a.test")), ("port", Kind::Integer(80))]),
                table([("host", text("a.test")), ("port", Kind::Integer(81))]),
                table([("host", text("a.test")), ("member_group_name", text("blue"))]),
                table([("host", text("::1"))]),
                table([("host", text("[0:0:0:0:0:0:0:1]"))]),
            ]),
        ),
    ]);
    let channel = read(&document, Dialect::Api).expect("API");
    assert_eq!(channel.group("blue").and_then(super::super::MemberGroup::weight), Some(1));
    let hosts: Vec<String> =
        channel.members().iter().map(|m| channel.member_address(m).to_string()).collect();
    assert_eq!(hosts, ["A.test:80", "a.test:81", "a.test:80", "[::1]:80"]);
    let found = breaches(&document, Dialect::File);
    let codes: Vec<&str> = found.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["E012", "E011", "E011"]);
    assert_eq!(found[1].1, "members[1]");
}

#[test]
fn names_follow_the_documented_form() {
    let longest = "a".repeat(64);
    let cases = [
        ("abc", None),
        ("a-_.9", None),
        ("通道一", None),
        // Han beyond U+4E00 to U+9FA5: zero, iteration mark, compatibility forms, and
        // the extensions A, B, G, I and J.
        ("二〇二六", None),
        ("〇号机", None),
        ("佐々木", None),
        ("龦鿿豈", None),
        ("㐀䶿㐁", None),
        ("𠀀𪛟𠮷", None),
        ("a\u{30EDD}\u{2EBF0}\u{33479}", None),
        // Neighbours of Han, and scripts that only look like it.
        ("a\u{3000}b", Some("E007")),
        ("ab\u{3006}", Some("E007")),
        ("ab\u{2A6E0}", Some("E007")),
        ("カナカナ", Some("E007")),
        ("한국어", Some("E007")),
        (longest.as_str(), None),
        ("ab", Some("E006")),
        ("", Some("E006")),
        ("1abc", Some("E007")),
        ("-abc", Some("E007")),
        ("a bc", Some("E007")),
        ("abcé", Some("E007")),
        ("abc\u{1b}", Some("E007")),
    ];
    for (name, expected) in cases {
        let found = breaches(&channel([("name", text(name))]), Dialect::Api);
        assert_eq!(found.first().map(|(code, _)| *code), expected, "{name:?}");
    }
    let too_long = "通".repeat(65);
    assert_eq!(breaches(&channel([("name", text(&too_long))]), Dialect::Api), [("E006", "name".to_owned())]);
}

#[test]
fn hosts_are_addresses_or_names_and_nothing_else() {
    let long = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63));
    let good = [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("app.internal", "app.internal"),
        ("App-1_x.internal.", "App-1_x.internal."),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("10.0.0.1x", "10.0.0.1x"),
        (long.as_str(), long.as_str()),
    ];
    for (written, expected) in good {
        let document = channel([("members", list([table([("host", text(written))])]))]);
        let channel = read(&document, Dialect::File).expect(written);
        assert_eq!(channel.members()[0].host().to_string(), expected);
    }
    let bad = [
        "10.0.0.1:80",
        "app:80",
        "[::1]:80",
        "http://app",
        "app/",
        "10.0.0",
        "256.1.1.1",
        "1",
        "fe80::1%eth0",
        "[192.0.2.7]",
        "::1::",
        "a..b",
        ".",
        "-a",
        "a-",
        "a b",
        "bücher.example",
        "a\n",
        "0.0.0.0",
        "::",
        "[::ffff:0.0.0.0]",
        "224.0.0.1",
        "ff02::1",
    ];
    for written in bad {
        let document = channel([("members", list([table([("host", text(written))])]))]);
        let found = breaches(&document, Dialect::Api);
        assert_eq!(found, [("E007", "members[0].host".to_owned())], "{written}");
    }
    let document = channel([("members", list([table([("host", text(&"a".repeat(256)))])]))]);
    assert_eq!(breaches(&document, Dialect::File), [("E006", "members[0].host".to_owned())]);
}

#[test]
fn durations_are_seconds_and_in_files_also_strings() {
    let cases: [(Kind, Option<&str>, Option<&str>); 12] = [
        (Kind::Integer(5), None, None),
        (text("500ms"), None, Some("E004")),
        (text("1m"), None, Some("E004")),
        (text("100ms"), Some("E009"), Some("E004")),
        (text("99ms"), Some("E005"), Some("E004")),
        (text("301s"), Some("E005"), Some("E004")),
        (text("5"), Some("E007"), Some("E004")),
        (text("soon"), Some("E007"), Some("E004")),
        (text(""), Some("E007"), Some("E004")),
        (Kind::Float(0.5), Some("E004"), Some("E004")),
        (Kind::Boolean(true), Some("E004"), Some("E004")),
        (Kind::Integer(i128::from(u64::MAX) + 1), Some("E005"), Some("E005")),
    ];
    for (interval, in_file, in_api) in cases {
        for (dialect, timeout, expected) in
            [(Dialect::File, text("200ms"), in_file), (Dialect::Api, Kind::Integer(1), in_api)]
        {
            let check = health([("time_interval", interval.clone()), ("timeout", timeout)]);
            let found = breaches(&channel([("vpc_health_config", check)]), dialect);
            assert_eq!(found.first().map(|(code, _)| *code), expected, "{interval:?} {dialect:?}");
        }
    }
}

#[test]
fn http_needs_a_path_and_codes_https_only_a_path() {
    let cases: [(&str, &[&str]); 4] = [
        ("tcp", &[]),
        ("http", &["path", "http_code"]),
        ("Https", &["path"]),
        ("HTTP", &["path", "http_code"]),
    ];
    for (protocol, missing) in cases {
        for empty in [false, true] {
            let mut changes = vec![("protocol", text(protocol))];
            if empty {
                changes.extend([("path", text("")), ("http_code", text("")), ("method", text(""))]);
            }
            let Kind::Table(base) = health([]) else { unreachable!("table makes tables") };
            let mut entries: Vec<_> =
                base.entries.into_iter().filter(|entry| entry.key != "protocol").collect();
            entries.extend(changes.into_iter().map(|(key, kind)| Pair {
                key: key.to_owned().into(),
                key_place: Place::default(),
                value: value(kind),
            }));
            let check = Kind::Table(Map { entries });
            let found = breaches(&channel([("vpc_health_config", check)]), Dialect::Api);
            let expected: Vec<_> =
                missing.iter().map(|key| ("E003", format!("vpc_health_config.{key}"))).collect();
            assert_eq!(found, expected, "{protocol}");
        }
    }
    let check = health([("protocol", text("https")), ("path", text("/"))]);
    let channel = read(&channel([("vpc_health_config", check)]), Dialect::Api).expect("https");
    let Some(Protocol::Https(http)) = channel.health_check().map(super::super::HealthCheck::protocol) else {
        panic!("not HTTPS")
    };
    assert_eq!(http.codes.text(), "200");
}

#[test]
fn paths_hold_what_a_request_target_may() {
    for path in ["/", "/health?full=1&x=%20", "/a;b=c/@:!$'()*+,~", "//", "/?a?/b"] {
        let check = health([("protocol", text("HTTP")), ("path", text(path)), ("http_code", text("200"))]);
        assert_eq!(breaches(&channel([("vpc_health_config", check)]), Dialect::File), [], "{path}");
    }
    for path in ["health", "http://a/b", "/a b", "/é", "/a#b", "/%2", "/%zz", "/a\r\nX: y", "/<", "/%é1", "*"]
    {
        let check = health([("protocol", text("HTTP")), ("path", text(path)), ("http_code", text("200"))]);
        let found = breaches(&channel([("vpc_health_config", check)]), Dialect::File);
        assert_eq!(found, [("E007", "vpc_health_config.path".to_owned())], "{path}");
    }
}

#[test]
fn the_kind_follows_type_and_word() {
    let info = || {
        table([
            ("service_type", text("CSE")),
            ("cse_info", table([("engine_id", text("e")), ("service_id", text("s"))])),
        ])
    };
    let cases = [
        (None, None, false, Ok(ChannelKind::Builtin)),
        (Some(2), None, false, Ok(ChannelKind::Builtin)),
        (Some(3), None, true, Ok(ChannelKind::Microservice)),
        (Some(3), None, false, Ok(ChannelKind::Builtin)),
        (Some(0), Some("microservice"), true, Ok(ChannelKind::Microservice)),
        (None, Some("microservice"), false, Err("E003")),
        (None, Some("reference"), false, Ok(ChannelKind::Reference)),
        (Some(3), Some("microservice"), true, Ok(ChannelKind::Microservice)),
        (Some(2), Some("microservice"), true, Err("E018")),
        (Some(3), Some("builtin"), true, Err("E018")),
        (Some(4), None, false, Err("E005")),
        (None, Some("other"), false, Err("E008")),
    ];
    for (number, word, has_info, expected) in cases {
        let document = channel([
            ("type", number.map_or(Kind::Null, Kind::Integer)),
            ("vpc_channel_type", word.map_or(Kind::Null, text)),
            ("microservice_info", if has_info { info() } else { Kind::Null }),
        ]);
        let found = read(&document, Dialect::Api).map(|channel| channel.kind());
        let found = found.map_err(|breaches| breaches[0].0);
        assert_eq!(found, expected, "{number:?} {word:?} {has_info}");
    }
}

#[test]
fn an_ecs_member_finds_its_address() {
    let member = |entries| channel([("member_type", text("ecs")), ("members", list([entries]))]);
    let host_of = |entries| {
        let document = member(entries);
        read(&document, Dialect::File).map(|channel| channel.members()[0].host().to_string())
    };
    let both = |host: &str, id: &str, name: &str| {
        table([("host", text(host)), ("ecs_id", text(id)), ("ecs_name", text(name))])
    };
    assert_eq!(host_of(both("192.0.2.1", "known", "app")), Ok("192.0.2.1".to_owned()));
    assert_eq!(host_of(both("", "known", "app")), Ok("192.0.2.9".to_owned()));
    assert_eq!(host_of(both("", "other", "app")), Ok("app".to_owned()));
    assert_eq!(host_of(both("", "", "app")), Ok("app".to_owned()));
    assert_eq!(host_of(both("", "", "0.0.0.0")), Err(vec![("E019", "members[0].ecs_name".to_owned())]));
    assert_eq!(host_of(both("", "known", "")), Ok("192.0.2.9".to_owned()));
    assert_eq!(host_of(both("", "other", "")), Err(vec![("E019", "members[0].ecs_id".to_owned())]));
    assert_eq!(host_of(both("", "other", "云主机")), Err(vec![("E019", "members[0].ecs_name".to_owned())]));
    assert_eq!(host_of(both("", "", "")), Err(vec![("E003", "members[0].ecs_id".to_owned())]));
    let api = breaches(&member(both("", "known", "")), Dialect::Api);
    assert_eq!(api, [("E003", "members[0].ecs_name".to_owned())]);
    // Absent member_type means ecs (docs/vendor-api.md, "Where sources disagree").
    let absent = channel([("member_type", Kind::Null), ("members", list([both("192.0.2.1", "a", "b")]))]);
    assert_eq!(read(&absent, Dialect::Api).expect("ecs").member_type(), MemberType::Ecs);
}

#[test]
fn a_client_certificate_is_asked_for_by_https_only() {
    let with = |protocol: &str| {
        health([
            ("protocol", text(protocol)),
            ("path", text("/")),
            ("http_code", text("200")),
            ("enable_client_ssl", Kind::Boolean(true)),
        ])
    };
    let cases = [
        ("HTTPS", Dialect::File, &["E017"][..]),
        ("HTTPS", Dialect::Api, &["E017"]),
        ("HTTP", Dialect::File, &["E018"]),
        ("TCP", Dialect::File, &["E018"]),
        ("HTTP", Dialect::Api, &[]),
    ];
    for (protocol, dialect, expected) in cases {
        let found = breaches(&channel([("vpc_health_config", with(protocol))]), dialect);
        let codes: Vec<&str> = found.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, expected, "{protocol} {dialect:?}");
    }
}

/// A world whose daemon has a client certificate.
struct Identified(ClientIdentity);

impl ReadContext for Identified {
    fn trust_anchors(&self, path: &str) -> Result<PemFile, String> {
        Nothing.trust_anchors(path)
    }

    fn client_identity(&self, certificate: &str, key: &str) -> Result<ClientIdentity, ClientIdentityError> {
        Nothing.client_identity(certificate, key)
    }

    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        Some(self.0.clone())
    }

    fn ecs_address(&self, _: &str) -> Option<Host> {
        None
    }
}

#[test]
fn the_daemons_client_certificate_serves_channels_without_their_own() {
    let file = |path: &str| PemFile { path: path.into(), pem: path.as_bytes().into() };
    let identity = ClientIdentity { certificate: file("daemon.pem"), key: file("daemon.key") };
    let world = Identified(identity.clone());
    for (wanted, expected) in [(true, Some(identity)), (false, None)] {
        let check = health([
            ("protocol", text("HTTPS")),
            ("path", text("/")),
            ("enable_client_ssl", Kind::Boolean(wanted)),
        ]);
        let document = channel([("vpc_health_config", check)]);
        let read = read_channel(&document, Dialect::File, &world).expect("a good channel");
        assert_eq!(read.probe().tls.client, expected, "enable_client_ssl = {wanted}");
    }
}

#[test]
fn parts_are_read_by_themselves_with_the_same_rules() {
    let groups = value(list([table([("member_group_name", text("blue"))])]));
    let groups = read_groups(&groups).expect("groups");
    let context = MemberContext {
        member_type: MemberType::Ip,
        kind: ChannelKind::Builtin,
        port: std::num::NonZeroU16::MIN,
        groups: &groups,
    };
    let members = value(list([
        table([
            ("host", text("192.0.2.1")),
            ("member_group_name", text("blue")),
            ("is_backup", Kind::Boolean(true)),
        ]),
        table([("host", text("192.0.2.2")), ("member_group_name", text("blu"))]),
    ]));
    let violations = read_members(&members, context, &Nothing).expect_err("no such group");
    assert_eq!(violations[0].path.to_string(), "members[1].member_group_name");
    assert_eq!(violations[0].remedy, "did you mean \"blue\"?");
    let Kind::Array(mut items) = members.kind else { unreachable!("a list") };
    items.truncate(1);
    let members = value(Kind::Array(items));
    let members = read_members(&members, context, &Nothing).expect("members");
    assert_eq!((members[0].role(), members[0].group()), (Role::Backup, Some("blue")));
    let check = value(health([("timeout", Kind::Integer(6))]));
    let violations = read_health_check(&check, &ProbeOptions::default(), &Nothing).expect_err("6 s of 5 s");
    assert_eq!(violations[0].rule, Rule::TimeoutAboveInterval);
}
