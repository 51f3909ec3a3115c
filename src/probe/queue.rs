//! A thread's own event queue: the sockets of its probes, their deadlines, and a waker
//! for other threads.
//!
//! `daemon` opens one for each driver, whose thread sleeps in it. A probe waits through
//! the queue of its thread, and where the thread has none through the runtime (`socket`).
//!
//! The queue costs less than the runtime's, which registers and forgets a socket for
//! every probe, cannot use a socket twice, and has timers as coarse as `epoll_wait` (a
//! millisecond, rounded up):
//!
//! - A socket is registered once. A probe that ends in a reset leaves its socket to a
//!   later one: `connect` to no address (connect(2), `AF_UNSPEC`) is what the kernel
//!   does inside `close` when the linger time is zero, so the member sees the same
//!   reset, and the next probe is a new connection from a new port. This saves making
//!   and destroying a socket, a sixth of a probe's time.
//! - One timer of the kernel, exact to the nanosecond, serves all deadlines.
//! - Registration is edge-triggered: the queue keeps what the kernel reported of a
//!   socket until its probe asks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, connect_unspec, sockopt};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::time::Instant;

use crate::channel::CloseMode;

/// Sockets kept for the next probes: what one wake of a busy driver starts, with
/// room. More are closed as their probes end.
const SPARES_AT_MOST: usize = 32;

/// Events taken at once; more wait in the kernel.
const EVENTS_AT_ONCE: usize = 256;

/// How much later than its deadline a probe may be woken, so that deadlines share wake-ups
/// with each other and with slots. When thousands of members hang, each would have a
/// wake-up of its own otherwise.
const DEADLINES_WITHIN: Duration = Duration::from_micros(500);

const TIMER: u64 = u64::MAX;
const WAKER: u64 = u64::MAX - 1;

thread_local! {
    static HERE: RefCell<Option<EventQueue>> = const { RefCell::new(None) };
    static EVENTS: Cell<Vec<epoll::Event>> = const { Cell::new(Vec::new()) };
}

/// An event queue. Its thread gets it by [`EventQueue::install`].
#[derive(Debug)]
pub struct EventQueue {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer goes off; none: it is not set.
    armed: Option<Instant>,
    waker: Arc<QueueWaker>,
    /// By token.
    registrations: Vec<Registration>,
    /// Tokens of closed sockets.
    free: Vec<u32>,
    spares: Vec<QueuedSocket>,
    deadlines: BTreeSet<(Instant, u32)>,
}

/// Both directions in which a socket can be ready.
const BOTH: EventFlags = EventFlags::IN.union(EventFlags::OUT);

/// What the queue knows of one socket.
#[derive(Debug, Default)]
struct Registration {
    waker: Option<Waker>,
    /// The directions that the waker waits for.
    wanted: EventFlags,
    /// The directions that the kernel has reported and no wait has used yet.
    ready: EventFlags,
    /// The kernel has reported an error or a hang-up.
    is_broken: bool,
    deadline: Option<Instant>,
    /// The deadline has passed, and is not among the queue's deadlines any more.
    is_late: bool,
}

/// What a wait for a socket has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// The kernel reports a direction, and neither an error nor a hang-up: a connection
    /// that was waited for is established.
    Ready,
    /// Less than that: an error, a hang-up or the deadline, or it is not known.
    Unclear,
}

/// A socket of this thread's queue. Dropping it closes it.
#[derive(Debug)]
pub(super) struct QueuedSocket {
    socket: OwnedFd,
    token: u32,
    family: AddressFamily,
    close: CloseMode,
    /// The kernel reports writability too, and not reading alone.
    is_watched_both_ways: bool,
}

impl EventQueue {
    /// Opens a queue.
    ///
    /// # Errors
    /// The system has no descriptors for it.
    pub fn open() -> std::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: an event is reported again without a read in between.
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
        epoll::add(&epoll, &event, EventData::new_u64(WAKER), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            epoll,
            timer,
            armed: None,
            waker: Arc::new(QueueWaker { event, thread: OnceLock::new() }),
            registrations: Vec::new(),
            free: Vec::new(),
            spares: Vec::new(),
            deadlines: BTreeSet::new(),
        })
    }

    /// Ends [`wait_until`] on the thread that has this queue, or keeps the next one from
    /// waiting. That thread itself is awake when it calls the waker, which then does
    /// nothing.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.waker))
    }

    /// Makes it the queue of this thread.
    pub fn install(self) {
        self.waker.thread.get_or_init(|| thread::current().id());
        HERE.set(Some(self));
    }
}

#[derive(Debug)]
struct QueueWaker {
    event: OwnedFd,
    /// The thread that has the queue, once it has it.
    thread: OnceLock<ThreadId>,
}

