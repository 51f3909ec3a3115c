//! What a probe finds: so far, in the end, and for `--explain`.
//!
//! The machine and the protocols note in a [`Progress`] how far the probe has come. A
//! [`ProbeStep`] says what the probe wants next; a [`Finding`] is its end. A
//! [`ProbeTrace`] is filled for `vitald probe --explain` alone.
//!
//! A table says which side caused a system error. An error that only the network or the
//! member can cause is a failure; one that only this host can cause is inconclusive; one
//! that is not in the table is inconclusive too, with its number.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::time::Instant;

use super::stall::StallMark;
use crate::health::{MemberReason, Outcome, Phases, ProberReason};

/// The longest remote text in a detail, in bytes of the result.
const LONGEST_REMOTE_TEXT: usize = 120;

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

    /// Begins with another address; the probe's own time goes on.
    pub(super) fn begin_attempt(&mut self) {
        let now = Instant::now();
        self.phase = ProbePhase::Connect;
        self.phases = Phases::default();
        (self.entered, self.sent) = (now, now);
    }

    /// When the running phase began.
    pub(super) fn entered(&self) -> Instant {
        self.entered
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
        self.enter_at(Instant::now(), next);
    }

    /// The same, for a phase that has ended at `then`.
    pub(super) fn enter_at(&mut self, then: Instant, next: ProbePhase) {
        self.end_phase_at(then);
        self.phase = next;
    }

    /// Ends the running phase: its duration is known now.
    pub(super) fn end_phase(&mut self) {
        self.end_phase_at(Instant::now());
    }

    fn end_phase_at(&mut self, then: Instant) {
        let duration = match self.phase {
            ProbePhase::Connect => &mut self.phases.connect,
            ProbePhase::Tls => &mut self.phases.tls,
            ProbePhase::Response => &mut self.phases.response,
        };
        *duration = Some(then.duration_since(self.entered));
        self.entered = then;
    }
}

/// What a probe's machine wants next.
#[derive(Debug)]
pub(super) enum ProbeStep {
    /// The kernel said "would block"; go on when the socket is ready for this.
    Wait(Interest),
    /// The probe is over.
    Done(Finding),
}

/// The end of a probe, without its times.
#[derive(Debug)]
pub(super) struct Finding {
    /// The verdict-moving part.
    pub(super) outcome: Outcome,
    /// The final status code, when a head was read.
    pub(super) status: Option<u16>,
    /// One line for people.
    pub(super) detail: Cow<'static, str>,
}

impl Finding {
    pub(super) fn success(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Success, status: None, detail: detail.into() }
    }

    pub(super) fn failure(reason: MemberReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Failure(reason), status: None, detail: detail.into() }
    }

    pub(super) fn inconclusive(reason: ProberReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Inconclusive(reason), status: None, detail: detail.into() }
    }

    pub(super) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }
}

impl From<Finding> for ProbeStep {
    fn from(finding: Finding) -> Self {
        Self::Done(finding)
    }
}

/// Remote bytes as one bounded, printable line: whatever is not printable
/// ASCII becomes `?`, so that no escape sequence reaches a terminal or a log.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text: String = bytes
        .iter()
        .take(LONGEST_REMOTE_TEXT)
        .map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' })
        .collect();
    if bytes.len() > LONGEST_REMOTE_TEXT {
        text.truncate(LONGEST_REMOTE_TEXT - 3);
        text.push_str("...");
    }
    text
}

/// The first line of what a member sent, fit to print.
pub(super) fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or(bytes);
    printable(line.trim_ascii_end())
}

/// What a failed `socket`, or a failed registration with the runtime, means. Nothing has
/// been sent to the member yet.
pub(super) fn opening(errno: Errno) -> Finding {
    if errno == Errno::AFNOSUPPORT {
        // The reason that `connect` gives on a host without a route to the address.
        let detail = "this host does not speak the address's family";
        return Finding::failure(MemberReason::Unreachable, detail);
    }
    local_shortage(errno).unwrap_or_else(|| internal("opening a socket", errno))
}

