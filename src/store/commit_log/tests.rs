//! Disks that fail, lose power and lie: what was acknowledged is there, what
//! was refused is not.

pub(crate) mod disk;

use std::collections::BTreeMap;

use disk::{Disk, ENOSPC, Failure, after_power_loss};

use super::*;
use crate::store::record::{Collection, RecordKey};

type Model = BTreeMap<RecordKey, Vec<u8>>;

fn key(number: usize) -> RecordKey {
    RecordKey::new(Collection::Channels, format!("channel {number}"))
}

/// A disk with a store of that many records.
fn filled(records: usize) -> (Disk, Model) {
    let disk = Disk::default();
    let database = disk.open(Verification::Header).unwrap();
    database::initialise(&database).unwrap();
    database.close().unwrap();
    let mut log = CommitLog::open(Box::new(disk.clone())).unwrap();
    let mut model = Model::new();
    let mut batch = Batch::new();
    for number in 0..records {
        batch.put(key(number), vec![b'v'; 40 * number]);
    }
    commit(&mut log, &mut model, &batch).unwrap();
    log.close().unwrap();
    (disk, model)
}

fn commit(log: &mut CommitLog, model: &mut Model, batch: &Batch) -> Result<Revision, StoreError> {
    let revision = log.commit(std::slice::from_ref(batch))?;
    follow(model, batch);
    Ok(revision)
}

fn follow(model: &mut Model, batch: &Batch) {
    for edit in batch.edits() {
        match edit {
            RecordChange::Put(record) => drop(model.insert(record.key.clone(), record.value.clone())),
            RecordChange::Remove(key) => drop(model.remove(key)),
        }
    }
}

fn held(log: &mut CommitLog) -> Result<Model, StoreError> {
    Ok(log.contents()?.records.into_iter().map(|record| (record.key, record.value)).collect())
}

/// Puts, replaces and removes, some of it twice.
fn mixed(seed: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(key(seed), format!("replaced {seed}").into_bytes());
    batch.remove(key(seed + 1)).remove(key(1000));
    batch.put(key(2000 + seed), vec![b'n'; 9000]).put(key(seed), b"and again".to_vec());
    batch
}

#[test]
fn a_write_that_fails_anywhere_has_not_happened() {
    for failure in [Failure::Once, Failure::UntilHealed] {
        let mut struck = 0;
        for operations in 0.. {
            let (disk, mut model) = filled(20);
            let mut log = CommitLog::open(Box::new(disk.clone())).unwrap();
            let opened = disk.journal().len();
            disk.fail_after(operations, failure);
            let result = commit(&mut log, &mut model, &mixed(3));
            let failures = disk.heal();
            if failures == 0 {
                result.unwrap();
                break;
            }
            struck += 1;
            let error = result.expect_err("the disk failed");
            assert_eq!(error.errno(), Some(ENOSPC), "{error}");
            assert!(error.to_string().starts_with("cannot write /disk/store.redb: No space left"), "{error}");
            assert_eq!(held(&mut log).unwrap(), model, "{operations} {failure:?}");
            let before = log.revision;
            let after = commit(&mut log, &mut model, &mixed(7)).unwrap();
            assert!(after > before);
            assert_eq!(held(&mut log).unwrap(), model, "{operations} {failure:?}");
            // The next start finds the same, be it after a loss of power.
            drop(log);
            assert!(disk.journal().len() > opened);
            for image in [disk.clone(), after_power_loss(&disk.journal())] {
                let mut log = CommitLog::open(Box::new(image)).unwrap();
                assert_eq!(held(&mut log).unwrap(), model, "{operations} {failure:?}");
            }
        }
        assert!(struck >= 5, "only {struck} operations could fail");
    }
}

#[test]
fn a_lost_commit_in_doubt_is_undone_as_soon_as_the_disk_allows() {
    // Everything gets to the disk but the last flush: the commit is in the file.
    let (disk, mut model) = filled(20);
    let mut log = CommitLog::open(Box::new(disk.clone())).unwrap();
    let idle = disk.journal().len();
    log.commit(&[Batch::new()]).unwrap();
    let operations = disk.journal().len() - idle;
    disk.fail_after(operations - 1, Failure::UntilHealed);
    commit(&mut log, &mut model, &Batch::from_iter([RecordChange::Remove(key(3))])).expect_err("not flushed");
    assert!(log.unsettled.is_some(), "the disk still fails, so it cannot be undone yet");
    assert!(log.contents().is_err(), "nobody may read what was refused");
    disk.heal();
    assert_eq!(held(&mut log).unwrap(), model);
    assert!(log.unsettled.is_none());
}