impl Wake for QueueWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.thread.get() != Some(&thread::current().id()) {
            // Never read, and never full: that takes 2^64 writes.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

/// Blocks this thread until one of its sockets is ready, the deadlines of some probes have
/// passed, the queue's waker is called, or it is `until`; wakes the probes concerned. With
/// `until` in the past it does not block. A thread without a queue does not wait at all.
pub fn wait_until(until: Instant) {
    with_queue(|queue| queue.wait_until(until));
}

/// A socket of this thread's queue for a probe that ends as `close` says; none:
/// this thread has no queue.
pub(super) fn socket(family: AddressFamily, close: CloseMode) -> Option<Result<QueuedSocket, Errno>> {
    let spare = with_queue(|queue| match close {
        CloseMode::Reset => queue.take_spare(family),
        CloseMode::Fin => None,
    })?;
    if let Some(spare) = spare {
        return Some(Ok(spare));
    }
    Some(match open_registered(family, close) {
        // The spare sockets of another family hold descriptors.
        Err(Errno::MFILE | Errno::NFILE) => {
            let spares = with_queue(|queue| std::mem::take(&mut queue.spares))?;
            drop(spares);
            open_registered(family, close)
        }
        opened => opened,
    })
}

/// A socket that resets its connection when it is closed, where `close` says so.
pub(super) fn open(family: AddressFamily, close: CloseMode) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(net::ipproto::TCP))?;
    if close == CloseMode::Reset {
        // One that fails leaves a probe that is noisier, not one that is wrong.
        let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
    }
    Ok(socket)
}

fn open_registered(family: AddressFamily, close: CloseMode) -> Result<QueuedSocket, Errno> {
    let socket = open(family, close)?;
    with_queue(|queue| queue.register(socket, family, close)).unwrap_or(Err(Errno::BADF))
}

fn with_queue<R>(act: impl FnOnce(&mut EventQueue) -> R) -> Option<R> {
    // When a thread ends, its queue may be dropped before its last sockets.
    HERE.try_with(|here| here.try_borrow_mut().ok().and_then(|mut here| here.as_mut().map(act)))
        .ok()
        .flatten()
}

impl EventQueue {
    fn take_spare(&mut self, family: AddressFamily) -> Option<QueuedSocket> {
        let index = self.spares.iter().rposition(|spare| spare.family == family)?;
        let spare = self.spares.swap_remove(index);
        // The kernel has meanwhile reported the end of its last connection.
        self.reset(spare.token);
        Some(spare)
    }