/// What an error of `connect`, or of a connection being made, means.
///
/// `ECONNRESET` here says that the connection was established and reset before
/// we looked: a refusal during the handshake is `ECONNREFUSED` (RFC 9293, 3.10.7.3).
pub(super) fn connecting(errno: Errno) -> Finding {
    match errno {
        Errno::CONNREFUSED => Finding::failure(MemberReason::Refused, "connection refused"),
        Errno::TIMEDOUT => Finding::failure(MemberReason::ConnectTimeout, "the kernel gave up connecting"),
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => {
            Finding::inconclusive(ProberReason::LocalPort, "no local port is free")
        }
        // What connect(2) says of a route of the kind blackhole (route(8)); our
        // own arguments are never wrong.
        Errno::INVAL => {
            let detail = "a route of this host discards what is sent there";
            Finding::failure(MemberReason::Unreachable, detail)
        }
        errno => established(errno),
    }
}

/// What an error of an established connection means.
pub(super) fn established(errno: Errno) -> Finding {
    if let Some(finding) = local_shortage(errno) {
        return finding;
    }
    let unreachable = |detail| Finding::failure(MemberReason::Unreachable, detail);
    match errno {
        Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE => {
            Finding::failure(MemberReason::Reset, "connection reset by the member")
        }
        // Retransmissions of an established connection were never acknowledged.
        Errno::TIMEDOUT => Finding::failure(MemberReason::ResponseTimeout, "the connection went dead"),
        // ICMP unreachable in its kinds (RFC 1122, 4.2.3.9), a missing route,
        // or a local rule that forbids the way.
        Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NONET => unreachable("no route to host"),
        Errno::NETUNREACH | Errno::NETDOWN => unreachable("network unreachable"),
        Errno::ACCESS | Errno::PERM => unreachable("administratively forbidden"),
        Errno::NOPROTOOPT | Errno::PROTO => unreachable("the host does not speak TCP"),
        errno => internal("talking to the member", errno),
    }
}

/// File descriptors, socket memory and event registrations that ran out.
fn local_shortage(errno: Errno) -> Option<Finding> {
    let detail = match errno {
        Errno::MFILE => "no file descriptor is free in this process",
        Errno::NFILE => "no file descriptor is free in this system",
        Errno::NOBUFS | Errno::NOMEM => "no memory is free for a socket",
        Errno::NOSPC => "no epoll watch is free for this user",
        _ => return None,
    };
    Some(Finding::inconclusive(ProberReason::LocalFd, detail))
}

fn internal(doing: &str, errno: Errno) -> Finding {
    let number = errno.raw_os_error();
    let text = std::io::Error::from(errno).kind();
    Finding::inconclusive(ProberReason::Internal, format!("{doing}: {text} (errno {number})"))
}

/// One probe, as `vitald probe --explain` shows it beside its report. A probe of a
/// driver carries none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeTrace {
    /// Of a name: its addresses in the order in which the probe tries them.
    pub addresses: Vec<IpAddr>,
    /// The addresses that were tried and not connected to, and what each said.
    pub attempts: Vec<(IpAddr, String)>,
    /// Our end of the connection.
    pub local: Option<SocketAddr>,
    /// The member's end.
    pub peer: Option<SocketAddr>,
    /// The handshake; none for TCP and HTTP, or when it was not reached.
    pub tls: Option<TlsTrace>,
    /// The request that was sent, line by line as on the wire; values of secret headers
    /// are masked.
    pub request: Option<String>,
    /// The final status line, bounded and printable.
    pub status_line: Option<String>,
    /// Interim answers (1xx) that were passed over.
    pub interim: Vec<u16>,
}

/// One TLS handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsTrace {
    /// The name or address that the certificate is checked for, where it is verified.
    pub server_name: String,
    /// Whether that name was sent (SNI); an address never is.
    pub sni: SentName,
    /// `TLSv1.3`; none when the handshake did not get so far.
    pub version: Option<String>,
    /// The cipher suite.
    pub cipher: Option<String>,
    /// The member's own certificate.
    pub certificate: Option<CertificateTrace>,
    /// Why the certificate was refused; none when it was accepted or not verified.
    pub verification_error: Option<String>,
    /// What of the member's key could not be used to prove that the member holds it;
    /// none when it did prove it, or the handshake did not get so far.
    pub unproven_key: Option<String>,
    /// What the prober offered.
    pub offer: TlsOffer,
}

