//! `kill -9` under write load, again and again: no acknowledged write is lost,
//! no batch is there in part, and the file always opens.
//!
//! The writer is a child process: this very test binary, told so by a variable.
//! It prints a number once the store has acknowledged it. Runs for 25 seconds;
//! `VITALD_KILL_SECONDS` makes it longer.

#![cfg(feature = "daemon")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use vitald::testing::store::{Batch, Collection, LocalStore, RecordKey, StateDirectory, StoreContents};

const DIRECTORY: &str = "VITALD_KILL_DIRECTORY";
/// Batches that wait in the child at once.
const WRITERS: u64 = 8;
/// How many numbers are kept; older ones are removed by the batch that adds one.
const KEPT: u64 = 100;

fn key(kind: &str, number: u64) -> RecordKey {
    RecordKey::new(Collection::Channels, format!("{kind}{number:020}"))
}

/// Different for each number, sometimes long enough for several pages.
fn value(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(50) { 20_000 } else { number % 300 };
    number.to_le_bytes().into_iter().chain((0..length).map(|_| b'v')).collect()
}

/// The numbers a store holds. Panics if one is there in part.
fn numbers(contents: &StoreContents) -> Vec<u64> {
    let held: BTreeMap<&RecordKey, &Vec<u8>> =
        contents.records.iter().map(|record| (&record.key, &record.value)).collect();
    let firsts = held.keys().filter_map(|key| std::str::from_utf8(&key.id).ok()?.strip_prefix("a"));
    let numbers: Vec<u64> = firsts.map(|digits| digits.parse().expect("a number")).collect();
    for number in &numbers {
        assert_eq!(held.get(&key("a", *number)), Some(&&value(*number)), "{number}");
        assert_eq!(held.get(&key("b", *number)), Some(&&value(*number)), "{number} is there in part");
    }
    assert_eq!(held.len(), numbers.len() * 2, "something is there in part");
    numbers
}

fn open(path: &Path) -> LocalStore {
    let directory = Arc::new(StateDirectory::open(path).expect("the directory opens"));
    LocalStore::open(&directory).expect("the file opens")
}

/// The child. Does nothing in an ordinary test run.
#[tokio::test]
async fn writer() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let store = Arc::new(open(Path::new(&path)));
    let held = numbers(&store.load().await.expect("the records can be read"));
    let first = held.last().map_or(1, |last| last + 1);
    println!();
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in (first + writer..).step_by(usize::try_from(WRITERS).unwrap()) {
                let mut batch = Batch::new();
                batch.put(key("a", number), value(number)).put(key("b", number), value(number));
                if let Some(old) = number.checked_sub(KEPT) {
                    batch.remove(key("a", old)).remove(key("b", old));
                }
                store.write(batch).await.expect("the write is taken");
                println!("acknowledged {number}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer goes on until it is killed");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is bounded by real time")]
fn no_acknowledged_write_is_lost() {
    if std::env::var_os(DIRECTORY).is_some() {
        return;
    }
    let seconds = std::env::var("VITALD_KILL_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("state");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { open(&path).close().await }).unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut kills, mut acknowledged) = (0, BTreeSet::new());
    let mut total = 0;
    while Instant::now() < end || kills < 20 {
        let heard = run_and_kill(&path);
        kills += 1;
        total += heard.len();
        acknowledged.extend(heard);
        // A copy is opened, so that the next child meets the file as it was left.
        let copy = place.path().join("copy");
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::copy(path.join("store.redb"), copy.join("store.redb")).unwrap();
        let held = runtime.block_on(async {
            let store = open(&copy);
            let contents = store.load().await.unwrap();
            store.close().await.unwrap();
            numbers(&contents)
        });
        let newest = held.last().copied().unwrap_or(0);
        // Older ones were removed by later batches, acknowledged or not.
        acknowledged = acknowledged.split_off(&(newest.saturating_sub(KEPT) + 1));
        for number in &acknowledged {
            assert!(held.binary_search(number).is_ok(), "{number} was acknowledged; newest is {newest}");
        }
    }
    println!("{kills} kills, {total} acknowledged batches");
    assert!(total > 0, "nothing was ever acknowledged");
}

/// Lets a child write for a moment; the numbers it acknowledged before it was killed.
fn run_and_kill(path: &Path) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the child starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (first, ready) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        let numbers = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        // Whoever waits for the first number may not wait for the others.
        numbers.inspect(|_| _ = first.send(())).collect::<Vec<u64>>()
    });
    // Half of the kills hit a writer at work, the others any moment from the
    // start on: opening, verifying, reading.
    if fastrand::bool() {
        ready.recv().expect("the child acknowledges something");
    }
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..30_000)));
    child.kill().expect("the child can be killed");
    child.wait().expect("the child ends");
    reader.join().expect("the output can be read")
}
