//! What members go on with over a restart with another configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Nowhere;
use super::writer::{CHECK, catalog, channel, commit, resumed};
use crate::catalog::*;
use crate::channel::Health;
use crate::config;
use crate::health::{ConfirmedAt, Resumed, Timestamp, VerdictFrom};
use crate::store::{ChannelKeys, SavedAt, SavedVerdicts, VerdictRecord};

const SECOND: u64 = 1_000_000_000;

/// A health, whose it is, and its age in seconds.
type Known = (Health, VerdictFrom, u64);

/// What the members of a configuration leave behind, in their order.
fn left_behind(text: &str, known: &[Known]) -> SavedVerdicts {
    let config = config::parse("test.toml", text, Path::new(".")).expect("a good file");
    let now = Timestamp(1_000 * SECOND);
    let channels = config.channels.iter().map(|file| &file.channel);
    let members = channels.flat_map(|channel| {
        let keys = ChannelKeys::of(channel);
        channel.members().iter().map(move |member| keys.member(member))
    });
    let records = members.zip(known).map(|(keys, (health, from, age))| {
        let known = Resumed {
            health: *health,
            from: *from,
            consecutive_successes: 0,
            consecutive_failures: 4,
            since: Timestamp(1),
            confirmed: ConfirmedAt::at(Timestamp(now.0 - age * SECOND)),
        };
        VerdictRecord::of(keys, &known, now).expect("it is kept")
    });
    SavedVerdicts { saved_at: SavedAt { wall: now, boot: None }, records: records.collect() }
}

/// Health, whose, and failures in a row of those that go on, a minute later.
fn after_restart(before: &str, known: &[Known], after: &str) -> Vec<(Health, VerdictFrom, u32)> {
    let saved = left_behind(before, known);
    let saved = SavedVerdicts::decode(&saved.encode()).expect("just written");
    let now = SavedAt { wall: Timestamp(1_060 * SECOND), boot: None };
    let recall = saved.recall(&now, Duration::from_secs(600)).expect("young enough");
    let mut catalog = catalog(1);
    catalog.set_recall(Some(Arc::new(recall)));
    let config = config::parse("test.toml", after, Path::new(".")).expect("a good file");
    let mut transaction = Transaction::new(catalog.channels().resources.clone(), &Nowhere);
    let files = config.channels.iter().map(|file| (&file.channel, &*file.file));
    transaction.put_files(files, UnixSeconds(0)).expect("no name is taken");
    let committed = commit(&mut catalog, transaction);
    resumed(&committed).into_iter().map(|(_, health, from, failures)| (health, from, failures)).collect()
}

#[test]
fn a_restart_tells_what_a_reload_tells() {
    use Health::{Unhealthy, Unknown};
    use VerdictFrom::{Check, EarlierCheck, LastKnown};
    let web = || channel("web", CHECK, &[("10.0.0.1", 80)]);
    let other = web().replace("timeout = 2", "timeout = 2\nport = 81");
    let off = web().replace("timeout = 2", "timeout = 2\nstatus = 2");
    let grouped = web()
        .replace("member_type", "member_groups = [{ member_group_name = \"blue\" }]\nmember_type")
        + "member_group_name = \"blue\"\n";
    let renamed =
        channel("shop", CHECK, &[("10.0.0.1", 80)]).replace("time_interval = 5", "time_interval = 6");
    let kept = (Unhealthy, Check, 4);
    let carried = (Unhealthy, EarlierCheck, 0);
    let last_known = (Unknown, LastKnown(Unhealthy), 60);
    let rows = [
        ("the same", web(), (Unhealthy, Check, 0), web(), Some(kept)),
        (
            "thresholds",
            web(),
            (Unhealthy, Check, 0),
            web().replace("abnormal = 3", "abnormal = 9"),
            Some(kept),
        ),
        ("initial_state", web(), (Unhealthy, Check, 0), initially_healthy(), Some(kept)),
        ("another question", web(), (Unhealthy, Check, 0), other.clone(), Some(carried)),
        ("again", other.clone(), (Unhealthy, EarlierCheck, 0), other, Some((Unhealthy, EarlierCheck, 4))),
        ("into a group", web(), (Unhealthy, Check, 0), grouped, Some(kept)),
        ("renamed, with another interval", web(), (Unhealthy, Check, 0), renamed, Some(kept)),
        ("another port", web(), (Unhealthy, Check, 0), channel("web", CHECK, &[("10.0.0.1", 81)]), None),
        ("too old by now", web(), (Unhealthy, Check, 541), web(), None),
        ("switched off", web(), (Unhealthy, Check, 0), off.clone(), Some((Unknown, LastKnown(Unhealthy), 0))),
        ("still off", off.clone(), last_known, off.clone(), Some((Unknown, LastKnown(Unhealthy), 4))),
        ("on again", off, last_known, web(), Some(carried)),
    ];
    for (what, before, known, after, expected) in rows {
        assert_eq!(after_restart(&before, &[known], &after), Vec::from_iter(expected), "{what}");
    }
}

fn initially_healthy() -> String {
    let probe = "[channels.probe]\ninitial_state = \"healthy\"\n[[channels.members]]";
    channel("web", CHECK, &[("10.0.0.1", 80)]).replace("[[channels.members]]", probe)
}

#[test]
fn over_a_restart_too_the_latest_conclusive_verdict_of_those_gone_counts() {
    let one = |name: &str| channel(name, CHECK, &[("10.0.0.1", 80)]);
    let before = one("one") + &one("two") + &one("three");
    let check = VerdictFrom::Check;
    let known = [(Health::Healthy, check, 9), (Health::Unhealthy, check, 7), (Health::Healthy, check, 1)];
    let new = after_restart(&before, &known, &(one("new") + &one("three")));
    let expected = [(Health::Unhealthy, check, 4), (Health::Healthy, check, 4)];
    assert_eq!(new, expected, "the third is where it was");
    let nobody_left = after_restart(&one("one"), &known, &(one("new") + &one("one")));
    assert_eq!(nobody_left, [(Health::Healthy, check, 4)], "only the one that was known");
}
