//! The kernel's own table of TCP connections.

use std::fs;
use std::net::SocketAddr;

/// One connection of this machine over IPv4.
#[derive(Debug)]
pub(crate) struct Socket {
    local: String,
    remote: String,
    state: String,
    /// Bytes that arrived and that the program has not read.
    pub(crate) unread: u64,
}

impl Socket {
    pub(crate) fn joins(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.local == notation(local) && self.remote == notation(remote)
    }

    pub(crate) fn is_time_wait_of(&self, address: SocketAddr) -> bool {
        let own = notation(address);
        self.state == "06" && (self.local == own || self.remote == own)
    }
}

/// An address as `/proc/net/tcp` writes it.
fn notation(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("only IPv4 is in this table") };
    format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port())
}

pub(crate) fn sockets() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let sockets = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1).map(str::to_owned);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let queues = fields.next()?;
        let unread = u64::from_str_radix(queues.split_once(':')?.1, 16).ok()?;
        Some(Socket { local, remote, state, unread })
    });
    sockets.collect()
}
