//! The HTTPS check: the HTTP check inside a TLS session.
//!
//! Called by `attempt`. The session is driven here, record by record, so that
//! the handshake has its own phase and every way it can end its own words.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags};
use rustls::ClientConnection;
use tokio::io::Interest;

use super::finding::{Finding, Step, printable};
use super::http::{HEADS_AT_MOST, HeadReader, HttpPlan};
use super::progress::{Phase, Progress};
use super::target::Target;
use super::tls::{self, TlsPlan};
use super::{fault, scratch};
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
        target: &Target,
        peer: IpAddr,
        progress: &mut Progress,
    ) -> Result<Self, Finding> {
        let name = plan.server_name(target.address(), peer);
        if let Some(notes) = &mut progress.notes {
            notes.tls.get_or_insert_default().server_name = name.to_str().into_owned();
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
        target: &Target,
        progress: &mut Progress,
    ) -> Step {
        loop {
            let has_words = self.session.wants_write();
            let flushed = self.flush(socket);
            if has_words {
                progress.speak();
            }
            let interest = match flushed {
                Flushed::Everything => Interest::READABLE,
                Flushed::Part => Interest::READABLE.add(Interest::WRITABLE),
            };
            let read = scratch::input(|buffer| self.read(socket, buffer, plan, progress));
            match read {
                Ok(Progressed::WouldBlock) => return Step::Wait(interest),
                Ok(Progressed::Records) => {}
                Err(finding) => {
                    // An alert that says why we leave; the member's log wants it.
                    self.flush(socket);
                    return finding.into();
                }
            }
            if progress.phase() == Phase::Tls && !self.session.is_handshaking() {
                progress.enter(Phase::Response);
                self.note_session(progress);
                if let Err(finding) = self.queue_request(plan, target, progress) {
                    return finding.into();
                }
            }
        }
    }

    /// Says goodbye inside the session, for an orderly end.
    pub(super) fn send_close_notify(&mut self, socket: BorrowedFd<'_>) {
        self.session.send_close_notify();
        self.flush(socket);
    }

    /// Hands queued records to the kernel. A broken connection is remembered:
    /// an answer or an alert may have come before it broke.
    fn flush(&mut self, socket: BorrowedFd<'_>) -> Flushed {
        while self.broken.is_none() && self.session.wants_write() {
            match self.session.write_tls(&mut Records(socket)) {
                Ok(_) => {}
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::AGAIN) => return Flushed::Part,
                    Some(errno) => self.broken = Some(errno),
                    None => self.broken = Some(Errno::IO),
                },
            }
        }
        Flushed::Everything
    }

    /// Reads what the kernel has, and the plaintext in it.
    fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
        plan: &HttpPlan,
        progress: &mut Progress,
    ) -> Result<Progressed, Finding> {
        let read = match net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(self.ended(progress.phase())),
            Ok((_, read)) => read,
            Err(Errno::INTR) => return Ok(Progressed::Records),
            Err(Errno::AGAIN) => return Ok(Progressed::WouldBlock),
            Err(errno) => return Err(broke(errno, progress.phase())),
        };
        let mut records = buffer.get(..read).unwrap_or_default();
        let first = if self.received == 0 { records } else { &[] };
        self.received += read;
        if self.received > RECORDS_AT_MOST {
            return Err(too_much(progress.phase()));
        }
        while !records.is_empty() {
            // Cannot block or break: the source is memory. It is refused only
            // when the session's own buffer is full, and that is emptied below.
            if let Err(error) = self.session.read_tls(&mut records) {
                return Err(Finding::inconclusive(
                    ProberReason::Internal,
                    format!("reading TLS records: {error}"),
                ));
            }
            let (processed, seen) = tls::observe(|| self.session.process_new_packets());
            if let Some(seen) = seen {
                progress.certificate_not_after = seen.not_after;
                self.is_self_signed = seen.is_self_signed;
                if let Some(notes) = &mut progress.notes {
                    notes.tls.get_or_insert_default().certificate = seen.explain();
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
        Ok(Progressed::Records)
    }

    fn take_plaintext(&mut self, plan: &HttpPlan, progress: &mut Progress) -> Option<Finding> {
        let mut plaintext = [0; 4096];
        loop {
            match self.session.reader().read(&mut plaintext) {
                // close_notify: the answer ends here.
                Ok(0) => return Some(self.ended(progress.phase())),
                Ok(read) => {
                    let bytes = plaintext.get(..read).unwrap_or_default();
                    if let Some(finding) = self.head.take(bytes, plan, progress) {
                        return Some(finding);
                    }
                }
                Err(_would_block) => return None,
            }
        }
    }

    fn queue_request(
        &mut self,
        plan: &HttpPlan,
        target: &Target,
        progress: &mut Progress,
    ) -> Result<(), Finding> {
        scratch::output(|request| {
            plan.write_request(target, request);
            if let Some(notes) = &mut progress.notes {
                notes.request = Some(String::from_utf8_lossy(request).into_owned());
            }
            self.session.writer().write_all(request).map_err(|error| {
                Finding::inconclusive(ProberReason::Internal, format!("queueing the request: {error}"))
            })
        })
    }

    fn ended(&self, phase: Phase) -> Finding {
        match (self.broken, phase) {
            (Some(errno), phase) => broke(errno, phase),
            (None, Phase::Response) => self.head.ended(None),
            (None, _) => {
                Finding::failure(MemberReason::TlsHandshake, "closed by the member during the TLS handshake")
            }
        }
    }

    fn note_session(&self, progress: &mut Progress) {
        if let Some(notes) = &mut progress.notes {
            let tls = notes.tls.get_or_insert_default();
            tls.version = self.session.protocol_version().map(tls::version_word);
            tls.cipher = self.session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        }
    }
}

/// Whether all queued records are with the kernel.
enum Flushed {
    Everything,
    Part,
}

/// Whether reading got anywhere.
enum Progressed {
    Records,
    WouldBlock,
}

/// A connection that broke in a phase: during the handshake, that failed.
fn broke(errno: Errno, phase: Phase) -> Finding {
    match (errno, phase) {
        (Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE, Phase::Tls) => {
            Finding::failure(MemberReason::TlsHandshake, "reset by the member during the TLS handshake")
        }
        (Errno::TIMEDOUT, Phase::Tls) => {
            Finding::failure(MemberReason::TlsTimeout, "the connection went dead during the TLS handshake")
        }
        (errno, _) => fault::established(errno),
    }
}

fn too_much(phase: Phase) -> Finding {
    let reason = match phase {
        Phase::Connect | Phase::Tls => MemberReason::TlsHandshake,
        Phase::Response => MemberReason::Protocol,
    };
    Finding::failure(reason, format!("no end of the response head within {RECORDS_AT_MOST} bytes of TLS"))
}

/// What the TLS library's refusal means; `first` are the first bytes received.
fn refused(error: &rustls::Error, first: &[u8], is_self_signed: bool, progress: &mut Progress) -> Finding {
    if matches!(error, rustls::Error::InvalidMessage(_)) && first.starts_with(b"HTTP/") {
        let line = first.split(|&byte| byte == b'\n').next().unwrap_or_default();
        return Finding::failure(
            MemberReason::TlsHandshake,
            format!("the member speaks plain HTTP: \"{}\"", printable(line.trim_ascii_end())),
        );
    }
    // Over TLS 1.3 a refused client certificate is heard of only after the own
    // end of the handshake: alerts stay the handshake's.
    if progress.phase() == Phase::Response && !matches!(error, rustls::Error::AlertReceived(_)) {
        progress.end_phase();
        return tls::judge_record(error);
    }
    let finding = tls::judge(error, is_self_signed);
    if let (Some(notes), rustls::Error::InvalidCertificate(_)) = (&mut progress.notes, error) {
        notes.tls.get_or_insert_default().verification_error = Some(finding.detail.clone().into_owned());
    }
    finding
}

/// The sending side of the socket, as the TLS library wants it.
struct Records<'a>(BorrowedFd<'a>);

impl io::Write for Records<'_> {
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
