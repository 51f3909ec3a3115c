//! What bounds guessing: how many passwords are checked at once, and how long the
//! answer to a failed login or signature waits, by where it came from.
//!
//! One password check takes tens of milliseconds of a core and the memory of its hash,
//! so a few threads do them, off the runtime's own, with memory that is used again. Other
//! logins wait in a bounded line, in which a source has a few places; a login that finds
//! none is told to come back.
//!
//! [`Slowdown`] is pure: the clock is an argument. A wrong answer waits and a right one
//! never does, so nobody can lock others out by failing in their name or from their
//! address. The vendor locks accounts (docs/vendor-api.md, "Signatures"); this does
//! not. Peers are kept in two generations: when the newer is full it becomes the
//! older, and the older is forgotten. That bounds memory and keeps who failed lately.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::config::password::{HashMemory, PasswordHash};
use crate::health::MonotonicTime;
use crate::serve::peer::PeerNetwork;
use crate::serve::shares::{NoShare, Shares, lock};

/// Logins that wait or are checked, in all and of one source. At 30 ms each the last of
/// them waits for two seconds.
const LINE: usize = 64;
const LINE_EACH: usize = 8;
/// Passwords checked at once, at most. Each takes the memory of its hash, and more
/// threads would make nobody's check faster.
const MOST_CHECKS: usize = 4;

/// Where passwords are checked.
#[derive(Debug)]
pub(super) struct HashingQueue {
    workers: Arc<Semaphore>,
    /// What workers hash in that are at rest: never more than there are workers.
    memories: Arc<Mutex<Vec<HashMemory>>>,
    /// Taken for as long as a login waits or is checked.
    line: Shares,
}

impl HashingQueue {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            workers: Arc::new(Semaphore::new((cores / 2).clamp(1, MOST_CHECKS))),
            memories: Arc::default(),
            line: Shares::new(LINE, LINE_EACH),
        }
    }

    /// Whether the password is the hash's. Dropping the future gives up the place
    /// in the line; a check that has begun runs to its end and keeps its worker.
    ///
    /// # Errors
    /// There is no place in the line, or the runtime ends.
    pub(super) async fn matches(
        &self,
        hash: Arc<PasswordHash>,
        password: Zeroizing<String>,
        network: PeerNetwork,
    ) -> Result<bool, NoShare> {
        let _place = self.line.try_take(network)?;
        // First come, first served.
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| NoShare::OfAll)?;
        let memories = Arc::clone(&self.memories);
        let check = tokio::task::spawn_blocking(move || {
            let spare = lock(&memories).pop();
            let mut memory = spare.unwrap_or_default();
            let matches = hash.matches(password.as_bytes(), &mut memory);
            lock(&memories).push(memory);
            drop(worker);
            matches
        });
        check.await.map_err(|_| NoShare::OfAll)
    }
}

/// Failures that cost nothing: typing errors.
const FREE_FAILURES: u32 = 3;
/// The wait after the next one; doubles with each.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest wait. Holds a connection that long, so it is short.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Time without failures that makes one forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// Peers per generation.
const PEERS: usize = 2048;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: MonotonicTime,
}

