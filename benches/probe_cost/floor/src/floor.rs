//! Probing with system calls and next to nothing else: one flat array, one epoll.
//!
//! The system calls are those of a careful prober that does not know how near its
//! peer is: `socket`, linger 0 and no quick acknowledgement (so that closing is a
//! reset, and the last packet of the handshake travels with the request or not at
//! all), `connect`, one edge-triggered registration, a wait for writability,
//! `send`, a wait, `recv`, `close`.
//!
//! Driven by `main.rs` at a steady rate, and by `benches/probe.rs` in batches.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send, socket_with,
    sockopt,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: member\r\nUser-Agent: floor\r\nConnection: close\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(1);

/// What a probe asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A connection.
    Tcp,
    /// A status of 200.
    Http,
}

/// A probe under way.
struct Probe {
    socket: OwnedFd,
    started: Duration,
    asked: bool,
}

struct Member {
    address: SocketAddrV4,
    probe: Option<Probe>,
    is_healthy: bool,
}

/// Members, and their running probes.
pub(crate) struct Floor {
    protocol: Protocol,
    epoll: OwnedFd,
    members: Vec<Member>,
    events: Vec<epoll::Event>,
    running: usize,
    failed: u64,
}

impl Floor {
    /// Nothing runs yet.
    pub(crate) fn new(
        protocol: Protocol,
        addresses: impl Iterator<Item = SocketAddrV4>,
    ) -> Result<Self, Errno> {
        Ok(Self {
            protocol,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            members: addresses.map(|address| Member { address, probe: None, is_healthy: false }).collect(),
            events: Vec::with_capacity(1024),
            running: 0,
            failed: 0,
        })
    }

    /// Probes that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Members whose last probe succeeded.
    pub(crate) fn healthy(&self) -> usize {
        self.members.iter().filter(|member| member.is_healthy).count()
    }

    /// Probes that failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Starts a member's probe, unless one is running; one that ran too long has
    /// failed. `now` counts from any fixed moment.
    pub(crate) fn start(&mut self, index: usize, now: Duration) {
        let Some(member) = self.members.get_mut(index) else { return };
        if let Some(probe) = &member.probe {
            if now.saturating_sub(probe.started) < TIMEOUT {
                return;
            }
            self.end(index, false);
        }
        self.running += 1;
        match self.open(index) {
            Ok(socket) => {
                if let Some(member) = self.members.get_mut(index) {
                    member.probe = Some(Probe { socket, started: now, asked: false });
                }
            }
            Err(_) => self.end(index, false),
        }
    }

    fn open(&self, index: usize) -> Result<OwnedFd, Errno> {
        let address = self.members.get(index).ok_or(Errno::INVAL)?.address;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        sockopt::set_tcp_quickack(&socket, false)?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let interest = match self.protocol {
            Protocol::Tcp => epoll::EventFlags::OUT,
            Protocol::Http => epoll::EventFlags::OUT | epoll::EventFlags::IN,
        };
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &socket, data, interest | epoll::EventFlags::ET)?;
        Ok(socket)
    }

    /// Waits at most so long for sockets, and goes on with their probes.
    pub(crate) fn wait(&mut self, at_most: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        // Interrupted: the next turn waits again.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout));
        for event in &events {
            self.handle_event(usize::try_from(event.data.u64()).unwrap_or(usize::MAX), event.flags);
        }
        self.events = events;
    }

    fn handle_event(&mut self, index: usize, flags: epoll::EventFlags) {
        let Some(probe) = self.members.get_mut(index).and_then(|member| member.probe.as_mut()) else {
            return;
        };
        if flags.intersects(epoll::EventFlags::ERR) {
            return self.end(index, false);
        }
        if self.protocol == Protocol::Tcp {
            return self.end(index, true);
        }
        if !probe.asked {
            probe.asked = true;
            if send(&probe.socket, REQUEST, SendFlags::NOSIGNAL) != Ok(REQUEST.len()) {
                return self.end(index, false);
            }
            // Nothing can have come before the request: the kernel tells when it has.
            if !flags.intersects(epoll::EventFlags::IN) {
                return;
            }
        }
        let mut answer = [0_u8; 4096];
        match recv(&probe.socket, &mut answer, RecvFlags::DONTWAIT) {
            Ok(_) => self.end(index, answer.starts_with(b"HTTP/1.1 200")),
            Err(Errno::AGAIN) => {}
            Err(_) => self.end(index, false),
        }
    }

    fn end(&mut self, index: usize, is_healthy: bool) {
        if let Some(member) = self.members.get_mut(index) {
            member.probe = None; // closes
            member.is_healthy = is_healthy;
        }
        self.running -= 1;
        self.failed += u64::from(!is_healthy);
    }
}
