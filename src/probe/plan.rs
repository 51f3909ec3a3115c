//! What all members of a channel share: protocol, request, TLS settings, timeout.
//!
//! Built once per (re)load from checked configuration; reading certificates
//! and trust anchors happens here and never in a probe.

use std::sync::Arc;
use std::time::Duration;

use super::http::HttpPlan;
use super::reference::Reference;
use super::tls::TlsPlan;
use crate::channel::{CloseMode, HealthCheck, ProbeOptions, Protocol};
use crate::health::Report;

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

/// Why a plan cannot be made. Configuration checks find most of these earlier;
/// what is left is what changed since, or what only the TLS library knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// `ca_file` holds no usable trust anchor.
    #[error("{path} holds no usable CA certificate: {message}")]
    TrustAnchors {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// `verify` without `ca_file`, and the system has no trust anchors.
    #[error("the system's trust anchors cannot be used: {0}")]
    SystemTrustAnchors(String),
    /// The client certificate or its key cannot be used.
    #[error("the client certificate {path} cannot be used: {message}")]
    ClientIdentity {
        /// The certificate's or the key's file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// `enable_client_ssl` without a client certificate.
    #[error("enable_client_ssl is set, but there is no client certificate")]
    NoClientIdentity,
    /// `server_name` (or `host`) is neither a DNS name nor an address.
    #[error("\"{0}\" is neither a DNS name nor an IP address, so it cannot be a TLS server name")]
    ServerName(String),
    /// The TLS library refuses the settings.
    #[error("the TLS settings cannot be used: {0}")]
    Tls(String),
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