    fn register(
        &mut self,
        socket: OwnedFd,
        family: AddressFamily,
        close: CloseMode,
    ) -> Result<QueuedSocket, Errno> {
        let token = match self.free.last() {
            Some(token) => *token,
            None => {
                let token = u32::try_from(self.registrations.len()).map_err(|_| Errno::MFILE)?;
                self.registrations.push(Registration::default());
                self.free.push(token);
                token
            }
        };
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.epoll, &socket, EventData::new_u64(u64::from(token)), flags)?;
        self.free.pop();
        Ok(QueuedSocket { socket, token, family, close, is_watched_both_ways: false })
    }

    fn registration(&mut self, token: u32) -> Option<&mut Registration> {
        self.registrations.get_mut(token as usize)
    }

    /// Forgets everything about a socket's last probe.
    fn reset(&mut self, token: u32) {
        self.set_deadline(token, None);
        if let Some(registration) = self.registration(token) {
            *registration = Registration::default();
        }
    }

    fn set_deadline(&mut self, token: u32, deadline: Option<Instant>) {
        let Some(registration) = self.registrations.get_mut(token as usize) else { return };
        let was_late = std::mem::replace(&mut registration.is_late, false);
        if let Some(before) = std::mem::replace(&mut registration.deadline, deadline)
            && !was_late
        {
            self.deadlines.remove(&(before, token));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, token));
        }
    }

    fn wait_until(&mut self, until: Instant) {
        let now = Instant::now();
        let until = self.deadlines.first().map_or(until, |(first, _)| until.min(*first + DEADLINES_WITHIN));
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = if until <= now || self.arm(until, now).is_err() { Some(&at_once) } else { None };
        let mut events = EVENTS.take();
        events.clear();
        events.reserve(EVENTS_AT_ONCE);
        // Interrupted: the driver takes a turn and waits again.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), timeout);
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            match data {
                TIMER => self.armed = None,
                WAKER => {}
                token => self.handle_event(token, flags),
            }
        }
        EVENTS.set(events);
        self.expire();
    }

    /// Sets the timer, unless it goes off then anyway.
    fn arm(&mut self, until: Instant, now: Instant) -> Result<(), Errno> {
        if self.armed == Some(until) {
            return Ok(());
        }
        let left = until.duration_since(now);
        let time = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            // Zero would unset it; `until` is later than `now`.
            it_value: Timespec::try_from(left).map_err(|_| Errno::INVAL)?,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time)?;
        self.armed = Some(until);
        Ok(())
    }

    fn handle_event(&mut self, token: u64, flags: EventFlags) {
        let registration = u32::try_from(token).ok().and_then(|token| self.registration(token));
        let Some(registration) = registration else { return };
        let is_broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        registration.is_broken |= is_broken;
        registration.ready |= if is_broken { BOTH } else { flags & BOTH };
        if registration.ready.intersects(registration.wanted)
            && let Some(waker) = registration.waker.take()
        {
            waker.wake();
        }
    }

    /// Wakes the probes whose deadline has passed.
    fn expire(&mut self) {
        if self.deadlines.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&(deadline, token)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(registration) = self.registration(token) {
                registration.is_late = true;
                if let Some(waker) = registration.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl QueuedSocket {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sees to it that the kernel reports both directions.
    pub(super) fn watch_both_ways(&mut self) -> Result<(), Errno> {
        if self.is_watched_both_ways {
            return Ok(());
        }
        let data = EventData::new_u64(u64::from(self.token));
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        // The kernel reports anew what is ready now.
        with_queue(|queue| epoll::modify(&queue.epoll, &self.socket, data, flags))
            .unwrap_or(Err(Errno::BADF))?;
        self.is_watched_both_ways = true;
        Ok(())
    }

    /// Waits until the kernel reports a direction of `interest`, or for the deadline.
    /// A report counts once.
    ///
    /// # Errors
    /// The socket is not of this thread's queue, which could never wake the probe.
    pub(super) fn poll_ready(
        &self,
        cx: &Context<'_>,
        interest: Interest,
        deadline: Instant,
    ) -> Poll<Result<Readiness, Errno>> {
        let token = self.token;
        let readiness = with_queue(|queue| {
            let registration = queue.registration(token)?;
            let mut wanted = EventFlags::empty();
            wanted.set(EventFlags::IN, interest.is_readable());
            wanted.set(EventFlags::OUT, interest.is_writable());
            if registration.ready.intersects(wanted) {
                registration.ready.remove(wanted);
                let is_broken = registration.is_broken;
                return Some(Poll::Ready(if is_broken { Readiness::Unclear } else { Readiness::Ready }));
            }
            if registration.is_late && registration.deadline == Some(deadline) {
                return Some(Poll::Ready(Readiness::Unclear));
            }
            registration.wanted = wanted;
            if !registration.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                registration.waker = Some(cx.waker().clone());
            }
            if registration.deadline != Some(deadline) {
                queue.set_deadline(token, Some(deadline));
            }
            Some(Poll::Pending)
        });
        match readiness.flatten() {
            Some(readiness) => readiness.map(Ok),
            None => Poll::Ready(Err(Errno::BADF)),
        }
    }

    /// Ends the connection with a reset, and keeps the socket for the next probe.
    /// Where the kernel cannot do that, closing does it.
    pub(super) fn end(self) {
        if self.close != CloseMode::Reset || connect_unspec(&self.socket).is_err() {
            return;
        }
        let mut socket = Some(self);
        with_queue(|queue| {
            if queue.spares.len() < SPARES_AT_MOST
                && let Some(socket) = socket.take()
            {
                queue.reset(socket.token);
                queue.spares.push(socket);
            }
        });
        // A socket too many is closed here, where the queue is not borrowed.
    }
}

impl Drop for QueuedSocket {
    fn drop(&mut self) {
        // Closing the only descriptor takes the socket out of the kernel's queue.
        with_queue(|queue| {
            queue.reset(self.token);
            queue.free.push(self.token);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_that_lie_close_together_share_a_wake_up() {
        let mut queue = EventQueue::open().expect("a queue");
        let first = Instant::now() + Duration::from_millis(20);
        let deadlines = (0..4).map(|fifth| first + DEADLINES_WITHIN / 5 * fifth);
        for (token, deadline) in (0..).zip(deadlines) {
            queue.registrations.push(Registration::default());
            queue.set_deadline(token, Some(deadline));
        }
        queue.wait_until(first + Duration::from_secs(60));
        while queue.armed.is_some() {
            // A signal came first.
            queue.wait_until(first + Duration::from_secs(60));
        }
        assert!(Instant::now() >= first + DEADLINES_WITHIN, "together with the last of them");
        assert!(queue.registrations.iter().all(|registration| registration.is_late));
    }

    #[test]
    fn a_socket_of_another_threads_queue_is_an_error() {
        EventQueue::open().expect("a queue").install();
        let queued = socket(AddressFamily::INET, CloseMode::Reset).expect("a queue").expect("a socket");
        let elsewhere = thread::spawn(move || {
            queued.poll_ready(&Context::from_waker(Waker::noop()), Interest::READABLE, Instant::now())
        });
        assert_eq!(elsewhere.join().expect("no panic"), Poll::Ready(Err(Errno::BADF)));
    }
}