impl Failures {
    /// Those that are not forgotten yet.
    fn left(self, now: MonotonicTime) -> u32 {
        let forgotten = now.since(self.last).as_secs() / FORGOTTEN_AFTER.as_secs();
        self.count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

/// The peers that failed lately.
#[derive(Debug, Default)]
pub(super) struct Slowdown {
    newer: HashMap<PeerNetwork, Failures>,
    older: HashMap<PeerNetwork, Failures>,
}

impl Slowdown {
    /// Counts a failure and says how long its answer waits.
    pub(super) fn note_failure(&mut self, network: PeerNetwork, now: MonotonicTime) -> Duration {
        let before = self.newer.get(&network).or_else(|| self.older.get(&network));
        let count = before.map_or(0, |failures| failures.left(now)).saturating_add(1);
        if self.newer.len() >= PEERS && !self.newer.contains_key(&network) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(network, Failures { count, last: now });
        delay_of(count)
    }
}

fn delay_of(count: u32) -> Duration {
    let Some(doublings) = count.checked_sub(FREE_FAILURES + 1) else { return Duration::ZERO };
    // 2^16 is beyond the longest delay already.
    FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(seconds * 1_000_000_000)
    }

    fn host(text: &str) -> PeerNetwork {
        PeerNetwork::of(text.parse().expect(text))
    }

    #[test]
    fn typing_errors_are_free_and_guessing_is_slow() {
        let mut slowdown = Slowdown::default();
        let delays: Vec<_> =
            (0..11).map(|_| slowdown.note_failure(host("192.0.2.1"), at(0)).as_millis()).collect();
        assert_eq!(delays, [0, 0, 0, 250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert_eq!(slowdown.note_failure(host("192.0.2.2"), at(0)), Duration::ZERO);
        for _ in 0..100_000 {
            assert!(slowdown.note_failure(host("192.0.2.1"), at(0)) <= LONGEST_DELAY);
        }
    }

    #[test]
    fn time_heals() {
        let mut slowdown = Slowdown::default();
        for _ in 0..5 {
            slowdown.note_failure(host("192.0.2.1"), at(0));
        }
        assert_eq!(slowdown.note_failure(host("192.0.2.1"), at(29)), Duration::from_millis(1000));
        assert_eq!(slowdown.note_failure(host("192.0.2.1"), at(29 + 60)), Duration::from_millis(500));
        assert_eq!(slowdown.note_failure(host("192.0.2.1"), at(100_000)), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded_and_late_failures_are_kept() {
        let mut slowdown = Slowdown::default();
        for number in 0..100_000_u32 {
            slowdown.note_failure(PeerNetwork::of(number.to_be_bytes().into()), at(0));
            if number % 1000 == 0 {
                slowdown.note_failure(host("192.0.2.1"), at(0));
            }
        }
        assert!(slowdown.newer.len().max(slowdown.older.len()) <= PEERS);
        assert_eq!(slowdown.note_failure(host("192.0.2.1"), at(0)), LONGEST_DELAY);
    }

    #[tokio::test]
    async fn the_line_is_bounded_and_places_come_back() {
        let queue = HashingQueue::new(1);
        let hash = Arc::new(PasswordHash::cheap(b"right"));
        let check = |password: &str, network| {
            queue.matches(Arc::clone(&hash), Zeroizing::new(password.to_owned()), network)
        };
        let source = |number: usize| host(&format!("192.0.2.{}", number / LINE_EACH));
        // Nobody works, so everybody waits.
        let worker = queue.workers.acquire().await.expect("a worker");
        let mut line: Vec<_> = (0..LINE).map(|number| Box::pin(check("right", source(number)))).collect();
        for waiting in &mut line {
            assert!(futures_poll(waiting).is_none());
        }
        assert_eq!(check("right", host("192.0.2.99")).await, Err(NoShare::OfAll));
        // A client that goes away makes room, and the socket has places of its own.
        line.pop();
        let mut others =
            [Box::pin(check("wrong", host("192.0.2.99"))), Box::pin(check("wrong", PeerNetwork::Local))];
        for waiting in &mut others {
            assert!(futures_poll(waiting).is_none());
        }
        drop(worker);
        for waiting in line {
            assert_eq!(waiting.await, Ok(true));
        }
        for waiting in others {
            assert_eq!(waiting.await, Ok(false));
        }
        assert!(check("right", host("192.0.2.1")).await.is_ok(), "places came back");
        assert_eq!(lock(&queue.memories).len(), 1, "one worker, one memory");
    }

    /// A hundred wrong log-ins from one source keep nobody else from logging in.
    #[tokio::test]
    async fn a_source_has_few_places_in_the_line() {
        let queue = HashingQueue::new(1);
        let hash = Arc::new(PasswordHash::cheap(b"right"));
        let check = |network| queue.matches(Arc::clone(&hash), Zeroizing::new("right".to_owned()), network);
        let worker = queue.workers.acquire().await.expect("a worker");
        let mut greedy: Vec<_> = (0..100).map(|_| Box::pin(check(host("192.0.2.1")))).collect();
        let refused =
            greedy.iter_mut().filter_map(futures_poll).filter(|end| *end == Err(NoShare::OfSource)).count();
        assert_eq!(refused, 100 - LINE_EACH);
        let mut other = Box::pin(check(host("192.0.2.2")));
        assert!(futures_poll(&mut other).is_none());
        drop(worker);
        drop(greedy);
        assert_eq!(other.await, Ok(true));
    }

    /// Polls once.
    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
