//! What a scrape costs the daemon: CPU and memory, with a client in another process.
//!
//! `cargo bench --bench scrape -- 100000` serves that many members (100,000
//! when not said) from a fixed snapshot and lets curl read them, five times
//! each: the metrics plain, with gzip, without members, and the status. Prints
//! medians of this process's CPU time, and how far its memory rose.

#![expect(clippy::print_stdout, reason = "the report goes to the terminal")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot run says where")]

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use vitald::channel::reader::ReadContext;
use vitald::channel::{Channel, Health};
use vitald::health::{
    DriverSnapshot, Durations, LastProbe, MemberState, Outcome, Phases, ResultCounts, Timestamp,
};
use vitald::testing::catalog::{
    Catalog, Client, Fault, MemberChange, MemberChanged, ReloadState, Snapshot, Transaction, UnixSeconds,
};
use vitald::testing::probe::{Resolver, SystemLookup};
use vitald::testing::serve::{self, Liveness, ReloadFault, ReloadSummary, SnapshotError};

const ROUNDS: usize = 5;
const START: Timestamp = Timestamp(1_767_225_605_123_456_789);

#[derive(Clone)]
struct Fixed(Arc<Snapshot>);

impl serve::DaemonHandle for Fixed {
    async fn observe(&self) -> Result<Snapshot, SnapshotError> {
        Ok(Snapshot::clone(&self.0))
    }

    fn liveness(&self) -> Liveness {
        Liveness::Alive
    }

    fn lost_log_lines(&self) -> u64 {
        0
    }

    async fn change_member(&self, _: MemberChange, _: Client) -> Result<MemberChanged, Fault> {
        Err(Fault::Unavailable("nobody asks".to_owned()))
    }

    async fn reload(&self, _: Client) -> Result<ReloadSummary, ReloadFault> {
        Err(ReloadFault::Unavailable("a measurement has nothing to reload".to_owned()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let members = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(100_000);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let source = Fixed(Arc::new(snapshot(members)));
    let access = serve::Access::default();
    tokio::spawn(serve::run(
        listener,
        serve::router(source, &access),
        CancellationToken::new(),
        serve::Limits::default(),
        access,
        serve::Audit::new(serve::AuditedCalls::OwnPages),
    ));
    println!("{members} members; medians of {ROUNDS}");
    println!("{:<28}{:>12}{:>12}{:>14}", "request", "bytes", "CPU ms", "memory MB");
    let gzip = "Accept-Encoding: gzip";
    let plain = "Accept-Encoding: identity";
    for (path, header) in [
        ("/metrics", plain),
        ("/metrics", gzip),
        ("/metrics?detail=channel", plain),
        ("/v1/status", plain),
        ("/v1/status", gzip),
    ] {
        let name = if header == gzip { format!("{path} gzip") } else { path.to_owned() };
        let (mut cpu, mut memory, mut bytes) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..ROUNDS {
            // 5 resets the high-water mark of resident memory.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let (time, resident) = (cpu_time(), memory_kib("VmRSS:"));
            bytes = read(&format!("http://{address}{path}"), header).await;
            cpu.push(cpu_time() - time);
            memory.push(memory_kib("VmHWM:").saturating_sub(resident));
        }
        let (cpu, memory) = (median(cpu).as_secs_f64() * 1e3, median(memory) / 1024);
        println!("{name:<28}{bytes:>12}{cpu:>12.1}{memory:>14}");
    }
}

/// How many bytes curl received.
async fn read(url: &str, header: &str) -> String {
    let arguments = ["-s", "-S", "-f", "-o", "/dev/null", "-w", "%{size_download}", "-H", header, url];
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let curl = move || std::process::Command::new("curl").args(arguments).output();
    let output = tokio::task::spawn_blocking(curl).await.unwrap().unwrap();
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn median<T: Ord>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values.swap_remove(values.len() / 2)
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn memory_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Channels of files ask for nothing.
struct NoContext;

impl ReadContext for NoContext {}

/// One channel of healthy members on one driver.
fn snapshot(members: u32) -> Snapshot {
    let (resolver, _) = Resolver::new(SystemLookup, Duration::from_secs(30));
    let mut catalog = Catalog::new(1, 0, resolver);
    let mut transaction = Transaction::new(catalog.channels().resources.clone(), &NoContext);
    let channel = Arc::new(channel(members));
    transaction.put_files([(&channel, Path::new("vitald.toml"))].into_iter(), UnixSeconds(0)).unwrap();
    let (changes, resources) = transaction.finish();
    let prepared = catalog.prepare(&changes, resources).unwrap();
    let channels = catalog.commit(prepared).channels;
    let states: Vec<MemberState> = (0..members).map(state).collect();
    let mut driver = DriverSnapshot::empty();
    driver.pages =
        states.chunks(vitald::health::snapshot::PAGE).map(|page| Arc::new(page.to_vec())).collect();
    driver.channels = vec![Arc::default()];
    Snapshot {
        taken_at: START,
        started_at: START,
        ready: true,
        channels,
        drivers: vec![driver],
        reload: ReloadState { successful: true, last_success: START },
        changes: Default::default(),
        address_changes: 0,
        writes: Vec::new(),
    }
}

fn channel(members: u32) -> Channel {
    let mut text =
        "[[channels]]\nname = \"web\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\nmembers = [\n"
            .to_owned();
    for number in 0..members {
        let host = Ipv4Addr::from_bits(0x0a00_0000 + number);
        writeln!(text, "{{ host = \"{host}\", port = 18081, member_group_name = \"blue\" }},").unwrap();
    }
    text.push_str("]\nmember_groups = [{ member_group_name = \"blue\", member_group_weight = 30 }]\n");
    let config = vitald::testing::config::parse("vitald.toml", &text, Path::new("/"));
    let mut config = config.map_err(|errors| errors.summary()).unwrap();
    Channel::clone(&config.channels.remove(0).channel)
}

fn state(slot: u32) -> MemberState {
    let nanos = u64::from(slot) * 7919;
    MemberState {
        consecutive_successes: 1234,
        counts: ResultCounts { success: 1234 + u64::from(slot % 7), failure: 0, inconclusive: 0 },
        transitions: [0, 1, 0],
        last: Some(LastProbe {
            at: START,
            outcome: Outcome::Success,
            status: Some(200),
            detail: "200 OK".into(),
            address: None,
            durations: Durations::new(
                Duration::from_nanos(1_000_000 + nanos % 900_000),
                Phases {
                    connect: Some(Duration::from_nanos(100_000 + nanos % 90_000)),
                    tls: None,
                    response: Some(Duration::from_nanos(900_000 + nanos % 800_000)),
                },
            ),
        }),
        ..MemberState::new(0, Health::Healthy, Timestamp(START.0 + nanos * 1000))
    }
}
