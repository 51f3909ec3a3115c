//! The built daemon as a process, seen as its users see it: a configuration
//! file, signals, HTTP, exit codes.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::address::own_address;
use super::http::{self, Response};
use super::metrics::Metrics;
use super::process::Process;
use super::wait;

/// A `vitald` command, free of the environment's settings.
pub(crate) fn vitald() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitald"));
    for variable in
        ["VITALD_CONFIG", "VITALD_LOG", "VITALD_URL", "NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM"]
    {
        command.env_remove(variable);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    folder: TempDir,
}

/// One member of `/v1/status`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) address: String,
    pub(crate) health: String,
    pub(crate) in_rotation: bool,
    pub(crate) enabled: bool,
    pub(crate) weight: u64,
    pub(crate) since: String,
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) result: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) status: Option<u64>,
    pub(crate) detail: Option<String>,
    /// The whole object.
    pub(crate) json: Value,
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

impl Member {
    fn read(json: &Value) -> Self {
        let number = |pointer: &str| json.pointer(pointer).and_then(Value::as_u64);
        let flag = |pointer: &str| json.pointer(pointer).and_then(Value::as_bool);
        let need = |field: &str| format!("{field} in {json}");
        Self {
            address: text(json, "/address").unwrap_or_else(|| panic!("{}", need("address"))),
            health: text(json, "/health").unwrap_or_else(|| panic!("{}", need("health"))),
            in_rotation: flag("/in_rotation").unwrap_or_else(|| panic!("{}", need("in_rotation"))),
            enabled: flag("/enabled").unwrap_or_else(|| panic!("{}", need("enabled"))),
            weight: number("/weight").unwrap_or_else(|| panic!("{}", need("weight"))),
            since: text(json, "/since").unwrap_or_else(|| panic!("{}", need("since"))),
            successes: number("/consecutive_successes").unwrap_or_else(|| panic!("{}", need("successes"))),
            failures: number("/consecutive_failures").unwrap_or_else(|| panic!("{}", need("failures"))),
            result: text(json, "/last_probe/result"),
            reason: text(json, "/last_probe/reason"),
            status: number("/last_probe/status"),
            detail: text(json, "/last_probe/detail"),
            json: json.clone(),
        }
    }

    pub(crate) fn is(&self, health: &str) -> bool {
        self.health == health
    }
}

impl Daemon {
    /// Starts it over these channels and waits until it answers.
    pub(crate) fn start(channels: &str) -> Self {
        Self::start_with(channels, |_| {})
    }

    /// As [`Daemon::start`], with more arguments or environment.
    pub(crate) fn start_with(channels: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        Self::start_logging("json", channels, prepare)
    }

    /// As [`Daemon::start_with`], with a log of this form.
    pub(crate) fn start_logging(format: &str, channels: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = SocketAddr::from((own_address(), 9650));
        let log = File::create(folder.path().join("log")).expect("the folder can be written");
        let mut command = vitald();
        command
            .args(["run", "--log-format", format, "--config"])
            .arg(folder.path().join("vitald.toml"))
            .stdout(Stdio::null())
            .stderr(log);
        prepare(&mut command);
        fs::write(folder.path().join("vitald.toml"), with_server(address, channels))
            .expect("the folder can be written");
        let process = Process::new(command.spawn().expect("vitald can be started"));
        let mut daemon = Self { address, process, folder };
        wait::until("the daemon to answer", || {
            if let Some(status) = daemon.process.ended() {
                panic!("the daemon ended with {status}:\n{}", daemon.log());
            }
            http::get(address, "/v1/status").ok().filter(|answer| answer.status == 200)
        });
        daemon
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("vitald.toml")
    }

    /// Replaces the channels on disk; the daemon is not told.
    pub(crate) fn write_config(&self, channels: &str) {
        fs::write(self.config_path(), with_server(self.address, channels))
            .expect("the folder can be written");
    }

    /// `POST /v1/reload`; the answer comes when it is done.
    pub(crate) fn reload(&self) -> Response {
        http::send(self.address, "POST", "/v1/reload", "X-Vitald-Action: reload\r\n").expect("an answer")
    }

    /// A `vitald` subcommand with this daemon's configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        vitald()
            .args(arguments)
            .arg("--config")
            .arg(self.config_path())
            .output()
            .expect("vitald can be started")
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        http::get(self.address, path).expect("the daemon answers")
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.get(path).body).expect("JSON")
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(self.get("/metrics").text())
    }

    /// The members of a channel, in the order of the configuration.
    pub(crate) fn members(&self, channel: &str) -> Vec<Member> {
        let json = self.json(&format!("/v1/channels/{channel}"));
        let members =
            json.get("members").and_then(Value::as_array).unwrap_or_else(|| panic!("members in {json}"));
        members.iter().map(Member::read).collect()
    }

    pub(crate) fn member(&self, channel: &str, address: &str) -> Member {
        let members = self.members(channel);
        members
            .iter()
            .find(|member| member.address == address)
            .unwrap_or_else(|| panic!("no {address} in {members:?}"))
            .clone()
    }

    /// Waits until a member is as wanted.
    pub(crate) fn wait_for(
        &self,
        channel: &str,
        address: &str,
        what: &str,
        wanted: impl Fn(&Member) -> bool,
    ) -> Member {
        wait::until(&format!("{channel}: {address} to be {what}"), || {
            Some(self.member(channel, address)).filter(&wanted)
        })
    }

    pub(crate) fn wait_for_health(&self, channel: &str, address: &str, health: &str) -> Member {
        self.wait_for(channel, address, health, |member| member.is(health))
    }

    /// Probes of a member so far, whatever they found.
    pub(crate) fn probes(&self, channel: &str, address: &str) -> f64 {
        self.metrics().sum("vitald_probes_total", &[("channel", channel), ("member", address)])
    }

    /// Transitions of a member to one health.
    pub(crate) fn transitions(&self, channel: &str, address: &str, to: &str) -> f64 {
        let labels = [("channel", channel), ("member", address), ("to", to)];
        self.metrics().sum("vitald_member_transitions_total", &labels)
    }

    /// When a member's health last changed, in seconds since the epoch.
    pub(crate) fn last_change(&self, channel: &str, address: &str) -> f64 {
        let labels = [("channel", channel), ("member", address)];
        self.metrics()
            .value("vitald_member_last_change_timestamp_seconds", &labels)
            .expect("the member's series")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let lines: Vec<&str> = tail.into_iter().rev().collect();
            // The test's own message comes first; this is what led to it.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("log of the daemon:\n{}\n", lines.join("\n")).as_bytes(),
            );
        }
    }
}

fn with_server(address: SocketAddr, channels: &str) -> String {
    format!("[server]\nlisten = \"{address}\"\n\n{channels}")
}
