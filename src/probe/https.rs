//! The HTTPS check: the HTTP check inside a TLS session.
//!
//! Called by `machine`. The session is driven here, record by record, so that the
//! handshake has a phase of its own, and each way in which it can fail its own words.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::net::{self, SendAncillaryBuffer, SendFlags};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConnection, Error, InvalidMessage, PeerIncompatible,
    ProtocolVersion,
};
use tokio::io::Interest;

use super::finding::{self, Finding, ProbePhase, ProbeStep, Progress, first_line, printable};
use super::http::{HEADS_AT_MOST, HeadReader, HttpPlan};
use super::socket;
use super::tls::{self, TlsPlan};
use crate::channel::MemberAddress;
use crate::health::{MemberReason, ProberReason};

/// Bytes of all records of one probe: the heads, and beside them certificate
/// chains and session tickets.
const RECORDS_AT_MOST: usize = HEADS_AT_MOST + 128 * 1024;

/// One session, one request and its answer.
pub(super) struct HttpsExchange {
    session: ClientConnection,
    head: HeadReader,
    /// Raw bytes received so far.
    received: usize,
    /// The member's certificate names its own subject as issuer.
    is_self_signed: bool,
    /// The connection broke while something was being sent.
    broken: Option<Errno>,
}

impl HttpsExchange {
    /// Begins a session; nothing is sent yet.
    pub(super) fn new(
        plan: &TlsPlan,
        member: &MemberAddress,
        peer: IpAddr,
        progress: &mut Progress,
    ) -> Result<Self, Finding> {
        let name = plan.server_name(member, peer);
        if let Some(trace) = &mut progress.trace {
            trace.tls.get_or_insert_default().server_name = name.to_str().into_owned();
        }
        match ClientConnection::new(plan.config(), name) {
            Ok(session) => Ok(Self {
                session,
                head: HeadReader::default(),
                received: 0,
                is_self_signed: false,
                broken: None,
            }),
            Err(error) => Err(Finding::inconclusive(
                ProberReason::Internal,
                format!("beginning a TLS session: {error}"),
            )),
        }
    }

    /// Sends and reads as far as the kernel lets it.
    pub(super) fn advance(
        &mut self,
        socket: BorrowedFd<'_>,
        plan: &HttpPlan,
        member: &MemberAddress,
        progress: &mut Progress,
    ) -> ProbeStep {
        let mut has_read = false;
        loop {
            let sends = self.session.wants_write();
            let interest = self.flush(socket);
            if sends {
                progress.note_sent();
            }
            match socket::input(|buffer| self.read(socket, buffer, plan, progress)) {
                Ok(false) => {
                    // What was sent carries the acknowledgement.
                    if has_read && !sends && (self.session.is_handshaking() || self.head.is_partial()) {
                        socket::acknowledge(socket);
                    }
                    return ProbeStep::Wait(interest);
                }
                Ok(true) => has_read = true,
                Err(finding) => {
                    // An alert says why the prober leaves, for the member's log.
                    self.flush(socket);
                    return finding.into();
                }
            }
            if progress.phase() == ProbePhase::Tls && !self.session.is_handshaking() {
                progress.enter(ProbePhase::Response);
                self.note_session(progress);
                if let Err(finding) = self.queue_request(plan, member, progress) {
                    return finding.into();
                }
            }
        }
    }

    /// Ends the session in an orderly way.
    pub(super) fn send_close_notify(&mut self, socket: BorrowedFd<'_>) {
        self.session.send_close_notify();
        self.flush(socket);
    }

