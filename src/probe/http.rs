//! The HTTP check: sending the request, and the verdict on a response head.
//!
//! Called by `machine` for HTTP and, over its records, by `https`.
//!
//! # What is judged (RFC 9112, RFC 9110)
//!
//! - The status of the final head decides. Interim answers (1xx) are passed
//!   over, at most [`INTERIM_AT_MOST`]; 101 ends HTTP on the connection
//!   (RFC 9110, 15.2.2) and is therefore final.
//! - HTTP/1.0 and HTTP/1.1 are HTTP. Anything else is `protocol`: HTTP/0.9, an
//!   HTTP/2 preface, another protocol's banner.
//! - A bare LF ends a line (RFC 9112, 2.2 allows it), and a folded header line
//!   is read as one (5.2). Other malformed header lines are `protocol`.
//! - The body is not read, but a head that no client may accept is refused:
//!   a `Content-Length` that is no number or contradicts itself, without a
//!   `Transfer-Encoding` that overrides it (6.3). Answers that have no body by
//!   definition (to HEAD, 1xx, 204, 304) are exempt.
//! - All heads together are at most [`HEADS_AT_MOST`] bytes, each at most
//!   [`FIELDS_AT_MOST`] header lines.

mod request;

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{self, SendFlags};
use tokio::io::Interest;

pub(super) use self::request::HttpPlan;
use super::finding::{self, Finding, ProbeStep, ProbeTrace, Progress, first_line, printable};
use super::socket;
use crate::channel::{HttpMethod, MASK, MemberAddress};
use crate::health::{MemberReason, Outcome, ProberReason};

/// Bytes of all response heads of one probe, interim ones included.
pub(super) const HEADS_AT_MOST: usize = 64 * 1024;
/// Header lines of one head.
pub(super) const FIELDS_AT_MOST: usize = 128;
/// Interim answers before the final one.
pub(super) const INTERIM_AT_MOST: usize = 16;

/// One request and its answer, over plain TCP.
#[derive(Debug)]
pub(super) struct HttpExchange {
    sending: Sending,
    head: HeadReader,
}

/// How much of the request has been sent.
#[derive(Debug)]
enum Sending {
    /// The kernel took so many bytes and would block.
    Sent(usize),
    /// All of it is.
    Complete,
    /// The connection broke before all of it was. An answer may have come even so.
    Broken(Errno),
}

impl HttpExchange {
    /// Begins an exchange, of which nothing or something is sent.
    ///
    /// # Errors
    /// What the kernel said instead of taking a byte; that it would block is no error.
    pub(super) fn begin(
        socket: BorrowedFd<'_>,
        plan: &HttpPlan,
        member: &MemberAddress,
    ) -> Result<Self, Errno> {
        match send_request(socket, plan, member, 0) {
            Sending::Broken(errno) => Err(errno),
            sending => Ok(Self { sending, head: HeadReader::default() }),
        }
    }

    /// Whether the kernel has taken a byte, which it does once there is a connection.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.sending, Sending::Sent(0))
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Interest {
        match self.sending {
            Sending::Sent(_) => Interest::READABLE.add(Interest::WRITABLE),
            Sending::Complete | Sending::Broken(_) => Interest::READABLE,
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
        if let Sending::Sent(sent) = self.sending {
            self.sending = send_request(socket, plan, member, sent);
            progress.note_sent();
        }
        socket::input(|buffer| self.read(socket, buffer, plan, progress))
            .map_or_else(|| ProbeStep::Wait(self.interest()), ProbeStep::Done)
    }

    fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
        plan: &HttpPlan,
        progress: &mut Progress,
    ) -> Option<Finding> {
        loop {
            match socket::receive(socket, buffer) {
                Ok(Some([])) => {
                    let broken = if let Sending::Broken(errno) = self.sending { Some(errno) } else { None };
                    return Some(self.head.ended(broken));
                }
                Ok(Some(bytes)) => {
                    let finding = self.head.take(bytes, plan, progress);
                    if finding.is_some() {
                        return finding;
                    }
                }
                Ok(None) => {
                    if self.head.is_partial() {
                        socket::acknowledge(socket);
                    }
                    return None;
                }
                Err(errno) => return Some(finding::established(errno)),
            }
        }
    }
}

