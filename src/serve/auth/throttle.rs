//! What bounds guessing: how many passwords are checked at once, and how long the
//! answer to a failed login or signature waits, by where it came from.
//!
//! One password check takes tens of milliseconds of a core and 19 MiB, so half of the
//! machine's cores do them, off the runtime's threads; other logins wait in a bounded
//! line, and when it is full a login is told to come back.
//!
//! [`Slowdown`] is pure: the clock is an argument. A wrong answer waits and a right one
//! never does, so nobody can lock others out by failing in their name or from their
//! address. The vendor locks accounts (docs/vendor-api.md, "Signatures"); this does
//! not. Peers are kept in two generations: when the newer is full it becomes the
//! older, and the older is forgotten. That bounds memory and keeps who failed lately.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::config::password::PasswordHash;
use crate::health::MonotonicTime;
use crate::serve::server::PeerAddress;

/// Logins that wait or are checked. At 30 ms each the last of them waits for
/// two seconds.
const LINE: usize = 64;

/// Too many logins at once, or the runtime ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

/// Where passwords are checked.
#[derive(Debug)]
pub(super) struct HashingQueue {
    workers: Arc<Semaphore>,
    /// Taken for as long as a login waits or is checked.
    line: Semaphore,
}

impl HashingQueue {
    pub(super) fn new(cores: usize) -> Self {
        Self { workers: Arc::new(Semaphore::new((cores / 2).max(1))), line: Semaphore::new(LINE) }
    }

    /// Whether the password is the hash's. Dropping the future gives up the place
    /// in the line; a check that has begun runs to its end and keeps its worker.
    pub(super) async fn matches(
        &self,
        hash: Arc<PasswordHash>,
        password: Zeroizing<String>,
    ) -> Result<bool, Busy> {
        let _place = self.line.try_acquire().map_err(|_| Busy)?;
        // First come, first served.
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| Busy)?;
        let check = tokio::task::spawn_blocking(move || {
            let matches = hash.matches(password.as_bytes());
            drop(worker);
            matches
        });
        check.await.map_err(|_| Busy)
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

/// Who is slowed: a host, or the network that an IPv6 host can pick its
/// addresses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PeerNetwork {
    Address(IpAddr),
    Local,
}

impl PeerNetwork {
    fn of(peer: PeerAddress) -> Self {
        match peer {
            PeerAddress::UnixSocket => Self::Local,
            PeerAddress::Network(address) => match address.to_canonical() {
                IpAddr::V6(address) => {
                    let network = u128::from(address) & !u128::from(u64::MAX);
                    Self::Address(IpAddr::V6(Ipv6Addr::from(network)))
                }
                address => Self::Address(address),
            },
        }
    }
}

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
    pub(super) fn note_failure(&mut self, peer: PeerAddress, now: MonotonicTime) -> Duration {
        let network = PeerNetwork::of(peer);
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

    fn host(text: &str) -> PeerAddress {
        PeerAddress::Network(text.parse().expect(text))
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
    fn an_ipv6_host_is_its_network() {
        let mut slowdown = Slowdown::default();
        for last in 1..=4 {
            slowdown.note_failure(host(&format!("2001:db8::{last}")), at(0));
        }
        assert!(slowdown.note_failure(host("2001:db8::ffff:1"), at(0)) > FIRST_DELAY);
        assert_eq!(slowdown.note_failure(host("2001:db8:0:1::1"), at(0)), Duration::ZERO);
        slowdown.note_failure(host("::ffff:192.0.2.1"), at(0));
        assert_eq!(slowdown.newer.len(), 3);
        slowdown.note_failure(host("192.0.2.1"), at(0));
        assert_eq!(slowdown.newer.len(), 3);
    }

    #[test]
    fn memory_is_bounded_and_late_failures_are_kept() {
        let mut slowdown = Slowdown::default();
        for number in 0..100_000_u32 {
            slowdown.note_failure(PeerAddress::Network(IpAddr::from(number.to_be_bytes())), at(0));
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
        let check = |password: &str| queue.matches(Arc::clone(&hash), Zeroizing::new(password.to_owned()));
        // Nobody works, so everybody waits.
        let worker = queue.workers.acquire().await.expect("a worker");
        let mut line: Vec<_> = (0..LINE).map(|_| Box::pin(check("right"))).collect();
        for waiting in &mut line {
            assert!(futures_poll(waiting).is_none());
        }
        assert_eq!(check("right").await, Err(Busy));
        // A client that goes away makes room.
        line.pop();
        let mut late = Box::pin(check("wrong"));
        assert!(futures_poll(&mut late).is_none());
        drop(worker);
        for waiting in line {
            assert_eq!(waiting.await, Ok(true));
        }
        assert_eq!(late.await, Ok(false));
        assert_eq!(queue.line.available_permits(), LINE);
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
