//! Changes against the channels of small TOML texts.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::{FIRST, Nowhere, Office, at, json, small};
use crate::balance::Request;
use crate::catalog::*;
use crate::channel::Health;
use crate::config;
use crate::probe::{Resolver, SystemLookup};

const CHECK: &str = r#"
[channels.vpc_health_config]
protocol = "TCP"
threshold_normal = 2
threshold_abnormal = 3
time_interval = 5
timeout = 2
"#;

fn channel(name: &str, check: &str, members: &[(&str, u16)]) -> String {
    let mut text = format!(
        "[[channels]]\nname = \"{name}\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n{check}\n"
    );
    for (host, port) in members {
        text += &format!("[[channels.members]]\nhost = \"{host}\"\nport = {port}\n");
    }
    text
}

fn catalog(drivers: usize) -> Catalog {
    let (resolver, _) = Resolver::new(SystemLookup, std::time::Duration::from_secs(30));
    Catalog::new(drivers, 42, resolver)
}

/// Makes exactly these channels exist.
fn apply(catalog: &mut Catalog, text: &str) -> Committed {
    let config = config::parse("test.toml", text, Path::new(".")).unwrap_or_else(|errors| panic!("{errors}"));
    let mut transaction = Transaction::new(catalog.channels().resources.clone(), &Nowhere);
    let files = config.channels.iter().map(|file| (&file.channel, &*file.file));
    transaction.put_files(files, UnixSeconds(0)).unwrap();
    commit(catalog, transaction)
}

fn commit(catalog: &mut Catalog, transaction: Transaction<'_>) -> Committed {
    let (changes, resources) = transaction.finish();
    let prepared = catalog.prepare(&changes, resources).unwrap();
    catalog.commit(prepared)
}

fn entry_of(committed: &Committed) -> &Arc<Entry> {
    committed.channels.entries().next().unwrap()
}

fn changes_of(changes: &Committed) -> Vec<String> {
    let text = |change: &DriverCommand<MemberProbe>| match change {
        DriverCommand::Assign(member, probe) => {
            format!("assign {}.{} probed={}", member.slot, member.generation, probe.is_some())
        }
        DriverCommand::Refresh(slot, _) => format!("refresh {slot}"),
        DriverCommand::Resume(slot, generation, resumed) => {
            format!("resume {slot}.{generation} {}", resumed.health.word())
        }
        DriverCommand::Remove(slot) => format!("remove {slot}"),
        DriverCommand::ResetChannel(slot) => format!("reset {slot}"),
    };
    changes.drivers.iter().flatten().map(text).collect()
}

#[test]
fn the_same_channels_change_nothing_at_all() {
    let mut catalog = catalog(2);
    let text = channel("web", CHECK, &[("10.0.0.1", 80), ("10.0.0.2", 80)]);
    let first = apply(&mut catalog, &text);
    assert_eq!((first.summary().channels, first.summary().members, first.summary().added), (1, 2, 2));
    let again = apply(&mut catalog, &text);
    assert_eq!(changes_of(&again), Vec::<String>::new());
    assert!(Arc::ptr_eq(entry_of(&first), entry_of(&again)));
    assert_eq!(again.summary(), ReloadSummary { channels: 1, members: 2, ..ReloadSummary::default() });
}

#[test]
fn a_changed_weight_refreshes_and_a_changed_check_restarts() {
    let mut catalog = catalog(1);
    let text = channel("web", CHECK, &[("10.0.0.1", 80)]);
    apply(&mut catalog, &text);
    let weighted = apply(&mut catalog, &format!("{text}weight = 7\n"));
    assert_eq!(changes_of(&weighted), ["refresh 0"]);
    let slower = apply(&mut catalog, &text.replace("time_interval = 5", "time_interval = 6"));
    assert_eq!(
        (changes_of(&slower), slower.summary().restarted),
        (vec!["assign 0.1 probed=true".to_owned()], 1)
    );
    let off = apply(&mut catalog, &channel("web", &format!("{CHECK}status = 2\n"), &[("10.0.0.1", 80)]));
    assert_eq!(changes_of(&off), ["assign 0.2 probed=false"]);
}

