//! Members of our own: they count what reaches them and answer by a script, so
//! that a test can be exact about which probe got which answer.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wait;

/// What a backend does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A whole answer with this status.
    Status(u16),
    /// A whole answer with this status, after a while.
    SlowStatus(Duration, u16),
    /// These bytes, then the end of the stream.
    Bytes(Vec<u8>),
    /// These bytes again and again, with a pause between, until the peer leaves.
    Drip(&'static [u8], Duration),
    /// Closes without a word.
    Close,
    /// Resets the connection.
    Reset,
    /// Keeps the connection and says nothing.
    Silence,
}

/// What has reached a backend.
#[derive(Debug, Default)]
struct BackendState {
    script: VecDeque<Answer>,
    then: Option<Answer>,
    arrivals: Vec<std::time::Instant>,
    accepted: usize,
    silent: Vec<TcpStream>,
}

/// A listener with a script.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<BackendState>>,
}

impl Backend {
    /// Answers the requests by `script` in their order, and all later ones by `then`.
    pub(crate) fn start(ip: Ipv4Addr, port: u16, script: Vec<Answer>, then: Answer) -> Self {
        let listener = TcpListener::bind((ip, port)).expect("the test's own address is free");
        let address = listener.local_addr().expect("a bound address");
        let state = BackendState { script: script.into(), then: Some(then), ..BackendState::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.lock().expect("no panic under the lock").accepted += 1;
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, state }
    }

    /// Always the same answer.
    pub(crate) fn steady(ip: Ipv4Addr, port: u16, answer: Answer) -> Self {
        Self::start(ip, port, Vec::new(), answer)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, BackendState> {
        self.state.lock().expect("no panic under the lock")
    }

    /// Changes the answer to all requests that the script does not cover.
    pub(crate) fn answer_with(&self, answer: Answer) {
        self.state().then = Some(answer);
    }

    /// Connections that the application has seen.
    pub(crate) fn accepted(&self) -> usize {
        self.state().accepted
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.state().arrivals.len()
    }

    /// When each request came.
    pub(crate) fn arrivals(&self) -> Vec<std::time::Instant> {
        self.state().arrivals.clone()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<BackendState>) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.extend_from_slice(&byte),
            // The prober only connected.
            _ => return,
        }
    }
    let answer = {
        let mut state = state.lock().expect("no panic under the lock");
        state.arrivals.push(wait::now());
        state.script.pop_front().or_else(|| state.then.clone())
    };
    // The peer may have left by now: that is its right.
    match answer.unwrap_or(Answer::Close) {
        Answer::Status(status) => drop(stream.write_all(&plain_answer(status))),
        Answer::SlowStatus(pause, status) => {
            thread::sleep(pause);
            drop(stream.write_all(&plain_answer(status)));
        }
        Answer::Bytes(bytes) => {
            drop(stream.write_all(&bytes));
            drop(stream.shutdown(Shutdown::Write));
            drop(stream.read(&mut byte));
        }
        Answer::Drip(bytes, pause) => {
            while stream.write_all(bytes).is_ok() {
                thread::sleep(pause);
            }
        }
        Answer::Close => {}
        Answer::Reset => drop(rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))),
        Answer::Silence => state.lock().expect("no panic under the lock").silent.push(stream),
    }
}

fn plain_answer(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Scripted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

/// A listener whose queue is full: the kernel drops every further SYN, as a
/// firewall does that gives no answer.
#[derive(Debug)]
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn open(ip: Ipv4Addr, port: u16) -> Self {
        let listener = TcpListener::bind((ip, port)).expect("the test's own address is free");
        // A second `listen` only changes the length of the queue.
        rustix::net::listen(&listener, 0).expect("a listener can listen");
        let address = listener.local_addr().expect("a bound address");
        let mut filling = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            filling.push(stream);
            assert!(filling.len() < 16, "the queue does not fill up");
        }
        Self { address, listener, _filling: filling }
    }

    /// Takes everything out of the queue from now on.
    pub(crate) fn recover(self) {
        thread::spawn(move || self.listener.incoming().for_each(drop));
    }
}
