//! Keys, round trips, damage, age, the file.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::channel::fixture::{channel, member};
use crate::channel::{HttpCheck, HttpMethod, Protocol};

const SECOND: u64 = 1_000_000_000;

fn record(number: u64) -> VerdictRecord {
    VerdictRecord {
        key: VerdictKey(u128::from(number).to_le_bytes()),
        resumed: Resumed {
            health: Health::ALL[usize::try_from(number % 3).unwrap()],
            consecutive_successes: u32::MAX,
            consecutive_failures: 3,
            since: Timestamp(1_767_225_605_123_456_789 + number),
        },
        unconfirmed: Duration::from_secs(number),
    }
}

fn verdicts(count: u64) -> SavedVerdicts {
    let boot = Some(BootTime { boot_id: u128::MAX - 1, nanos: 77 });
    SavedVerdicts {
        saved_at: SavedAt { wall: Timestamp(5), boot },
        records: (0..count).map(record).collect(),
    }
}

#[test]
fn verdicts_read_back() {
    for count in [0, 1, 2, 1000] {
        let written = verdicts(count);
        assert_eq!(SavedVerdicts::decode(&written.encode()), Ok(written));
    }
    let without_boot =
        SavedVerdicts { saved_at: SavedAt { wall: Timestamp(5), boot: None }, records: Vec::new() };
    assert_eq!(SavedVerdicts::decode(&without_boot.encode()), Ok(without_boot));
}

#[test]
fn ages_are_kept_in_whole_seconds_and_never_made_younger() {
    let rows = [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(2999), 3),
        (Duration::MAX, u64::from(u32::MAX)),
    ];
    for (unconfirmed, seconds) in rows {
        let written =
            SavedVerdicts { records: vec![VerdictRecord { unconfirmed, ..record(0) }], ..verdicts(0) };
        let read = SavedVerdicts::decode(&written.encode()).unwrap();
        assert_eq!(read.records[0].unconfirmed, Duration::from_secs(seconds));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_seen() {
    let bytes = verdicts(3).encode();
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            assert!(SavedVerdicts::decode(&flipped).is_err(), "bit {bit} of byte {position}");
        }
        assert!(SavedVerdicts::decode(&bytes[..position]).is_err(), "cut at {position}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(SavedVerdicts::decode(&longer).is_err());
}

#[test]
fn what_is_wrong_is_said() {
    let damaged = |text: &str| Err(format!("it is damaged: {text}"));
    let mut newer = verdicts(1).encode();
    newer[14] = 2;
    let mut flipped = verdicts(1).encode();
    flipped[20] ^= 1;
    assert_eq!(SavedVerdicts::decode(b""), damaged("it does not begin as verdicts do"));
    assert_eq!(SavedVerdicts::decode(b"#!/bin/sh\necho hello"), damaged("it does not begin as verdicts do"));
    assert_eq!(SavedVerdicts::decode(&flipped), damaged("its checksum is wrong"));
    assert_eq!(SavedVerdicts::decode(MAGIC), damaged("it is cut off"));
    assert_eq!(
        SavedVerdicts::decode(&newer),
        Err("it has version 2, this vitald reads version 1".to_owned())
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), is_ours in any::<bool>()) {
        let mut input = if is_ours { MAGIC.to_vec() } else { Vec::new() };
        input.extend(bytes);
        prop_assert!(SavedVerdicts::decode(&input).is_err());
    }
}

#[test]
fn age_is_told_by_the_clock_that_can_be_believed() {
    let at = |wall: u64, boot: Option<(u128, u64)>| SavedAt {
        wall: Timestamp(wall * SECOND),
        boot: boot.map(|(boot_id, seconds)| BootTime { boot_id, nanos: seconds * SECOND }),
    };
    let rows = [
        // The same start: the wall clock does not matter.
        (at(1000, Some((1, 50))), at(9000, Some((1, 60))), Some(10)),
        (at(1000, Some((1, 50))), at(0, Some((1, 60))), Some(10)),
        (at(1000, Some((1, 50))), at(1000, Some((1, 50))), Some(0)),
        // Another start, or an unknown one: the wall clock.
        (at(1000, Some((1, 50))), at(1090, Some((2, 5))), Some(90)),
        (at(1000, None), at(1090, Some((2, 5))), Some(90)),
        (at(1000, Some((1, 50))), at(1090, None), Some(90)),
        // Clocks that went back.
        (at(1000, None), at(999, None), None),
        (at(1000, Some((1, 50))), at(1001, Some((1, 49))), None),
    ];
    for (then, now, expected) in rows {
        assert_eq!(then.age(&now), expected.map(Duration::from_secs), "{then:?} {now:?}");
    }
}

