//! The machine of one probe: connect, send, receive, judge the deadline, close.
//!
//! A driver of `daemon` polls [`run_within`]; `vitald probe` calls [`run`], or [`explain`]
//! with `--explain`. The machine owns the socket and the order of the phases; the protocols
//! (`http`, `https`) own what is sent and read in them. A TCP check sends and reads
//! nothing: it succeeds with the connection.
//!
//! System calls of one HTTP probe of a driver: `setsockopt`, `connect`, `send`, `recv`,
//! and the `connect` to no address that ends it; its socket is one that is used again
//! (see `queue`). What the kernel reports by itself is not asked for: the event queue says
//! that a connection is established, and so does a request that is sent. A member on
//! loopback is connected before `connect` has returned: nothing waits for it, and a TCP
//! probe asks for it in place of the event queue.
//!
//! # A member that is a name
//!
//! Its addresses are tried in the order and with the shares of the timeout that
//! `addresses` says, one connection after another. An address at which no connection is
//! made hands on to the next; once connected the probe stays, whatever comes of it. When
//! no address is left, the reason is that of the first one, and the detail tells what each
//! has said.
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

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, Shutdown, sockopt};
use tokio::io::Interest;
use tokio::time::Instant;

use super::addresses;
use super::finding::{self, Finding, ProbePhase, ProbeStep, ProbeTrace, Progress};
use super::http::{HttpExchange, HttpPlan};
use super::https::HttpsExchange;
use super::plan::{Plan, ProtocolPlan, Target, TargetHost, TargetName};
use super::queue::Readiness;
use super::socket::{self, HandshakeAck, ProbeSocket};
use super::stall;
use crate::channel::CloseMode;
use crate::health::{MemberReason, Outcome, Phases, ProberReason, Report};

/// Bytes thrown away for an orderly close; more ends in a reset.
const DRAINED_AT_MOST: usize = 64 * 1024;

/// Everything but the socket.
struct ProbeMachine<'a> {
    plan: &'a Plan,
    target: &'a Target,
    /// How long the whole probe may take.
    time: Duration,
    peer: SocketAddr,
    /// How long the connection may take, from the first packet to this peer.
    connect_within: Duration,
    /// None: the connection is not established yet.
    exchange: Option<ProtocolExchange<'a>>,
    progress: Progress,
}

