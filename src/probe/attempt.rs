//! One connection to one member: open, wait, deadline, close.
//!
//! Called by `run` and `explain` once the address is known. Owns the socket and
//! the clock; the protocols (`tcp`, `http`, `https`) own what is said on it.
//!
//! System calls of one HTTP probe of a driver on a fast network: `setsockopt`,
//! `connect`, `getpeername`, `send`, `recv`, and the `connect` to nowhere that ends
//! it; its socket is one that is used again (see `queue`). Where the connection is
//! up before `connect` has returned (loopback), nothing waits for it, and a TCP
//! probe never asks the event queue at all. On a thread without such a queue
//! `socket`, another `setsockopt`, one registration with the runtime, its end and
//! `close` take their turns too.
//!
//! # How a connection ends
//!
//! `CloseMode::Reset`, the default: the linger time is zero from the start, so
//! every way out of a probe, cancellation included, sends a reset and leaves no
//! TIME_WAIT on either side. `TCP_QUICKACK` is off before `connect`, so the
//! kernel holds back the third packet of the handshake for the request to
//! carry it. A TCP check has no request: the reset goes first, the member's
//! kernel drops the embryonic connection, and its application never wakes.
//! Measured on Linux 6.18 (`tests/probe/tcp.rs` repeats it): of 200 successful
//! TCP checks a listener saw 0 in `accept`, and no TIME_WAIT was left; with
//! `CloseMode::Fin` it saw all 200. To a firewall in between, the default
//! looks like a half-open scan; `close = "fin"` is the way out.
//!
//! `CloseMode::Fin`: an orderly end. What has arrived is read and thrown away
//! (up to a bound), because closing with unread bytes would be a reset again.
//! TIME_WAIT stays here when the member did not close first.

use std::future::{Future as _, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep_until};

use super::explanation::Explanation;
use super::finding::{Finding, Step};
use super::http::HttpExchange;
use super::https::HttpsExchange;
use super::plan::{Plan, ProtocolPlan};
use super::progress::{Phase, Progress};
use super::target::Target;
use super::{absence, fault, queue, scratch, tcp};
use crate::channel::CloseMode;
use crate::health::{MemberReason, Outcome, Phases, ProberReason, Report};

/// Bytes thrown away for an orderly close; more ends in a reset.
const DRAINED_AT_MOST: usize = 64 * 1024;

/// One probe under way.
pub(super) struct Attempt<'a> {
    wire: Wire,
    course: Course<'a>,
}

/// The socket, and what the runtime watches it for.
enum Wire {
    /// Not opened, or given away.
    None,
    /// Open; nobody has had to wait for it yet.
    Unwatched(OwnedFd),
    /// Registered with the runtime for reading only: a socket that is connected
    /// and has nothing left to send would only report that it is writable.
    Watched(AsyncFd<OwnedFd>),
    /// Registered for both directions.
    WatchedBothWays(AsyncFd<OwnedFd>),
    /// In the event queue of this thread, from the start.
    Queued(queue::Socket),
}

impl Wire {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::None => None,
            Self::Unwatched(socket) => Some(socket.as_fd()),
            Self::Watched(socket) | Self::WatchedBothWays(socket) => Some(socket.get_ref().as_fd()),
            Self::Queued(socket) => Some(socket.socket()),
        }
    }

    /// Sees to it that the socket is watched for `interest`.
    fn watch(self, interest: Interest) -> std::io::Result<Self> {
        let socket = match (self, interest.is_writable()) {
            (Self::Queued(mut socket), true) => {
                socket.watch_both_ways()?;
                return Ok(Self::Queued(socket));
            }
            (Self::Unwatched(socket), _) => socket,
            (Self::Watched(socket), true) => socket.into_inner(),
            (watched, _) => return Ok(watched),
        };
        Ok(if interest.is_writable() {
            Self::WatchedBothWays(register(socket, Interest::READABLE.add(Interest::WRITABLE))?)
        } else {
            Self::Watched(register(socket, Interest::READABLE)?)
        })
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types whose descriptor may change; an owned one does not"
)]
fn register(socket: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, interest)
}