fn send_request(socket: BorrowedFd<'_>, plan: &HttpPlan, member: &MemberAddress, mut sent: usize) -> Sending {
    socket::output(|request| {
        plan.write_request(member, request);
        loop {
            let Some(rest) = request.get(sent..).filter(|rest| !rest.is_empty()) else {
                return Sending::Complete;
            };
            match net::send(socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(written) => sent += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Sending::Sent(sent),
                Err(errno) => return Sending::Broken(errno),
            }
        }
    })
}

/// Collects response heads until one is final.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Bytes of an unfinished head; stays empty when a head comes in one piece.
    kept: Vec<u8>,
    /// How many of them have been parsed in vain.
    parsed: usize,
    /// Bytes received.
    received: usize,
    /// Bytes of the interim answers before the running head.
    passed: usize,
    interim: usize,
}

/// What a head turned out to be.
enum ParsedHead {
    /// More bytes are needed.
    Partial,
    /// An interim answer that took so many bytes.
    Interim(usize),
    /// A final answer, with the bytes of its head.
    Final(Finding, usize),
    /// No head of an HTTP answer.
    Broken(Finding),
}

impl HeadReader {
    /// Takes the next bytes of the answer; a finding ends the probe.
    pub(super) fn take(&mut self, bytes: &[u8], plan: &HttpPlan, progress: &mut Progress) -> Option<Finding> {
        self.received += bytes.len();
        let finding = if self.kept.is_empty() {
            self.judge(bytes, plan, progress.trace.as_deref_mut())
        } else {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(bytes);
            if self.is_worth_parsing(&kept, bytes.len()) {
                self.judge(&kept, plan, progress.trace.as_deref_mut())
            } else {
                self.kept = kept;
                None
            }
        };
        let finding = finding.or_else(|| (self.received > HEADS_AT_MOST).then(too_long))?;
        progress.end_phase();
        Some(finding)
    }

    /// Whether bytes of an answer have come, but no final head.
    pub(super) fn is_partial(&self) -> bool {
        self.received > 0
    }

    /// The stream ended, or the connection broke, before a final head.
    pub(super) fn ended(&self, broken: Option<Errno>) -> Finding {
        match broken {
            Some(errno) => finding::established(errno),
            None if self.received == 0 => {
                Finding::failure(MemberReason::Closed, "closed by the member before it answered")
            }
            // Bytes that came in pieces may not have been looked at yet.
            None => breach(&self.kept).unwrap_or_else(|| {
                Finding::failure(MemberReason::Closed, "closed by the member inside the response head")
            }),
        }
    }

    /// A head that comes in small pieces is parsed when it may be whole, or has doubled
    /// (to find garbage early): the work stays proportional to the bytes.
    fn is_worth_parsing(&self, kept: &[u8], new: usize) -> bool {
        let tail = kept.get(kept.len().saturating_sub(new + 3)..).unwrap_or(kept);
        let blank_line =
            tail.windows(2).any(|pair| pair == b"\n\n") || tail.windows(3).any(|three| three == b"\n\r\n");
        blank_line || kept.len() >= 2 * self.parsed
    }

    /// Judges heads until one is final or the bytes run out; keeps the rest.
    fn judge(
        &mut self,
        mut bytes: &[u8],
        plan: &HttpPlan,
        mut trace: Option<&mut ProbeTrace>,
    ) -> Option<Finding> {
        loop {
            match parse(bytes, plan, trace.as_deref_mut()) {
                // The limit does not depend on how the bytes were split on their way.
                ParsedHead::Final(_, length) if self.passed + length > HEADS_AT_MOST => {
                    return Some(too_long());
                }
                ParsedHead::Final(finding, _) | ParsedHead::Broken(finding) => return Some(finding),
                ParsedHead::Interim(length) => {
                    self.interim += 1;
                    self.passed += length;
                    if self.interim > INTERIM_AT_MOST {
                        return Some(protocol(format!("more than {INTERIM_AT_MOST} interim answers")));
                    }
                    bytes = bytes.get(length..)?;
                }
                ParsedHead::Partial => {
                    self.kept = bytes.to_vec();
                    self.parsed = bytes.len();
                    return None;
                }
            }
        }
    }
}

fn parser() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    config.allow_multiple_spaces_in_response_status_delimiters(true);
    config
}

