//! Real nginx as the members of a channel: it answers as its switches say, and
//! its access log counts the probes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::address::own_address;
use super::process::{Process, peer_program};
use super::wait;

/// An nginx with an address, a configuration and a log of its own.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) ip: Ipv4Addr,
    program: PathBuf,
    folder: TempDir,
    process: Option<Process>,
    /// Nobody accepts there, so whatever nginx asks it is never answered.
    _stalled: TcpListener,
}

/// One line of the access log.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// When nginx answered, in seconds since the epoch, to the millisecond.
    pub(crate) at: f64,
    pub(crate) port: u64,
    pub(crate) status: u64,
    fields: Value,
}

impl Request {
    /// A field of the log by its name in [`LOG_FORMAT`]; what is absent is empty.
    pub(crate) fn field(&self, name: &str) -> &str {
        let text = self.fields.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no field {name}"));
        if text == "-" { "" } else { text }
    }
}

const LOG_FORMAT: &str = r#"'{"at":$msec,"port":$server_port,"status":$status,"method":"$request_method",'
        '"uri":"$request_uri","protocol":"$server_protocol","host":"$http_host","agent":"$http_user_agent",'
        '"connection":"$http_connection","x_probe":"$http_x_probe","serial":"$connection",'
        '"sni":"$ssl_server_name","client":"$ssl_client_verify","tls":"$ssl_protocol"}'"#;

/// `/health` answers 200 unless a switch of its port is on: a file of that name.
const HEALTH: &str = r"
        location = /health {
            if (-f switches/answer-500-$server_port) { return 500; }
            if (-f switches/answer-204-$server_port) { return 204; }
            if (-f switches/answer-301-$server_port) { return 301 http://$http_host/elsewhere; }
            if (-f switches/stall-$server_port) { rewrite ^ /stalled last; }
            return 200 ok;
        }
        location = /stalled { internal; proxy_pass http://STALLED; proxy_read_timeout 60s; }
        location = /elsewhere { return 200 elsewhere; }";

impl Nginx {
    /// Starts it with these `server` blocks. `IP` stands for the own address,
    /// `HEALTH` for the location with switches, `DIR` for the own folder.
    /// None when nginx is not installed.
    pub(crate) fn start(servers: &str) -> Option<Self> {
        Self::prepare(|_, _| servers.to_owned())
    }

    /// As [`Nginx::start`], with servers that need files in the own folder.
    pub(crate) fn prepare(servers: impl FnOnce(&Path, Ipv4Addr) -> String) -> Option<Self> {
        let program = peer_program("nginx")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ip = own_address();
        let root = folder.path();
        for name in ["temp", "switches"] {
            fs::create_dir(root.join(name)).expect("the folder can be written");
        }
        let servers = servers(root, ip).replace("HEALTH", HEALTH).replace("IP", &ip.to_string());
        let stalled = TcpListener::bind((ip, 7999)).expect("the test's own address is free");
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log info;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n    client_body_temp_path temp/a;\n    proxy_temp_path temp/b;\n    \
             fastcgi_temp_path temp/c;\n    uwsgi_temp_path temp/d;\n    scgi_temp_path temp/e;\n    \
             log_format probe {LOG_FORMAT};\n    ssl_protocols TLSv1.2 TLSv1.3;\n    access_log access.log probe;\n{}\n}}\n",
            servers
                .replace("STALLED", &format!("{ip}:7999"))
                .replace("switches/", &format!("{}/switches/", root.display()))
        );
        fs::write(root.join("nginx.conf"), config.replace("DIR", &root.to_string_lossy()))
            .expect("the folder can be written");
        let mut nginx = Self { ip, program, folder, process: None, _stalled: stalled };
        nginx.run();
        Some(nginx)
    }

    /// Servers with `/health` on the ports from 8000.
    pub(crate) fn plain(count: u16) -> Option<Self> {
        let servers: String = (0..count)
            .map(|index| format!("    server {{ listen IP:{}; HEALTH }}\n", 8000 + index))
            .collect();
        Self::start(&servers)
    }

    /// Starts it again after [`Nginx::stop`].
    pub(crate) fn run(&mut self) {
        let root = self.folder.path().to_owned();
        let output = File::create(root.join("output")).expect("the folder can be written");
        let child = Command::new(&self.program)
            .arg("-p")
            .arg(&root)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("nginx can be started");
        let mut process = Process::new(child);
        // It listens before it writes its process id.
        wait::until("nginx to listen", || {
            if process.ended().is_some() {
                panic!("nginx ended: {}", fs::read_to_string(root.join("error.log")).unwrap_or_default());
            }
            fs::read_to_string(root.join("nginx.pid")).ok().filter(|text| !text.is_empty())
        });
        self.process = Some(process);
    }

    /// Ends it: its ports refuse connections from now on.
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().expect("nginx is running");
        process.signal(Signal::TERM);
        process.wait(wait::PATIENCE, "nginx to end");
        // A killed one would leave it, and the next start would not be seen.
        let _ = fs::remove_file(self.folder.path().join("nginx.pid"));
    }

    fn switch(&self, name: &str, port: u16) -> PathBuf {
        self.folder.path().join("switches").join(format!("{name}-{port}"))
    }

    /// Turns `answer-500`, `answer-204`, `answer-301` or `stall` on, at once.
    pub(crate) fn switch_on(&self, name: &str, port: u16) {
        File::create(self.switch(name, port)).expect("the folder can be written");
    }

    pub(crate) fn switch_off(&self, name: &str, port: u16) {
        fs::remove_file(self.switch(name, port)).expect("the switch was on");
    }

    /// `IP:port` as the configuration and the metrics write it.
    pub(crate) fn member(&self, port: u16) -> String {
        format!("{}:{port}", self.ip)
    }

    /// Every request so far, in the order of the answers.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let log = File::open(self.folder.path().join("access.log")).expect("the access log");
        BufReader::new(log)
            .lines()
            .map_while(Result::ok)
            // The last line may still be growing.
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .map(|fields| {
                let number = |name: &str| fields.get(name).and_then(Value::as_u64).expect("a number");
                Request {
                    at: fields.get("at").and_then(Value::as_f64).expect("a time"),
                    port: number("port"),
                    status: number("status"),
                    fields,
                }
            })
            .collect()
    }

    /// Requests to one port.
    pub(crate) fn requests_to(&self, port: u16) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.port == u64::from(port));
        requests
    }

    /// Lines of the error log with this text: handshakes that failed.
    pub(crate) fn errors_with(&self, text: &str) -> usize {
        let log = fs::read_to_string(self.folder.path().join("error.log")).expect("the error log");
        log.lines().filter(|line| line.contains(text)).count()
    }
}
