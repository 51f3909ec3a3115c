//! The floor under every prober, at a steady rate.
//!
//! `floor tcp|http FIRST_ADDRESS COUNT PORT INTERVAL_MS WAKE_US` probes COUNT consecutive
//! IPv4 addresses, evenly spread over the interval, each time on a new connection,
//! waking every WAKE_US microseconds for the probes that have come due. Once a second it prints how many members answered
//! well the last time, and how many probes failed so far.
//!
//! Called by the scripts of benches/probe_cost, which measure it from outside.

mod floor;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use floor::{Floor, Protocol};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [protocol, first, count, port, interval, wake] = arguments.as_slice() else {
        eprintln!("usage: floor tcp|http FIRST_ADDRESS COUNT PORT INTERVAL_MS WAKE_US");
        std::process::exit(64);
    };
    let protocol = if protocol == "tcp" { Protocol::Tcp } else { Protocol::Http };
    let first = first.parse::<Ipv4Addr>().expect("FIRST_ADDRESS is an IPv4 address").to_bits();
    let count: u32 = count.parse().expect("COUNT is a number");
    let port = port.parse().expect("PORT is a port");
    let interval = Duration::from_millis(interval.parse().expect("INTERVAL_MS is a number"));
    let wake = Duration::from_micros(wake.parse().expect("WAKE_US is a number"));
    let addresses = (0..count).map(|index| SocketAddrV4::new(Ipv4Addr::from_bits(first + index), port));
    let mut floor = Floor::new(protocol, addresses).expect("an epoll");

    let step = interval / count;
    let start = Instant::now();
    let (mut member, mut due) = (0, Duration::ZERO);
    let (mut tick, mut shown) = (due, due);
    loop {
        let now = start.elapsed();
        while due <= now {
            floor.start(member, now);
            member = (member + 1) % count as usize;
            due += step;
        }
        if now >= shown {
            shown += Duration::from_secs(1);
            println!("{} {} {}", floor.healthy(), floor.failed(), floor.running());
        }
        while tick <= now {
            tick += wake;
        }
        floor.wait(tick - now);
    }
}
