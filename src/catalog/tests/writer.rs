//! Changes against the channels of small TOML texts.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::{FIRST, Nowhere, Office, at, json, small};
use crate::balance::Request;
use crate::catalog::writer::Committed;
use crate::catalog::*;
use crate::channel::{Continuity, Health};
use crate::config;
use crate::health::{ConfirmedAt, DriverSnapshot, Engine, MemberState, Now, Timestamp, VerdictFrom};
use crate::probe::{Resolver, SystemLookup};

pub(super) const CHECK: &str = r#"
[channels.vpc_health_config]
protocol = "TCP"
threshold_normal = 2
threshold_abnormal = 3
time_interval = 5
timeout = 2
"#;

pub(super) fn channel(name: &str, check: &str, members: &[(&str, u16)]) -> String {
    let mut text = format!(
        "[[channels]]\nname = \"{name}\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n{check}\n"
    );
    for (host, port) in members {
        text += &format!("[[channels.members]]\nhost = \"{host}\"\nport = {port}\n");
    }
    text
}

pub(super) fn catalog(drivers: u16) -> Catalog {
    let (resolver, _) = Resolver::new(SystemLookup, std::time::Duration::from_secs(30));
    Catalog::new(drivers, 42, resolver)
}

/// Makes exactly these channels exist.
pub(super) fn apply(catalog: &mut Catalog, text: &str) -> Committed {
    let config = config::parse("test.toml", text, Path::new(".")).unwrap_or_else(|errors| panic!("{errors}"));
    let mut transaction = Transaction::new(catalog.channels().resources.clone(), &Nowhere);
    let files = config.channels.iter().map(|file| (&file.channel, &*file.file));
    transaction.put_files(files, UnixSeconds(0)).unwrap();
    commit(catalog, transaction)
}

pub(super) fn commit(catalog: &mut Catalog, transaction: Transaction<'_>) -> Committed {
    let (changes, resources) = transaction.finish();
    let prepared = catalog.prepare(&changes, resources).unwrap();
    catalog.commit(prepared)
}

/// Has engines carry out what drivers are told.
fn carry_out(engines: &mut Vec<Engine>, drivers: Vec<Vec<DriverCommand<MemberProbe>>>) {
    engines.resize_with(drivers.len().max(engines.len()), || Engine::new(1));
    for (engine, commands) in engines.iter_mut().zip(drivers) {
        for command in commands {
            match command {
                DriverCommand::Assign(member, _) => engine.handle_add(member, Now::default()),
                DriverCommand::PutIn(slot, generation, moving) => {
                    engine.handle_put_in(slot, generation, moving.member);
                }
                DriverCommand::ResetChannel(_) => {}
                other => panic!("nothing else changes: {other:?}"),
            }
        }
    }
}

#[test]
fn members_go_to_more_or_fewer_drivers() {
    let hosts: Vec<String> = (0..200).map(|number| format!("10.0.{number}.1")).collect();
    let members: Vec<(&str, u16)> = hosts.iter().map(|host| (host.as_str(), 80)).collect();
    let (mut catalog, mut engines) = (catalog(1), Vec::new());
    let text = channel("shop", CHECK, &members[..50]) + &channel("web", CHECK, &members);
    carry_out(&mut engines, apply(&mut catalog, &text).drivers);
    for in_use in [3, 2, 5, 1] {
        catalog.set_drivers_in_use(in_use);
        let mut start = None;
        loop {
            let relocation = catalog.misplaced(start.as_ref(), 30);
            start = relocation.next.clone();
            let places = relocation.slots.iter();
            let places = places.flat_map(|(driver, slots)| slots.iter().map(move |slot| (*driver, *slot)));
            // One that was probed just then comes later.
            let places: Vec<_> = places.skip(usize::from(start.is_some())).collect();
            assert!(places.len() <= 30);
            let taken = places.into_iter().map(|(driver, slot)| {
                let member = engines[usize::from(driver)].handle_take_out(slot).expect("it is there");
                ((driver, slot), Moving { member, probe: None, pending: None })
            });
            let (commands, _) = catalog.relocate(relocation, taken.collect());
            carry_out(&mut engines, commands);
            if start.is_none() && catalog.misplaced(None, 1).is_empty() {
                break;
            }
        }
        let (mut slots, mut by_driver) = (BTreeSet::new(), vec![0; usize::from(in_use)]);
        for (entry, (position, (member, row))) in catalog
            .channels()
            .entries()
            .flat_map(|entry| entry.members().enumerate().map(move |place| (entry, place)))
        {
            let MemberSlot { driver, index, generation } = row.slot;
            assert!(slots.insert((driver, index)), "two members in one slot");
            by_driver[usize::from(driver)] += 1;
            assert_eq!(engines[usize::from(driver)].state(index).unwrap().generation, generation);
            let (named, place) = catalog.occupant(row.slot).expect("every slot has its member");
            assert_eq!((named.channel().name(), place), (entry.channel().name(), position));
            assert_eq!(&named.channel().members()[place], member);
        }
        assert!(by_driver.iter().all(|members| *members > 250 / in_use / 2), "{by_driver:?}");
        assert_eq!(engines.iter().map(Engine::unsettled).sum::<usize>(), 250, "nobody is lost");
    }
}

