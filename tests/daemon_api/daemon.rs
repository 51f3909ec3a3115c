//! The built daemon with a management API, a state directory and a local socket.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::exchange::{Answer, exchange};

pub(crate) const PROJECT: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const INSTANCE: &str = "eddc4d25480b4cd6b512f270a1b8b341";

/// A directory with a configuration and everything that survives a daemon.
pub(crate) struct Home(TempDir);

impl Home {
    /// `more` follows the API's tables.
    pub(crate) fn new(more: &str) -> Self {
        let home = Self(tempfile::tempdir().expect("a directory"));
        home.configure(more);
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn configure(&self, more: &str) {
        let place = self.path().display();
        // argon2id, as cheap as it goes, of "password".
        let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nsocket = \"{place}/sock\"\n\
             [store]\npath = \"{place}/state\"\n\
             [api]\nproject = {{ id = \"{PROJECT}\", name = \"cn-north-4\" }}\n\
             [[api.instances]]\nid = \"{INSTANCE}\"\n\
             [[api.users]]\nname = \"ops\"\npassword_hash = \"{hash}\"\nrole = \"admin\"\n{more}"
        );
        std::fs::write(self.path().join("vitald.toml"), text).expect("the configuration is written");
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitald"));
        for variable in [
            "VITALD_CONFIG",
            "VITALD_LOG",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "JOURNAL_STREAM",
            "STATE_DIRECTORY",
        ] {
            command.env_remove(variable);
        }
        command.args(["run", "--log-format", "json", "--config"]).arg(self.path().join("vitald.toml"));
        command
    }

    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(self.command(), &self.path().join("sock"))
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    socket: std::path::PathBuf,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it and waits until it serves.
    pub(crate) fn start(mut command: Command, socket: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut seen = String::new();
        let address = lines.by_ref().find_map(|line| {
            seen += &format!("{line}\n");
            let line: Value = serde_json::from_str(&line).ok()?;
            let is_ready = line.get("message")?.as_str()? == "probing";
            line.get("address").filter(|_| is_ready)?.as_str()?.parse().ok()
        });
        let address = address.unwrap_or_else(|| panic!("it did not start:\n{seen}"));
        let log = Arc::new(Mutex::new(seen));
        let more = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines {
                *more.lock().unwrap_or_else(PoisonError::into_inner) += &format!("{line}\n");
            }
        });
        Self { child, address, socket: socket.to_owned(), log, reader: Some(reader) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Over TCP.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let stream = TcpStream::connect(self.address).expect("a connection");
        exchange(stream, method, path, headers, body.as_bytes())
    }

    /// Over the local socket, which is an administrator.
    pub(crate) fn local(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let stream = UnixStream::connect(&self.socket).expect("a connection");
        // A daemon that hangs must not hang the test.
        stream.set_read_timeout(Some(Duration::from_secs(50))).expect("a socket");
        exchange(stream, method, path, "", body.map(Value::to_string).unwrap_or_default().as_bytes())
    }

    /// [`Daemon::local`], for an answer of this status.
    #[track_caller]
    pub(crate) fn local_json(&self, method: &str, path: &str, body: Option<&Value>, status: u16) -> Value {
        let answer = self.local(method, path, body);
        assert_eq!(answer.status, status, "{}\n{}", answer.text, self.log());
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    }

    /// `POST /v1/reload` over the socket: the answer comes when it is done.
    pub(crate) fn reload(&self) -> Answer {
        self.local("POST", "/v1/reload", None)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// What of its memory is in use, as the kernel says.
    pub(crate) fn resident_kilobytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and the end.
    pub(crate) fn stop(self) {
        rustix::process::kill_process(self.id(), rustix::process::Signal::TERM).expect("it runs");
        self.ended_well();
    }

    /// The same; gives the whole log.
    pub(crate) fn stop_with_log(mut self) -> String {
        rustix::process::kill_process(self.id(), rustix::process::Signal::TERM).expect("it runs");
        assert!(self.child.wait().expect("it ends").success(), "{}", self.log());
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log ends with the daemon");
        }
        self.log()
    }

    /// The end, after it was told to.
    pub(crate) fn ended_well(mut self) {
        assert!(self.child.wait().expect("it ends").success(), "{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer, for half a minute at most.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}: not within 30 s");
}
