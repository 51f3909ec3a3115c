//! The members and the daemon of a table of cases, and the judgement over them.
//!
//! One daemon in this process, one channel per case. Everything is waited for by
//! asking; a busy machine makes a run longer and nothing else. A probe that the
//! daemon itself could not hold (`local_stall`) is passed over, as it passes it
//! over: it is counted, and says nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vitald::channel::Health;
use vitald::testing::daemon::{self, ConfigSource, DaemonOptions, TransitionEvent};

use crate::address::own_address;
use crate::case::{Case, Expected, Member, Protocol, Seen, THRESHOLD};
use crate::http;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::wait;

/// Longer than any table takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(240);

/// Where nobody listens, on every test's own address.
const CLOSED_PORT: u16 = 9;

/// A member as it runs.
pub(crate) struct Running {
    pub(crate) host: String,
    pub(crate) port: u16,
    peer: Option<Peer>,
    _hole: Vec<TcpStream>,
    _listener: Option<TcpListener>,
}

impl Running {
    /// Puts a case's member in place. Must be called inside the members' runtime.
    pub(crate) fn start(case: &Case, ip: Ipv4Addr, port: u16) -> Self {
        let nobody = |host: String, port| Self { host, port, peer: None, _hole: Vec::new(), _listener: None };
        match &case.member {
            Member::Plays(script) => {
                let peer = Peer::serve(ip, port, script.clone());
                Self { peer: Some(peer.clone()), ..nobody(ip.to_string(), peer.address.port()) }
            }
            Member::Nobody => nobody(ip.to_string(), CLOSED_PORT),
            Member::At(host) => nobody((*host).to_owned(), 80),
            Member::NeverAccepts => {
                let listener = TcpListener::bind((ip, port)).expect("the test's own address is free");
                let port = listener.local_addr().expect("a bound address").port();
                Self { _listener: Some(listener), ..nobody(ip.to_string(), port) }
            }
            Member::FullQueue => {
                let listener = TcpListener::bind((ip, port)).expect("the test's own address is free");
                // A second `listen` only changes the length of the queue.
                rustix::net::listen(&listener, 0).expect("a listener can listen");
                let address = listener.local_addr().expect("a bound address");
                let mut hole = Vec::new();
                while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                    hole.push(stream);
                    assert!(hole.len() < 16, "the queue does not fill up");
                }
                Self { _hole: hole, _listener: Some(listener), ..nobody(ip.to_string(), address.port()) }
            }
        }
    }

    /// Connections that the member's program has got.
    fn seen(&self) -> usize {
        self.peer.as_ref().map_or(0, Peer::seen)
    }
}

/// Whether the checks of a configuration are on.
#[derive(Clone, Copy)]
enum Checks {
    On,
    Off,
}

/// One `[[channels]]` with the case's check over its member.
fn channel(case: &Case, member: &Running, checks: Checks) -> String {
    let mut text = format!(
        "[[channels]]\nname = \"{}\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\
         [[channels.members]]\nhost = \"{}\"\nport = {}\n\
         [channels.vpc_health_config]\nprotocol = \"{}\"\nthreshold_normal = {THRESHOLD}\n\
         threshold_abnormal = {THRESHOLD}\ntime_interval = \"{}ms\"\ntimeout = \"{}ms\"\nstatus = {}\n{}",
        case.name,
        member.host,
        member.port,
        case.protocol.word(),
        case.pace.interval.as_millis(),
        case.pace.timeout.as_millis(),
        match checks {
            Checks::On => 1,
            Checks::Off => 2,
        },
        case.check,
    );
    if case.protocol != Protocol::Tcp {
        let _ = writeln!(
            text,
            "path = \"/health\"\nhttp_code = \"{}\"\nmethod = \"{}\"",
            case.codes, case.method
        );
    }
    if !case.options.is_empty() {
        let _ = write!(text, "[channels.probe]\n{}", case.options);
    }
    text
}