fn entry_of(committed: &Committed) -> &Arc<Entry> {
    committed.channels.entries().next().unwrap()
}

fn changes_of(changes: &Committed) -> Vec<String> {
    let text = |change: &DriverCommand<MemberProbe>| match change {
        DriverCommand::Assign(member, probe) => {
            let goes_on = match member.continuity {
                Continuity::NewMember => "",
                Continuity::Kept => " kept",
                Continuity::CarriedOver => " carried",
                Continuity::LastKnown => " last known",
            };
            format!("assign {}.{} probed={}{goes_on}", member.slot, member.generation, probe.is_some())
        }
        DriverCommand::Refresh(slot, ..) => format!("refresh {slot}"),
        DriverCommand::PutIn(slot, generation, _) => format!("put in {slot}.{generation}"),
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

/// The rows of docs/config.md, "Changes", for a member that stays in its channel.
#[test]
fn a_change_carries_over_what_the_table_says() {
    let mut catalog = catalog(1);
    let http = CHECK.replace("\"TCP\"", "\"HTTP\"\npath = \"/\"\nhttp_code = \"200\"");
    let text = channel("web", &http, &[("10.0.0.1", 80)]);
    let probe =
        |line: &str| text.replace("\n[[channels.members]]", &format!("\n{line}\n[[channels.members]]"));
    let group =
        text.replace("member_type", "member_groups = [{ member_group_name = \"blue\" }]\nmember_type");
    let kept = [
        ("weight", format!("{text}weight = 7\n"), "refresh 0"),
        ("standby", format!("{text}is_backup = true\n"), "refresh 0"),
        ("status", format!("{text}status = 2\n"), "refresh 0"),
        ("a group that it is not in", group, "refresh 0"),
        ("timeout", text.replace("timeout = 2", "timeout = 1"), "refresh 0"),
        ("threshold_normal", text.replace("threshold_normal = 2", "threshold_normal = 1"), "refresh 0"),
        ("threshold_abnormal", text.replace("threshold_abnormal = 3", "threshold_abnormal = 1"), "refresh 0"),
        ("close", probe("[channels.probe]\nclose = \"fin\""), "refresh 0"),
        ("initial_state", probe("[channels.probe]\ninitial_state = \"unhealthy\""), "refresh 0"),
        ("codes in other words", text.replace("\"200\"", "\"200-200\""), "refresh 0"),
        ("port written out", text.replace("timeout = 2", "timeout = 2\nport = 80"), "refresh 0"),
        (
            "time_interval",
            text.replace("time_interval = 5", "time_interval = 6"),
            "assign 0.0 probed=true kept",
        ),
    ];
    let carried = [
        ("protocol", channel("web", CHECK, &[("10.0.0.1", 80)])),
        ("path", text.replace("\"/\"", "\"/other\"")),
        ("method", text.replace("timeout = 2", "timeout = 2\nmethod = \"HEAD\"")),
        ("http_code", text.replace("\"200\"", "\"200,204\"")),
        ("check port", text.replace("timeout = 2", "timeout = 2\nport = 81")),
        ("host", probe("[channels.probe]\nhost = \"app.example\"")),
        ("headers", probe("[channels.probe.headers]\nX-A = \"1\"")),
    ];
    let carried = carried.map(|(what, text)| (what, text, "assign 0.0 probed=true carried"));
    for (what, changed, expected) in kept.into_iter().chain(carried) {
        apply(&mut catalog, &text);
        let committed = apply(&mut catalog, &changed);
        assert_eq!(changes_of(&committed), [expected], "{what}");
        let restarted = usize::from(expected.ends_with("carried"));
        assert_eq!(committed.summary().restarted, restarted, "{what}");
    }
}

#[test]
fn a_host_in_another_case_is_the_same_member_that_is_asked_something_else() {
    let mut catalog = catalog(1);
    let before = apply(&mut catalog, &channel("web", CHECK, &[("App.example", 80), ("10.0.0.1", 80)]));
    entry_of(&before).set_health(0, Health::Unhealthy);
    let respelled = apply(&mut catalog, &channel("web", CHECK, &[("app.example", 80), ("10.0.0.1", 80)]));
    assert_eq!((respelled.summary().added, respelled.summary().removed), (0, 0));
    assert_eq!(changes_of(&respelled), ["assign 0.0 probed=true carried", "refresh 1"]);
    assert_eq!(picks(&respelled, 2), ["10.0.0.1:80"; 2], "the balancer knows it by its new spelling");
}

/// What one driver would know: of each slot a verdict, and when it was confirmed.
fn know(prepared: &mut Prepared, verdicts: &[(u32, VerdictFrom, Health, u64)], now: u64) {
    let states = verdicts.iter().map(|(generation, from, health, confirmed)| MemberState {
        verdict_from: *from,
        confirmed: ConfirmedAt::at(Timestamp(*confirmed)),
        consecutive_failures: 4,
        ..MemberState::new(*generation, *health, Timestamp(1))
    });
    let drivers = vec![DriverSnapshot { pages: vec![Arc::new(states.collect())], ..DriverSnapshot::empty() }];
    prepared.learn(DriverKnowledge {
        drivers,
        now: Timestamp(now),
        age_limit: std::time::Duration::from_nanos(100),
    });
}

fn prepare(catalog: &Catalog, text: &str) -> Prepared {
    let config = config::parse("test.toml", text, Path::new(".")).unwrap_or_else(|errors| panic!("{errors}"));
    let mut transaction = Transaction::new(catalog.channels().resources.clone(), &Nowhere);
    let files = config.channels.iter().map(|file| (&file.channel, &*file.file));
    transaction.put_files(files, UnixSeconds(0)).unwrap();
    let (changes, resources) = transaction.finish();
    catalog.prepare(&changes, resources).unwrap()
}

/// Health, whose, and failures in a row of what members are resumed with.
pub(super) fn resumed(committed: &Committed) -> Vec<(u32, Health, VerdictFrom, u32)> {
    let resumed = committed.drivers.iter().flatten().filter_map(|command| match command {
        DriverCommand::Resume(slot, _, it) => Some((*slot, it.health, it.from, it.consecutive_failures)),
        _ => None,
    });
    resumed.collect()
}

#[test]
fn a_check_that_is_switched_off_and_on_again_goes_on_if_its_verdict_is_young() {
    let off = format!("{CHECK}status = 2\n");
    for (now, expected) in [(1_100, Health::Unhealthy), (1_101, Health::Unknown)] {
        let mut catalog = catalog(1);
        let before = apply(&mut catalog, &channel("web", CHECK, &[("10.0.0.1", 80)]));
        entry_of(&before).set_health(0, Health::Unhealthy);
        let switched = apply(&mut catalog, &channel("web", &off, &[("10.0.0.1", 80)]));
        assert_eq!(changes_of(&switched), ["assign 0.1 probed=false last known"]);
        assert_eq!(picks(&switched, 1), ["10.0.0.1:80"], "unknown to rotation");
        let mut prepared = prepare(&catalog, &channel("web", CHECK, &[("10.0.0.1", 80)]));
        assert!(prepared.asks_drivers());
        know(&mut prepared, &[(1, VerdictFrom::LastKnown(Health::Unhealthy), Health::Unknown, 1_000)], now);
        let again = catalog.commit(prepared);
        let is_young = expected == Health::Unhealthy;
        let known = resumed(&again);
        assert_eq!(known.is_empty(), !is_young);
        if is_young {
            assert_eq!(known, [(0, Health::Unhealthy, VerdictFrom::EarlierCheck, 0)]);
        }
        assert_eq!(picks(&again, 1)[0] == "10.0.0.1:80", !is_young);
    }
}

#[test]
fn members_that_move_go_on_in_their_new_place() {
    let group = |name: &str| {
        let text = channel("web", CHECK, &[("10.0.0.1", 80)]);
        let groups = format!("member_groups = [{{ member_group_name = \"{name}\" }}]\nmember_type");
        format!("{}member_group_name = \"{name}\"\n", text.replace("member_type", &groups))
    };
    let web = channel("web", CHECK, &[("10.0.0.1", 80)]);
    let rows = [
        ("channel renamed", web.clone(), channel("shop", CHECK, &[("10.0.0.1", 80)]), VerdictFrom::Check, 4),
        ("group renamed", group("blue"), group("green"), VerdictFrom::Check, 4),
        ("into a group", web.clone(), group("blue"), VerdictFrom::Check, 4),
        (
            "renamed, and another interval",
            web.clone(),
            channel("shop", &CHECK.replace("time_interval = 5", "time_interval = 6"), &[("10.0.0.1", 80)]),
            VerdictFrom::Check,
            4,
        ),
        (
            "renamed, and another port of the check",
            web,
            channel("shop", &CHECK.replace("timeout = 2", "timeout = 2\nport = 81"), &[("10.0.0.1", 80)]),
            VerdictFrom::EarlierCheck,
            0,
        ),
    ];
    for (what, before, after, from, failures) in rows {
        let mut catalog = catalog(1);
        apply(&mut catalog, &before);
        let mut prepared = prepare(&catalog, &after);
        assert!(prepared.asks_drivers(), "{what}");
        know(&mut prepared, &[(0, VerdictFrom::Check, Health::Unhealthy, 1_000)], 9_000);
        let moved = catalog.commit(prepared);
        let known: Vec<_> =
            resumed(&moved).into_iter().map(|(_, health, from, count)| (health, from, count)).collect();
        assert_eq!(known, [(Health::Unhealthy, from, failures)], "{what}");
        assert_ne!(picks(&moved, 1), ["10.0.0.1:80"], "{what}: the balancer knows");
    }
}

#[test]
fn of_several_old_verdicts_the_latest_conclusive_one_counts() {
    let other = CHECK.replace("timeout = 2", "timeout = 2\nport = 81");
    let three = |check: &str| {
        channel("one", CHECK, &[("10.0.0.1", 80)])
            + &channel("three", &other, &[("10.0.0.1", 80)])
            + &channel("two", check, &[("10.0.0.1", 80)])
    };
    let check_of = |is_same: bool| if is_same { CHECK } else { &*other };
    let rows = [
        // Whose, which health and when, of each; what the check of the last asked; and which counts.
        (
            [(VerdictFrom::Check, Health::Unhealthy, 7), (VerdictFrom::Check, Health::Healthy, 9)],
            true,
            Health::Healthy,
        ),
        (
            [(VerdictFrom::Check, Health::Unhealthy, 9), (VerdictFrom::Check, Health::Healthy, 7)],
            true,
            Health::Unhealthy,
        ),
        // No verdict is none.
        (
            [(VerdictFrom::Check, Health::Unhealthy, 7), (VerdictFrom::InitialState, Health::Unknown, 9)],
            true,
            Health::Unhealthy,
        ),
        // The same question counts more.
        (
            [(VerdictFrom::Check, Health::Unhealthy, 7), (VerdictFrom::Check, Health::Healthy, 9)],
            false,
            Health::Unhealthy,
        ),
    ];
    for ([first, second], is_same, expected) in rows {
        let mut catalog = catalog(1);
        apply(&mut catalog, &three(check_of(is_same)));
        // The third stays, so that nobody has left it.
        let after =
            channel("new", CHECK, &[("10.0.0.1", 80)]) + &channel("three", &other, &[("10.0.0.1", 80)]);
        let mut prepared = prepare(&catalog, &after);
        let known = |(from, health, at): (VerdictFrom, Health, u64)| (0, from, health, at);
        let third = known((VerdictFrom::Check, Health::Healthy, 99));
        know(&mut prepared, &[known(first), third, known(second)], 100);
        let moved = catalog.commit(prepared);
        assert_eq!(resumed(&moved).iter().map(|it| it.1).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn an_address_that_is_still_where_it_was_is_a_new_member_elsewhere() {
    let mut catalog = catalog(1);
    let web = channel("web", CHECK, &[("10.0.0.1", 80)]);
    apply(&mut catalog, &web);
    let prepared = prepare(&catalog, &(web + &channel("shop", CHECK, &[("10.0.0.1", 80)])));
    assert!(!prepared.asks_drivers());
    let moved = prepare(&catalog, &channel("web", CHECK, &[("10.0.0.1", 81)]));
    assert!(moved.asks_drivers(), "somebody leaves and somebody comes");
    let mut moved = moved;
    know(&mut moved, &[(0, VerdictFrom::Check, Health::Unhealthy, 1)], 2);
    assert!(resumed(&catalog.commit(moved)).is_empty(), "another port is another member");
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

    // Nor a changed check.
    let other = text.replace("timeout = 2", "timeout = 2\nport = 81");
    let carried = apply(&mut catalog, &other);
    assert_eq!(picks(&carried, 3), ["10.0.0.1:80"; 3]);
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
