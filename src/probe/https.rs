//! The HTTPS check: the HTTP check inside a TLS session.
//!
//! Called by `machine`. The session is driven here, record by record, so that the
//! handshake has a phase of its own, and each way in which it can fail its own words.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{self, SendAncillaryBuffer, SendFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Error, ProtocolVersion};
use tokio::io::Interest;

use super::finding::{self, Finding, ProbePhase, ProbeStep, Progress, SentName};
use super::http::{HEADS_AT_MOST, HeadReader, HttpPlan};
use super::socket;
use super::tls::failure::{self, Situation};
use super::tls::key_exchange::{UnusedPair, in_session};
use super::tls::verifier::{self, ShownCertificate};
use super::tls::{TlsPlan, version_word};
use crate::channel::MemberAddress;
use crate::health::{MemberReason, ProberReason};

/// Bytes of all records of one probe: the heads, and beside them certificate
/// chains and session tickets.
const RECORDS_AT_MOST: usize = HEADS_AT_MOST + 128 * 1024;

/// One session, one request and its answer.
pub(super) struct HttpsExchange {
    session: ClientConnection,
    /// For the rest of the handshake.
    unused_pair: UnusedPair,
    head: HeadReader,
    /// Raw bytes received so far.
    received: usize,
    /// The member's certificate.
    shown: Option<ShownCertificate>,
    /// The member has asked to renegotiate, which the TLS library refuses by itself.
    renegotiates: bool,
    /// The versions offered.
    versions: &'static str,
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
            let tls = trace.tls.get_or_insert_default();
            tls.server_name = name.to_str().into_owned();
            tls.sni = match name {
                ServerName::DnsName(_) => SentName::Sent,
                _ => SentName::NotSent,
            };
            tls.offer = plan.offer();
        }
        match ClientConnection::new(plan.config(), name) {
            Ok(session) => Ok(Self {
                session,
                unused_pair: UnusedPair::default(),
                head: HeadReader::default(),
                received: 0,
                shown: None,
                renegotiates: false,
                versions: plan.versions(),
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
                Ok(RecordRead::WouldBlock) => {
                    // What was sent carries the acknowledgement.
                    if has_read && !sends && (self.session.is_handshaking() || self.head.is_partial()) {
                        socket::acknowledge(socket);
                    }
                    return ProbeStep::Wait(interest);
                }
                Ok(RecordRead::Taken) => has_read = true,
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

    /// Reads what the kernel has, and the plaintext in it.
    fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
        plan: &HttpPlan,
        progress: &mut Progress,
    ) -> Result<RecordRead, Finding> {
        let mut records = match socket::receive(socket, buffer) {
            Ok(Some([])) => return Err(self.ended(progress.phase())),
            Ok(Some(records)) => records,
            Ok(None) => return Ok(RecordRead::WouldBlock),
            Err(errno) => return Err(self.broke(errno, progress.phase())),
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
            let session = &mut self.session;
            let (processed, shown) = verifier::with_certificate(|| {
                in_session(&mut self.unused_pair, || session.process_new_packets())
            });
            if let Some(shown) = shown {
                progress.certificate_not_after = shown.not_after();
                if let Some(trace) = &mut progress.trace {
                    let tls = trace.tls.get_or_insert_default();
                    tls.certificate = shown.explain();
                    tls.unproven_key.clone_from(&shown.unproven);
                }
                self.shown = Some(shown);
            }
            // Nothing of ours is queued then: it is the library's answer to the request.
            self.renegotiates |= progress.phase() == ProbePhase::Response
                && self.session.protocol_version() == Some(ProtocolVersion::TLSv1_2)
                && self.session.wants_write();
            // An alert may follow a whole answer: the answer counts.
            if let Some(finding) = self.take_plaintext(plan, progress) {
                return Err(finding);
            }
            if let Err(error) = processed {
                self.note_session(progress);
                return Err(self.refused(&error, first, progress));
            }
        }
        Ok(RecordRead::Taken)
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
                trace.request = Some(plan.shown_request(member));
            }
            self.session.writer().write_all(request).map_err(|error| {
                Finding::inconclusive(ProberReason::Internal, format!("queueing the request: {error}"))
            })
        })
    }

    fn ended(&self, phase: ProbePhase) -> Finding {
        match (self.broken, phase) {
            (Some(errno), phase) => self.broke(errno, phase),
            (None, ProbePhase::Response) if self.renegotiates => {
                Finding::failure(MemberReason::Closed, failure::RENEGOTIATION)
            }
            (None, ProbePhase::Response) => self.head.ended(None),
            (None, _) => {
                Finding::failure(MemberReason::TlsHandshake, "closed by the member during the TLS handshake")
            }
        }
    }

    /// A connection that broke in a phase: during the handshake, that failed.
    fn broke(&self, errno: Errno, phase: ProbePhase) -> Finding {
        match (errno, phase) {
            (Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE, ProbePhase::Tls) => {
                Finding::failure(MemberReason::TlsHandshake, "reset by the member during the TLS handshake")
            }
            (Errno::TIMEDOUT, ProbePhase::Tls) => {
                let detail = "the connection went dead during the TLS handshake";
                Finding::failure(MemberReason::TlsTimeout, detail)
            }
            (Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE, _) if self.renegotiates => {
                Finding::failure(MemberReason::Reset, failure::RENEGOTIATION)
            }
            (errno, _) => finding::established(errno),
        }
    }

    /// What is known of a member that says nothing more.
    pub(super) fn silence(&self) -> Option<&'static str> {
        self.renegotiates.then_some(failure::RENEGOTIATION)
    }

    /// What the TLS library's refusal means; `first` are the first bytes received.
    fn refused(&self, error: &Error, first: &[u8], progress: &mut Progress) -> Finding {
        let situation = Situation {
            first,
            is_self_signed: self.shown.as_ref().is_some_and(ShownCertificate::is_self_signed),
            has_pss_key: self.shown.as_ref().is_some_and(ShownCertificate::has_pss_key),
            has_hello: self.session.negotiated_cipher_suite().is_some(),
            renegotiates: self.renegotiates,
            versions: self.versions,
        };
        // Over TLS 1.3 the member reports a refused client certificate when the handshake is
        // over on our side: an alert is always blamed on the handshake.
        if progress.phase() == ProbePhase::Response && !matches!(error, Error::AlertReceived(_)) {
            progress.end_phase();
            return failure::broken_record(error, &situation);
        }
        let finding = failure::handshake(error, &situation);
        if let (Some(trace), Error::InvalidCertificate(_)) = (&mut progress.trace, error) {
            let detail = finding.detail.clone().into_owned();
            trace.tls.get_or_insert_default().verification_error = Some(detail);
        }
        finding
    }

    fn note_session(&self, progress: &mut Progress) {
        if let Some(trace) = &mut progress.trace {
            let tls = trace.tls.get_or_insert_default();
            tls.version = self.session.protocol_version().map(version_word);
            tls.cipher = self.session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        }
    }
}

/// Whether the kernel had anything to read.
enum RecordRead {
    Taken,
    WouldBlock,
}

fn too_much(phase: ProbePhase) -> Finding {
    let reason = match phase {
        ProbePhase::Connect | ProbePhase::Tls => MemberReason::TlsHandshake,
        ProbePhase::Response => MemberReason::Protocol,
    };
    Finding::failure(reason, format!("no end of the response head within {RECORDS_AT_MOST} bytes of TLS"))
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
