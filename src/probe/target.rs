//! How one member is called, and where it is.
//!
//! Built by a driver once per member and (re)load; holds no connection.

use std::net::SocketAddr;
use std::time::Duration;

use super::resolve::{NameCell, Resolver};
use crate::channel::{Host, MemberAddress};
use crate::health::{MemberReason, Outcome, Phases, Report};

/// One member, as a probe needs it.
#[derive(Debug, Clone)]
pub struct Target {
    address: MemberAddress,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Fixed(SocketAddr),
    Named(NameCell),
}

impl Target {
    /// A member by its host and the port that is probed
    /// ([`Channel::check_port`](crate::channel::Channel::check_port)). A name is
    /// handed to the resolver at once; an address never is.
    #[must_use]
    pub fn new(host: &Host, check_port: u16, resolver: &Resolver) -> Self {
        let place = match host {
            Host::Ip(ip) => Place::Fixed(SocketAddr::new(*ip, check_port)),
            Host::Name(name) => Place::Named(resolver.cell(name)),
        };
        Self { address: MemberAddress { host: host.clone(), port: check_port }, place }
    }

    /// `host:port` as in the `Host` header.
    #[must_use]
    pub fn address(&self) -> &MemberAddress {
        &self.address
    }

    /// The address to probe now; for a name that has never been answered, waits
    /// at most `patience`.
    pub(super) async fn resolve(&self, patience: Duration) -> Result<SocketAddr, Report> {
        match &self.place {
            Place::Fixed(address) => Ok(*address),
            Place::Named(cell) => match cell.address(patience).await {
                Ok(ip) => Ok(SocketAddr::new(ip, self.address.port)),
                Err(detail) => Err(Report {
                    outcome: Outcome::Failure(MemberReason::Resolve),
                    phases: Phases::default(),
                    total: Duration::ZERO,
                    status: None,
                    detail: detail.into(),
                    peer: None,
                    certificate_not_after: None,
                }),
            },
        }
    }
}