/// The head with spaces for the tabs around its status code, which a recipient may read
/// as such (RFC 9112, 4) and the parser does not; borrowed when there are none.
fn without_tabs(head: &[u8]) -> Cow<'_, [u8]> {
    const VERSION: &[u8] = b"HTTP/1.1";
    let is_status = |byte: &u8| matches!(byte, b' ' | b'\t' | b'0'..=b'9');
    let after = head.get(VERSION.len()..).unwrap_or_default();
    let status = after.iter().take_while(|byte| is_status(byte)).count();
    if !after.iter().take(status).any(|byte| *byte == b'\t') {
        return Cow::Borrowed(head);
    }
    let mut spaced = head.to_vec();
    for byte in spaced.iter_mut().skip(VERSION.len()).take(status).filter(|byte| **byte == b'\t') {
        *byte = b' ';
    }
    Cow::Owned(spaced)
}

/// What is wrong with a head that did not come to its end, if anything.
fn breach(bytes: &[u8]) -> Option<Finding> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_AT_MOST];
    let mut response = httparse::Response::new(&mut []);
    let head = without_tabs(bytes);
    let parsed = parser().parse_response_with_uninit_headers(&mut response, &head, &mut fields);
    parsed.err().map(|error| not_http(error, bytes))
}

fn parse(bytes: &[u8], plan: &HttpPlan, trace: Option<&mut ProbeTrace>) -> ParsedHead {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_AT_MOST];
    let mut response = httparse::Response::new(&mut []);
    let head = without_tabs(bytes);
    let length = match parser().parse_response_with_uninit_headers(&mut response, &head, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return ParsedHead::Partial,
        Err(error) => return ParsedHead::Broken(not_http(error, bytes)),
    };
    let (Some(version), Some(code), Some(phrase)) = (response.version, response.code, response.reason) else {
        let detail = "a whole response head without a status line";
        return ParsedHead::Broken(Finding::inconclusive(ProberReason::Internal, detail));
    };
    if (100..200).contains(&code) && code != 101 {
        if let Some(trace) = trace {
            trace.interim.push(code);
        }
        return ParsedHead::Interim(length);
    }
    let mut is_explained = false;
    if let Some(trace) = trace {
        trace.status_line = Some(printable(format!("HTTP/1.{version} {code} {phrase}").as_bytes()));
        is_explained = true;
    }
    if let Some(contradiction) = bad_length(response.headers, plan.method, code) {
        return ParsedHead::Final(protocol(contradiction).with_status(code), length);
    }
    let outcome =
        if plan.codes.contains(code) { Outcome::Success } else { Outcome::Failure(MemberReason::Status) };
    let mut detail = describe(code, phrase);
    // A member whose code is a good one costs no allocation, unless somebody is looking.
    if (is_explained || outcome != Outcome::Success)
        && let Some(hint) = hint(code, response.headers)
    {
        detail = format!("{detail}, {hint}").into();
    }
    ParsedHead::Final(Finding { outcome, status: Some(code), detail }, length)
}

/// What tells why an answer has its code: where a redirect leads, or how to log in. Of a
/// challenge only the scheme, and of a URL no user name or password: the rest may be secret.
fn hint(code: u16, fields: &[httparse::Header<'_>]) -> Option<String> {
    let name = match code {
        300..=303 | 305..=399 => "Location",
        401 => "WWW-Authenticate",
        407 => "Proxy-Authenticate",
        _ => return None,
    };
    let value = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?.value.trim_ascii();
    if code < 400 {
        return Some(format!("{name}: {}", printable(&without_userinfo(value))));
    }
    let scheme = value.split(|byte| matches!(byte, b' ' | b',')).next()?;
    Some(format!("{name}: {}", printable(scheme)))
}

/// A URL, whole or relative, with a mask in the place of its user name and password
/// (RFC 3986, 3.2.1).
fn without_userinfo(url: &[u8]) -> Cow<'_, [u8]> {
    let begins = |window: &[u8]| window == b"//";
    let authority = url.windows(2).position(begins).filter(|at| *at == 0 || url.get(*at - 1) == Some(&b':'));
    let Some(start) = authority.map(|at| at + 2) else { return Cow::Borrowed(url) };
    let (before, rest) = url.split_at(start);
    let length = rest.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(rest.len());
    let Some(at) = rest.iter().take(length).rposition(|byte| *byte == b'@') else {
        return Cow::Borrowed(url);
    };
    [before, MASK.as_bytes(), rest.get(at..).unwrap_or_default()].concat().into()
}

