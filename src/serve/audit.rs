//! The audit: who did what, who was refused, as one event for each request and in counters.
//!
//! `connection` begins an [`AuditRecord`] for every request before anything judges it, and
//! ends it with the answer; so a route cannot forget it. On the way the gate notes who
//! sends the request, or why it does not believe it ([`AuditNote`], among the extensions). A
//! record that is dropped without an answer is one of a handler that panicked or of a client
//! that went. Reads that succeed are counted and are no events. Refusals can be made at will
//! by everybody, so `bound` lets few of them through.
//!
//! Events have the target `vitald::audit`; docs/security.md, "Audit", has their fields.

mod bound;
mod call;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::{Extensions, HeaderMap, Method, Request, Uri};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, sleep_until};

use self::bound::{Bounded, RefusalBound, WINDOW};
use self::call::{CallName, CallTarget, Weight};
use super::http::{ErrorCode, NO_PLACE, RequestId};
use super::peer::{ConnectionInfo, PeerAddress, PeerNetwork};
use super::shares::lock;
use crate::channel::violation::is_control;

#[cfg(test)]
mod tests;

/// Longer ids and names of a path are cut. A channel's name and a member's group have 64
/// characters at most, a host 255.
const LONGEST_ID: usize = 400;

/// Statuses that are counted by themselves; another one is `other`, and `none` is a request
/// without an answer.
const STATUSES: [(u16, &str); 15] = [
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (409, "409"),
    (413, "413"),
    (421, "421"),
    (422, "422"),
    (429, "429"),
    (500, "500"),
    (503, "503"),
];
const OTHER: usize = STATUSES.len();
const NONE: usize = OTHER + 1;

/// Why somebody was not believed or not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthFailure {
    /// No credentials.
    TokenMissing,
    /// A token that was good once.
    TokenExpired,
    /// No such token.
    TokenUnknown,
    /// A good token that is for no project, or a scope that the user may not have.
    Scope,
    /// A signature by an access key that nobody has.
    AccessKeyUnknown,
    /// A signature that is not right, or not of now.
    Signature,
    /// No such user, or another password.
    Password,
    /// Somebody known, or a peer as such, may not do this.
    Forbidden,
    /// `Host` names another server.
    Host,
    /// A page of another site sends it.
    Origin,
    /// 401 for another reason.
    Other,
}

impl AuthFailure {
    const ALL: [Self; 11] = [
        Self::TokenMissing,
        Self::TokenExpired,
        Self::TokenUnknown,
        Self::Scope,
        Self::AccessKeyUnknown,
        Self::Signature,
        Self::Password,
        Self::Forbidden,
        Self::Host,
        Self::Origin,
        Self::Other,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::TokenMissing => "token_missing",
            Self::TokenExpired => "token_expired",
            Self::TokenUnknown => "token_unknown",
            Self::Scope => "scope",
            Self::AccessKeyUnknown => "access_key_unknown",
            Self::Signature => "signature",
            Self::Password => "password",
            Self::Forbidden => "forbidden",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Other => "other",
        }
    }
}

/// Which calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditedCalls {
    /// The daemon's own pages, and what operators ask for.
    OwnPages,
    /// Those and the management API.
    WithApi,
}

/// Counts requests and tells of them, for all listeners. All clones are one.
#[derive(Debug, Clone)]
pub struct Audit(Arc<AuditState>);

#[derive(Debug)]
struct AuditState {
    calls: AuditedCalls,
    /// By call, then by status.
    requests: [[AtomicU64; NONE + 1]; CallName::ALL.len()],
    failures: [AtomicU64; AuthFailure::ALL.len()],
    /// Refusals of those who have proved who they are, and of the socket: nobody else can
    /// use up their lines.
    known: Mutex<RefusalBound>,
    strangers: Mutex<RefusalBound>,
}

impl Audit {
    /// Nothing has been counted yet.
    #[must_use]
    pub fn new(calls: AuditedCalls) -> Self {
        let zero = |_| AtomicU64::new(0);
        Self(Arc::new(AuditState {
            calls,
            requests: std::array::from_fn(|_| std::array::from_fn(zero)),
            failures: std::array::from_fn(zero),
            known: Mutex::default(),
            strangers: Mutex::default(),
        }))
    }

