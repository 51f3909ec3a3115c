//! `kill -9` of the real daemon under write load, again and again: after every
//! restart each channel is as its last acknowledged call left it, or as the one
//! call that was under way would have; nothing is there in part.
//!
//! Calls go through the Unix socket, so that no credentials are in the way. Runs
//! for 25 seconds; `VITALD_KILL_SECONDS` makes it longer.

#![cfg(feature = "daemon")]
#![expect(
    clippy::indexing_slicing,
    reason = "the answers are the daemon's own; another shape fails the test"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Clients that write at the same time.
const WRITERS: usize = 8;
/// Channels of each.
const NAMES: usize = 12;
const CHANNELS: &str =
    "/v2/00000000000000000000000000000001/apigw/instances/eddc4d25480b4cd6b512f270a1b8b341/vpc-channels";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a channel says, made from one number so that a mixture of two shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    id: String,
    version: u32,
}

/// What a call that was not answered would have made of its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    name: String,
    /// None: no such channel.
    version: Option<u32>,
}

/// One writer's channels, as acknowledged.
#[derive(Debug, Default)]
struct Shelf {
    held: BTreeMap<String, Held>,
    pending: Option<Pending>,
    version: u32,
}

fn body(name: &str, version: u32) -> Value {
    let members: Vec<Value> = hosts(version).into_iter().map(|host| json!({"host": host})).collect();
    json!({"name": name, "port": port(version), "balance_strategy": 1, "member_type": "ip", "members": members,
        "vpc_health_config": {"protocol": "TCP", "threshold_normal": 1, "threshold_abnormal": 1,
            "time_interval": 300, "timeout": 1}})
}

fn port(version: u32) -> u32 {
    1 + version % 60_000
}

/// Of one to five members; nobody is there (RFC 5737).
fn hosts(version: u32) -> Vec<String> {
    (0..=version % 5).map(|number| format!("192.0.2.{}", (version + number) % 250)).collect()
}

/// A connection that is kept; an error means that the daemon is gone.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<(u16, Vec<u8>)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all((head + &body).as_bytes())?;
        let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what.to_owned());
        let (mut status, mut length, mut line) = (None, 0, String::new());
        loop {
            line.clear();
            if self.0.read_line(&mut line)? == 0 {
                return Err(broken("closed within a head"));
            }
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if status.is_none() {
                status = text.split(' ').nth(1).and_then(|number| number.parse().ok());
            } else if let Some(value) = text.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| broken("no length"))?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status.ok_or_else(|| broken("no status"))?, body))
    }
}

impl Shelf {
    /// Calls until the daemon is gone.
    fn write(mut self, writer: usize, socket: &Path, acknowledged: &mpsc::Sender<()>) -> Self {
        let Ok(mut client) = Client::connect(socket) else { return self };
        loop {
            let name = format!("w{writer}_{}", fastrand::usize(..NAMES));
            self.version += 1;
            let version = self.version;
            let (method, path, next) = match self.held.get(&name) {
                None => ("POST", CHANNELS.to_owned(), Some(version)),
                Some(held) if fastrand::u8(..) < 64 => ("DELETE", format!("{CHANNELS}/{}", held.id), None),
                Some(held) => ("PUT", format!("{CHANNELS}/{}", held.id), Some(version)),
            };
            self.pending = Some(Pending { name: name.clone(), version: next });
            let sent = next.map(|version| body(&name, version));
            let Ok((status, answer)) = client.call(method, &path, sent.as_ref()) else { return self };
            let answer_text = String::from_utf8_lossy(&answer);
            assert!((200..300).contains(&status), "{method} {path}: {status} {answer_text}");
            match next {
                None => drop(self.held.remove(&name)),
                Some(version) => {
                    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
                    let id = answer["id"].as_str().expect("an id").to_owned();
                    self.held.insert(name, Held { id, version });
                }
            }
            self.pending = None;
            // Whoever waits for the first may not wait for the others.
            let _ = acknowledged.send(());
        }
    }

    /// Compares with what a restarted daemon says, and goes on from there.
    fn settle(&mut self, found: &BTreeMap<String, Held>) {
        let pending = self.pending.take();
        let names = self.held.keys().chain(found.keys()).chain(pending.as_ref().map(|pending| &pending.name));
        for name in names {
            let (acknowledged, found) = (self.held.get(name), found.get(name));
            let undecided = pending.as_ref().filter(|pending| pending.name == *name);
            let is_kept = acknowledged == found;
            let is_done =
                undecided.is_some_and(|pending| pending.version == found.map(|found| found.version));
            let is_same_channel = acknowledged.zip(found).is_none_or(|(before, now)| before.id == now.id);
            assert!(
                (is_kept || is_done) && is_same_channel,
                "{name}: acknowledged {acknowledged:?}, under way {undecided:?}, found {found:?}"
            );
        }
        self.held.clone_from(found);
    }
}