#[test]
fn a_host_in_another_case_is_the_same_member_that_is_asked_anew() {
    let mut catalog = catalog(1);
    apply(&mut catalog, &channel("web", CHECK, &[("App.example", 80)]));
    let respelled = apply(&mut catalog, &channel("web", CHECK, &[("app.example", 80)]));
    assert_eq!((respelled.summary().added, respelled.summary().removed), (0, 0));
    assert_eq!(changes_of(&respelled), ["assign 0.1 probed=true"]);
    assert!(entry_of(&respelled).rows[0].balancer_id.is_some(), "the balancer knows it by its new spelling");
}

#[test]
fn members_come_and_go_alone() {
    let mut catalog = catalog(1);
    apply(&mut catalog, &channel("web", CHECK, &[("10.0.0.1", 80), ("10.0.0.2", 80)]));
    let moved = apply(&mut catalog, &channel("web", CHECK, &[("10.0.0.2", 80), ("10.0.0.3", 80)]));
    assert_eq!((moved.summary().added, moved.summary().removed, moved.summary().restarted), (1, 1, 0));
    // The kept one stays in its slot and offset; the freed slot is not reused in
    // the same change, so the newcomer gets a fresh one.
    assert_eq!(changes_of(&moved), ["remove 0", "refresh 1", "assign 2.0 probed=true"]);
    let entry = entry_of(&moved);
    let slot = entry.rows[1].slot;
    let (named, position) = catalog.occupant(slot).unwrap();
    assert_eq!((named.channel().name(), position), ("web", 1));
    assert!(catalog.occupant(MemberSlot { generation: 9, ..slot }).is_none());
    // The freed slot is used by the next newcomer, under a new generation.
    let more =
        apply(&mut catalog, &channel("web", CHECK, &[("10.0.0.2", 80), ("10.0.0.3", 80), ("10.0.0.4", 80)]));
    assert!(changes_of(&more).contains(&"assign 0.1 probed=true".to_owned()), "{:?}", changes_of(&more));
}

#[test]
fn a_channel_slot_is_reset_when_it_changes_hands() {
    let mut catalog = catalog(1);
    let first = apply(&mut catalog, &channel("web", CHECK, &[("10.0.0.1", 80)]));
    assert_eq!(changes_of(&first)[0], "reset 0");
    let renamed = apply(&mut catalog, &channel("shop", CHECK, &[("10.0.0.1", 80)]));
    assert_eq!(changes_of(&renamed), ["remove 0", "reset 0", "assign 0.1 probed=true"]);
}

/// The addresses of so many picks, in order.
fn picks(changes: &Committed, count: usize) -> Vec<String> {
    let balancer = &entry_of(changes).balancer;
    let pick = |_| balancer.pick(&Request::new()).map(|pick| pick.address().to_string());
    (0..count).map(|number| pick(number).unwrap_or_else(|nobody| nobody.to_string())).collect()
}

#[test]
fn a_balancer_follows_verdicts_and_outlives_changes_of_members() {
    let mut catalog = catalog(1);
    let text = channel("web", CHECK, &[("10.0.0.1", 80), ("10.0.0.2", 80)]);
    let first = apply(&mut catalog, &text);
    assert_eq!(picks(&first, 2), ["10.0.0.1:80", "10.0.0.2:80"], "unknown members take traffic");
    entry_of(&first).set_health(1, Health::Unhealthy);
    assert_eq!(picks(&first, 3), ["10.0.0.1:80"; 3]);

    // A new weight changes neither the balancer nor what it knows.
    let weighted = apply(&mut catalog, &format!("{text}weight = 7\n"));
    let picked = entry_of(&first).balancer.total_picks();
    assert_eq!(entry_of(&weighted).balancer.total_picks(), picked);
    assert_eq!(picks(&weighted, 3), ["10.0.0.1:80"; 3]);

    // Neither does a new strategy make anybody healthier.
    let least = format!("{text}weight = 7\n").replace("balance_strategy = 1", "balance_strategy = 2");
    let least = apply(&mut catalog, &least);
    assert_eq!(picks(&least, 3), ["10.0.0.1:80"; 3]);

    // A changed check starts at unknown, and unknown members take traffic.
    let slower = text.replace("time_interval = 5", "time_interval = 6");
    let restarted = apply(&mut catalog, &slower);
    let mut both = picks(&restarted, 2);
    both.sort();
    assert_eq!(both, ["10.0.0.1:80", "10.0.0.2:80"]);
}

