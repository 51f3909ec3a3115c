//! Where a connection comes from: its address, and the network whose connections share
//! one share of what the server has.
//!
//! `server` makes a [`ConnectionInfo`] for every connection, and `connection` notes it on
//! every request. Limits per source, here and in `auth`, count a [`PeerNetwork`]: an IPv6
//! host can pick any address of its /64, so that is one source. A reverse proxy stands for
//! many clients and the Unix socket for an administrator; neither is held by a limit per
//! source.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::Extensions;

use crate::config::api::Transport;

/// Where a request came from: an extension that the server puts on every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The other end of the connection.
    pub peer: PeerAddress,
    /// Whose share of the server the connection takes.
    pub network: PeerNetwork,
    /// The address that was connected to; none for the Unix socket.
    pub local: Option<IpAddr>,
    /// What the connection speaks.
    pub transport: Transport,
    /// Which place the connection has.
    pub place: PlaceKind,
    /// Of the Unix socket: the user whose process is the other end, if the system says.
    pub user_id: Option<u32>,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// A host.
    Network(IpAddr),
    /// A process of this machine that the socket's permissions let in.
    UnixSocket,
}

/// Whose connections count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerNetwork {
    /// A host, or the /64 of an IPv6 host.
    Address(IpAddr),
    /// A reverse proxy that `[server] proxies` names.
    Proxy(IpAddr),
    /// The Unix socket.
    Local,
}

/// What a connection was let in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind {
    /// For everything.
    Regular,
    /// All places were taken: for liveness and metrics only.
    Reserved,
}

impl ConnectionInfo {
    /// A connection over TCP, with a regular place, from no proxy.
    pub(super) fn network(peer: SocketAddr, local: Option<SocketAddr>, transport: Transport) -> Self {
        Self {
            peer: PeerAddress::Network(peer.ip()),
            network: PeerNetwork::of(peer.ip()),
            local: local.map(|local| local.ip().to_canonical()),
            transport,
            place: PlaceKind::Regular,
            user_id: None,
        }
    }

    /// A connection over the Unix socket, from a process of that user.
    pub(super) fn socket(user_id: Option<u32>) -> Self {
        Self {
            peer: PeerAddress::UnixSocket,
            network: PeerNetwork::Local,
            local: None,
            transport: Transport::Plain,
            place: PlaceKind::Regular,
            user_id,
        }
    }

    /// What the server noted; without a note, another machine over plain HTTP.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        let unknown = Self::network((Ipv4Addr::UNSPECIFIED, 0).into(), None, Transport::Plain);
        extensions.get().copied().unwrap_or(unknown)
    }

    /// The other end as the log names it: `192.0.2.7`, `local socket (uid 1000)`.
    #[must_use]
    pub fn name(&self) -> String {
        match (self.peer, self.user_id) {
            (PeerAddress::Network(address), _) => address.to_canonical().to_string(),
            (PeerAddress::UnixSocket, Some(user_id)) => format!("local socket (uid {user_id})"),
            (PeerAddress::UnixSocket, None) => "local socket".to_owned(),
        }
    }

    /// Whether the other end is on this machine, as far as can be told: a loopback
    /// address, or the very address that was connected to.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self.peer {
            PeerAddress::UnixSocket => true,
            PeerAddress::Network(peer) => {
                let peer = peer.to_canonical();
                peer.is_loopback() || self.local == Some(peer)
            }
        }
    }
}

impl PeerNetwork {
    /// The network of an address that is no proxy.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address => address,
        })
    }

    /// Whether a limit per source holds it.
    #[must_use]
    pub fn is_limited(self) -> bool {
        matches!(self, Self::Address(_))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(formatter),
            Self::UnixSocket => formatter.write_str("the local socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_its_network() {
        let of = |text: &str| PeerNetwork::of(text.parse().expect(text));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
    }

    #[test]
    fn a_peer_with_the_address_it_connected_to_is_local() {
        let is_local = |peer: &str| {
            let local = Some("10.0.0.9:9650".parse().expect("an address"));
            ConnectionInfo::network(peer.parse().expect(peer), local, Transport::Plain).is_local()
        };
        for peer in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5", "10.0.0.9:5", "[::ffff:10.0.0.9]:5"] {
            assert!(is_local(peer), "{peer}");
        }
        for peer in ["10.0.0.1:5", "[2001:db8::1]:5"] {
            assert!(!is_local(peer), "{peer}");
        }
    }
}