#[test]
fn the_limit_is_the_last_age_that_counts() {
    let limit = Duration::from_secs(600);
    let saved = |age: Duration| {
        let now = SavedAt { wall: Timestamp(10_000 * SECOND), boot: None };
        let wall = Timestamp(now.wall.0 - u64::try_from(age.as_nanos()).unwrap());
        let records = vec![record(0), record(1)];
        SavedVerdicts { saved_at: SavedAt { wall, boot: None }, records }.recall(&now, limit)
    };
    let recall = saved(limit).expect("young enough");
    let found = VerdictRecord { unconfirmed: limit, ..record(0) };
    // The other one was probed a second earlier, and so is too old.
    assert_eq!(
        (recall.records.get(&record(0).key), recall.records.get(&record(1).key)),
        (Some(&found), None)
    );
    assert_eq!((recall.records.len(), recall.age), (1, limit));
    let age = limit + Duration::from_nanos(1);
    assert_eq!(saved(age).map(|_| ()), Err(Refusal::TooOld { age, limit }));
    let future = verdicts(1).recall(&SavedAt::default(), limit);
    assert_eq!(future.map(|_| ()), Err(Refusal::FromTheFuture));
}

fn key(name: &str, protocol: Protocol, member: Member) -> VerdictKey {
    let channel = channel(name, Some(protocol), vec![member]);
    let definition = DefinitionHash::of(&channel).expect("probed");
    VerdictKey::of(definition, &channel, &channel.members()[0])
}

#[test]
fn every_part_of_the_identity_matters() {
    let http = HttpCheck { path: "/".to_owned(), method: HttpMethod::Get, codes: Default::default() };
    let group: Arc<str> = "blue".into();
    let keys = [
        key("web", Protocol::Tcp, member("192.0.2.1")),
        key("web2", Protocol::Tcp, member("192.0.2.1")),
        key("web", Protocol::Http(http), member("192.0.2.1")),
        key("web", Protocol::Tcp, member("192.0.2.2")),
        key("web", Protocol::Tcp, member("name.example")),
        key("web", Protocol::Tcp, member("192.0.2.1").on_port(8081)),
        key("web", Protocol::Tcp, member("192.0.2.1").in_group(&group)),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

#[test]
fn what_only_balancing_minds_does_not_matter() {
    let plain = key("web", Protocol::Tcp, member("192.0.2.1"));
    for other in [
        member("192.0.2.1").on_port(8080),
        member("192.0.2.1").weighing(7),
        member("192.0.2.1").standby(),
        member("192.0.2.1").disabled(),
    ] {
        assert_eq!(key("web", Protocol::Tcp, other), plain);
    }
}

/// Kept on disk: a changed key forgets every verdict once.
#[test]
fn keys_are_those_of_version_1() {
    let key = key("web", Protocol::Tcp, member("192.0.2.1"));
    let shown: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(shown, "bf293589623def9218154b2d235d7b07");
}

#[test]
fn members_that_are_not_probed_have_no_verdict() {
    assert_eq!(DefinitionHash::of(&channel("web", None, Vec::new())), None);
}

fn file() -> (tempfile::TempDir, VerdictFile) {
    let place = tempfile::tempdir().unwrap();
    let directory = Arc::new(StateDirectory::open(&place.path().join("state")).unwrap());
    (place, VerdictFile::of(&directory))
}

#[test]
fn a_file_holds_what_was_saved_last() {
    let (_place, file) = file();
    assert_eq!(file.load().unwrap(), None);
    file.save(&verdicts(1)).unwrap();
    // A directory in the temporary file's place fails for root too.
    let draft = file.path().with_extension("new");
    fs::create_dir(&draft).unwrap();
    let error = file.save(&verdicts(2)).expect_err("there is a directory").to_string();
    assert!(error.contains("verdicts") && error.contains("os error"), "{error}");
    assert_eq!(file.load().unwrap(), Some(verdicts(1)));
    fs::remove_dir(&draft).unwrap();
    file.save(&verdicts(3)).unwrap();
    assert_eq!(file.load().unwrap(), Some(verdicts(3)));
}

#[test]
fn a_damaged_file_is_reported_and_left_alone() {
    let (_place, file) = file();
    fs::write(file.path(), "scribble").unwrap();
    let error = file.load().expect_err("no verdicts").to_string();
    assert!(error.contains("it does not begin as verdicts do"), "{error}");
    assert_eq!(fs::read(file.path()).unwrap(), b"scribble");
}