    /// Hands queued records to the kernel, and says what to wait for then. A broken
    /// connection is remembered: an answer or an alert may have come before it broke.
    fn flush(&mut self, socket: BorrowedFd<'_>) -> Interest {
        while self.broken.is_none() && self.session.wants_write() {
            if let Err(error) = self.session.write_tls(&mut RecordWriter(socket)) {
                match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::AGAIN) => return Interest::READABLE.add(Interest::WRITABLE),
                    errno => self.broken = Some(errno.unwrap_or(Errno::IO)),
                }
            }
        }
        Interest::READABLE
    }

    /// Reads what the kernel has, and the plaintext in it; false: there was nothing.
    fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
        plan: &HttpPlan,
        progress: &mut Progress,
    ) -> Result<bool, Finding> {
        let mut records = match socket::receive(socket, buffer) {
            Ok(Some([])) => return Err(self.ended(progress.phase())),
            Ok(Some(records)) => records,
            Ok(None) => return Ok(false),
            Err(errno) => return Err(broke(errno, progress.phase())),
        };
        let first = if self.received == 0 { records } else { &[] };
        self.received += records.len();
        if self.received > RECORDS_AT_MOST {
            return Err(too_much(progress.phase()));
        }
        while !records.is_empty() {
            // Reading from memory cannot block or fail. The session refuses bytes only
            // when its own buffer is full, and that is emptied below.
            if let Err(error) = self.session.read_tls(&mut records) {
                return Err(Finding::inconclusive(
                    ProberReason::Internal,
                    format!("reading TLS records: {error}"),
                ));
            }
            let (processed, seen) = tls::with_certificate(|| self.session.process_new_packets());
            if let Some(seen) = seen {
                progress.certificate_not_after = seen.not_after;
                self.is_self_signed = seen.is_self_signed;
                if let Some(trace) = &mut progress.trace {
                    trace.tls.get_or_insert_default().certificate = seen.explain();
                }
            }
            // An alert may follow a whole answer: the answer counts.
            if let Some(finding) = self.take_plaintext(plan, progress) {
                return Err(finding);
            }
            if let Err(error) = processed {
                self.note_session(progress);
                return Err(refused(&error, first, self.is_self_signed, progress));
            }
        }
        Ok(true)
    }

    fn take_plaintext(&mut self, plan: &HttpPlan, progress: &mut Progress) -> Option<Finding> {
        let mut plaintext = [0; 4096];
        loop {
            match self.session.reader().read(&mut plaintext) {
                // close_notify: the answer ends here.
                Ok(0) => return Some(self.ended(progress.phase())),
                Ok(read) => {
                    let finding = self.head.take(plaintext.get(..read)?, plan, progress);
                    if finding.is_some() {
                        return finding;
                    }
                }
                Err(_would_block) => return None,
            }
        }
    }

    fn queue_request(
        &mut self,
        plan: &HttpPlan,
        member: &MemberAddress,
        progress: &mut Progress,
    ) -> Result<(), Finding> {
        socket::output(|request| {
            plan.write_request(member, request);
            if let Some(trace) = &mut progress.trace {
                trace.request = Some(String::from_utf8_lossy(request).into_owned());
            }
            self.session.writer().write_all(request).map_err(|error| {
                Finding::inconclusive(ProberReason::Internal, format!("queueing the request: {error}"))
            })
        })
    }

    fn ended(&self, phase: ProbePhase) -> Finding {
        match (self.broken, phase) {
            (Some(errno), phase) => broke(errno, phase),
            (None, ProbePhase::Response) => self.head.ended(None),
            (None, _) => {
                Finding::failure(MemberReason::TlsHandshake, "closed by the member during the TLS handshake")
            }
        }
    }

    fn note_session(&self, progress: &mut Progress) {
        if let Some(trace) = &mut progress.trace {
            let tls = trace.tls.get_or_insert_default();
            tls.version = self.session.protocol_version().map(version_word);
            tls.cipher = self.session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        }
    }
}

/// A connection that broke in a phase: during the handshake, that failed.
fn broke(errno: Errno, phase: ProbePhase) -> Finding {
    match (errno, phase) {
        (Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE, ProbePhase::Tls) => {
            Finding::failure(MemberReason::TlsHandshake, "reset by the member during the TLS handshake")
        }
        (Errno::TIMEDOUT, ProbePhase::Tls) => {
            Finding::failure(MemberReason::TlsTimeout, "the connection went dead during the TLS handshake")
        }
        (errno, _) => finding::established(errno),
    }
}

fn too_much(phase: ProbePhase) -> Finding {
    let reason = match phase {
        ProbePhase::Connect | ProbePhase::Tls => MemberReason::TlsHandshake,
        ProbePhase::Response => MemberReason::Protocol,
    };
    Finding::failure(reason, format!("no end of the response head within {RECORDS_AT_MOST} bytes of TLS"))
}