#[test]
fn power_may_fail_at_any_moment() {
    fastrand::seed(1);
    let (disk, mut model) = filled(10);
    let mut log = CommitLog::open(Box::new(disk.clone())).unwrap();
    let base = disk.journal().len();
    let first = log.revision;
    // What each revision holds, and how much had been done when it was acknowledged.
    let mut history = vec![(base, model.clone())];
    for seed in 0..8 {
        commit(&mut log, &mut model, &mixed(seed)).unwrap();
        history.push((disk.journal().len(), model.clone()));
    }
    drop(log);
    let journal = disk.journal();
    assert!(journal.len() - base > 50, "{} operations", journal.len() - base);
    for moment in base..=journal.len() {
        for _ in 0..6 {
            let image = after_power_loss(&journal[..moment]);
            let mut log = CommitLog::open(Box::new(image)).unwrap();
            let found = usize::try_from(log.revision.0 - first.0).unwrap();
            let acknowledged = history.iter().rposition(|(done, _)| *done <= moment).unwrap();
            assert!((acknowledged..=acknowledged + 1).contains(&found), "{found}, not {acknowledged}");
            assert_eq!(held(&mut log).unwrap(), history[found].1, "at {moment}");
        }
    }
}

/// Opens damaged bytes: none when the damage is seen, else what is held.
fn opened(bytes: Vec<u8>) -> Option<Model> {
    match CommitLog::open(Box::new(Disk::with(bytes))).and_then(|mut log| held(&mut log)) {
        Ok(found) => Some(found),
        Err(StoreError::Damaged { .. } | StoreError::Foreign { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_flipped_bit_is_seen_or_without_effect() {
    fastrand::seed(2);
    let (disk, mut model) = filled(30);
    let before = model.clone();
    let closed = (disk.bytes(), model.clone());
    let mut log = CommitLog::open(Box::new(disk.clone())).unwrap();
    commit(&mut log, &mut model, &mixed(5)).unwrap();
    // As a kill leaves it.
    let killed = (disk.bytes(), model);
    for (image, model) in [closed, killed] {
        let head = (0..64).flat_map(|position| (0..8).map(move |bit| (position, bit)));
        let header = (64..320).map(|position| (position, fastrand::usize(..8)));
        let anywhere = (0..300).map(|_| (fastrand::usize(..image.len()), fastrand::usize(..8)));
        let mut seen = 0;
        for (position, bit) in head.chain(header).chain(anywhere) {
            let mut damaged = image.clone();
            damaged[position] ^= 1 << bit;
            match opened(damaged) {
                // The one bit that says which of the two last commits counts.
                // Flipped, it is what a loss of power within the commit leaves.
                Some(found) if (position, bit) == (9, 0) => assert!(found == model || found == before),
                Some(found) => assert_eq!(found, model, "bit {bit} of byte {position}"),
                None => seen += 1,
            }
        }
        assert!(seen > 100, "{seen} seen");
    }
}

#[test]
fn a_file_cut_off_or_filled_with_noise_is_seen_or_without_effect() {
    fastrand::seed(3);
    let (disk, model) = filled(30);
    let image = disk.bytes();
    let mut noise_seen = 0;
    for _ in 0..100 {
        let mut cut = image.clone();
        cut.truncate(fastrand::usize(512..image.len()));
        assert_eq!(opened(cut), None);
        let mut noisy = image.clone();
        let (from, length) = (fastrand::usize(320..image.len() / 2), fastrand::usize(4096..image.len() / 2));
        noisy[from..from + length].fill_with(|| fastrand::u8(..));
        match opened(noisy) {
            Some(found) => assert_eq!(found, model, "{length} bytes from {from}"),
            None => noise_seen += 1,
        }
    }
    assert!(noise_seen > 50, "{noise_seen} seen");
}

#[test]
fn a_newer_format_is_refused_with_its_writer() {
    let (disk, _) = filled(1);
    let database = disk.open(Verification::Header).unwrap();
    database::tests::pretend_format(&database, 7, "9.1.0");
    database.close().unwrap();
    let error = CommitLog::open(Box::new(disk)).expect_err("newer").to_string();
    assert_eq!(
        error,
        "/disk/store.redb has format 7, written by vitald 9.1.0; this one reads format 1. Run the newer vitald, or move the file aside"
    );
}

#[test]
fn another_programs_database_is_foreign() {
    let disk = Disk::default();
    let database = disk.open(Verification::Header).unwrap();
    database::tests::fill_with_something_else(&database);
    database.close().unwrap();
    let error = CommitLog::open(Box::new(disk)).expect_err("foreign");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}
