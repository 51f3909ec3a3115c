//! Disks that are full or read-only: a write fails with its errno, what was
//! there stays, and writing works again once there is space.
//!
//! A limit on the size of files stands in for a full disk wherever the test
//! runs; a real full disk (a tmpfs of its own) needs root.

#![cfg(feature = "daemon")]

#[path = "support/skipped.rs"]
mod skipped;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vitald::testing::store::{
    Batch, Collection, LocalStore, RecordKey, SavedAt, SavedVerdicts, StateDirectory, StoreContents,
    StoreError, VerdictFile,
};

const DIRECTORY: &str = "VITALD_FULL_DIRECTORY";
const ENOSPC: i32 = 28;
const EFBIG: i32 = 27;

fn open(path: &Path) -> Result<LocalStore, StoreError> {
    LocalStore::open(&Arc::new(StateDirectory::open(path)?))
}

fn put(number: u32, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(RecordKey::new(Collection::Channels, number.to_be_bytes()), vec![b'v'; bytes]);
    batch
}

/// Writes until the disk is full; the contents as of the last acknowledged
/// batch, and the error.
async fn fill(store: &LocalStore) -> (StoreContents, StoreError) {
    for number in 0..10_000 {
        let before = store.load().await.expect("the store can be read");
        if let Err(error) = store.write(put(number, 20_000)).await {
            return (before, error);
        }
    }
    panic!("the disk is never full");
}

/// What must hold of a store whose disk is full: nothing changes, and everything
/// is told.
async fn check_full(store: &LocalStore, path: &Path, held: &StoreContents, error: &StoreError, errno: i32) {
    assert_eq!(error.errno(), Some(errno), "{error}");
    let expected = format!("cannot write {}: ", path.join("store.redb").display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    for number in [20_000, 20_001] {
        store.write(put(number, 500_000)).await.expect_err("the disk is still full");
        assert_eq!(store.load().await.expect("reading needs no space").records, held.records);
    }
    assert!(store.monitor().state().failure.is_some());
}

/// The child of the test below, with a limit on the size of its files.
#[tokio::test]
async fn limited() {
    let Some(path) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let store = open(&path).unwrap();
    let (held, error) = fill(&store).await;
    assert!(held.records.len() > 2, "{} records", held.records.len());
    check_full(&store, &path, &held, &error, EFBIG).await;
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: limit.maximum, ..limit }).unwrap();
    store.write(put(30_000, 500_000)).await.expect("there is space again");
    assert!(store.monitor().state().failure.is_none());
    let after = store.load().await.unwrap();
    assert_eq!(after.records.len(), held.records.len() + 1);
    store.close().await.unwrap();
    assert_eq!(open(&path).unwrap().load().await.unwrap(), after);
    println!("\nthe limited child is through");
}

#[test]
fn a_limit_on_files_fails_writes_and_nothing_else() {
    if std::env::var_os(DIRECTORY).is_some() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    // An ignored SIGXFSZ stays ignored in the program that is started.
    let script = "trap '' XFSZ; ulimit -S -f 1024; exec \"$0\" --exact limited --nocapture";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY, place.path().join("state"))
        .output()
        .expect("sh starts");
    let output = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && output.contains("is through"), "{output}\n{errors}");
}

/// A small disk of its own, taken away again when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a tmpfs needs root".to_owned());
        }
        let place = tempfile::tempdir().map_err(|error| error.to_string())?;
        mount(&["-t", "tmpfs", "-o", "size=2m", "none"], place.path())?;
        Ok(Self(place))
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn mount(arguments: &[&str], place: &Path) -> Result<(), String> {
    let output =
        Command::new("mount").args(arguments).arg(place).output().map_err(|error| error.to_string())?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(error) }
}

/// The disk, or none with the reason put down where tests/run finds it.
fn small_disk(test: &str) -> Option<SmallDisk> {
    let why = match SmallDisk::mount() {
        Ok(disk) => return Some(disk),
        Err(why) => why,
    };
    skipped::note(&format!("{test}: {why}"));
    None
}

#[tokio::test]
async fn a_full_disk_fails_writes_and_nothing_else() {
    let Some(disk) = small_disk("a_full_disk_fails_writes_and_nothing_else") else { return };
    let store = open(&disk.state()).unwrap();
    store.write(put(1, 1000)).await.unwrap();
    let filler = disk.0.path().join("filler");
    // Fails half-way, and leaves the disk full.
    std::fs::write(&filler, vec![0; 4 << 20]).expect_err("the disk is small");
    let (held, error) = fill(&store).await;
    check_full(&store, &disk.state(), &held, &error, ENOSPC).await;
    std::fs::remove_file(&filler).unwrap();
    store.write(put(30_000, 100_000)).await.expect("there is space again");
    assert!(store.monitor().state().failure.is_none());
    let after = store.load().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(open(&disk.state()).unwrap().load().await.unwrap(), after);
}

#[tokio::test]
async fn verdicts_that_find_no_space_leave_the_old_ones() {
    let Some(disk) = small_disk("verdicts_that_find_no_space_leave_the_old_ones") else { return };
    let directory = Arc::new(StateDirectory::open(&disk.state()).unwrap());
    let file = VerdictFile::of(&directory);
    let old = SavedVerdicts { saved_at: SavedAt::default(), records: Vec::new() };
    file.save(&old).unwrap();
    std::fs::write(disk.0.path().join("filler"), vec![0; 4 << 20]).expect_err("the disk is small");
    let error = file.save(&SavedVerdicts::default()).expect_err("no space");
    assert_eq!(error.errno(), Some(ENOSPC), "{error}");
    assert_eq!(file.load().unwrap(), Some(old));
}

#[tokio::test]
async fn a_read_only_disk_is_named_at_the_start() {
    let Some(disk) = small_disk("a_read_only_disk_is_named_at_the_start") else { return };
    open(&disk.state()).unwrap().close().await.unwrap();
    mount(&["-o", "remount,ro"], disk.0.path()).unwrap();
    let error = open(&disk.state()).expect_err("read-only").to_string();
    assert!(error.contains("Read-only file system") && error.contains("state"), "{error}");
}
