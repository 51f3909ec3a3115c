//! The probes a driver runs: polled in the driver's own task.
//!
//! A probe needs no task of its own: a place holds one probe after another, and
//! keeps its memory and its waker, so that starting a probe allocates nothing.
//! A waker puts its place into a list; the driver polls the places in the list.
//!
//! Called by [`super::driver`]. A place that panics ends its probe, not the driver.

use std::any::Any;
use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio_util::sync::ReusableBoxFuture;

use crate::health::Report;

/// Running probes, each with what the driver keeps about it.
pub(super) struct Probes<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    bells: Arc<Bells>,
}

struct Place<T> {
    probe: ReusableBoxFuture<'static, Report>,
    bell: Arc<Bell>,
    waker: Waker,
    /// None: nothing runs here, and `probe` is over.
    about: Option<T>,
}

/// A probe that is over.
pub(super) struct Ended<T> {
    /// What was kept about it.
    pub(super) about: T,
    /// What it found, or the message of its panic.
    pub(super) report: Result<Report, String>,
}

/// How a start went.
pub(super) enum Started<T> {
    /// It was over at once.
    Ended(Ended<T>),
    /// It runs in this place.
    Running(u32),
}

impl<T> Default for Probes<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), bells: Arc::default() }
    }
}

impl<T> Probes<T> {
    /// Places whose wakers ring `bell` too: for a driver that waits in its own event
    /// queue, and not in [`Probes::ended`].
    pub(super) fn with_bell(bell: Waker) -> Self {
        let bells = Bells { rung: Mutex::default(), bell: Some(bell) };
        Self { places: Vec::new(), free: Vec::new(), bells: Arc::new(bells) }
    }

    /// Whether a probe was woken that has not gone on yet.
    pub(super) fn is_any_woken(&self) -> bool {
        !self.bells.lock().rung.is_empty()
    }

