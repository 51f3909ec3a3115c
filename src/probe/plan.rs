//! How the members of a channel are probed, and how one of them is called.
//!
//! A driver has one [`Plan`] per channel and one [`Target`] per member, built at each
//! (re)load from checked configuration. Certificates and trust anchors are read here,
//! and never in a probe.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::http::HttpPlan;
use super::reference::Reference;
use super::resolve::{NameCell, Resolver};
use super::tls::{PlanError, TlsPlan, prepare_tls};
use crate::channel::{CloseMode, HealthCheck, Host, MemberAddress, ProbeOptions, Protocol};
use crate::health::{MemberReason, Outcome, Report};

/// How the members of one channel are probed. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Plan {
    timeout: Duration,
    close: CloseMode,
    pub(super) reference: Option<Arc<Reference>>,
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
            Protocol::Http(http) => ProtocolPlan::Http(HttpPlan::new(http, options, 80)),
            Protocol::Https(http) => ProtocolPlan::Https(
                HttpPlan::new(http, options, 443),
                TlsPlan::new(check.client_certificate(), options)?,
            ),
        };
        Ok(Self { timeout: check.timeout(), close: options.close, reference: None, protocol })
    }

    /// Does ahead of the first probe what else would count in its time, once in a
    /// process: see [`prepare_tls`]. A plan that speaks no TLS has nothing to do.
    pub fn prepare(&self) {
        if matches!(self.protocol, ProtocolPlan::Https(..)) {
            prepare_tls();
        }
    }

    /// The same plan; the reference targets are asked before a silence is believed.
    #[must_use]
    pub fn with_reference(self, reference: Arc<Reference>) -> Self {
        Self { reference: Some(reference), ..self }
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
    host: TargetHost,
    port: u16,
}

#[derive(Debug, Clone)]
enum TargetHost {
    Ip(IpAddr),
    Name(Arc<NameCell>),
}

impl Target {
    /// A member by its host and the port that is probed
    /// ([`Channel::check_port`](crate::channel::Channel::check_port)). A name is
    /// handed to the resolver at once; an address never is.
    #[must_use]
    pub fn new(host: &Host, check_port: u16, resolver: &Resolver) -> Self {
        let host = match host {
            Host::Ip(ip) => TargetHost::Ip(*ip),
            Host::Name(name) => TargetHost::Name(resolver.cell(name)),
        };
        Self { host, port: check_port }
    }

    /// `host:port` as in the `Host` header.
    #[must_use]
    pub fn address(&self) -> MemberAddress {
        let host = match &self.host {
            TargetHost::Ip(ip) => Host::Ip(*ip),
            TargetHost::Name(cell) => Host::Name(Arc::clone(cell.name())),
        };
        MemberAddress { host, port: self.port }
    }

    /// The address to probe now; for a name that has never been answered, waits
    /// at most `patience`.
    pub(super) async fn resolve(&self, patience: Duration) -> Result<SocketAddr, Report> {
        let ip = match &self.host {
            TargetHost::Ip(ip) => *ip,
            TargetHost::Name(cell) => cell.address(patience).await.map_err(|detail| {
                Report::before_connecting(Outcome::Failure(MemberReason::Resolve), detail)
            })?,
        };
        Ok(SocketAddr::new(ip, self.port))
    }
}