/// The channels of a running daemon, by writer. Panics if one is there in part.
fn read(socket: &Path) -> Vec<BTreeMap<String, Held>> {
    let mut client = Client::connect(socket).expect("the daemon answers");
    let (status, answer) = client.call("GET", "/v1/export", None).expect("an answer");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let archive: Value = serde_json::from_slice(&answer).expect("JSON");
    let mut shelves = vec![BTreeMap::new(); WRITERS];
    for record in archive["records"].as_array().expect("a list") {
        if record["kind"] != "channel" {
            continue;
        }
        let channel = &record["channel"];
        let name = channel["name"].as_str().expect("a name");
        let members = channel["members"].as_array().expect("members");
        let hosts_found: Vec<&str> =
            members.iter().map(|member| member["host"].as_str().expect("a host")).collect();
        // The port tells the version but for its multiple of 60,000, and no run gets there.
        let version = u32::try_from(channel["port"].as_u64().expect("a port")).expect("a port") - 1;
        assert_eq!(hosts_found, hosts(version), "{name} is there in part: {record}");
        let id = record["id"].as_str().expect("an id").to_owned();
        let writer: usize = name[1..name.find('_').expect("ours")].parse().expect("ours");
        shelves[writer].insert(name.to_owned(), Held { id, version });
    }
    shelves
}

/// A running daemon; killed, never ended in order.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Place {
    directory: tempfile::TempDir,
    socket: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("vitald.sock");
        let path = directory.path().display();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nsocket = \"{path}/vitald.sock\"\n[store]\npath = \"{path}/state\"\n\
             [api]\n[[api.instances]]\nid = \"eddc4d25480b4cd6b512f270a1b8b341\"\n"
        );
        std::fs::write(directory.path().join("vitald.toml"), config).expect("written");
        Self { directory, socket }
    }

    fn start(&self) -> Daemon {
        let log = std::fs::File::create(self.directory.path().join("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_vitald"))
            .args(["run", "--config"])
            .arg(self.directory.path().join("vitald.toml"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        Daemon(child)
    }

    /// Waits until the daemon serves its socket.
    fn wait(&self, daemon: &mut Daemon) {
        let began = now();
        while UnixStream::connect(&self.socket).is_err() {
            let log = || std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            if let Some(status) = daemon.0.try_wait().expect("it can be asked") {
                panic!("the daemon ended with {status}:\n{}", log());
            }
            assert!(began.elapsed() < PATIENCE, "the daemon does not serve:\n{}", log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test is bounded by real time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn no_acknowledged_call_is_lost() {
    let seconds = std::env::var("VITALD_KILL_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let place = Place::new();
    let end = now() + Duration::from_secs(seconds);
    let mut shelves: Vec<Shelf> = (0..WRITERS).map(|_| Shelf::default()).collect();
    let (mut kills, mut calls) = (0_u32, 0_usize);
    while now() < end || kills < 10 {
        let mut daemon = place.start();
        // Some kills hit a daemon that is starting.
        if fastrand::u8(..10) == 0 {
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..200_000)));
            drop(daemon);
            kills += 1;
            continue;
        }
        place.wait(&mut daemon);
        let found = read(&place.socket);
        shelves.iter_mut().zip(&found).for_each(|(shelf, found)| shelf.settle(found));
        let (sender, acknowledged) = mpsc::channel();
        shelves = std::thread::scope(|scope| {
            let writers: Vec<_> = shelves
                .drain(..)
                .enumerate()
                .map(|(writer, shelf)| {
                    let (sender, socket) = (sender.clone(), &place.socket);
                    scope.spawn(move || shelf.write(writer, socket, &sender))
                })
                .collect();
            drop(sender);
            acknowledged.recv_timeout(PATIENCE).expect("something is acknowledged");
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..60_000)));
            drop(daemon);
            writers.into_iter().map(|writer| writer.join().expect("a writer stops with its daemon")).collect()
        });
        kills += 1;
        calls += 1 + acknowledged.try_iter().count();
    }
    println!("{kills} kills, {calls} acknowledged calls");
}