#[test]
fn one_channel_changes_and_the_others_are_left_alone() {
    let mut catalog = catalog(1);
    let api = channel("api", CHECK, &[("10.0.0.1", 80)]);
    let before = apply(&mut catalog, &(api.clone() + &channel("web", CHECK, &[("10.0.0.2", 80)])));
    let more = channel("web", CHECK, &[("10.0.0.2", 80), ("10.0.0.3", 80)]);
    let changed = apply(&mut catalog, &(api + &more));
    assert_eq!(changes_of(&changed), ["refresh 1", "assign 2.0 probed=true"]);
    assert!(Arc::ptr_eq(entry_of(&before), entry_of(&changed)));

    let gone = apply(&mut catalog, &more);
    assert_eq!(changes_of(&gone), ["remove 0"]);
    assert_eq!(gone.channels.entries().count(), 1);
}

#[test]
fn a_channel_that_changes_its_name_keeps_its_slots() {
    let mut catalog = catalog(1);
    let mut office = Office::new();
    let body = |name: &str, host: &str| small(name, &format!(r#","members":[{{"host":"{host}"}}]"#));
    let mut both = Transaction::new(office.state.clone(), &Nowhere);
    let mut create = |name, host| {
        let call = Call::CreateChannel { instance: FIRST.to_owned(), body: json(&body(name, host)) };
        match both.plan(&call, &mut office.fresh) {
            Ok(Reply::Channel(made)) => made,
            other => panic!("{other:?}"),
        }
    };
    let (api, web) = (create("api", "10.0.0.1"), create("web", "10.0.0.2"));
    commit(&mut catalog, both);
    // The one takes the other's name while that one goes.
    let mut batch = Transaction::new(catalog.channels().resources.clone(), &Nowhere);
    batch.plan(&Call::DeleteChannel { at: at(&web) }, &mut office.fresh).unwrap();
    let renamed = json(&body("web", "10.0.0.1"));
    let update = Call::UpdateChannel { family: PathFamily::Apig, at: at(&api), body: renamed };
    batch.plan(&update, &mut office.fresh).unwrap();
    let changed = commit(&mut catalog, batch);
    assert_eq!(changes_of(&changed), ["remove 1"]);
    assert_eq!(changed.channels.entries().count(), 1);
    let entry = entry_of(&changed);
    assert_eq!(changed.channels.find("web").map(|found| found.resource.id), Some(api.id));
    assert_eq!(changed.channels.entry(api.id).map(|found| found.rows[0].slot.index), Some(0));
    let (named, position) = catalog.occupant(entry.rows[0].slot).unwrap();
    assert_eq!((named.channel().name(), position), ("web", 0));
}

proptest! {
    /// However the members change: every member has a slot of its own, slots name
    /// their member, and a member that stays keeps its slot.
    #[test]
    fn slots_are_unique_and_stable(
        rounds in prop::collection::vec(prop::collection::btree_set(1u8..30, 0..20), 1..12),
    ) {
        let mut catalog = catalog(3);
        let mut before: HashMap<String, MemberSlot> = HashMap::new();
        for round in rounds {
            let members: Vec<(String, u16)> =
                round.iter().map(|number| (format!("10.0.0.{number}"), 80)).collect();
            let borrowed: Vec<(&str, u16)> =
                members.iter().map(|(host, port)| (host.as_str(), *port)).collect();
            let changes = apply(&mut catalog, &channel("web", CHECK, &borrowed));
            let entry = entry_of(&changes);
            let mut slots = BTreeSet::new();
            let mut now = HashMap::new();
            for (member, row) in entry.members() {
                let slot = row.slot;
                prop_assert!(slots.insert((slot.driver, slot.index)), "two members in one slot");
                let (named, position) = catalog.occupant(slot).expect("every slot has its member");
                prop_assert_eq!(&named.channel().members()[position], member);
                let host = member.host().to_string();
                if let Some(old) = before.get(&host) {
                    prop_assert_eq!(old, &slot, "a member that stays keeps its slot");
                }
                now.insert(host, slot);
            }
            before = now;
        }
    }
}
