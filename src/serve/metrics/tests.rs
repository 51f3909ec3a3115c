//! Families, filters and values over a made-up snapshot.

use std::collections::HashSet;

use super::*;
use crate::catalog::ReloadState;
use crate::channel::Health;
use crate::health::{DriverSnapshot, MemberState, Timestamp};
use crate::serve::AuditedCalls;
use crate::serve::fixture::{assert_golden, collect, large, snapshot};

fn text(detail: MetricsDetail, channels: &[&str]) -> String {
    let snapshot = snapshot();
    let entries: Vec<_> = snapshot
        .channels
        .entries()
        .filter(|entry| channels.contains(&entry.channel().name()))
        .cloned()
        .collect();
    collect(|text| write(text, snapshot.clone(), &entries, detail, &ScrapeBuffer::default()))
}

const ALL: [&str; 3] = ["api", "idle", "web"];

#[test]
fn the_whole_text_is_the_documented_one() {
    assert_golden(&text(MetricsDetail::Member, &ALL), include_str!("../testdata/metrics.txt"));
}

#[test]
fn no_series_and_no_family_occurs_twice() {
    let text = text(MetricsDetail::Member, &ALL);
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
fn one_address_in_two_groups_is_two_members_with_counts_of_their_own() {
    let text = text(MetricsDetail::Member, &["web"]);
    let of_shared = |name: &str| -> Vec<String> {
        let start = format!("{name}{{channel=\"web\",member=\"127.0.0.1:18081\"");
        text.lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect()
    };
    assert_eq!(of_shared("vitald_member_up").len(), 2);
    let probes = of_shared("vitald_probes_total");
    assert_eq!(probes.len(), 6);
    assert!(probes[0].ends_with("group=\"blue\",result=\"success\"} 0"), "{}", probes[0]);
    assert!(probes[3].ends_with(r#"group="green \"new\"\\",result="success"} 10"#), "{}", probes[3]);
}

#[test]
fn every_series_with_a_member_has_a_group() {
    let text = text(MetricsDetail::Member, &ALL);
    for line in text.lines().filter(|line| line.contains("member=\"")) {
        assert!(line.contains(",group=\""), "{line}");
    }
}

#[test]
fn channel_detail_leaves_out_every_member() {
    let short = text(MetricsDetail::Channel, &ALL);
    assert!(!short.contains("member=\""));
    assert!(text(MetricsDetail::Member, &ALL).starts_with(&short), "and changes nothing else");
}

#[test]
fn a_filter_leaves_out_the_other_channels() {
    let text = text(MetricsDetail::Member, &["web"]);
    assert!(text.contains("channel=\"web\"") && text.contains("vitald_probes_in_flight"));
    assert!(!text.contains("channel=\"api\"") && !text.contains("channel=\"idle\""));
}

#[test]
fn the_fixed_series_say_build_and_reload() {
    let fixed = fixed();
    let build = format!("revision=\"{}\",version=\"{}\"", process::REVISION, env!("CARGO_PKG_VERSION"));
    assert!(fixed.contains(&format!("vitald_build_info{{{build}}} 1\n")), "{fixed}");
    assert!(fixed.contains("vitald_config_last_reload_successful 0\n"), "{fixed}");
    assert!(
        fixed.contains("vitald_config_last_reload_success_timestamp_seconds 1700000000.125\n"),
        "{fixed}"
    );
}

fn fixed() -> String {
    let last_success = Timestamp(1_700_000_000_125_000_000);
    let reload = ReloadState { successful: false, last_success };
    collect(|text| process::write(text, Timestamp(0), reload))
}

#[test]
fn every_metric_is_documented() {
    let documented = include_str!("../../../docs/metrics.md");
    let audit = collect(|text| write_audit(text, &Audit::new(AuditedCalls::WithApi)));
    let text = format!("{}{audit}{}", fixed(), text(MetricsDetail::Member, &ALL));
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a kind");
        let row = documented.lines().find(|row| row.starts_with(&format!("| `{name}` |")));
        assert!(row.is_some_and(|row| row.contains(kind)), "{name} ({kind}) is not in docs/metrics.md");
    }
}

#[test]
fn every_reason_is_on_the_page_for_those_who_look_for_it() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let words = MemberReason::ALL.iter().map(|reason| reason.word());
    let words: Vec<&str> = words.chain(ProberReason::ALL.iter().map(|reason| reason.word())).collect();
    for word in &words {
        let part = page.split(&format!("\n### `{word}`\n")).nth(1);
        let part = part.and_then(|rest| rest.split("\n##").next()).unwrap_or_default();
        assert!(part.contains("\nWhich one: "), "docs/troubleshooting.md does not say what `{word}` is");
    }
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(headings.len(), words.len(), "a reason that is no more: {headings:?}");
}

struct Nowhere;

impl crate::serve::stream::Sink for Nowhere {
    fn take(&mut self, mut chunk: Vec<u8>) -> io::Result<Vec<u8>> {
        chunk.clear();
        Ok(chunk)
    }
}

#[test]
fn a_scrape_keeps_little_of_each_member() {
    let most = |members| {
        let snapshot = large(members);
        let entries = snapshot.channels.entries().cloned().collect::<Vec<_>>();
        let measured = allocation_counter::measure(|| {
            let mut nowhere = Nowhere;
            let mut text = Text::new(&mut nowhere);
            let spare = ScrapeBuffer::default();
            let written = write(&mut text, snapshot, &entries, MetricsDetail::Member, &spare);
            written.expect("nowhere takes everything");
        });
        measured.bytes_max
    };
    let (few, many) = (most(2_000), most(20_000));
    // What the families say of it, 96 bytes; labels of some 50 bytes in a buffer that
    // doubles as it grows, and 16 for where they end.
    let each = many.saturating_sub(few) / 18_000;
    assert!(each <= 280, "{few} bytes with 2,000 members, {many} with 20,000");
}

#[test]
fn the_drivers_have_their_pages_back_before_members_are_written() {
    /// Fails once the text has come to the members, if somebody still holds the pages.
    struct Watch {
        page: std::sync::Weak<Vec<MemberState>>,
        has_seen_members: bool,
    }
    impl crate::serve::stream::Sink for Watch {
        fn take(&mut self, mut chunk: Vec<u8>) -> io::Result<Vec<u8>> {
            if chunk.windows(16).any(|part| part == b"vitald_member_up") {
                self.has_seen_members = true;
                assert_eq!(self.page.strong_count(), 0, "the snapshot is still held");
            }
            chunk.clear();
            Ok(chunk)
        }
    }
    let mut snapshot = large(10_000);
    snapshot.drivers = vec![DriverSnapshot::empty()];
    let page = Arc::new(vec![MemberState::new(0, Health::Healthy, Timestamp(0))]);
    let mut watch = Watch { page: Arc::downgrade(&page), has_seen_members: false };
    snapshot.drivers[0].pages = vec![page];
    let entries = snapshot.channels.entries().cloned().collect::<Vec<_>>();
    let mut text = Text::new(&mut watch);
    write(&mut text, snapshot, &entries, MetricsDetail::Member, &ScrapeBuffer::default())
        .expect("nobody refuses");
    text.finish().expect("nobody refuses");
    assert!(watch.has_seen_members);
}

#[test]
fn a_scrape_finds_its_memory_where_the_last_one_left_it() {
    let spare = ScrapeBuffer::default();
    let taken_for = |members| {
        let snapshot = large(members);
        let entries = snapshot.channels.entries().cloned().collect::<Vec<_>>();
        let mut nowhere = Nowhere;
        let mut text = Text::new(&mut nowhere);
        let measured = allocation_counter::measure(|| {
            let written = write(&mut text, snapshot, &entries, MetricsDetail::Member, &spare);
            written.expect("nowhere takes everything");
        });
        (measured.bytes_total, measured.bytes_current)
    };
    let (first, _) = taken_for(20_000);
    let (again, _) = taken_for(20_000);
    assert!(again < first / 10, "{first} bytes at first, {again} after that");
    taken_for(10);
    let (_, left) = taken_for(10);
    assert!(left < -1_000_000, "what few members do not need is given back: {left}");
}