/// What the TLS library's refusal means; `first` are the first bytes received.
fn refused(error: &Error, first: &[u8], is_self_signed: bool, progress: &mut Progress) -> Finding {
    if matches!(error, Error::InvalidMessage(_)) && first.starts_with(b"HTTP/") {
        let detail = format!("the member speaks plain HTTP: \"{}\"", first_line(first));
        return Finding::failure(MemberReason::TlsHandshake, detail);
    }
    // Over TLS 1.3 the member reports a refused client certificate when the handshake is
    // over on our side: an alert is always blamed on the handshake.
    if progress.phase() == ProbePhase::Response && !matches!(error, Error::AlertReceived(_)) {
        progress.end_phase();
        return broken_record(error);
    }
    let finding = handshake_failure(error, is_self_signed);
    if let (Some(trace), Error::InvalidCertificate(_)) = (&mut progress.trace, error) {
        trace.tls.get_or_insert_default().verification_error = Some(finding.detail.clone().into_owned());
    }
    finding
}

/// The sending side of the socket, as the TLS library wants it.
struct RecordWriter<'a>(BorrowedFd<'a>);

impl io::Write for RecordWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(net::send(self.0, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(net::sendmsg(self.0, records, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the TLS library's refusal means for the member.
fn handshake_failure(error: &Error, is_self_signed: bool) -> Finding {
    let handshake = |detail: String| Finding::failure(MemberReason::TlsHandshake, detail);
    match error {
        Error::InvalidCertificate(reason) => {
            Finding::failure(MemberReason::TlsCertificate, describe(reason, is_self_signed))
        }
        Error::AlertReceived(alert) => {
            handshake(format!("the member ended the TLS session: alert {}", alert_word(*alert)))
        }
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
            handshake("a message of the TLS handshake is too large".to_owned())
        }
        Error::InvalidMessage(_) => handshake("the member does not speak TLS".to_owned()),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            handshake("the member speaks neither TLS 1.2 nor 1.3".to_owned())
        }
        Error::General(message) => handshake(message.clone()),
        other => handshake(printable(format!("TLS: {other}").as_bytes())),
    }
}

/// Why a certificate was refused, in words.
fn describe(reason: &CertificateError, is_self_signed: bool) -> String {
    match reason {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("certificate expired {}", date(*not_after))
        }
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate not valid before {}", date(*not_before))
        }
        CertificateError::NotValidYet => "certificate not valid yet".to_owned(),
        CertificateError::NotValidForNameContext { expected, .. } => {
            let kind = match expected {
                ServerName::DnsName(_) => "name",
                _ => "address",
            };
            format!("certificate not valid for {kind} {}", printable(expected.to_str().as_bytes()))
        }
        CertificateError::UnknownIssuer if is_self_signed => "self-signed certificate".to_owned(),
        CertificateError::UnknownIssuer => "certificate from an unknown issuer".to_owned(),
        CertificateError::Revoked => "certificate revoked".to_owned(),
        CertificateError::BadEncoding => "certificate cannot be read".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is not for servers".to_owned()
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "certificate is a CA's own and cannot stand for a server".to_owned()
        }
        other => printable(format!("certificate refused: {other}").as_bytes()),
    }
}

/// The day of a time, UTC.
fn date(time: UnixTime) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    let text = time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    text.as_deref().and_then(|text| text.get(..10)).unwrap_or("at an unknown time").to_owned()
}

/// `TLS 1.3`.
fn version_word(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What bytes that are no TLS record, or a record that cannot be decrypted, mean once
/// the session is established: the answer is to blame, not the handshake.
fn broken_record(error: &Error) -> Finding {
    let why = match error {
        Error::InvalidMessage(_) => "what came is not TLS".to_owned(),
        Error::DecryptError => "it cannot be decrypted".to_owned(),
        other => other.to_string(),
    };
    Finding::failure(MemberReason::Protocol, printable(format!("a broken TLS record: {why}").as_bytes()))
}

/// An alert by the name of RFC 8446, 6, or by its number.
fn alert_word(alert: AlertDescription) -> String {
    match alert {
        // The library has a spelling of its own.
        AlertDescription::UnrecognisedName => "unrecognized_name".to_owned(),
        AlertDescription::Unknown(number) => number.to_string(),
        named => snake_case(&format!("{named:?}")),
    }
}

/// `CertificateRequired` as the RFC writes it: `certificate_required`.
fn snake_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && after_lower {
            text.push('_');
        }
        after_lower = character.is_ascii_lowercase();
        text.push(character.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        for (own, written) in [
            ("CertificateRequired", "certificate_required"),
            ("HandshakeFailure", "handshake_failure"),
            ("UnknownCA", "unknown_ca"),
            ("ProtocolVersion", "protocol_version"),
        ] {
            assert_eq!(snake_case(own), written);
        }
    }
}
