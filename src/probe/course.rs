//! The machine of one probe: connect, speak, judge the deadline, say goodbye.
//!
//! Driven by `attempt`, which waits where this may not. Owns the order of the
//! phases; the protocols (`tcp`, `http`, `https`) own what is said in them.
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

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::time::{Instant, Sleep};

use super::explanation::Explanation;
use super::finding::{Finding, Step};
use super::http::HttpExchange;
use super::https::HttpsExchange;
use super::plan::{Plan, ProtocolPlan};
use super::progress::{Phase, Progress};
use super::target::Target;
use super::wire::Wire;
use super::{absence, fault, queue, scratch, tcp};
use crate::channel::CloseMode;
use crate::health::{MemberReason, Outcome, ProberReason};

/// Bytes thrown away for an orderly close; more ends in a reset.
const DRAINED_AT_MOST: usize = 64 * 1024;

/// Everything but the socket: the machine of a probe.
pub(super) struct Course<'a> {
    pub(super) plan: &'a Plan,
    pub(super) target: &'a Target,
    pub(super) peer: SocketAddr,
    exchange: Exchange,
    pub(super) progress: Progress,
}

/// What is said once the connection is established.
enum Exchange {
    /// Nothing yet.
    Connecting,
    Http(HttpExchange),
    Https(Box<HttpsExchange>),
}

impl<'a> Course<'a> {
    /// A probe of `target` at `peer`; its time starts now.
    pub(super) fn new(
        plan: &'a Plan,
        target: &'a Target,
        peer: SocketAddr,
        notes: Option<Box<Explanation>>,
    ) -> Self {
        Self { plan, target, peer, exchange: Exchange::Connecting, progress: Progress::new(notes) }
    }

    /// Opens a socket and sends the first packet.
    pub(super) fn open(&mut self) -> Result<Wire, Finding> {
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
    pub(super) fn speaks_first(&self) -> bool {
        match &self.plan.protocol {
            ProtocolPlan::Tcp => false,
            ProtocolPlan::Http(_) | ProtocolPlan::Https(..) => true,
        }
    }

    /// Goes as far as the kernel lets it.
    pub(super) fn advance(&mut self, socket: BorrowedFd<'_>) -> Step {
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
    pub(super) fn overdue(&mut self, deadline: &mut Instant) -> Option<Finding> {
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
    pub(super) fn timer_overdue(&mut self, timer: Pin<&mut Sleep>) -> Option<Finding> {
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
    pub(super) fn waited(&self, finding: &Finding, now: Instant) -> Duration {
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
    pub(super) fn say_goodbye(&mut self, socket: BorrowedFd<'_>) {
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

/// A probe whose socket is gone, which is a fault of ours.
pub(super) fn lost_socket() -> Finding {
    Finding::inconclusive(ProberReason::Internal, "the probe lost its socket")
}

/// Our own end of a connection.
pub(super) fn local_end(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    net::getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok())
}

/// Address and port are the same; IPv6 scope and flow do not make another end.
pub(super) fn is_same_end(local: SocketAddr, peer: SocketAddr) -> bool {
    fn ip(address: SocketAddr) -> IpAddr {
        address.ip().to_canonical()
    }
    local.port() == peer.port() && ip(local) == ip(peer)
}