/// Everything but the socket: the machine of a probe.
struct Course<'a> {
    plan: &'a Plan,
    target: &'a Target,
    peer: SocketAddr,
    exchange: Exchange,
    progress: Progress,
}

/// What is said once the connection is established.
enum Exchange {
    /// Nothing yet.
    Connecting,
    Http(HttpExchange),
    Https(Box<HttpsExchange>),
}

impl<'a> Attempt<'a> {
    /// A probe of `target` at `peer`; its time starts now.
    pub(super) fn new(
        plan: &'a Plan,
        target: &'a Target,
        peer: SocketAddr,
        notes: Option<Box<Explanation>>,
    ) -> Self {
        let progress = Progress::new(notes);
        let course = Course { plan, target, peer, exchange: Exchange::Connecting, progress };
        Self { wire: Wire::None, course }
    }

    /// Runs the probe to its end.
    pub(super) async fn run(mut self) -> (Report, Option<Box<Explanation>>) {
        let finding = match self.course.open() {
            Ok(wire) => {
                self.wire = wire;
                match self.advance() {
                    Step::Done(finding) => finding,
                    Step::Wait(interest) => self.wait(interest).await,
                }
            }
            Err(finding) => finding,
        };
        let finding = self.unless_self_connected(finding);
        self.finish(finding)
    }

    /// The kernel may choose the probed port as our own: nobody listens there,
    /// and the two ends of this socket greet each other (RFC 9293, 3.5,
    /// simultaneous open). What comes back is what was sent, and no request or
    /// greeting of ours is a good answer: only a failure, or a check that sends
    /// nothing, has to look.
    fn unless_self_connected(&mut self, finding: Finding) -> Finding {
        let is_connected = self.course.progress.phases.connect.is_some();
        if !is_connected || (self.course.speaks_first() && finding.outcome == Outcome::Success) {
            return finding;
        }
        let local = self.wire.socket().and_then(local_end);
        if !local.is_some_and(|local| is_same_end(local, self.course.peer)) {
            return finding;
        }
        self.course.progress.phases = Phases::default();
        Finding::failure(MemberReason::SelfConnect, "nobody listens: the prober was connected to itself")
    }

    /// Waits for the socket or the deadline until there is a finding.
    ///
    /// Cancel-safe: everything lives in `self`, and dropping it closes the socket.
    async fn wait(&mut self, mut interest: Interest) -> Finding {
        let mut deadline = self.course.progress.started + self.course.plan.timeout();
        if matches!(self.wire, Wire::Queued(_)) {
            // Kept in one place: a probe in flight is small.
            return poll_fn(move |cx| self.poll_queued(cx, &mut interest, &mut deadline)).await;
        }
        let mut timer = pin!(sleep_until(deadline));
        poll_fn(|cx| self.poll_finding(cx, &mut interest, timer.as_mut())).await
    }

