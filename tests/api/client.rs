//! A server on a port of its own, and just enough of an HTTP client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::memory::{Memory, anybody_with_credentials};

/// A running API; ends with the test.
pub(crate) struct Server {
    address: SocketAddr,
    /// Dropped with the server, which ends its thread.
    _stop: tokio::sync::oneshot::Sender<()>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl Server {
    pub(crate) fn start(memory: Memory) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket for tokio");
        let address = listener.local_addr().expect("an address");
        let router = vitald::serve::api::router(memory)
            .layer(axum::middleware::from_fn(anybody_with_credentials))
            .merge(vitald::serve::api::description());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                // Cancel-safe: nothing is left to do once the test is over.
                tokio::select! {
                    _ = axum::serve(listener, router).into_future() => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, _stop: stop }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("a connection")
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send_bytes(method, path, body.as_bytes())
    }

    pub(crate) fn send_bytes(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.exchange(method, path, "X-Auth-Token: t\r\n", body)
    }

    pub(crate) fn send_without_credentials(&self, method: &str, path: &str) -> Answer {
        self.exchange(method, path, "", b"")
    }

    fn exchange(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        // The server may answer and close before it has read a body it refuses.
        drop(stream.write_all(body));
        read_answer(stream)
    }
}

/// Reads to the end of the connection.
pub(crate) fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer loses nothing that was read.
    drop(stream.read_to_end(&mut bytes));
    let answer = String::from_utf8(bytes).expect("UTF-8");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Answer { status, headers, text: text.to_owned() }
}
