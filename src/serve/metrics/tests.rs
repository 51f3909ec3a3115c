use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::serve::fixture::{assert_golden, collect, observation};

fn text(detail: Detail, channels: &[&str]) -> String {
    let observation = observation();
    let entries: Vec<_> = observation
        .directory
        .entries
        .iter()
        .filter(|entry| channels.contains(&entry.channel.name()))
        .cloned()
        .collect();
    collect(|text| write(text, observation, &entries, detail))
}

const ALL: [&str; 3] = ["api", "idle", "web"];

#[test]
fn the_whole_text_is_the_documented_one() {
    let build = format!("version=\"{}\",revision=\"{}\"", env!("CARGO_PKG_VERSION"), general::REVISION);
    let golden = include_str!("../testdata/metrics.txt").replace("@BUILD@", &build);
    assert_golden(&text(Detail::Member, &ALL), &golden);
}

#[test]
fn no_series_and_no_family_occurs_twice() {
    let text = text(Detail::Member, &ALL);
    let mut series = HashSet::new();
    let mut families = HashSet::new();
    let mut open = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            open = rest.split(' ').next().expect("a name");
            assert!(families.insert(open), "{open} opens twice");
        } else if !line.starts_with('#') {
            let (labels, _) = line.rsplit_once(' ').expect("a value");
            assert!(series.insert(labels), "{labels} occurs twice");
            assert!(line.starts_with(open), "{line} stands in {open}");
        }
    }
}

#[test]
fn one_address_in_two_groups_is_counted_once_with_the_sum() {
    let text = text(Detail::Member, &["web"]);
    let of_shared = |name: &str| -> Vec<String> {
        let start = format!("{name}{{channel=\"web\",member=\"127.0.0.1:18081\"");
        text.lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect()
    };
    assert_eq!(of_shared("vitald_member_up").len(), 2);
    let probes = of_shared("vitald_probes_total");
    assert_eq!(probes.len(), 3);
    assert!(probes[0].ends_with("result=\"success\"} 10"), "0 + 10: {}", probes[0]);
    assert!(probes[1].ends_with("result=\"failure\"} 2"), "1 + 1: {}", probes[1]);
}

#[test]
fn channel_detail_leaves_out_every_member() {
    let short = text(Detail::Channel, &ALL);
    assert!(!short.contains("member=\""));
    assert!(text(Detail::Member, &ALL).starts_with(&short), "and changes nothing else");
}

#[test]
fn a_filter_leaves_out_the_other_channels() {
    let text = text(Detail::Member, &["web"]);
    assert!(text.contains("channel=\"web\"") && text.contains("vitald_build_info"));
    assert!(!text.contains("channel=\"api\"") && !text.contains("channel=\"idle\""));
}

#[test]
fn promtool_finds_nothing_to_say() {
    let text = format!(
        "{}{}",
        collect(|text| process::write(text, crate::health::Timestamp(0))),
        text(Detail::Member, &ALL)
    );
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("skipped: promtool is not installed");
        return;
    };
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&said).as_ref()), (Some(0), ""));
}

#[test]
fn every_metric_is_documented() {
    let documented = include_str!("../../../docs/metrics.md");
    let text = format!(
        "{}{}",
        collect(|text| process::write(text, crate::health::Timestamp(0))),
        text(Detail::Member, &ALL)
    );
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a kind");
        let row = documented.lines().find(|row| row.starts_with(&format!("| `{name}` |")));
        assert!(row.is_some_and(|row| row.contains(kind)), "{name} ({kind}) is not in docs/metrics.md");
    }
}
