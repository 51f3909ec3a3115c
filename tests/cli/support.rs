//! Running the binary, and listeners that answer what a test wants.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a finished command left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Fails the test with everything that was printed unless the code is this.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// The binary, free of what the caller's environment says to it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitald"));
    for variable in ["VITALD_CONFIG", "VITALD_URL", "VITALD_LOG", "NO_COLOR", "JOURNAL_STREAM"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub(crate) fn vitald(arguments: &[&str]) -> Outcome {
    run(&mut command(arguments))
}

/// Runs a prepared command to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let output = command.output().expect("the binary runs");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// A listener that gives each connection, in turn, one of `answers`, and hands
/// back the request heads it saw.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    thread: JoinHandle<Vec<String>>,
}

impl FakeServer {
    /// Starts it on a free port of loopback.
    pub(crate) fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let thread = std::thread::spawn(move || {
            answers.into_iter().map(|answer| serve_one(&listener, &answer)).collect()
        });
        Self { address, thread }
    }

    /// The URL to ask.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The request heads, once every answer has been fetched.
    pub(crate) fn requests(self) -> Vec<String> {
        self.thread.join().expect("the server does not panic")
    }
}

fn serve_one(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().expect("accept");
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => head.extend_from_slice(chunk.get(..count).expect("read within the chunk")),
        }
    }
    // A prober may reset as soon as it has seen enough.
    let _ = stream.write_all(answer.as_bytes());
    String::from_utf8_lossy(&head).into_owned()
}

/// An HTTP/1.1 answer with a body.
pub(crate) fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A port of loopback where nobody listens.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

/// A daemon that is killed if a test fails before it ends it.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Sends a signal by its short name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits for the end and gives the exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        for _ in 0..500 {
            if let Some(status) = self.0.try_wait().expect("wait") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end within 10 s");
    }
}