/// What is sent and read over an established connection.
enum ProtocolExchange<'a> {
    Http(&'a HttpPlan, HttpExchange),
    Https(&'a HttpPlan, Box<HttpsExchange>),
}

/// A report, and what a person wants to see beside it.
type TracedReport = (Report, Option<Box<ProbeTrace>>);

/// Probes a member once, within the plan's timeout.
///
/// Cancel-safe: a dropped probe closes its socket (with a reset, where the
/// plan says so) and leaves nothing behind.
pub async fn run(plan: &Plan, target: &Target) -> Report {
    run_within(plan.timeout(), plan, target).await
}

/// Probes a member once, within `time`, which is the plan's timeout or a little less
/// (`health::schedule::time_limit`).
///
/// Cancel-safe: see [`run`].
pub async fn run_within(time: Duration, plan: &Plan, target: &Target) -> Report {
    let (report, _) = probe(time, plan, target, None).await;
    match &plan.reference {
        Some(reference) => reference.judge(report).await,
        None => report,
    }
}

/// Probes a member once and keeps what a person wants to see of it.
pub async fn explain(plan: &Plan, target: &Target) -> (Report, ProbeTrace) {
    let (report, trace) = probe(plan.timeout(), plan, target, Some(Box::default())).await;
    (report, trace.map_or_else(ProbeTrace::default, |trace| *trace))
}

/// Cancel-safe: dropping it closes the socket.
async fn probe(time: Duration, plan: &Plan, target: &Target, trace: Option<Box<ProbeTrace>>) -> TracedReport {
    match &target.host {
        TargetHost::Ip(ip) => {
            let mut machine = ProbeMachine::new((time, plan, target), *ip, trace);
            let (finding, ended) = machine.attempt().await;
            machine.report(finding, ended)
        }
        // Boxed, so that a probe of an address is no larger for it.
        TargetHost::Name(name) => Box::pin(probe_name((time, plan, target), name, trace)).await,
        TargetHost::Unusable(ip) => (unresolved(format!("no server has the address {ip}")), trace),
    }
}

/// Probes the addresses of a name until one is connected to. The probe's time starts when
/// the addresses are known.
///
/// Cancel-safe: dropping it closes the socket.
async fn probe_name(
    (time, plan, target): (Duration, &Plan, &Target),
    name: &TargetName,
    mut trace: Option<Box<ProbeTrace>>,
) -> TracedReport {
    let candidates = match name.candidates(plan.family(), plan.timeout()).await {
        Ok(candidates) => candidates,
        Err(why) => return (unresolved(why), trace),
    };
    if let Some(trace) = &mut trace {
        trace.addresses.clone_from(&candidates);
    }
    let mut untried = candidates.iter().copied();
    let Some(first) = untried.next() else { return (unresolved("there is no address".to_owned()), trace) };
    let mut machine = ProbeMachine::new((time, plan, target), first, trace);
    if candidates.len() > 1 {
        machine.connect_within = addresses::share(time, candidates.len());
    }
    // What the addresses before have said, and for how long they were waited for.
    let (mut said, mut waited) = (Vec::new(), Duration::ZERO);
    let mut first_outcome = None;
    let (mut finding, ended) = loop {
        let (finding, ended) = machine.attempt().await;
        let ip = machine.peer.ip();
        if !leads_on(&finding, &machine.progress) {
            break (finding, ended);
        }
        waited += machine.waited(&finding, ended);
        said.push((ip, finding.detail.into_owned()));
        let first_outcome = *first_outcome.get_or_insert(finding.outcome);
        let left = (machine.progress.started + time).saturating_duration_since(ended);
        match untried.next().filter(|_| !left.is_zero()) {
            Some(next) => machine.turn_to(next, addresses::share(left, untried.len() + 1)),
            None => {
                let finding = Finding {
                    outcome: first_outcome,
                    status: None,
                    detail: addresses::said_of(&said, candidates.len()).into(),
                };
                machine.peer.set_ip(first);
                machine.note_attempts(&said);
                let (report, trace) = machine.report(finding, ended);
                return (Report { waited, address: Some(Arc::new(first)), ..report }, trace);
            }
        }
    };
    let ip = machine.peer.ip();
    machine.note_attempts(&said);
    if finding.outcome == Outcome::Success {
        name.note_good(ip);
    } else if !said.is_empty() {
        said.push((ip, finding.detail.into_owned()));
        finding.detail = addresses::said_of(&said, said.len()).into();
    }
    let (mut report, trace) = machine.report(finding, ended);
    report.address = Some(Arc::new(ip));
    (report, trace)
}

/// A probe without an address to go to.
fn unresolved(why: String) -> Report {
    Report::before_connecting(Outcome::Failure(MemberReason::Resolve), why)
}

/// Whether the next address of a name is to be tried: nobody was there to connect to. A
/// shortage of ports is one of this address; any other trouble of the prober's own would
/// meet the next address as well.
fn leads_on(finding: &Finding, progress: &Progress) -> bool {
    use MemberReason as R;
    let is_connected = progress.phases.connect.is_some();
    let has_nobody = matches!(
        finding.outcome,
        Outcome::Failure(R::Refused | R::Unreachable | R::ConnectTimeout | R::SelfConnect)
            | Outcome::Inconclusive(ProberReason::LocalPort)
    );
    has_nobody && !is_connected
}

impl<'a> ProbeMachine<'a> {
    /// A machine for the probe of `target` at an address; the probe's time starts now.
    fn new(
        (time, plan, target): (Duration, &'a Plan, &'a Target),
        ip: IpAddr,
        trace: Option<Box<ProbeTrace>>,
    ) -> Self {
        let peer = SocketAddr::new(ip, target.port);
        Self {
            plan,
            target,
            time,
            peer,
            connect_within: time,
            exchange: None,
            progress: Progress::new(trace),
        }
    }

    /// Begins with another address; the probe's time goes on.
    fn turn_to(&mut self, ip: IpAddr, connect_within: Duration) {
        self.peer = SocketAddr::new(ip, self.target.port);
        self.connect_within = connect_within;
        self.exchange = None;
        self.progress.begin_attempt();
    }

    /// One connection to the peer, from its first packet to its end: what was found, and
    /// when.
    ///
    /// Cancel-safe: dropping it closes the socket.
    async fn attempt(&mut self) -> (Finding, Instant) {
        let mut socket = match self.open() {
            Ok(socket) => socket,
            Err(finding) => return (finding, Instant::now()),
        };
        // Where the member is this host the connection is up by now, or has failed.
        let step = if self.peer.ip().to_canonical().is_loopback() {
            self.advance(socket.as_fd(), Readiness::Unclear)
        } else {
            ProbeStep::Wait(Interest::WRITABLE)
        };
        let finding = match step {
            ProbeStep::Done(finding) => finding,
            ProbeStep::Wait(mut interest) => {
                let mut deadline = self.deadline();
                socket = match socket.watched(interest, deadline) {
                    Ok(socket) => socket,
                    Err(finding) => return (finding, Instant::now()),
                };
                poll_fn(|cx| {
                    loop {
                        let readiness = match ready!(socket.poll_ready(cx, interest, deadline)) {
                            Ok(readiness) => readiness,
                            Err(finding) => return Poll::Ready(finding),
                        };
                        // Ready or late: the socket is read before the deadline counts.
                        match self.advance(socket.as_fd(), readiness) {
                            ProbeStep::Done(finding) => return Poll::Ready(finding),
                            ProbeStep::Wait(next) => interest = next,
                        }
                        // A socket that is always ready must not keep the deadline from
                        // being looked at.
                        if let Some(finding) = self.overdue(&mut deadline) {
                            return Poll::Ready(finding);
                        }
                    }
                })
                .await
            }
        };
        self.finish(finding, socket)
    }

    /// Opens a socket and sends the first packet.
    fn open(&mut self) -> Result<ProbeSocket, Finding> {
        // An IPv4-mapped IPv6 address is called over IPv4 in any case; a socket that
        // did so could not be used again for IPv6.
        let peer = match self.peer.ip() {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                SocketAddr::new(ip.to_canonical(), self.peer.port())
            }
            _ => self.peer,
        };
        if let Some(trace) = &mut self.progress.trace {
            trace.peer = Some(self.peer);
        }
        let close = self.plan.close();
        let ack = if self.speaks_first() || close == CloseMode::Reset {
            HandshakeAck::Delayed
        } else {
            HandshakeAck::AtOnce
        };
        let socket = ProbeSocket::connect(peer, close, ack)?;
        if let Some(trace) = &mut self.progress.trace {
            trace.local = local_end(socket.as_fd());
        }
        Ok(socket)
    }

    /// Whether this protocol's client sends the first bytes.
    fn speaks_first(&self) -> bool {
        match &self.plan.protocol {
            ProtocolPlan::Tcp => false,
            ProtocolPlan::Http(_) | ProtocolPlan::Https(..) => true,
        }
    }

    /// Makes system calls until the kernel says "would block". `readiness` is what the wait
    /// before has shown.
    fn advance(&mut self, socket: BorrowedFd<'_>, readiness: Readiness) -> ProbeStep {
        let Some(exchange) = &mut self.exchange else { return self.begin(socket, readiness) };
        let (member, progress) = (self.target.address(), &mut self.progress);
        match exchange {
            ProtocolExchange::Http(plan, exchange) => exchange.advance(socket, plan, &member, progress),
            ProtocolExchange::Https(plan, exchange) => exchange.advance(socket, plan, &member, progress),
        }
    }

    /// Begins what follows the connection once that is established; else says what to wait
    /// for, or how the probe has ended.
    fn begin(&mut self, socket: BorrowedFd<'_>, readiness: Readiness) -> ProbeStep {
        match &self.plan.protocol {
            ProtocolPlan::Tcp => match self.await_connection(socket, readiness) {
                Err(step) => step,
                Ok(()) => {
                    self.progress.end_phase();
                    Finding::success("connected").into()
                }
            },
            ProtocolPlan::Http(plan) => self.begin_http(socket, plan),
            ProtocolPlan::Https(plan, tls) => {
                if let Err(step) = self.await_connection(socket, readiness) {
                    return step;
                }
                self.progress.enter(ProbePhase::Tls);
                let member = self.target.address();
                match HttpsExchange::new(tls, &member, self.peer.ip(), &mut self.progress) {
                    Err(finding) => finding.into(),
                    Ok(exchange) => {
                        let mut exchange = Box::new(exchange);
                        let step = exchange.advance(socket, plan, &member, &mut self.progress);
                        self.exchange = Some(ProtocolExchange::Https(plan, exchange));
                        step
                    }
                }
            }
        }
    }

    /// Sends the request. The kernel takes it once the connection is established, and says
    /// else what has become of that, so nothing asks for it before.
    fn begin_http(&mut self, socket: BorrowedFd<'_>, plan: &'a HttpPlan) -> ProbeStep {
        let member = self.target.address();
        let before = Instant::now();
        let exchange = match HttpExchange::begin(socket, plan, &member) {
            Ok(exchange) => exchange,
            Err(errno) => return finding::connecting(errno).into(),
        };
        // The kernel may also be short of memory for what is sent.
        if !exchange.is_under_way()
            && let Err(step) = self.await_connection(socket, Readiness::Unclear)
        {
            return step;
        }
        self.progress.enter_at(before, ProbePhase::Response);
        self.progress.note_sent();
        if let Some(trace) = &mut self.progress.trace {
            trace.request = Some(plan.shown_request(&member));
        }
        // Nothing can have been answered yet: a read would be in vain.
        let step = ProbeStep::Wait(exchange.interest());
        self.exchange = Some(ProtocolExchange::Http(plan, exchange));
        step
    }

    /// Whether the connection is established: else what to wait for, or how the probe has
    /// ended. The kernel is asked where the wait before has not shown it.
    fn await_connection(&self, socket: BorrowedFd<'_>, readiness: Readiness) -> Result<(), ProbeStep> {
        if readiness == Readiness::Ready {
            return Ok(());
        }
        // A connected socket has a peer. Without one there is an error to
        // fetch, or the handshake is still under way.
        match net::getpeername(socket) {
            Ok(_) => Ok(()),
            Err(Errno::NOTCONN) => match sockopt::socket_error(socket) {
                Ok(Ok(())) => Err(ProbeStep::Wait(Interest::WRITABLE)),
                // It was established, and reset before we looked. A TCP check
                // asks for no more, and must not depend on which side was faster.
                Ok(Err(Errno::CONNRESET | Errno::PIPE)) if !self.speaks_first() => Ok(()),
                Ok(Err(errno)) | Err(errno) => Err(finding::connecting(errno).into()),
            },
            Err(errno) => Err(finding::connecting(errno).into()),
        }
    }

    /// Whether the deadline has passed for good, now that the socket has nothing
    /// more to say; else it may be a later one from now on.
    fn overdue(&mut self, deadline: &mut Instant) -> Option<Finding> {
        let now = Instant::now();
        if now < *deadline {
            return None;
        }
        // That was the deadline of the connection, which is made now.
        if *deadline < self.deadline() {
            *deadline = self.deadline();
            return None;
        }
        match self.later_deadline(now, *deadline) {
            Some(later) => {
                *deadline = later;
                None
            }
            None => Some(self.timed_out()),
        }
    }

    /// From when on the running phase has which time: a connection its own, what follows
    /// that of the whole probe.
    fn allotment(&self) -> (Instant, Duration) {
        match self.progress.phase() {
            ProbePhase::Connect => (self.progress.entered(), self.connect_within),
            ProbePhase::Tls | ProbePhase::Response => (self.progress.started, self.time),
        }
    }

    fn deadline(&self) -> Instant {
        let (from, allotted) = self.allotment();
        from + allotted
    }

    /// Until when to wait on, because the prober was stalled for a part of the time.
    ///
    /// The member gets back the time that the stalls took, but no more than a whole
    /// timeout after the prober last sent something. A probe that looks late at its
    /// deadline looks once more: what arrived while the machine stood still may be on
    /// its way through the kernel. The number of extensions is bounded, so that a member
    /// which is dead is found even by a prober that is always late.
    fn later_deadline(&mut self, now: Instant, deadline: Instant) -> Option<Instant> {
        let timeout = self.plan.timeout();
        let (from, allotted) = self.allotment();
        let progress = &mut self.progress;
        let lost = progress.stall.lost();
        if lost <= stall::allowance(timeout) {
            return None;
        }
        let owed = (from + allotted + lost).min(progress.sent + allotted);
        let later = if owed > now {
            owed
        } else if now > deadline + stall::ORDINARY {
            now + stall::allowance(timeout)
        } else {
            return None;
        };
        progress.extensions = progress.extensions.checked_sub(1)?;
        Some(later)
    }

    /// The deadline has passed and the socket has nothing more to say.
    fn timed_out(&self) -> Finding {
        let timeout = self.plan.timeout();
        let (reason, detail) = match self.progress.phase() {
            ProbePhase::Connect => {
                let within = self.connect_within;
                (MemberReason::ConnectTimeout, format!("no connection within {within:?}"))
            }
            ProbePhase::Tls => {
                (MemberReason::TlsTimeout, format!("connected, but no TLS handshake within {timeout:?}"))
            }
            ProbePhase::Response => {
                let known = match &self.exchange {
                    Some(ProtocolExchange::Https(_, exchange)) => exchange.silence(),
                    _ => None,
                };
                let detail = match known {
                    Some(known) => format!("{known}, and no response head within {timeout:?}"),
                    None => format!("connected, but no whole response head within {timeout:?}"),
                };
                (MemberReason::ResponseTimeout, detail)
            }
        };
        Finding::failure(reason, detail)
    }

    /// Ends the connection as the plan says.
    fn finish(&mut self, finding: Finding, socket: ProbeSocket) -> (Finding, Instant) {
        let finding = self.unless_self_connected(finding, socket.as_fd());
        let now = Instant::now();
        if self.plan.close() == CloseMode::Fin && self.progress.phases.connect.is_some() {
            self.end_orderly(socket.as_fd());
        }
        socket.end();
        (finding, now)
    }

    /// The kernel may choose the probed port as our own: no server listens there,
    /// and the two ends of this socket greet each other (RFC 9293, 3.5,
    /// simultaneous open). What comes back is what was sent, and no request or
    /// greeting of ours is a good answer: only a failure, or a check that sends
    /// nothing, has to look, and only at a port that the kernel chooses. Whether
    /// the address is this host's own may change at any time, and so does not count.
    fn unless_self_connected(&mut self, finding: Finding, socket: BorrowedFd<'_>) -> Finding {
        let is_connected = self.progress.phases.connect.is_some();
        if !is_connected
            || (self.speaks_first() && finding.outcome == Outcome::Success)
            || !socket::is_local_port(self.peer.port())
        {
            return finding;
        }
        if !local_end(socket).is_some_and(|local| is_same_end(local, self.peer)) {
            return finding;
        }
        self.progress.phases = Phases::default();
        Finding::failure(MemberReason::SelfConnect, "nobody listens: the prober was connected to itself")
    }

    /// The orderly end: close_notify where TLS was spoken, FIN, and no unread
    /// bytes that would turn the FIN into a reset.
    fn end_orderly(&mut self, socket: BorrowedFd<'_>) {
        if let Some(ProtocolExchange::Https(_, exchange)) = &mut self.exchange {
            exchange.send_close_notify(socket);
        }
        let _ = net::shutdown(socket, Shutdown::Write);
        let mut left = DRAINED_AT_MOST;
        socket::input(|buffer| {
            while let Ok(Some(bytes @ [_, ..])) = socket::receive(socket, buffer)
                && left > bytes.len()
            {
                left -= bytes.len();
            }
        });
    }

    /// Keeps for `--explain` what the addresses have said that were not connected to.
    fn note_attempts(&mut self, said: &[(IpAddr, String)]) {
        if let Some(trace) = &mut self.progress.trace {
            trace.attempts = said.to_vec();
        }
    }

    fn report(self, finding: Finding, now: Instant) -> TracedReport {
        let waited = self.waited(&finding, now);
        let Self { peer, progress, .. } = self;
        let report = Report {
            outcome: finding.outcome,
            phases: progress.phases,
            total: now.duration_since(progress.started),
            waited,
            status: finding.status,
            detail: finding.detail,
            peer: Some(peer),
            address: None,
            certificate_not_after: progress.certificate_not_after,
        };
        (report, progress.trace)
    }

    /// For how long only the member was to act; see [`Report::waited`]. Before the
    /// request is out only a silence shows that: a peer that leaves may have waited for
    /// the prober.
    fn waited(&self, finding: &Finding, now: Instant) -> Duration {
        use MemberReason as R;
        let is_silence = matches!(
            finding.outcome,
            Outcome::Failure(R::ConnectTimeout | R::TlsTimeout | R::ResponseTimeout)
        );
        if is_silence || self.progress.phase() == ProbePhase::Response {
            now.duration_since(self.progress.sent)
        } else {
            Duration::ZERO
        }
    }
}

/// Our own end of a connection.
fn local_end(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    net::getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok())
}

/// Address and port are the same; IPv6 scope and flow do not make another end.
fn is_same_end(local: SocketAddr, peer: SocketAddr) -> bool {
    local.port() == peer.port() && local.ip().to_canonical() == peer.ip().to_canonical()
}