/// A daemon in this process.
pub(crate) struct Daemon {
    pub(crate) address: SocketAddr,
    events: mpsc::Receiver<TransitionEvent>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Daemon {
    /// Starts it over these channels; returns once it serves.
    pub(crate) fn start(folder: TempDir, channels: &str) -> Self {
        let config = folder.path().join("vitald.toml");
        fs::write(&config, channels).expect("the folder can be written");
        let (events, received) = mpsc::channel(10_000);
        let (ready, serving) = std::sync::mpsc::channel();
        let stop = CancellationToken::new();
        let options = DaemonOptions {
            config: ConfigSource::File(config),
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            stop: stop.clone(),
            on_ready: Some(Box::new(move |address| {
                ready.send(address).expect("the test waits for it");
            })),
            events: Some(events),
            lost_log_lines: None,
        };
        let thread = std::thread::spawn(move || {
            if let Err(error) = daemon::run(options) {
                panic!("the daemon did not start: {error}");
            }
        });
        let address = serving.recv().expect("the daemon serves");
        Self { address, events: received, stop, thread: Some(thread), folder }
    }

    /// Replaces the configuration; it is in effect when this returns.
    pub(crate) fn reload(&self, channels: &str) {
        fs::write(self.folder.path().join("vitald.toml"), channels).expect("the folder can be written");
        let answer = http::send(self.address, "POST", "/v1/reload", "X-Vitald-Action: reload\r\n");
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&http::get(self.address, path).expect("an answer").body).expect("JSON")
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(http::get(self.address, "/metrics").expect("an answer").text())
    }

