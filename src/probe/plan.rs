//! How the members of a channel are probed, and how one of them is called.
//!
//! A driver has one [`Plan`] per channel and one [`Target`] per member, built at each
//! (re)load from checked configuration. Certificates and trust anchors are read here,
//! and never in a probe.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::addresses;
use super::http::HttpPlan;
use super::reference::Reference;
use super::resolve::{NameCell, Resolver};
use super::tls::{PlanError, TlsPlan, prepare_tls};
use crate::channel::{
    CloseMode, HealthCheck, Host, MemberAddress, ProbeOptions, Protocol, ResolveFamily, unusable_address,
};

/// How the members of one channel are probed. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Plan {
    timeout: Duration,
    close: CloseMode,
    resolve: ResolveFamily,
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
        let ProbeOptions { close, resolve, .. } = *options;
        Ok(Self { timeout: check.timeout(), close, resolve, reference: None, protocol })
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

    /// Which addresses of a name are probed.
    pub(super) fn family(&self) -> ResolveFamily {
        self.resolve
    }
}

/// One member, as a probe needs it.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) host: TargetHost,
    pub(super) port: u16,
}

/// Where a target is.
#[derive(Debug, Clone)]
pub(super) enum TargetHost {
    Ip(IpAddr),
    /// An address at which no server can be, in a channel that was made before such were
    /// refused.
    Unusable(IpAddr),
    Name(Arc<TargetName>),
}

/// A target that is a name. Shared by the clones of the target, one for each probe.
#[derive(Debug)]
pub(super) struct TargetName {
    cell: Arc<NameCell>,
    /// Where the last good probe was. Written by the target's probes, of which one runs at
    /// a time.
    last_good: Mutex<Option<IpAddr>>,
}

impl Target {
    /// A member by its host and the port that is probed
    /// ([`Channel::check_port`](crate::channel::Channel::check_port)). A name is
    /// handed to the resolver at once; an address never is.
    #[must_use]
    pub fn new(host: &Host, check_port: u16, resolver: &Resolver) -> Self {
        let host = match host {
            Host::Ip(ip) if unusable_address(*ip).is_some() => TargetHost::Unusable(*ip),
            Host::Ip(ip) => TargetHost::Ip(*ip),
            Host::Name(name) => {
                let cell = resolver.cell(name);
                TargetHost::Name(Arc::new(TargetName { cell, last_good: Mutex::default() }))
            }
        };
        Self { host, port: check_port }
    }

    /// `host:port` as in the `Host` header.
    #[must_use]
    pub fn address(&self) -> MemberAddress {
        let host = match &self.host {
            TargetHost::Ip(ip) | TargetHost::Unusable(ip) => Host::Ip(*ip),
            TargetHost::Name(name) => Host::Name(Arc::clone(name.cell.name())),
        };
        MemberAddress { host, port: self.port }
    }

    /// Goes on where `before`, an earlier target of the same member, was good.
    pub fn succeed(&self, before: &Self) {
        if let (TargetHost::Name(name), TargetHost::Name(before)) = (&self.host, &before.host)
            && Arc::ptr_eq(&name.cell, &before.cell)
            && let Some(good) = before.last_good()
        {
            name.note_good(good);
        }
    }
}

impl TargetName {
    /// The addresses in the order in which a probe tries them, at least one; for a name
    /// that has never been answered, waits at most `patience`. The error is one line for
    /// people.
    pub(super) async fn candidates(
        &self,
        family: ResolveFamily,
        patience: Duration,
    ) -> Result<Vec<IpAddr>, String> {
        let set = self.cell.addresses(patience).await?;
        let candidates = addresses::in_order(&set, family, self.last_good());
        if candidates.is_empty() {
            let wanted = if family == ResolveFamily::V6 { "IPv6" } else { "IPv4" };
            let (name, there) = (self.cell.name(), addresses::list(&set));
            return Err(format!("no {wanted} address for {name}: there is {there}"));
        }
        Ok(candidates)
    }

    /// A probe at this address has succeeded: the next one goes there first.
    pub(super) fn note_good(&self, address: IpAddr) {
        *self.last_good.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    fn last_good(&self) -> Option<IpAddr> {
        *self.last_good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_takes_no_more_room_for_names_that_others_have() {
        // An address or a pointer, and a port.
        assert_eq!(size_of::<Target>(), 4 * size_of::<usize>());
    }
}
