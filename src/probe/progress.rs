//! How far one probe has come, when, and what `--explain` shows of it.
//!
//! `machine` begins and ends it; the protocols move it from phase to phase.

use std::net::SocketAddr;

use tokio::time::Instant;

use super::stall::StallMark;
use crate::health::Phases;

/// How often a probe waits on after its deadline because the prober was stalled.
const EXTENSIONS: u8 = 3;

/// The phase a probe is in; a timeout is named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbePhase {
    Connect,
    Tls,
    Response,
}

/// How far a probe has come, and when.
pub(super) struct Progress {
    pub(super) started: Instant,
    entered: Instant,
    phase: ProbePhase,
    pub(super) phases: Phases,
    /// When the prober last sent something: from then on the member was to answer.
    pub(super) sent: Instant,
    pub(super) stall: StallMark,
    pub(super) extensions: u8,
    /// `notAfter` of the member's certificate, once seen.
    pub(super) certificate_not_after: Option<i64>,
    /// Filled for `--explain` only.
    pub(super) trace: Option<Box<ProbeTrace>>,
}

impl Progress {
    pub(super) fn new(trace: Option<Box<ProbeTrace>>) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            entered: now,
            phase: ProbePhase::Connect,
            phases: Phases::default(),
            sent: now,
            stall: StallMark::now(),
            extensions: EXTENSIONS,
            certificate_not_after: None,
            trace,
        }
    }

    pub(super) fn phase(&self) -> ProbePhase {
        self.phase
    }

    /// The prober has just sent something, or tried to.
    pub(super) fn note_sent(&mut self) {
        self.sent = Instant::now();
    }

    /// Ends the running phase and enters the next.
    pub(super) fn enter(&mut self, next: ProbePhase) {
        self.end_phase();
        self.phase = next;
    }

    /// Ends the running phase: its duration is known now.
    pub(super) fn end_phase(&mut self) {
        let now = Instant::now();
        let duration = match self.phase {
            ProbePhase::Connect => &mut self.phases.connect,
            ProbePhase::Tls => &mut self.phases.tls,
            ProbePhase::Response => &mut self.phases.response,
        };
        *duration = Some(now.duration_since(self.entered));
        self.entered = now;
    }
}

/// One probe, as `vitald probe --explain` shows it beside its report. A probe of a
/// driver carries none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeTrace {
    /// Our end of the connection.
    pub local: Option<SocketAddr>,
    /// The member's end.
    pub peer: Option<SocketAddr>,
    /// The handshake; none for TCP and HTTP, or when it was not reached.
    pub tls: Option<TlsTrace>,
    /// The request that was sent, line by line as on the wire.
    pub request: Option<String>,
    /// The final status line, bounded and printable.
    pub status_line: Option<String>,
    /// Interim answers (1xx) that were passed over.
    pub interim: Vec<u16>,
}

/// One TLS handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsTrace {
    /// The name that was sent (SNI) or, for an address, only checked.
    pub server_name: String,
    /// `TLSv1.3`; none when the handshake did not get so far.
    pub version: Option<String>,
    /// The cipher suite.
    pub cipher: Option<String>,
    /// The member's own certificate.
    pub certificate: Option<CertificateTrace>,
    /// Why the certificate was refused; none when it was accepted or not verified.
    pub verification_error: Option<String>,
}

/// The member's certificate. Texts are bounded and printable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateTrace {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// DNS names and addresses it is valid for.
    pub names: Vec<String>,
    /// Start of validity, seconds since the Unix epoch.
    pub not_before: i64,
    /// End of validity, seconds since the Unix epoch.
    pub not_after: i64,
}