    fn poll_finding(
        &mut self,
        cx: &mut Context<'_>,
        interest: &mut Interest,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Finding> {
        loop {
            if let Err(finding) = self.watch(*interest) {
                return Poll::Ready(finding);
            }
            let (Wire::Watched(socket) | Wire::WatchedBothWays(socket)) = &self.wire else {
                return Poll::Ready(lost_socket());
            };
            match poll_step(socket, *interest, cx, &mut self.course) {
                Poll::Ready(Step::Done(finding)) => return Poll::Ready(finding),
                Poll::Ready(Step::Wait(next)) => {
                    *interest = next;
                    // A socket that is always ready must not keep the timer from
                    // being looked at. It has just been asked.
                    if let Some(finding) = self.course.timer_overdue(timer.as_mut()) {
                        return Poll::Ready(finding);
                    }
                    continue;
                }
                Poll::Pending => {}
            }
            ready!(timer.as_mut().poll(cx));
            // The timer may be early news of a late turn: the kernel has the last word.
            match self.wire.socket().map(|socket| self.course.advance(socket)) {
                Some(Step::Done(finding)) => return Poll::Ready(finding),
                Some(Step::Wait(next)) => *interest = next,
                None => {}
            }
            if let Some(finding) = self.course.timer_overdue(timer.as_mut()) {
                return Poll::Ready(finding);
            }
        }
    }

    /// The same through this thread's event queue.
    fn poll_queued(
        &mut self,
        cx: &Context<'_>,
        interest: &mut Interest,
        deadline: &mut Instant,
    ) -> Poll<Finding> {
        loop {
            if let Err(finding) = self.watch(*interest) {
                return Poll::Ready(finding);
            }
            let Wire::Queued(socket) = &self.wire else { return Poll::Ready(lost_socket()) };
            // Ready or late: the kernel has the last word in any case.
            ready!(socket.poll_ready(cx, *interest, *deadline));
            match self.advance() {
                Step::Done(finding) => return Poll::Ready(finding),
                Step::Wait(next) => *interest = next,
            }
            // A socket that is always ready must not keep the deadline from being
            // looked at.
            if let Some(finding) = self.course.overdue(deadline) {
                return Poll::Ready(finding);
            }
        }
    }

    fn advance(&mut self) -> Step {
        match self.wire.socket() {
            Some(socket) => self.course.advance(socket),
            None => lost_socket().into(),
        }
    }

    /// Sees to it that the socket is watched.
    fn watch(&mut self, interest: Interest) -> Result<(), Finding> {
        match std::mem::replace(&mut self.wire, Wire::None).watch(interest) {
            Ok(wire) => {
                self.wire = wire;
                Ok(())
            }
            Err(error) => Err(Errno::from_io_error(&error).map_or_else(
                || Finding::inconclusive(ProberReason::Internal, format!("watching a socket: {error}")),
                fault::opening,
            )),
        }
    }

    fn finish(mut self, finding: Finding) -> (Report, Option<Box<Explanation>>) {
        let now = Instant::now();
        let total = now.duration_since(self.course.progress.started);
        let waited = self.course.waited(&finding, now);
        self.close();
        let Course { peer, progress, .. } = self.course;
        let report = Report {
            outcome: finding.outcome,
            phases: progress.phases,
            total,
            waited,
            status: finding.status,
            detail: finding.detail,
            peer: Some(peer),
            certificate_not_after: progress.certificate_not_after,
        };
        (report, progress.notes)
    }

    /// Closes the socket as the plan says. A reset needs nothing: see `open`.
    fn close(&mut self) {
        let wire = std::mem::replace(&mut self.wire, Wire::None);
        let established = self.course.progress.phases.connect.is_some();
        if established
            && self.course.plan.close() == CloseMode::Fin
            && let Some(socket) = wire.socket()
        {
            self.course.say_goodbye(socket);
        }
        if let Wire::Queued(socket) = wire {
            socket.end();
        }
    }
}

fn lost_socket() -> Finding {
    Finding::inconclusive(ProberReason::Internal, "the probe lost its socket")
}

/// Waits until the socket is ready, then lets the machine go on.
///
/// The machine has met "would block" in every direction it waits for, so
/// forgetting that readiness loses nothing: the kernel reports the next change.
fn poll_step(
    socket: &AsyncFd<OwnedFd>,
    interest: Interest,
    cx: &mut Context<'_>,
    course: &mut Course<'_>,
) -> Poll<Step> {
    // Both directions are polled before either is looked at, so that both
    // wake us: a member may answer before it has read the whole request.
    let writable = if interest.is_writable() { socket.poll_write_ready(cx) } else { Poll::Pending };
    let readable = if interest.is_readable() { socket.poll_read_ready(cx) } else { Poll::Pending };
    let mut ready = match (writable, readable) {
        (Poll::Pending, Poll::Pending) => return Poll::Pending,
        (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
            let detail = "the runtime is ending";
            return Poll::Ready(Finding::inconclusive(ProberReason::Cancelled, detail).into());
        }
        // One direction at a time: the other is still ready in the next round.
        (Poll::Ready(Ok(ready)), _) | (Poll::Pending, Poll::Ready(Ok(ready))) => ready,
    };
    let step = course.advance(socket.as_fd());
    if matches!(step, Step::Wait(_)) {
        // Forgets the readiness it was called with, and none that came later.
        ready.clear_ready();
    }
    Poll::Ready(step)
}

impl Course<'_> {
    /// Opens a socket and sends the first packet.
    fn open(&mut self) -> Result<Wire, Finding> {
        // An IPv4 address in IPv6's clothes is called over IPv4 in any case; a socket
        // that did so could not be used again for IPv6.
        let peer = match self.peer.ip() {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                SocketAddr::new(ip.to_canonical(), self.peer.port())
            }
            _ => self.peer,
        };
        let family = match peer {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let close = self.plan.close();
        let wire = match queue::socket(family, close) {
            Some(socket) => Wire::Queued(socket.map_err(fault::opening)?),
            None => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = net::socket_with(family, SocketType::STREAM, flags, Some(net::ipproto::TCP))
                    .map_err(fault::opening)?;
                // Options that fail leave a probe that is noisier, not one that is wrong.
                if close == CloseMode::Reset {
                    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
                }
                Wire::Unwatched(socket)
            }
        };
        let socket = wire.socket().ok_or_else(lost_socket)?;
        if self.speaks_first() || close == CloseMode::Reset {
            let _ = sockopt::set_tcp_quickack(socket, false);
        }
        if let Some(notes) = &mut self.progress.notes {
            notes.peer = Some(self.peer);
        }
        match net::connect(socket, &peer) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(fault::connecting(errno)),
        }
        if let Some(notes) = &mut self.progress.notes {
            notes.local = local_end(socket);
        }
        Ok(wire)
    }

    /// Whether this protocol's client sends the first bytes.
    fn speaks_first(&self) -> bool {
        match &self.plan.protocol {
            ProtocolPlan::Tcp => false,
            ProtocolPlan::Http(_) | ProtocolPlan::Https(..) => true,
        }
    }

    /// Goes as far as the kernel lets it.
    fn advance(&mut self, socket: BorrowedFd<'_>) -> Step {
        if matches!(self.exchange, Exchange::Connecting)
            && let Some(step) = self.connect(socket)
        {
            return step;
        }
        match (&mut self.exchange, &self.plan.protocol) {
            (Exchange::Http(exchange), ProtocolPlan::Http(http)) => {
                exchange.advance(socket, http, self.target, &mut self.progress)
            }
            (Exchange::Https(exchange), ProtocolPlan::Https(http, _)) => {
                exchange.advance(socket, http, self.target, &mut self.progress)
            }
            _ => Finding::inconclusive(ProberReason::Internal, "the probe lost its protocol").into(),
        }
    }

    /// Looks whether the connection is established; none: it is, go on.
    fn connect(&mut self, socket: BorrowedFd<'_>) -> Option<Step> {
        // A connected socket has a peer. Without one there is an error to
        // fetch, or the handshake is still under way.
        match net::getpeername(socket) {
            Ok(_) => {}
            Err(Errno::NOTCONN) => {
                return Some(match sockopt::socket_error(socket) {
                    Ok(Ok(())) => Step::Wait(Interest::WRITABLE),
                    // It was established, and reset before we looked. A TCP check
                    // asks for no more, and must not depend on who was faster.
                    Ok(Err(Errno::CONNRESET | Errno::PIPE)) if !self.speaks_first() => {
                        self.progress.end_phase();
                        tcp::connected().into()
                    }
                    Ok(Err(errno)) | Err(errno) => fault::connecting(errno).into(),
                });
            }
            Err(errno) => return Some(fault::connecting(errno).into()),
        }
        match &self.plan.protocol {
            ProtocolPlan::Tcp => {
                self.progress.end_phase();
                return Some(tcp::connected().into());
            }
            ProtocolPlan::Http(_) => {
                self.progress.enter(Phase::Response);
                self.exchange = Exchange::Http(HttpExchange::default());
            }
            ProtocolPlan::Https(_, tls) => {
                self.progress.enter(Phase::Tls);
                match HttpsExchange::new(tls, self.target, self.peer.ip(), &mut self.progress) {
                    Ok(exchange) => self.exchange = Exchange::Https(Box::new(exchange)),
                    Err(finding) => return Some(finding.into()),
                }
            }
        }
        None
    }

    /// Whether the deadline has passed for good, now that the socket has nothing
    /// more to say; else it may be a later one from now on.
    fn overdue(&mut self, deadline: &mut Instant) -> Option<Finding> {
        let now = Instant::now();
        if now < *deadline {
            return None;
        }
        match self.more_time(now, *deadline) {
            Some(later) => {
                *deadline = later;
                None
            }
            None => Some(self.timed_out()),
        }
    }

    /// The same with a timer of the runtime.
    fn timer_overdue(&mut self, timer: Pin<&mut Sleep>) -> Option<Finding> {
        let mut deadline = timer.deadline();
        let finding = self.overdue(&mut deadline);
        if deadline != timer.deadline() {
            timer.reset(deadline);
        }
        finding
    }

    /// Until when to wait on, because the prober was away for a part of the time.
    ///
    /// What was lost is given back, but the member needs no more than a whole
    /// timeout after the prober's last words. A look that is late itself is
    /// repeated: what came while the machine stood still may be on its way
    /// through the kernel. There are `EXTENSIONS` in all, so that a member which
    /// is dead is found even by a prober that is always late.
    fn more_time(&mut self, now: Instant, deadline: Instant) -> Option<Instant> {
        let timeout = self.plan.timeout();
        let progress = &mut self.progress;
        let lost = progress.absence.lost();
        if lost <= absence::allowance(timeout) {
            return None;
        }
        let owed = (progress.started + timeout + lost).min(progress.spoke + timeout);
        let later = if owed > now {
            owed
        } else if now > deadline + absence::ORDINARY {
            now + absence::allowance(timeout)
        } else {
            return None;
        };
        progress.extensions = progress.extensions.checked_sub(1)?;
        Some(later)
    }

    /// For how long the member alone was to move; see [`Report::waited`]. Before
    /// the request is out only a silence tells whose turn it was: a peer that
    /// leaves may have waited for us.
    fn waited(&self, finding: &Finding, now: Instant) -> Duration {
        use MemberReason as R;
        let is_silence = matches!(
            finding.outcome,
            Outcome::Failure(R::ConnectTimeout | R::TlsTimeout | R::ResponseTimeout)
        );
        if is_silence || self.progress.phase() == Phase::Response {
            now.duration_since(self.progress.spoke)
        } else {
            Duration::ZERO
        }
    }

    /// The deadline has passed and the socket has nothing more to say.
    fn timed_out(&self) -> Finding {
        let timeout = self.plan.timeout();
        match self.progress.phase() {
            Phase::Connect => {
                Finding::failure(MemberReason::ConnectTimeout, format!("no connection within {timeout:?}"))
            }
            Phase::Tls => Finding::failure(
                MemberReason::TlsTimeout,
                format!("connected, but no TLS handshake within {timeout:?}"),
            ),
            Phase::Response => Finding::failure(
                MemberReason::ResponseTimeout,
                format!("connected, but no whole response head within {timeout:?}"),
            ),
        }
    }

    /// The orderly end: close_notify where TLS was spoken, FIN, and no unread
    /// bytes that would turn the FIN into a reset.
    fn say_goodbye(&mut self, socket: BorrowedFd<'_>) {
        if let Exchange::Https(exchange) = &mut self.exchange {
            exchange.send_close_notify(socket);
        }
        let _ = net::shutdown(socket, Shutdown::Write);
        let mut left = DRAINED_AT_MOST;
        scratch::input(|buffer| {
            while let Ok((_, read)) = net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
                left = left.saturating_sub(read);
                if read == 0 || left == 0 {
                    break;
                }
            }
        });
    }
}

/// Our own end of a connection.
fn local_end(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    net::getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok())
}

/// Address and port are the same; IPv6 scope and flow do not make another end.
fn is_same_end(local: SocketAddr, peer: SocketAddr) -> bool {
    fn ip(address: SocketAddr) -> IpAddr {
        address.ip().to_canonical()
    }
    local.port() == peer.port() && ip(local) == ip(peer)
}
