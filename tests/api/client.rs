//! A server on a port of its own, and just enough of an HTTP client.

use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::exchange::exchange;
pub(crate) use crate::exchange::{Answer, read_answer};
use crate::memory::{Memory, anybody_with_credentials};

/// A running API; ends with the test.
pub(crate) struct Server {
    address: SocketAddr,
    /// Dropped with the server, which ends its thread.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    pub(crate) fn start(memory: Memory) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket for tokio");
        let address = listener.local_addr().expect("an address");
        let router = vitald::testing::serve::api::router(memory)
            .layer(axum::middleware::from_fn(anybody_with_credentials))
            .merge(vitald::testing::serve::api::description());
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
        exchange(self.connect(), method, path, "X-Auth-Token: t\r\n", body)
    }

    pub(crate) fn send_without_credentials(&self, method: &str, path: &str) -> Answer {
        exchange(self.connect(), method, path, "", b"")
    }
}