/// Whether a handshake tells the member which name it is asked for (SNI, RFC 6066, section 3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SentName {
    /// It does not: the member is called by an address.
    #[default]
    NotSent,
    /// It does.
    Sent,
}

/// What a prober offers in its ClientHello, by the names of the RFCs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOffer {
    /// Versions of TLS.
    pub versions: Vec<String>,
    /// Cipher suites.
    pub suites: Vec<String>,
    /// Groups for the key exchange.
    pub groups: Vec<String>,
    /// Signature schemes.
    pub signatures: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_lands_on_the_side_that_caused_it() {
        use MemberReason as M;
        use ProberReason as P;
        let member = Outcome::Failure;
        let prober = Outcome::Inconclusive;
        type Judge = fn(Errno) -> Finding;
        let cases: [(Judge, Errno, Outcome); 28] = [
            (opening, Errno::MFILE, prober(P::LocalFd)),
            (opening, Errno::NFILE, prober(P::LocalFd)),
            (opening, Errno::NOBUFS, prober(P::LocalFd)),
            (opening, Errno::NOMEM, prober(P::LocalFd)),
            (opening, Errno::NOSPC, prober(P::LocalFd)),
            (opening, Errno::AFNOSUPPORT, member(M::Unreachable)),
            (opening, Errno::ACCESS, prober(P::Internal)),
            (connecting, Errno::CONNREFUSED, member(M::Refused)),
            (connecting, Errno::TIMEDOUT, member(M::ConnectTimeout)),
            (connecting, Errno::CONNRESET, member(M::Reset)),
            (connecting, Errno::ADDRNOTAVAIL, prober(P::LocalPort)),
            (connecting, Errno::ADDRINUSE, prober(P::LocalPort)),
            (connecting, Errno::HOSTUNREACH, member(M::Unreachable)),
            (connecting, Errno::NETUNREACH, member(M::Unreachable)),
            (connecting, Errno::HOSTDOWN, member(M::Unreachable)),
            (connecting, Errno::NONET, member(M::Unreachable)),
            (connecting, Errno::NETDOWN, member(M::Unreachable)),
            (connecting, Errno::ACCESS, member(M::Unreachable)),
            (connecting, Errno::PERM, member(M::Unreachable)),
            (connecting, Errno::NOPROTOOPT, member(M::Unreachable)),
            (connecting, Errno::NOBUFS, prober(P::LocalFd)),
            (connecting, Errno::INVAL, member(M::Unreachable)),
            (established, Errno::INVAL, prober(P::Internal)),
            (established, Errno::CONNRESET, member(M::Reset)),
            (established, Errno::PIPE, member(M::Reset)),
            (established, Errno::TIMEDOUT, member(M::ResponseTimeout)),
            (established, Errno::NOMEM, prober(P::LocalFd)),
            (established, Errno::BADF, prober(P::Internal)),
        ];
        for (judge, errno, outcome) in cases {
            assert_eq!(judge(errno).outcome, outcome, "{errno:?}");
        }
        assert!(established(Errno::INVAL).detail.contains("(errno 22)"));
    }

    #[test]
    fn remote_text_is_bounded_and_printable() {
        assert_eq!(printable(b"Service Unavailable"), "Service Unavailable");
        assert_eq!(printable(b"\x1b[31mred\r\n\xff\0"), "?[31mred????");
        let long = printable(&[b'a'; 500]);
        assert_eq!(long.len(), LONGEST_REMOTE_TEXT);
        assert!(long.ends_with("a..."));
        assert_eq!(printable(&[b'a'; LONGEST_REMOTE_TEXT]).len(), LONGEST_REMOTE_TEXT);
    }
}
