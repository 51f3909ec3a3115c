//! What the store costs: durable writes per second, loading, saving verdicts.
//!
//! `cargo bench --bench store -- DIRECTORY` measures on the disk of that
//! directory (the system's temporary one when not said). A durable write waits
//! for the disk, so the figures are the disk's as much as vitald's: the cost of
//! one flush there is printed first.

#![expect(clippy::print_stdout, reason = "the report goes to the terminal")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot run says where")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use vitald::channel::Health;
use vitald::health::{ConfirmedAt, Resumed, Timestamp, VerdictFrom};
use vitald::testing::store::{
    Batch, Collection, LocalStore, RecordKey, SavedAt, SavedVerdicts, StateDirectory, VerdictFile,
    VerdictRecord,
};

/// A channel's record with two members, as the API writes it.
const RECORD: usize = 1200;
const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let arguments = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let parent = arguments.map_or_else(std::env::temp_dir, PathBuf::from);
    let place = tempfile::tempdir_in(parent).unwrap();
    println!("one write and flush of 4 KiB: {:.2} ms (median)", flush_cost(place.path()).as_secs_f64() * 1e3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{:<24}{:>12}{:>12}{:>14}{:>14}", "writers", "writes/s", "commits/s", "p50 ms", "p99 ms");
    for writers in [1, 10, 100] {
        runtime.block_on(writes(&place.path().join(format!("writers-{writers}")), writers));
    }
    println!("{:<24}{:>12}{:>12}{:>14}", "records", "file MB", "open ms", "load ms");
    for records in [10_000, 100_000] {
        runtime.block_on(load(&place.path().join(format!("records-{records}")), records));
    }
    runtime.block_on(large_record(&place.path().join("large")));
    verdicts(&place.path().join("verdicts"), 100_000);
}

fn open(path: &Path) -> Arc<LocalStore> {
    let directory = Arc::new(StateDirectory::open(path).unwrap());
    Arc::new(LocalStore::open(&directory).unwrap())
}

fn put(batch: &mut Batch, number: usize) {
    batch.put(RecordKey::new(Collection::Channels, format!("{number:032x}")), vec![b'x'; RECORD]);
}

fn flush_cost(place: &Path) -> Duration {
    let mut file = File::create(place.join("flush")).unwrap();
    let times = (0..50).map(|_| {
        let start = Instant::now();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    });
    percentile(times.collect(), 50)
}

async fn writes(path: &Path, writers: usize) {
    let store = open(path);
    // A store with something in it: a commit touches a path of its tree.
    let mut batch = Batch::new();
    (0..10_000).for_each(|number| put(&mut batch, number));
    store.write(batch).await.unwrap();
    let before = store.monitor().state();
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut times = Vec::new();
                for round in 0.. {
                    if start.elapsed() > ROUND {
                        break;
                    }
                    let mut batch = Batch::new();
                    put(&mut batch, (writer * 7919 + round * 104_729) % 10_000);
                    let begun = Instant::now();
                    store.write(batch).await.unwrap();
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    let state = store.monitor().state();
    let per_second =
        |count: u64| format!("{:.0}", u32::try_from(count).map_or(f64::MAX, f64::from) / seconds);
    let millis = |share| percentile(times.clone(), share).as_secs_f64() * 1e3;
    let (batches, commits) = (state.durable - before.durable, state.commits - before.commits);
    let (batches, commits) = (per_second(batches), per_second(commits));
    println!("{writers:<24}{batches:>12}{commits:>12}{:>14.2}{:>14.2}", millis(50), millis(99));
}

async fn load(path: &Path, records: usize) {
    let store = open(path);
    let mut batch = Batch::new();
    (0..records).for_each(|number| put(&mut batch, number));
    store.write(batch).await.unwrap();
    store.close().await.unwrap();
    let bytes = path.join("store.redb").metadata().unwrap().len();
    let start = Instant::now();
    let store = open(path);
    let opened = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    assert_eq!(store.load().await.unwrap().records.len(), records);
    let loaded = start.elapsed().as_secs_f64() * 1e3;
    println!("{records:<24}{:>12}{opened:>12.0}{loaded:>14.0}", bytes >> 20);
}

/// One channel of 100,000 members is one record.
async fn large_record(path: &Path) {
    let store = open(path);
    let mut times = Vec::new();
    for _ in 0..7 {
        let mut batch = Batch::new();
        batch.put(RecordKey::new(Collection::Channels, b"large".as_slice()), vec![b'x'; 20 << 20]);
        let start = Instant::now();
        store.write(batch).await.unwrap();
        times.push(start.elapsed());
    }
    let bytes = path.join("store.redb").metadata().unwrap().len();
    let millis = percentile(times, 50).as_secs_f64() * 1e3;
    println!("one record of 20 MB written again: {millis:.0} ms; the file has {} MB", bytes >> 20);
}

fn verdicts(path: &Path, members: u64) {
    let directory = Arc::new(StateDirectory::open(path).unwrap());
    let file = VerdictFile::of(&directory);
    let channel = made_up_channel();
    let keys = vitald::testing::store::ChannelKeys::of(&channel);
    let member = channel.members().first().unwrap();
    let start = cpu_time();
    let records = (0..members).filter_map(|number| {
        let known = Resumed {
            health: Health::Healthy,
            from: VerdictFrom::Check,
            consecutive_successes: 7,
            consecutive_failures: 0,
            since: Timestamp(number),
            confirmed: ConfirmedAt::at(Timestamp(1)),
        };
        // The keys of one for all: what counts is the cost of making them.
        VerdictRecord::of(keys.member(member), &known, Timestamp(1))
    });
    let verdicts = SavedVerdicts { saved_at: SavedAt::default(), records: records.collect() };
    let keys = (cpu_time() - start).as_secs_f64() * 1e3;
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let (begun, used) = (Instant::now(), cpu_time());
        file.save(&verdicts).unwrap();
        wall.push(begun.elapsed());
        cpu.push(cpu_time() - used);
    }
    let begun = Instant::now();
    let read = file.load().unwrap().unwrap();
    let loaded = begun.elapsed().as_secs_f64() * 1e3;
    assert_eq!(read, verdicts);
    let bytes = file.path().metadata().unwrap().len();
    println!(
        "verdicts of {members} members: {bytes} bytes, keys {keys:.0} ms CPU, save {:.1} ms ({:.1} ms CPU), load {loaded:.1} ms",
        percentile(wall, 50).as_secs_f64() * 1e3,
        percentile(cpu, 50).as_secs_f64() * 1e3,
    );
}

fn made_up_channel() -> Arc<vitald::channel::Channel> {
    let text = r#"
        [[channels]]
        name = "web-frontend"
        port = 8080
        balance_strategy = 1
        member_type = "ip"
        members = [{ host = "192.0.2.17" }]
        [channels.vpc_health_config]
        protocol = "http"
        path = "/health"
        http_code = "200"
        threshold_normal = 2
        threshold_abnormal = 3
        time_interval = 5
        timeout = 2
    "#;
    let config = vitald::testing::config::parse("made up", text, Path::new("."));
    let config = config.unwrap_or_else(|errors| unreachable!("{errors}"));
    config.channels.into_iter().next().unwrap().channel
}

fn percentile(mut times: Vec<Duration>, share: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * share / 100).copied().unwrap_or_default()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
