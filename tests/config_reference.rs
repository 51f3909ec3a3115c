//! `config/vitald.toml` and `docs/config.md` say what the code does.

use std::path::Path;

use vitald::channel::Rule;
use vitald::channel::reader;
use vitald::testing::config::{self, Config};

const SHIPPED: &str = include_str!("../config/vitald.toml");
const REFERENCE: &str = include_str!("../docs/config.md");

/// A channel of `members` and all required keys, nothing else.
const REQUIRED_ONLY: &str = r#"
[[channels]]
name = "web"
port = 8080
balance_strategy = 1

[channels.vpc_health_config]
protocol = "HTTPS"
path = "/health"
threshold_normal = 2
threshold_abnormal = 3
time_interval = 5
timeout = 2

[[channels.member_groups]]
member_group_name = "blue"

[[channels.members]]
host = "192.0.2.7"
ecs_id = "6ad6d0d1a4c4"
ecs_name = "web-1"
"#;

fn parse(text: &str) -> Config {
    config::parse("vitald.toml", text, Path::new("config")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The shipped file with every `#key = value` and `#[table]` line switched on.
fn everything_on() -> String {
    let is_switched_off = |line: &&str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with('[') || rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let lines = SHIPPED.lines().map(|line| match Some(line).filter(is_switched_off) {
        Some(line) => line.trim_start_matches('#'),
        None => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_shipped_file_is_the_default_configuration() {
    assert_eq!(parse(SHIPPED), Config::default());
}

#[test]
fn every_default_it_shows_is_the_default() {
    let (shown, built) = (parse(&everything_on()), parse(REQUIRED_ONLY));
    assert_eq!(shown.channels.len(), 1);
    assert_eq!(shown.channels[0].channel, built.channels[0].channel);
}

#[test]
fn every_key_is_in_both_documents() {
    let tables = reader::KNOWN_KEYS.iter().chain(&config::KNOWN_KEYS);
    for (table, keys) in tables {
        for key in *keys {
            let is_shown = SHIPPED.match_indices(key).any(|(at, _)| {
                let before = SHIPPED[..at].chars().next_back();
                let after = SHIPPED[at + key.len()..].chars().next();
                before.is_none_or(|c| "#\n [{.".contains(c)) && after.is_some_and(|c| " ].".contains(c))
            });
            assert!(is_shown, "config/vitald.toml does not show `{key}` of {table}");
            let is_explained = REFERENCE.match_indices(key).any(|(at, _)| {
                let before = REFERENCE[..at].chars().next_back();
                let after = REFERENCE[at + key.len()..].chars().next();
                before.is_some_and(|c| "`. ".contains(c)) && after.is_some_and(|c| "`., ".contains(c))
            });
            assert!(is_explained, "docs/config.md does not explain `{key}` of {table}");
        }
    }
}

#[test]
fn every_rule_is_in_the_reference() {
    for rule in Rule::ALL {
        assert!(REFERENCE.contains(&format!("| {} |", rule.code())), "{} is not explained", rule.code());
    }
}