    /// All transitions since the last call.
    pub(crate) fn transitions(&mut self) -> Vec<TransitionEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// Every member, by channel and address.
    pub(crate) fn members(&self) -> BTreeMap<(String, String), Value> {
        let status = self.json("/v1/status");
        let channels = status.get("channels").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut all = BTreeMap::new();
        for channel in channels {
            let name = text(&channel, "/name").unwrap_or_default();
            for member in channel.get("members").and_then(Value::as_array).cloned().unwrap_or_default() {
                all.insert((name.clone(), text(&member, "/address").unwrap_or_default()), member);
            }
        }
        all
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.cancel();
        // A daemon that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

pub(crate) fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

/// A runtime for members on a thread of its own.
pub(crate) fn members_runtime() -> tokio::runtime::Handle {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    // Ends with the test's process.
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

/// Runs a table of cases and panics with everything that is not as expected.
pub(crate) fn run(folder: TempDir, cases: &[Case]) {
    let ip = own_address();
    let members: Vec<Running> = {
        let handle = members_runtime();
        let _inside = handle.enter();
        cases.iter().map(|case| Running::start(case, ip, 0)).collect()
    };
    let configuration = |checks| -> String {
        cases.iter().zip(&members).map(|(case, member)| channel(case, member, checks)).collect()
    };
    let mut daemon = Daemon::start(folder, &configuration(Checks::On));
    let mut wrong = Vec::new();
    wait_for_verdicts(&daemon, cases, &members, &mut wrong);
    let transitions = daemon.transitions();
    daemon.reload(&configuration(Checks::Off));
    for case in cases {
        judge_transitions(case, &transitions, &mut wrong);
    }
    wrong.extend(settled_counts(&daemon, cases, &members));
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the last conclusive probe of a member said.
fn found(member: &Value) -> Option<Expected> {
    let health = match text(member, "/health")?.as_str() {
        "healthy" => "healthy",
        "unhealthy" => "unhealthy",
        _ => return None,
    };
    let reason = text(member, "/last_probe/reason");
    if text(member, "/last_probe/result")? == "inconclusive" && reason.as_deref() == Some("local_stall") {
        return None;
    }
    let phases = member.pointer("/last_probe/phases").and_then(Value::as_object)?;
    let ended: Vec<&str> =
        ["connect", "tls", "response"].into_iter().filter(|phase| phases.contains_key(*phase)).collect();
    Some(Expected {
        health,
        reason: reason.map(|reason| &*reason.leak()),
        detail: text(member, "/last_probe/detail")?,
        phases: ended.join("+").leak(),
        seen: Seen::Every,
    })
}

fn wait_for_verdicts(daemon: &Daemon, cases: &[Case], members: &[Running], wrong: &mut Vec<String>) {
    let mut open: Vec<(&Case, String)> = cases
        .iter()
        .zip(members)
        .map(|(case, member)| {
            let host =
                if member.host.contains(':') { format!("[{}]", member.host) } else { member.host.clone() };
            (case, format!("{host}:{}", member.port))
        })
        .collect();
    let began = wait::now();
    while !open.is_empty() {
        let states = daemon.members();
        open.retain(|(case, address)| {
            let key = (case.name.to_owned(), address.clone());
            let Some(found) = states.get(&key).and_then(found) else { return true };
            let expected = Expected { seen: Seen::Every, ..case.expected.clone() };
            if found != expected {
                wrong.push(format!("{}:\n   found {found:?}\n  wanted {expected:?}", case.name));
            }
            false
        });
        if began.elapsed() > PATIENCE {
            wrong.extend(open.iter().map(|(case, address)| {
                let state = states.get(&(case.name.to_owned(), address.clone()));
                format!("{}: no verdict after {PATIENCE:?}: {state:?}", case.name)
            }));
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The verdict came once, from unknown, by exactly as many results as the threshold says.
fn judge_transitions(case: &Case, transitions: &[TransitionEvent], wrong: &mut Vec<String>) {
    let own: Vec<_> = transitions.iter().filter(|event| event.channel == case.name).collect();
    let as_wanted = match own.as_slice() {
        [event] => {
            event.from == Health::Unknown
                && event.to.word() == case.expected.health
                && event.consecutive as usize == THRESHOLD
                && event.outcome.reason() == case.expected.reason
                && event.detail == case.expected.detail
        }
        _ => false,
    };
    if !as_wanted {
        wrong.push(format!("{}: transitions {own:?}", case.name));
    }
}

/// Compares counts until they agree: the last connections may still wait to be
/// accepted, the last probes to be given up. What never agrees is returned.
fn settled_counts(daemon: &Daemon, cases: &[Case], members: &[Running]) -> Vec<String> {
    let began = wait::now();
    loop {
        let metrics = daemon.metrics();
        let judged = cases.iter().zip(members);
        let wrong: Vec<_> =
            judged.filter_map(|(case, member)| judge_counts(&metrics, case, member)).collect();
        if wrong.is_empty() || began.elapsed() > Duration::from_secs(10) {
            return wrong;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Every probe said the same, and the member saw exactly the probes that were counted.
fn judge_counts(metrics: &Metrics, case: &Case, member: &Running) -> Option<String> {
    let name = case.name;
    let channel = ("channel", name);
    let of_result = |result| metrics.sum("vitald_probes_total", &[channel, ("result", result)]);
    let (successes, failures) = (of_result("success"), of_result("failure"));
    let inconclusive =
        |reason| metrics.sum("vitald_probes_inconclusive_total", &[channel, ("reason", reason)]);
    let (stalled, cancelled) = (inconclusive("local_stall"), inconclusive("cancelled"));
    let of_reason = |reason| metrics.sum("vitald_probe_failures_total", &[channel, ("reason", reason)]);
    let as_wanted = case.expected.reason.map_or(successes, of_reason);
    let other = successes + failures - as_wanted;
    if as_wanted < THRESHOLD as f64 || other > 0.0 || of_result("inconclusive") != stalled {
        return Some(format!("{name}: {as_wanted} probes as wanted, {other} others"));
    }
    let counted = successes + failures + stalled;
    let seen = member.seen();
    let fits = match case.expected.seen {
        Seen::Every => (counted..=counted + cancelled).contains(&(seen as f64)),
        Seen::Nothing => seen == 0,
    };
    (!fits).then(|| format!("{name}: the member saw {seen} of {counted} probes and {cancelled} cancelled"))
}
