//! How the members of a channel are probed, and how one of them is called.
//!
//! A driver has one [`Plan`] per channel and one [`Target`] per member, built at each
//! (re)load from checked configuration. Certificates and trust anchors are read here,
//! and never in a probe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::http::HttpPlan;
use super::reference::Reference;
use super::resolve::{NameCell, Resolver};
use super::tls::{PlanError, TlsPlan};
use crate::channel::{CloseMode, HealthCheck, Host, MemberAddress, ProbeOptions, Protocol};
use crate::health::{MemberReason, Outcome, Report};

/// How the members of one channel are probed. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Plan {
    timeout: Duration,
    close: CloseMode,
    reference: Option<Arc<Reference>>,
    pub(super) protocol: ProtocolPlan,
}

/// A protocol and what only it needs.
#[derive(Debug)]
pub(super) enum ProtocolPlan {
    Tcp,
    Http(HttpPlan),
    Https(HttpPlan, TlsPlan),
}

impl Plan {
    /// Prepares the probes of a channel.
    ///
    /// # Errors
    /// Trust anchors, a client certificate or a server name that cannot be used.
    pub fn new(check: &HealthCheck, options: &ProbeOptions) -> Result<Self, PlanError> {
        let protocol = match check.protocol() {
            Protocol::Tcp => ProtocolPlan::Tcp,
            Protocol::Http(http) => ProtocolPlan::Http(HttpPlan::new(http, options)),
            Protocol::Https(http) => ProtocolPlan::Https(
                HttpPlan::new(http, options),
                TlsPlan::new(check.client_certificate(), options)?,
            ),
        };
        Ok(Self { timeout: check.timeout(), close: options.close, reference: None, protocol })
    }

    /// The same, with silences held against reference targets.
    #[must_use]
    pub fn with_reference(self, reference: Arc<Reference>) -> Self {
        Self { reference: Some(reference), ..self }
    }

    pub(super) async fn judge(&self, report: Report) -> Report {
        match &self.reference {
            Some(reference) => reference.judge(report).await,
            None => report,
        }
    }

    /// The deadline of one whole probe, resolving aside.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How a probe's connection ends.
    pub(super) fn close(&self) -> CloseMode {
        self.close
    }
}

/// One member, as a probe needs it.
#[derive(Debug, Clone)]
pub struct Target {
    address: MemberAddress,
    /// What is known of the host's addresses, if it is a name.
    name: Option<Arc<NameCell>>,
}

impl Target {
    /// A member by its host and the port that is probed
    /// ([`Channel::check_port`](crate::channel::Channel::check_port)). A name is
    /// handed to the resolver at once; an address never is.
    #[must_use]
    pub fn new(host: &Host, check_port: u16, resolver: &Resolver) -> Self {
        let cell = match host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(resolver.cell(name)),
        };
        Self { address: MemberAddress { host: host.clone(), port: check_port }, name: cell }
    }

    /// `host:port` as in the `Host` header.
    #[must_use]
    pub fn address(&self) -> &MemberAddress {
        &self.address
    }

    /// The address to probe now; for a name that has never been answered, waits
    /// at most `patience`.
    pub(super) async fn resolve(&self, patience: Duration) -> Result<SocketAddr, Report> {
        let found = match (&self.address.host, &self.name) {
            (Host::Ip(ip), _) => Ok(*ip),
            (Host::Name(_), Some(cell)) => cell.address(patience).await,
            // `new` makes no such target.
            (Host::Name(name), None) => Err(format!("no address for {name}")),
        };
        found
            .map(|ip| SocketAddr::new(ip, self.address.port))
            .map_err(|detail| Report::before_connecting(Outcome::Failure(MemberReason::Resolve), detail))
    }
}
