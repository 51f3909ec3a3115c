//! Round trips, damage, age.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn record(number: u64) -> VerdictRecord {
    VerdictRecord {
        key: VerdictKey(u128::from(number).to_le_bytes()),
        health: Health::ALL[usize::try_from(number % 3).unwrap()],
        consecutive_successes: u32::MAX,
        consecutive_failures: 3,
        since: Timestamp(1_767_225_605_123_456_789 + number),
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
    let damaged = |text| Err(SavedVerdictsError::Damaged(text));
    let mut newer = verdicts(1).encode();
    newer[14] = 2;
    let mut flipped = verdicts(1).encode();
    flipped[20] ^= 1;
    assert_eq!(SavedVerdicts::decode(b""), damaged("it does not begin as verdicts do"));
    assert_eq!(SavedVerdicts::decode(b"#!/bin/sh\necho hello"), damaged("it does not begin as verdicts do"));
    assert_eq!(SavedVerdicts::decode(&flipped), damaged("its checksum is wrong"));
    assert_eq!(SavedVerdicts::decode(MAGIC), damaged("it is cut off"));
    assert_eq!(SavedVerdicts::decode(&newer), Err(SavedVerdictsError::Newer(2)));
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
    assert_eq!((recall.find(record(0).key), recall.find(record(1).key)), (Some(&found), None));
    assert_eq!((recall.len(), recall.age()), (1, limit));
    let age = limit + Duration::from_nanos(1);
    assert_eq!(saved(age).map(|_| ()), Err(Refusal::TooOld { age, limit }));
    let future = verdicts(1).recall(&SavedAt::default(), limit);
    assert_eq!(future.map(|_| ()), Err(Refusal::FromTheFuture));
}