    /// Begins the record of a request, and notes on the request what the layers after need.
    pub(super) fn begin<B>(&self, request: &mut Request<B>, connection: &ConnectionInfo) -> AuditRecord {
        let note = AuditNote(Arc::new(NoteState { audit: self.clone(), noted: Mutex::default() }));
        let request_id = RequestId::of(request.extensions_mut());
        request.extensions_mut().insert(note.clone());
        let forwarded = match connection.network {
            PeerNetwork::Proxy(_) => forwarded_for(request.headers()),
            PeerNetwork::Address(_) | PeerNetwork::Local => None,
        };
        AuditRecord {
            note,
            method: request.method().clone(),
            uri: request.uri().clone(),
            connection: *connection,
            forwarded,
            request_id,
            answer: None,
        }
    }

    /// Counts and tells of a request that was refused because its head breaks HTTP's rules.
    pub(super) fn refuse_unread(&self, connection: &ConnectionInfo, status: u16) {
        let end = RequestEnd::Answered { status, error: None };
        self.count(CallName::Unknown, end, None);
        let event = Event {
            call: CallName::Unknown,
            target: CallTarget::default(),
            end,
            failure: None,
            noted: &Noted::default(),
            connection,
            forwarded: None,
            request_id: None,
        };
        self.tell_bounded(&event);
    }

    /// Says what was left out so far, before the daemon ends.
    pub fn tell_left_out(&self) {
        for bound in [&self.0.known, &self.0.strangers] {
            let left_out = lock(bound).close();
            tell_left_out(left_out);
        }
    }