    /// Starts a probe: it goes as far as it can without waiting.
    pub(super) fn start(
        &mut self,
        probe: impl Future<Output = Report> + Send + 'static,
        about: T,
    ) -> Started<T> {
        // One turn polls many probes: a budget meant for one task would make the
        // last of them wait for nothing.
        let probe = tokio::task::unconstrained(probe);
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(place) = self.places.get_mut(index as usize) {
                    place.probe.set(probe);
                    place.about = Some(about);
                }
                index
            }
            None => {
                // There are fewer places than file descriptors.
                let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
                let bell =
                    Arc::new(Bell { index, is_rung: AtomicBool::new(false), bells: Arc::clone(&self.bells) });
                let waker = Waker::from(Arc::clone(&bell));
                let probe = ReusableBoxFuture::new(probe);
                self.places.push(Place { probe, bell, waker, about: Some(about) });
                index
            }
        };
        self.poll(index).map_or(Started::Running(index), Started::Ended)
    }

    /// Gives up the probe in a place, and returns what was kept about it.
    pub(super) fn cancel(&mut self, index: u32) -> Option<T> {
        let place = self.places.get_mut(index as usize)?;
        let about = place.about.take()?;
        place.probe.set(pending());
        self.free.push(index);
        Some(about)
    }

    /// Lets the probes go on that were woken, until one ends. None when all of
    /// those have to wait again.
    pub(super) fn next_ended(&mut self) -> Option<Ended<T>> {
        // No more than are there now, so that a probe which wakes itself cannot
        // keep the driver here.
        let mut left = self.bells.lock().rung.len();
        while left > 0 {
            left -= 1;
            let index = self.bells.lock().rung.pop_front()?;
            if let Some(ended) = self.poll(index) {
                return Some(ended);
            }
        }
        None
    }

    /// Waits until a probe ends.
    ///
    /// Cancel-safe: a probe that ends is returned in the same poll.
    pub(super) async fn ended(&mut self) -> Ended<T> {
        poll_fn(|cx| {
            self.bells.lock().listener = Some(cx.waker().clone());
            self.next_ended().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn poll(&mut self, index: u32) -> Option<Ended<T>> {
        let place = self.places.get_mut(index as usize)?;
        place.bell.is_rung.store(false, Ordering::Relaxed);
        // A place may be woken for a probe that is over by now.
        place.about.as_ref()?;
        let mut cx = Context::from_waker(&place.waker);
        let report = match catch_unwind(AssertUnwindSafe(|| place.probe.poll(&mut cx))) {
            Ok(Poll::Pending) => return None,
            Ok(Poll::Ready(report)) => Ok(report),
            Err(panic) => Err(message(&*panic)),
        };
        let about = place.about.take()?;
        self.free.push(index);
        Some(Ended { about, report })
    }
}

/// Which places were woken. At most one entry for each place.
#[derive(Default)]
struct Bells {
    rung: Mutex<Rung>,
    /// Ends the driver's wait in its event queue, from other threads.
    bell: Option<Waker>,
}

#[derive(Default)]
struct Rung {
    rung: VecDeque<u32>,
    /// The driver's task, while it waits for a probe to end.
    listener: Option<Waker>,
}

impl Bells {
    /// Nothing panics while the list is held.
    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of one place.
struct Bell {
    index: u32,
    /// The place is in the list already.
    is_rung: AtomicBool,
    bells: Arc<Bells>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_rung.swap(true, Ordering::Relaxed) {
            return;
        }
        let listener = {
            let mut bells = self.bells.lock();
            bells.rung.push_back(self.index);
            bells.listener.take()
        };
        if let Some(listener) = listener {
            listener.wake();
        }
        if let Some(bell) = &self.bells.bell {
            bell.wake_by_ref();
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the probe panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::health::{Outcome, ProberReason};

    fn found() -> Report {
        Report::inconclusive(ProberReason::Internal, "made up")
    }

    fn running<T>(started: Started<T>) -> u32 {
        match started {
            Started::Running(place) => place,
            Started::Ended(_) => panic!("it must wait"),
        }
    }

    #[tokio::test]
    async fn a_place_is_used_again_and_a_late_wake_does_no_harm() {
        let mut probes = Probes::default();
        let wakers = Arc::new(Mutex::new(Vec::new()));
        let hold = Arc::clone(&wakers);
        let first = running(probes.start(
            poll_fn(move |cx| {
                hold.lock().unwrap().push(cx.waker().clone());
                Poll::Pending
            }),
            "first",
        ));
        assert_eq!(probes.cancel(first), Some("first"));
        assert_eq!(probes.cancel(first), None);
        let (answer, answered) = oneshot::channel::<()>();
        let waits = async move {
            answered.await.unwrap();
            found()
        };
        assert_eq!(running(probes.start(waits, "second")), first);
        wakers.lock().unwrap()[0].wake_by_ref();
        assert!(probes.next_ended().is_none(), "the waker of the first wakes the second in vain");
        answer.send(()).unwrap();
        let ended = probes.ended().await;
        assert_eq!(ended.about, "second");
        assert!(matches!(ended.report.unwrap().outcome, Outcome::Inconclusive(ProberReason::Internal)));
        wakers.lock().unwrap()[0].wake_by_ref();
        assert!(probes.next_ended().is_none(), "nothing runs there any more");
    }

    #[tokio::test]
    async fn what_ends_at_once_or_panics_frees_its_place() {
        let mut probes = Probes::default();
        let Started::Ended(ended) = probes.start(async { found() }, 1) else { panic!("it is over") };
        assert_eq!((ended.about, ended.report.is_ok()), (1, true));
        let Started::Ended(ended) = probes.start(async { panic!("made {}", "up") }, 2) else {
            panic!("it is over")
        };
        assert_eq!((ended.about, ended.report.err().as_deref()), (2, Some("the probe panicked: made up")));
        assert_eq!(running(probes.start(pending(), 3)), 0);
        assert_eq!(running(probes.start(pending(), 4)), 1);
    }

    #[tokio::test]
    async fn a_probe_that_wakes_itself_leaves_the_driver_its_turn() {
        let mut probes = Probes::default();
        let restless = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        running(probes.start(restless, ()));
        assert!(probes.next_ended().is_none());
        let polls = Rc::new(Cell::new(0));
        let counter = Rc::clone(&polls);
        tokio::select! {
            biased;
            _ = probes.ended() => panic!("it never ends"),
            () = poll_fn(move |cx| {
                counter.set(counter.get() + 1);
                cx.waker().wake_by_ref();
                if counter.get() > 3 { Poll::Ready(()) } else { Poll::Pending }
            }) => {}
        }
        assert_eq!(polls.get(), 4);
    }
}
