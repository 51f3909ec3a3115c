//! What the log and the counters are told of a change.

use super::writer::{CHECK, apply, catalog, channel};
use crate::catalog::*;
use crate::channel::Health;

/// Each change as `member kind from>to`, in the order of the log.
fn told(committed: &writer::Committed) -> Vec<String> {
    let text = |change: &change_log::LoggedChange| {
        format!("{} {} {}>{}", change.member, change.kind.word(), change.from, change.to)
    };
    committed.log.members.iter().map(text).collect()
}

fn with_groups(text: &str) -> String {
    let groups = "member_groups = [{ member_group_name = \"blue\" }, { member_group_name = \"green\" }]";
    text.replace("member_type", &format!("{groups}\nmember_type"))
}

#[test]
fn what_changes_about_members_is_named_and_counted() {
    let mut catalog = catalog(2);
    let one = channel("web", "", &[("10.0.0.1", 80)]);
    let first = apply(&mut catalog, &one);
    assert!(told(&first).is_empty(), "who comes has not changed");
    assert_eq!(
        first.summary(),
        ReloadSummary { channels: 1, members: 1, channels_added: 1, added: 1, ..ReloadSummary::default() }
    );
    for (line, expected) in [
        ("weight = 7", vec!["10.0.0.1:80 weight 1>7"]),
        ("weight = 7\nstatus = 2", vec!["10.0.0.1:80 disable enabled>disabled"]),
        (
            "is_backup = true",
            vec![
                "10.0.0.1:80 enable disabled>enabled",
                "10.0.0.1:80 weight 7>1",
                "10.0.0.1:80 role primary>standby",
            ],
        ),
        ("", vec!["10.0.0.1:80 role standby>primary"]),
        ("", vec![]),
    ] {
        let committed = apply(&mut catalog, &format!("{one}{line}\n"));
        assert_eq!(told(&committed), expected, "{line}");
        let changed = usize::from(!expected.is_empty());
        let summary = committed.summary();
        assert_eq!((summary.changed, summary.channels_changed), (changed, changed), "{line}");
        assert_eq!((summary.added, summary.removed), (0, 0), "{line}");
    }
    let counts = catalog.change_counters().read();
    let of_reload = |kind: ChangeKind| counts[kind as usize][Origin::Reload as usize];
    let kinds = [ChangeKind::Enable, ChangeKind::Disable, ChangeKind::Weight, ChangeKind::Role];
    assert_eq!(kinds.map(of_reload), [1, 1, 2, 2]);
}

#[test]
fn a_member_in_another_group_has_changed_and_not_come() {
    let mut catalog = catalog(1);
    let text = with_groups(&channel("web", CHECK, &[("10.0.0.1", 80)]));
    let blue = format!("{text}member_group_name = \"blue\"\n");
    apply(&mut catalog, &blue);
    let moved = apply(&mut catalog, &blue.replace("\"blue\"\n", "\"green\"\n"));
    assert_eq!(told(&moved), ["10.0.0.1:80 group blue>green"]);
    let summary = moved.summary();
    assert_eq!((summary.changed, summary.added, summary.removed), (1, 0, 0));
    // Another member in another group is another member.
    let other = blue.replace("10.0.0.1", "10.0.0.2");
    let summary = apply(&mut catalog, &other).summary();
    assert_eq!((summary.changed, summary.added, summary.removed), (0, 1, 1));
}

#[test]
fn of_many_changes_few_are_named_and_all_are_counted() {
    let mut catalog = catalog(2);
    let hosts: Vec<String> = (0..200).map(|last| format!("10.0.0.{last}")).collect();
    let members: Vec<(&str, u16)> = hosts.iter().map(|host| (host.as_str(), 80)).collect();
    let text = channel("web", "", &members);
    apply(&mut catalog, &text);
    let all_off = apply(&mut catalog, &text.replace("port = 80\n[[", "port = 80\nstatus = 2\n[["));
    let (named, unnamed) = (all_off.log.members.len(), all_off.log.unnamed[&ChangeKind::Disable]);
    assert_eq!((named, named + unnamed), (50, all_off.summary().changed));
    assert!(all_off.summary().changed >= 199);
}

#[test]
fn another_tier_is_told_with_who_asked() {
    let mut catalog = catalog(1);
    let text = channel("web", "", &[("10.0.0.1", 80), ("10.0.0.2", 80)]) + "is_backup = true\n";
    let entry = apply(&mut catalog, &text).channels.find("web").cloned().unwrap();
    let drained = text.replace("\"10.0.0.1\"\nport = 80\n", "\"10.0.0.1\"\nport = 80\nweight = 0\n");
    let over = apply(&mut catalog, &drained);
    let tier = |committed: &writer::Committed| -> Vec<(&'static str, &'static str, String)> {
        let text = |change: &change_log::TierChange| {
            let word = |tier| ChangeKind::from(tier).word();
            (word(change.from), word(change.to), change.asked_by.to_string())
        };
        committed.log.tiers.iter().map(text).collect()
    };
    assert_eq!(tier(&over), [("tier_primary", "tier_standby", "start".to_owned())]);
    let back = apply(&mut catalog, &text);
    assert_eq!(tier(&back), [("tier_standby", "tier_primary", "start".to_owned())]);
    // A verdict moves the tier beside changes; the next change does not tell it again.
    entry.set_health(0, Health::Unhealthy);
    assert!(tier(&apply(&mut catalog, &text)).is_empty());
}
