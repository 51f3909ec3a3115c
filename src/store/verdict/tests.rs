//! Keys, round trips, damage, age, the file.

use proptest::prelude::*;

use std::fs;

use super::*;
use crate::channel::fixture::{channel, member};
use crate::channel::{HttpCheck, HttpMethod, Member, Protocol};

const SECOND: u64 = 1_000_000_000;

fn keys(number: u64) -> MemberKeys {
    MemberKeys {
        address: AddressKey(u128::from(number).to_le_bytes()),
        owner: OwnerKey(number.to_le_bytes()),
        question: Some(QuestionKey((!number).to_le_bytes())),
    }
}

fn record(number: u64) -> VerdictRecord {
    let place = usize::try_from(number % 7).unwrap();
    let (health, from) = VERDICTS[place];
    let is_last_known = matches!(from, VerdictFrom::LastKnown(_));
    let question = keys(number).question.filter(|_| !is_last_known);
    VerdictRecord {
        subject: match number % 5 {
            0 => VerdictSubject::Whole(WholeKey(u128::from(number).to_le_bytes())),
            _ => VerdictSubject::Member(MemberKeys { question, ..keys(number) }),
        },
        health,
        from,
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
    let damaged = |text: &str| Err(format!("it is damaged: {text}"));
    let mut newer = verdicts(1).encode();
    newer[14] = 3;
    let mut flipped = verdicts(1).encode();
    flipped[20] ^= 1;
    assert_eq!(SavedVerdicts::decode(b""), damaged("it does not begin as verdicts do"));
    assert_eq!(SavedVerdicts::decode(b"#!/bin/sh\necho hello"), damaged("it does not begin as verdicts do"));
    assert_eq!(SavedVerdicts::decode(&flipped), damaged("its checksum is wrong"));
    assert_eq!(SavedVerdicts::decode(MAGIC), damaged("it is cut off"));
    assert_eq!(
        SavedVerdicts::decode(&newer),
        Err("it has version 3, this vitald reads versions 1 to 2".to_owned())
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
        let young = VerdictRecord { unconfirmed: Duration::ZERO, ..record(1) };
        let records = vec![young, VerdictRecord { unconfirmed: Duration::from_secs(1), ..record(2) }];
        SavedVerdicts { saved_at: SavedAt { wall, boot: None }, records }.recall(&now, limit)
    };
    let recall = saved(limit).expect("young enough");
    // The other one was probed a second earlier, and so is too old.
    assert_eq!((recall.members(), recall.age), (1, limit));
    let [found] = recall.at(keys(1).address) else { panic!("one verdict") };
    let confirmed = ConfirmedAt::at(Timestamp((10_000 - 600) * SECOND));
    assert_eq!((found.owner, found.question), (keys(1).owner, keys(1).question));
    assert_eq!((found.resumed.health, found.resumed.confirmed), (Health::Healthy, confirmed));
    assert!(recall.at(keys(2).address).is_empty());
    let age = limit + Duration::from_nanos(1);
    assert_eq!(saved(age).map(|_| ()), Err(Refusal::TooOld { age, limit }));
    let future = verdicts(1).recall(&SavedAt::default(), limit);
    assert_eq!(future.map(|_| ()), Err(Refusal::FromTheFuture));
}

fn keys_of(name: &str, protocol: Option<Protocol>, member: Member) -> MemberKeys {
    let channel = channel(name, protocol, vec![member]);
    ChannelKeys::of(&channel).member(&channel.members()[0])
}

/// Address, owner and question are told apart.
#[test]
fn each_part_of_the_keys_has_its_own_hash() {
    let http = HttpCheck { path: "/".to_owned(), method: HttpMethod::Get, codes: Default::default() };
    let group: Arc<str> = "blue".into();
    let tcp = || Some(Protocol::Tcp);
    let plain = keys_of("web", tcp(), member("192.0.2.1"));
    // What is the same: address, owner, question.
    let rows = [
        (keys_of("web", tcp(), member("192.0.2.1").on_port(8080).weighing(7).standby()), [true, true, true]),
        (keys_of("web2", tcp(), member("192.0.2.1")), [true, false, true]),
        (keys_of("web", tcp(), member("192.0.2.1").in_group(&group)), [true, false, true]),
        (keys_of("web", Some(Protocol::Http(http)), member("192.0.2.1")), [true, true, false]),
        (keys_of("web", None, member("192.0.2.1")), [true, true, false]),
        (keys_of("web", tcp(), member("192.0.2.2")), [false, true, false]),
        (keys_of("web", tcp(), member("192.0.2.1").on_port(8081)), [false, true, false]),
    ];
    for (number, (keys, same)) in rows.into_iter().enumerate() {
        let found =
            [keys.address == plain.address, keys.owner == plain.owner, keys.question == plain.question];
        assert_eq!(found, same, "row {number}");
    }
    let (upper, lower) =
        (keys_of("web", tcp(), member("App.example")), keys_of("web", tcp(), member("app.example")));
    assert_eq!((upper.address, upper.owner), (lower.address, lower.owner));
    assert_ne!(upper.question, lower.question, "other bytes are sent");
}

/// Kept on disk: changed keys forget every verdict once.
#[test]
fn keys_are_those_of_their_version() {
    let shown = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let channel = channel("web", Some(Protocol::Tcp), vec![member("192.0.2.1")]);
    let whole = WholeKeys::of(&channel).expect("probed").member(&channel.members()[0]);
    assert_eq!(shown(&whole.0), "bf293589623def9218154b2d235d7b07");
    let keys = ChannelKeys::of(&channel).member(&channel.members()[0]);
    let question = keys.question.expect("probed");
    let found = [shown(&keys.address.0), shown(&keys.owner.0), shown(&question.0)];
    assert_eq!(found, ["33e084eead83edff6b87e14b8814955f", "d7bb699f2fc0470e", "403dc119e64baeb2"]);
}

#[test]
fn members_that_are_not_probed_are_asked_nothing() {
    assert_eq!(keys_of("web", None, member("192.0.2.1")).question, None);
    assert!(WholeKeys::of(&channel("web", None, Vec::new())).is_none());
}

#[test]
fn what_is_kept_of_a_member() {
    let known = |health, from| Resumed {
        health,
        from,
        consecutive_successes: 1,
        consecutive_failures: 0,
        since: Timestamp(SECOND),
        confirmed: ConfirmedAt::at(Timestamp(3 * SECOND)),
    };
    let now = Timestamp(5 * SECOND);
    let asked = keys(1);
    let unasked = MemberKeys { question: None, ..asked };
    let check = known(Health::Healthy, VerdictFrom::Check);
    let record = VerdictRecord::of(asked, &check, now).expect("a verdict");
    assert_eq!((record.health, record.unconfirmed), (Health::Healthy, Duration::from_secs(2)));
    // What a member counts as without a verdict is the configuration's to say.
    let initial = known(Health::Unhealthy, VerdictFrom::InitialState);
    let record = VerdictRecord::of(asked, &initial, now).expect("its counts");
    assert_eq!((record.health, record.consecutive_successes), (Health::Unknown, 1));
    let last_known = known(Health::Unknown, VerdictFrom::LastKnown(Health::Unhealthy));
    assert!(VerdictRecord::of(unasked, &last_known, now).is_some());
    assert_eq!(VerdictRecord::of(unasked, &initial, now), None, "nothing of it could go on");
    let never = Resumed { confirmed: ConfirmedAt::default(), ..check };
    assert_eq!(VerdictRecord::of(asked, &never, now), None, "no probe has said anything");
}

/// `state-0.1` has a file that vitald 0.1 wrote.
#[test]
fn a_file_of_0_1_is_carried_over() {
    let bytes = include_bytes!("../../../tests/fixtures/state-0.1/verdicts");
    let verdicts = SavedVerdicts::decode(bytes).expect("it is whole");
    assert_eq!(verdicts.records.len(), 19);
    for record in &verdicts.records {
        assert!(matches!(record.subject, VerdictSubject::Whole(_)), "{record:?}");
        assert_eq!((record.consecutive_successes, record.consecutive_failures), (0, 0));
        let expected = match record.health {
            Health::Unknown => VerdictFrom::InitialState,
            Health::Healthy | Health::Unhealthy => VerdictFrom::EarlierCheck,
        };
        assert_eq!(record.from, expected);
    }
    assert_eq!(SavedVerdicts::decode(&verdicts.encode()), Ok(verdicts));
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
    assert!(error.contains("verdicts.new is not used: it is not a regular file"), "{error}");
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

#[test]
fn only_a_regular_file_within_the_bound_is_read() {
    let (_place, file) = file();
    let sparse = File::create(file.path()).unwrap();
    sparse.set_len(LARGEST_FILE + 1).unwrap();
    let error = file.load().expect_err("too large").to_string();
    assert!(error.contains("larger than 128 MiB") && error.contains("members start at unknown"), "{error}");
    fs::remove_file(file.path()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        file.path(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let error = file.load().expect_err("a FIFO").to_string();
    assert!(error.contains("it is not a regular file"), "{error}");
    // A save puts a file in its place.
    file.save(&verdicts(1)).unwrap();
    assert_eq!(file.load().unwrap(), Some(verdicts(1)));
}

#[test]
fn links_in_the_place_of_the_file_or_its_draft_lead_nowhere() {
    let (place, file) = file();
    let other = place.path().join("precious");
    fs::write(&other, "precious").unwrap();
    let draft = file.path().with_extension("new");
    std::os::unix::fs::symlink(&other, &draft).unwrap();
    std::os::unix::fs::symlink(&other, file.path()).unwrap();
    for error in [file.load().expect_err("a link"), file.save(&verdicts(1)).expect_err("a link")] {
        assert!(error.to_string().contains("it is a symbolic link"), "{error}");
    }
    // The failed save has removed the link.
    fs::hard_link(&other, &draft).unwrap();
    let error = file.save(&verdicts(1)).expect_err("a hard link").to_string();
    assert!(error.contains("it has another name as well"), "{error}");
    // So has this one, and the next replaces the other link.
    file.save(&verdicts(1)).unwrap();
    assert_eq!(file.load().unwrap(), Some(verdicts(1)));
    assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
}
