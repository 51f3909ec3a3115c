//! The floor under every prober: system calls and next to nothing else.
//!
//! `floor tcp|http FIRST_ADDRESS COUNT PORT INTERVAL_MS` probes COUNT consecutive
//! IPv4 addresses, evenly spread over the interval, each time on a new connection:
//! one flat array, one epoll, a tick each millisecond. Once a second it prints how
//! many members answered well the last time, and how many probes failed so far.
//!
//! Called by the scripts of benches/probe_cost, which measure it from outside.
//!
//! The system calls are those of a careful prober that does not know how near its
//! peer is: `socket`, linger 0 and no quick acknowledgement (so that closing is a
//! reset, and the last packet of the handshake travels with the request or not at
//! all), `connect`, one edge-triggered registration, a wait for writability,
//! `send`, a wait, `recv`, `close`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send, socket_with,
    sockopt,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: member\r\nUser-Agent: floor\r\nConnection: close\r\n\r\n";
const TICK: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Tcp,
    Http,
}

/// A probe under way.
struct Probe {
    socket: OwnedFd,
    started: Instant,
    asked: bool,
}

struct Floor {
    protocol: Protocol,
    first: u32,
    port: u16,
    epoll: OwnedFd,
    probes: Vec<Option<Probe>>,
    healthy: Vec<bool>,
    failed: u64,
}

impl Floor {
    fn start(&mut self, member: usize) {
        if self.probes[member].as_ref().is_some_and(|probe| probe.started.elapsed() < TIMEOUT) {
            return;
        }
        if self.probes[member].take().is_some() {
            self.end(member, false);
        }
        match self.open(member) {
            Ok(socket) => {
                self.probes[member] = Some(Probe { socket, started: Instant::now(), asked: false });
            }
            Err(_) => self.end(member, false),
        }
    }

    fn open(&self, member: usize) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        sockopt::set_tcp_quickack(&socket, false)?;
        let address = SocketAddrV4::new(Ipv4Addr::from_bits(self.first + member as u32), self.port);
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let interest = match self.protocol {
            Protocol::Tcp => epoll::EventFlags::OUT,
            Protocol::Http => epoll::EventFlags::OUT | epoll::EventFlags::IN,
        };
        let data = epoll::EventData::new_u64(member as u64);
        epoll::add(&self.epoll, &socket, data, interest | epoll::EventFlags::ET)?;
        Ok(socket)
    }

    fn handle_event(&mut self, member: usize, flags: epoll::EventFlags) {
        let Some(probe) = &mut self.probes[member] else { return };
        if flags.intersects(epoll::EventFlags::ERR) {
            return self.end(member, false);
        }
        if self.protocol == Protocol::Tcp {
            return self.end(member, true);
        }
        if !probe.asked {
            probe.asked = true;
            if send(&probe.socket, REQUEST, SendFlags::NOSIGNAL) != Ok(REQUEST.len()) {
                return self.end(member, false);
            }
            // Nothing can have come before the request: the kernel tells when it has.
            if !flags.intersects(epoll::EventFlags::IN) {
                return;
            }
        }
        let mut answer = [0_u8; 4096];
        match recv(&probe.socket, &mut answer, RecvFlags::DONTWAIT) {
            Ok((read, _)) => self.end(member, answer[..read].starts_with(b"HTTP/1.1 200")),
            Err(Errno::AGAIN) => {}
            Err(_) => self.end(member, false),
        }
    }

    fn end(&mut self, member: usize, healthy: bool) {
        self.probes[member] = None; // closes
        self.healthy[member] = healthy;
        self.failed += u64::from(!healthy);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [protocol, first, count, port, interval] = arguments.as_slice() else {
        eprintln!("usage: floor tcp|http FIRST_ADDRESS COUNT PORT INTERVAL_MS");
        std::process::exit(64);
    };
    let count: usize = count.parse().expect("COUNT is a number");
    let interval = Duration::from_millis(interval.parse().expect("INTERVAL_MS is a number"));
    let mut floor = Floor {
        protocol: if protocol == "tcp" { Protocol::Tcp } else { Protocol::Http },
        first: first.parse::<Ipv4Addr>().expect("FIRST_ADDRESS is an IPv4 address").to_bits(),
        port: port.parse().expect("PORT is a port"),
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll"),
        probes: (0..count).map(|_| None).collect(),
        healthy: vec![false; count],
        failed: 0,
    };
    let step = interval / count as u32;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
    let (mut member, mut due) = (0, Instant::now());
    let (mut tick, mut shown) = (due, due);
    loop {
        let now = Instant::now();
        while due <= now {
            floor.start(member);
            member = (member + 1) % count;
            due += step;
        }
        if now >= shown {
            shown += Duration::from_secs(1);
            println!("{} {}", floor.healthy.iter().filter(|healthy| **healthy).count(), floor.failed);
        }
        // One tick serves every probe that came due in it.
        while tick <= now {
            tick += TICK;
        }
        let wait = tick - now;
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        events.clear();
        if epoll::wait(&floor.epoll, spare_capacity(&mut events), Some(&wait)).is_err() {
            continue;
        }
        for event in &events {
            floor.handle_event(event.data.u64() as usize, event.flags);
        }
    }
}