/// RFC 9112, 6.3: an answer with a `Content-Length` that no body can follow
/// must be discarded, unless it has no body or is chunked.
fn bad_length(fields: &[httparse::Header<'_>], method: HttpMethod, code: u16) -> Option<&'static str> {
    if method == HttpMethod::Head || matches!(code, 101 | 204 | 304) {
        return None;
    }
    let mut length: Option<&[u8]> = None;
    let mut breach = None;
    for field in fields {
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
        if !field.name.eq_ignore_ascii_case("content-length") {
            continue;
        }
        for value in field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                breach = Some("the Content-Length is not a number");
            } else if length.is_some_and(|length| length != value) {
                breach = Some("two Content-Lengths contradict each other");
            }
            length = Some(value);
        }
    }
    breach
}

fn too_long() -> Finding {
    protocol(format!("no end of the response head within {HEADS_AT_MOST} bytes"))
}

fn protocol(detail: impl Into<Cow<'static, str>>) -> Finding {
    Finding::failure(MemberReason::Protocol, detail)
}

fn not_http(error: httparse::Error, bytes: &[u8]) -> Finding {
    // A frame of SETTINGS for the whole connection opens HTTP/2 (RFC 9113, 3.4, 6.5).
    if let [_, _, _, 4, 0, 0, 0, 0, 0, ..] = bytes {
        return protocol("the member speaks HTTP/2 alone; vitald speaks HTTP/1.1");
    }
    let begins = |detail: &str| protocol(format!("{detail}: it begins with \"{}\"", first_line(bytes)));
    match error {
        httparse::Error::Version | httparse::Error::Token => begins("the answer is not HTTP/1.x"),
        httparse::Error::Status => begins("the answer has no valid status line"),
        httparse::Error::TooManyHeaders => {
            protocol(format!("the response head has more than {FIELDS_AT_MOST} lines"))
        }
        httparse::Error::HeaderName => protocol("a response header has an invalid name"),
        httparse::Error::HeaderValue => protocol("a response header has an invalid value"),
        httparse::Error::NewLine => protocol("a line of the response head does not end as it should"),
    }
}

/// `200 OK`, as the member sent it; the usual phrases cost no allocation.
fn describe(code: u16, phrase: &str) -> Cow<'static, str> {
    match usual(code) {
        Some(usual) if phrase.is_empty() || usual.get(4..).is_some_and(|own| own == phrase) => usual.into(),
        _ if phrase.is_empty() => format!("{code:03}").into(),
        _ => printable(format!("{code:03} {phrase}").as_bytes()).into(),
    }
}

/// The registered phrase (IANA HTTP status codes), with its code.
fn usual(code: u16) -> Option<&'static str> {
    Some(match code {
        101 => "101 Switching Protocols",
        200 => "200 OK",
        201 => "201 Created",
        202 => "202 Accepted",
        203 => "203 Non-Authoritative Information",
        204 => "204 No Content",
        205 => "205 Reset Content",
        206 => "206 Partial Content",
        300 => "300 Multiple Choices",
        301 => "301 Moved Permanently",
        302 => "302 Found",
        303 => "303 See Other",
        304 => "304 Not Modified",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        408 => "408 Request Timeout",
        410 => "410 Gone",
        418 => "418 I'm a teapot",
        421 => "421 Misdirected Request",
        429 => "429 Too Many Requests",
        431 => "431 Request Header Fields Too Large",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Unavailable",
        504 => "504 Gateway Timeout",
        505 => "505 HTTP Version Not Supported",
        507 => "507 Insufficient Storage",
        _ => return None,
    })
}

/// A way in for the fuzz target of response heads and the replay of its corpus.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    use super::{HeadReader, HttpPlan, Outcome, Progress};
    use crate::channel::{HttpCheck, ProbeOptions};

    /// What a probe would conclude from an answer.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Conclusion {
        /// The verdict-moving part.
        pub outcome: Outcome,
        /// The status code, when a final head was read.
        pub status: Option<u16>,
        /// The line for people.
        pub detail: String,
    }

    /// Judges an answer that comes in these pieces, after which the member closes.
    #[must_use]
    pub fn judge<'a>(check: &HttpCheck, pieces: impl Iterator<Item = &'a [u8]>) -> Conclusion {
        let plan = HttpPlan::new(check, &ProbeOptions::default(), 80);
        let mut progress = Progress::new(Some(Box::default()));
        let mut reader = HeadReader::default();
        // No byte at all is the end of the stream, which `ended` judges.
        let mut pieces = pieces.filter(|piece| !piece.is_empty());
        let finding = pieces
            .find_map(|piece| reader.take(piece, &plan, &mut progress))
            .unwrap_or_else(|| reader.ended(None));
        Conclusion { outcome: finding.outcome, status: finding.status, detail: finding.detail.into_owned() }
    }
}
