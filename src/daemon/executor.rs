//! Runs a driver's probes on the driver's own thread.
//!
//! A probe is no task of the runtime. A task of this executor runs one probe after
//! another, and keeps its memory and its waker, so that starting a probe allocates
//! nothing. Waking a task puts it into the ready queue and wakes the driver; the driver
//! polls the tasks in the queue.
//!
//! Called by [`super::driver`]. A probe that panics ends itself, not the driver.

use std::any::Any;
use std::collections::VecDeque;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio_util::sync::ReusableBoxFuture;

use crate::health::Report;

/// Running probes, each with what the driver keeps about it.
pub(super) struct Executor<T> {
    tasks: Vec<Task<T>>,
    /// Counts `tasks`.
    created: u32,
    /// Tasks in which no probe runs.
    free: Vec<u32>,
    ready: Arc<ReadyQueue>,
}

struct Task<T> {
    probe: ReusableBoxFuture<'static, Report>,
    state: Arc<TaskState>,
    /// Wakes `state`.
    waker: Waker,
    /// None: no probe runs here, and `probe` must not be polled.
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
    /// The probe was over at once.
    Ended(Ended<T>),
    /// The probe runs in the task of this number.
    Running(u32),
}

impl<T> Executor<T> {
    /// An executor that ends its driver's sleep through `driver` when a probe is woken.
    pub(super) fn new(driver: Waker) -> Self {
        let ready = Arc::new(ReadyQueue { tasks: Mutex::default(), driver });
        Self { tasks: Vec::new(), created: 0, free: Vec::new(), ready }
    }

    /// Whether a probe was woken that has not gone on yet.
    pub(super) fn is_any_ready(&self) -> bool {
        !self.ready.lock().is_empty()
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
        let free = self.free.pop().and_then(|index| Some((index, self.tasks.get_mut(index as usize)?)));
        let index = match free {
            Some((index, task)) => {
                task.probe.set(probe);
                task.about = Some(about);
                index
            }
            None => {
                let index = self.created;
                self.created += 1;
                let (is_ready, ready) = (AtomicBool::new(false), Arc::clone(&self.ready));
                let state = Arc::new(TaskState { index, is_ready, ready });
                let (waker, probe) = (Waker::from(Arc::clone(&state)), ReusableBoxFuture::new(probe));
                self.tasks.push(Task { probe, state, waker, about: Some(about) });
                index
            }
        };
        self.poll(index).map_or(Started::Running(index), Started::Ended)
    }

    /// Gives up the probe in a task, and returns what was kept about it.
    pub(super) fn cancel(&mut self, index: u32) -> Option<T> {
        let task = self.tasks.get_mut(index as usize)?;
        let about = task.about.take()?;
        task.probe.set(pending());
        self.free.push(index);
        Some(about)
    }

    /// Lets the probes go on that were woken, until one ends. None when all of
    /// those have to wait again.
    pub(super) fn next_ended(&mut self) -> Option<Ended<T>> {
        // No more than are ready now, so that a probe which wakes itself cannot keep
        // the driver here.
        let mut left = self.ready.lock().len();
        while left > 0 {
            left -= 1;
            let index = self.ready.lock().pop_front()?;
            if let Some(ended) = self.poll(index) {
                return Some(ended);
            }
        }
        None
    }

    fn poll(&mut self, index: u32) -> Option<Ended<T>> {
        let task = self.tasks.get_mut(index as usize)?;
        task.state.is_ready.store(false, Ordering::Relaxed);
        // A task may be woken for a probe that is over by now.
        task.about.as_ref()?;
        let mut cx = Context::from_waker(&task.waker);
        let report = match catch_unwind(AssertUnwindSafe(|| task.probe.poll(&mut cx))) {
            Ok(Poll::Pending) => return None,
            Ok(Poll::Ready(report)) => Ok(report),
            Err(panic) => Err(message(&*panic)),
        };
        let about = task.about.take()?;
        self.free.push(index);
        Some(Ended { about, report })
    }
}

/// Which tasks were woken, and the waker of the driver.
struct ReadyQueue {
    /// Each task at most once, so the queue is bounded by their number.
    tasks: Mutex<VecDeque<u32>>,
    /// Ends the driver's sleep.
    driver: Waker,
}

impl ReadyQueue {
    /// Nothing panics while the queue is held.
    fn lock(&self) -> MutexGuard<'_, VecDeque<u32>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a task that its wakers share.
struct TaskState {
    index: u32,
    /// The task is in the ready queue.
    is_ready: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl Wake for TaskState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            self.ready.lock().push_back(self.index);
            self.ready.driver.wake_by_ref();
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
    use std::future::poll_fn;

    use tokio::sync::{Notify, oneshot};

    use super::*;
    use crate::health::{Outcome, ProberReason};

    struct Driver(Notify);

    impl Wake for Driver {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }

    fn found() -> Report {
        Report::inconclusive(ProberReason::Internal, "made up")
    }

    fn running<T>(started: Started<T>) -> u32 {
        match started {
            Started::Running(task) => task,
            Started::Ended(_) => panic!("it must wait"),
        }
    }

    #[tokio::test]
    async fn a_task_is_used_again_and_a_late_wake_does_no_harm() {
        let driver = Arc::new(Driver(Notify::new()));
        let mut executor = Executor::new(Waker::from(Arc::clone(&driver)));
        let wakers = Arc::new(Mutex::new(Vec::new()));
        let hold = Arc::clone(&wakers);
        let first = running(executor.start(
            poll_fn(move |cx| {
                hold.lock().unwrap().push(cx.waker().clone());
                Poll::Pending
            }),
            "first",
        ));
        assert_eq!(executor.cancel(first), Some("first"));
        assert_eq!(executor.cancel(first), None);
        let (answer, answered) = oneshot::channel::<()>();
        let waits = async move {
            answered.await.unwrap();
            found()
        };
        assert_eq!(running(executor.start(waits, "second")), first);
        wakers.lock().unwrap()[0].wake_by_ref();
        driver.0.notified().await;
        assert!(executor.next_ended().is_none(), "the waker of the first wakes the second in vain");
        answer.send(()).unwrap();
        driver.0.notified().await;
        let ended = executor.next_ended().unwrap();
        assert_eq!(ended.about, "second");
        assert!(matches!(ended.report.unwrap().outcome, Outcome::Inconclusive(ProberReason::Internal)));
        wakers.lock().unwrap()[0].wake_by_ref();
        assert!(executor.next_ended().is_none(), "nothing runs there any more");
    }

    #[test]
    fn what_ends_at_once_or_panics_frees_its_task() {
        let mut executor = Executor::new(Waker::noop().clone());
        let Started::Ended(ended) = executor.start(async { found() }, 1) else { panic!("it is over") };
        assert_eq!((ended.about, ended.report.is_ok()), (1, true));
        let Started::Ended(ended) = executor.start(async { panic!("made {}", "up") }, 2) else {
            panic!("it is over")
        };
        assert_eq!((ended.about, ended.report.err().as_deref()), (2, Some("the probe panicked: made up")));
        assert_eq!(running(executor.start(pending(), 3)), 0);
        assert_eq!(running(executor.start(pending(), 4)), 1);
    }

    #[test]
    fn a_probe_that_wakes_itself_leaves_the_driver_its_turn() {
        let mut executor = Executor::new(Waker::noop().clone());
        let restless = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        running(executor.start(restless, ()));
        for _ in 0..4 {
            assert!(executor.is_any_ready());
            assert!(executor.next_ended().is_none());
        }
    }
}