    /// The requests, by the words of their call and code. Without an API the calls of the
    /// API are left out, and so is for each call what it never answers.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let calls = CallName::ALL.into_iter().zip(&self.0.requests);
        let offered = calls.filter(|(call, _)| self.0.calls == AuditedCalls::WithApi || !call.is_of_api());
        offered.flat_map(|(call, counts)| {
            let possible = counts.iter().enumerate().filter(move |(code, _)| is_possible(call, *code));
            possible.map(move |(code, count)| (call.word(), code_word(code), count.load(Ordering::Relaxed)))
        })
    }

    /// The failures, by their words.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let failures = AuthFailure::ALL.into_iter().zip(&self.0.failures);
        failures.map(|(failure, count)| (failure.word(), count.load(Ordering::Relaxed)))
    }

    fn count(&self, call: CallName, end: RequestEnd, failure: Option<AuthFailure>) {
        let code = code_of(call, end);
        if let Some(count) = self.0.requests.get(call as usize).and_then(|counts| counts.get(code)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(count) = failure.and_then(|failure| self.0.failures.get(failure as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The call of a request. Calls of an API that is not there are none.
    fn call_of<'u>(&self, method: &Method, uri: &'u Uri) -> (CallName, CallTarget<'u>) {
        let (call, target) = CallName::of(method.as_str(), uri.path());
        match (self.0.calls, call.is_of_api()) {
            (AuditedCalls::OwnPages, true) => (CallName::Unknown, target),
            _ => (call, target),
        }
    }

    fn settle(&self, record: &AuditRecord) {
        let (call, target) = self.call_of(&record.method, &record.uri);
        let end = match record.answer {
            Some((status, error)) => RequestEnd::Answered { status, error },
            None if std::thread::panicking() => RequestEnd::Panicked,
            None => RequestEnd::Cancelled,
        };
        let noted = lock(&record.note.0.noted);
        let failure = noted.failure.or_else(|| end.implied_failure());
        self.count(call, end, failure);
        let is_deed = call.weight() == Weight::Deed || !record.method.is_safe();
        if !(is_deed || failure.is_some() || end.is_refusal()) {
            return;
        }
        let event = Event {
            call,
            target,
            end,
            failure,
            noted: &noted,
            connection: &record.connection,
            forwarded: record.forwarded,
            request_id: Some(&record.request_id),
        };
        // A deed of somebody known may stand although no answer says so: whoever does not
        // wait for the answer must not be able to hide it.
        let may_stand = is_deed && event.is_of_somebody_known() && !end.is_without_effect();
        match end {
            RequestEnd::Answered { status: 200..=399, .. } => event.tell(),
            _ if may_stand => event.tell(),
            _ => self.tell_bounded(&event),
        }
    }

    fn tell_bounded(&self, event: &Event<'_>) {
        let is_known = event.is_of_somebody_known();
        let choose = move |state: &AuditState| match is_known {
            true => lock(&state.known).judge(event.connection.network, Instant::now()),
            false => lock(&state.strangers).judge(event.connection.network, Instant::now()),
        };
        let (bounded, unsaid) = choose(&self.0);
        tell_left_out(unsaid);
        match bounded {
            Bounded::Told => event.tell(),
            Bounded::LeftOut => {}
            Bounded::FirstLeftOut(ends) => {
                // One task for a window: it says what the window left out, if nobody has.
                let audit = self.clone();
                tokio::spawn(async move {
                    sleep_until(ends).await;
                    for bound in [&audit.0.known, &audit.0.strangers] {
                        let left_out = lock(bound).end_window(Instant::now());
                        tell_left_out(left_out);
                    }
                });
            }
        }
    }
}

fn tell_left_out(left_out: u64) {
    if left_out > 0 {
        tracing::info!(
            target: "vitald::audit",
            left_out,
            "audit: {left_out} refusals within {} s are left out here; they are counted in \
             vitald_api_requests_total",
            WINDOW.as_secs()
        );
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestEnd {
    Answered {
        status: u16,
        error: Option<&'static str>,
    },
    /// The client went, the answer took too long, or the daemon ended.
    Cancelled,
    /// A mistake of ours.
    Panicked,
}

impl RequestEnd {
    /// Whether somebody was refused, whatever they wanted. What is not there, or is busy
    /// with itself, refuses nobody.
    fn is_refusal(self) -> bool {
        match self {
            Self::Answered { status, error } => {
                matches!(status, 400 | 401 | 403 | 413 | 421 | 429 | 431) || error == Some(NO_PLACE)
            }
            Self::Cancelled => false,
            Self::Panicked => true,
        }
    }

    /// Whether the answer says that nothing has been done.
    fn is_without_effect(self) -> bool {
        matches!(self, Self::Answered { status: 400..=499, .. })
    }

    /// What an answer says of its reason where nobody has noted one. Of the vendor's 403
    /// most have other reasons.
    fn implied_failure(self) -> Option<AuthFailure> {
        match self {
            Self::Answered { status: 401, .. } => Some(AuthFailure::Other),
            Self::Answered { status: 403, error: None | Some("APIG.1005") } => Some(AuthFailure::Forbidden),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Answered { status: 0..=399, .. } => "done",
            Self::Answered { status: 400..=499, .. } => "refused",
            Self::Answered { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
        }
    }
}

/// Where a request is counted.
fn code_of(call: CallName, end: RequestEnd) -> usize {
    let RequestEnd::Answered { status, .. } = end else { return NONE };
    let place = STATUSES.iter().position(|(known, _)| *known == status).unwrap_or(OTHER);
    if is_possible(call, place) { place } else { OTHER }
}

fn code_word(code: usize) -> &'static str {
    match (STATUSES.get(code), code == OTHER) {
        (Some((_, word)), _) => word,
        (None, true) => "other",
        (None, false) => "none",
    }
}

/// Whether a call may end so. It keeps series away that would be 0 for ever.
fn is_possible(call: CallName, code: usize) -> bool {
    let is_deed = call.weight() == Weight::Deed;
    match STATUSES.get(code).map(|(status, _)| *status) {
        Some(status @ 200..=299) => status == call.success(),
        Some(405) => call == CallName::Unknown,
        Some(409) => call == CallName::ChangeMember || is_deed && call.is_of_api(),
        Some(413) => is_deed && call.is_of_api(),
        Some(422) => call == CallName::Reload,
        Some(_) | None => true,
    }
}

/// A request, until it has its answer. Dropping it counts and tells.
#[derive(Debug)]
pub(super) struct AuditRecord {
    note: AuditNote,
    method: Method,
    uri: Uri,
    connection: ConnectionInfo,
    forwarded: Option<IpAddr>,
    request_id: RequestId,
    /// The status and the error's code.
    answer: Option<(u16, Option<&'static str>)>,
}

impl AuditRecord {
    /// What is known of the sender.
    pub(super) fn note(&self) -> &AuditNote {
        &self.note
    }

    /// The request has its answer, which gets the request's id.
    pub(super) fn end(mut self, answer: &mut Response) {
        self.request_id.mark(answer);
        let error = answer.extensions().get::<ErrorCode>().map(|code| code.0);
        self.answer = Some((answer.status().as_u16(), error));
    }
}

impl Drop for AuditRecord {
    fn drop(&mut self) {
        self.note.0.audit.settle(self);
    }
}

/// What is found out about a request on its way: an extension of every request.
#[derive(Debug, Clone)]
pub(super) struct AuditNote(Arc<NoteState>);

#[derive(Debug)]
struct NoteState {
    audit: Audit,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    /// Who the request says it is from: an account that there is.
    claimed: Option<String>,
    /// Who has proved to be that.
    proven: Option<String>,
    failure: Option<AuthFailure>,
    /// Id and name of the channel that the request has made or changed.
    channel: Option<(String, String)>,
}

impl AuditNote {
    /// The audit that the request belongs to.
    pub(super) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Why the sender is not let through. The first reason counts.
    pub(super) fn set_failure(&self, failure: AuthFailure) {
        lock(&self.0.noted).failure.get_or_insert(failure);
    }

    /// The same for a request that is known by its extensions.
    pub(super) fn fail(extensions: &Extensions, failure: AuthFailure) {
        if let Some(note) = extensions.get::<Self>() {
            note.set_failure(failure);
        }
    }

    /// The account that a request names, whether or not it is the sender's. Only accounts
    /// that there are: a text that nobody knows may be a password in the wrong place.
    pub(super) fn claim(extensions: &Extensions, principal: &impl ToString) {
        if let Some(note) = extensions.get::<Self>() {
            lock(&note.0.noted).claimed = Some(principal.to_string());
        }
    }

    /// Who has proved who they are.
    pub(super) fn prove(extensions: &Extensions, principal: &impl ToString) {
        if let Some(note) = extensions.get::<Self>() {
            lock(&note.0.noted).proven = Some(principal.to_string());
        }
    }

    /// The channel that the request has made or changed.
    pub(super) fn set_channel(&self, id: String, name: String) {
        lock(&self.0.noted).channel = Some((id, name));
    }
}

/// One line of the audit.
struct Event<'e> {
    call: CallName,
    target: CallTarget<'e>,
    end: RequestEnd,
    failure: Option<AuthFailure>,
    noted: &'e Noted,
    connection: &'e ConnectionInfo,
    forwarded: Option<IpAddr>,
    request_id: Option<&'e RequestId>,
}

impl Event<'_> {
    /// Whether the sender has proved who they are, or is at the Unix socket.
    fn is_of_somebody_known(&self) -> bool {
        self.noted.proven.is_some() || self.connection.peer == PeerAddress::UnixSocket
    }

    fn tell(&self) {
        let (call, result) = (self.call.word(), self.end.word());
        let (status, error) = match self.end {
            RequestEnd::Answered { status, error } => (Some(status), error),
            RequestEnd::Cancelled | RequestEnd::Panicked => (None, None),
        };
        let source = source_of(self.connection);
        let forwarded_for = self.forwarded.map(|address| address.to_string());
        let forwarded_for = forwarded_for.as_deref();
        let of_socket = match self.connection.peer {
            PeerAddress::UnixSocket => Some(self.connection.name()),
            PeerAddress::Network(_) => None,
        };
        let principal = self.noted.proven.as_ref().or(self.noted.claimed.as_ref()).or(of_socket.as_ref());
        let principal = principal.map(String::as_str);
        let made = self.noted.channel.as_ref();
        let [instance, member, group] =
            [self.target.instance, self.target.member, self.target.group].map(|id| id.map(printable));
        let channel = match made {
            Some((id, _)) => Some(id.clone()),
            None => self.target.channel.map(printable),
        };
        let channel_name = made.map(|(_, name)| name.as_str());
        let what = status.map_or_else(|| result.to_owned(), |status| status.to_string());
        tracing::info!(
            target: "vitald::audit",
            call,
            result,
            status,
            error,
            auth_failure = self.failure.map(AuthFailure::word),
            principal,
            source,
            forwarded_for,
            instance = instance.as_deref(),
            channel = channel.as_deref(),
            channel_name,
            member = member.as_deref(),
            group = group.as_deref(),
            action = self.target.action,
            request_id = self.request_id.map(|id| &*id.0),
            "audit: {call} {what} by {} from {source}",
            principal.unwrap_or("nobody known")
        );
    }
}

/// Where a request came from, as the limits per source see it: `192.0.2.7`,
/// `proxy:192.0.2.7`, `unix:uid=1000`.
fn source_of(connection: &ConnectionInfo) -> String {
    match (connection.peer, connection.network, connection.user_id) {
        (PeerAddress::UnixSocket, _, Some(user_id)) => format!("unix:uid={user_id}"),
        (PeerAddress::UnixSocket, _, None) => "unix".to_owned(),
        (PeerAddress::Network(address), PeerNetwork::Proxy(_), _) => {
            format!("proxy:{}", address.to_canonical())
        }
        (PeerAddress::Network(address), _, _) => address.to_canonical().to_string(),
    }
}

/// The client that a trusted proxy names: it adds the address that it sees at the end.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let last = last.rsplit(',').next()?.trim();
    let bare = last.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(last);
    let address = bare.parse().ok().or_else(|| Some(last.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Text of a path as it was meant: decoded, bounded and printable.
fn printable(text: &str) -> String {
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    let letters = decoded.chars().take(LONGEST_ID);
    letters.map(|letter| if letter == '\n' || is_control(letter) { '?' } else { letter }).collect()
}
