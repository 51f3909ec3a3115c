//! What the writer does for many changes at once.

use super::*;
use crate::balance::options::Options;
use crate::channel::{Role, Strategy};

fn made(strategy: Strategy, members: u32) -> (Core<u32>, TableWriter<u32>) {
    let options = Options::default();
    let core = Core::new(strategy, options, members as usize);
    let mut writer = TableWriter::new(&core);
    writer.update(&core, (0..members).map(Member::new).collect()).unwrap();
    (core, writer)
}

fn id_of(core: &Core<u32>, writer: &TableWriter<u32>, identity: &str) -> Option<MemberId> {
    writer.membership.id_of(&core.method.hashing, identity)
}

#[test]
fn members_that_flip_together_rewrite_a_short_order_a_few_times() {
    let (core, mut writer) = made(Strategy::WeightedRoundRobin, 4000);
    let before = core.generation();
    let ids: Vec<MemberId> =
        (1..4000_u32).map(|member| id_of(&core, &writer, &member.to_string()).unwrap()).collect();
    for id in ids {
        writer.set_health(&core, id, Health::Unhealthy).unwrap();
    }
    let rewrites = core.generation() - before;
    assert!((1..20).contains(&rewrites), "{rewrites} for 3999 flips");
    // Afterwards the order is that of the one who is left.
    writer.advance(&core, Duration::ZERO);
    let order = |core: &Core<u32>| {
        let snapshot = core.newest();
        let order = snapshot.table(MemberPool::Primary).and_then(PoolTable::order);
        order.map(|order| (order.length, order.at(0))).expect("an order of the primaries")
    };
    assert_eq!(order(&core), (1, 0));
    // And the next flips are written at once again.
    let back = id_of(&core, &writer, "7").unwrap();
    writer.set_health(&core, back, Health::Healthy).unwrap();
    assert_eq!(order(&core).0, 2);
}

#[test]
fn rows_are_given_out_again_when_empty_and_never_under_an_old_id() {
    let (core, mut writer) = made(Strategy::WeightedRoundRobin, 10);
    let old = id_of(&core, &writer, "3").unwrap();
    // A pick of the member at row 0 stays open.
    core.counters.open_shared(0);
    for round in 1..20_u32 {
        let names = (0..10).map(|member| Member::new(100 * round + member));
        writer.update(&core, names.collect()).unwrap();
        assert!(writer.membership.members().all(|(row, _)| row != 0), "row 0 is not empty");
        assert!(
            writer.membership.entries.len() <= 21,
            "{} rows for 10 members",
            writer.membership.entries.len()
        );
        assert_eq!(writer.set_health(&core, old, Health::Unhealthy), Err(UnknownMember));
    }
    core.counters.close_shared(0);
    for round in 21..23_u32 {
        let names = (0..10).map(|member| Member::new(100 * round + member));
        writer.update(&core, names.collect()).unwrap();
    }
    assert!(writer.membership.members().any(|(row, _)| row == 0), "row 0 is empty, and the smallest");
}

#[test]
fn members_are_found_by_name_after_any_update() {
    let (core, mut writer) = made(Strategy::UriHash, 50);
    let kept = id_of(&core, &writer, "40").unwrap();
    writer.update(&core, (30..90_u32).map(Member::new).collect()).unwrap();
    assert_eq!(id_of(&core, &writer, "40"), Some(kept), "who stays keeps its id");
    assert_eq!(id_of(&core, &writer, "29"), None);
    let mut rows = std::collections::BTreeSet::new();
    for member in 30..90_u32 {
        let id = id_of(&core, &writer, &member.to_string()).unwrap();
        let entry = writer.membership.entry(id.row).unwrap();
        assert_eq!((entry.address, &*entry.identity), (member, &*member.to_string()));
        assert!(rows.insert(id.row), "nobody shares a row");
    }
}

/// Where keys live among the primaries does not depend on backups.
#[test]
fn tiers_are_laid_out_apart() {
    let (core, mut writer) = made(Strategy::UriHash, 60);
    let owners = |writer: &TableWriter<u32>| -> Vec<Option<u32>> {
        let table = writer.snapshot.table(MemberPool::Primary).expect("a table of the primaries");
        (0..2000_u64).map(|key| table.hit(core.method.hashing.uri(&key.to_be_bytes()))).collect()
    };
    let before = owners(&writer);
    let backups = (1000..1010_u32).map(|member| Member::new(member).role(Role::Backup));
    writer.update(&core, (0..60).map(Member::new).chain(backups).collect()).unwrap();
    assert_eq!(owners(&writer), before);
}

/// Else every key of the others would be searched for until the heavy one could not win.
#[test]
fn searches_do_not_wait_for_a_heavy_member_that_is_down() {
    let (core, mut writer) = made(Strategy::UriHash, 20);
    let heavy = id_of(&core, &writer, "0").unwrap();
    let is_tuned = |writer: &TableWriter<u32>| {
        writer.snapshot.table(MemberPool::Primary).is_some_and(PoolTable::is_tuned)
    };
    writer.change(&core, heavy, |entry| entry.weight = 10_000).unwrap();
    assert!(is_tuned(&writer));
    writer.set_health(&core, heavy, Health::Unhealthy).unwrap();
    assert!(!is_tuned(&writer), "a flip looks at nobody else");
    writer.advance(&core, Duration::from_secs(1));
    assert!(is_tuned(&writer));
    writer.set_health(&core, heavy, Health::Healthy).unwrap();
    assert!(is_tuned(&writer), "known before it is met");
    // Nor does a table that is made while it is down.
    writer.set_health(&core, heavy, Health::Unhealthy).unwrap();
    writer.update(&core, (0..21).map(Member::new).collect()).unwrap();
    assert!(is_tuned(&writer));
}
