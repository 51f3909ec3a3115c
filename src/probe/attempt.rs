//! One connection to one member: open, wait, deadline, close.
//!
//! Called by `run` and `explain` once the address is known. Owns the socket
//! (`wire`) and the waiting; `course` is what happens between two waits.
//!
//! System calls of one HTTP probe of a driver on a fast network: `setsockopt`,
//! `connect`, `getpeername`, `send`, `recv`, and the `connect` to nowhere that ends
//! it; its socket is one that is used again (see `queue`). Where the connection is
//! up before `connect` has returned (loopback), nothing waits for it, and a TCP
//! probe never asks the event queue at all. On a thread without such a queue
//! `socket`, another `setsockopt`, one registration with the runtime, its end and
//! `close` take their turns too.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep_until};

use super::course::{Course, is_same_end, local_end, lost_socket};
use super::explanation::Explanation;
use super::fault;
use super::finding::{Finding, Step};
use super::plan::Plan;
use super::target::Target;
use super::wire::Wire;
use crate::channel::CloseMode;
use crate::health::{MemberReason, Outcome, Phases, ProberReason, Report};

/// One probe under way.
pub(super) struct Attempt<'a> {
    wire: Wire,
    course: Course<'a>,
}

impl<'a> Attempt<'a> {
    /// A probe of `target` at `peer`; its time starts now.
    pub(super) fn new(
        plan: &'a Plan,
        target: &'a Target,
        peer: SocketAddr,
        notes: Option<Box<Explanation>>,
    ) -> Self {
        Self { wire: Wire::None, course: Course::new(plan, target, peer, notes) }
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
