//! Password checks: off the runtime's threads, few at once, in order.
//!
//! One check takes tens of milliseconds of a core and 19 MiB. So only half of
//! the machine's cores may do it at once, the rest wait in line, and the line is
//! bounded: when it is full, a login is told to come back. Probing goes on.

use std::sync::Arc;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::config::password::PasswordHash;

/// Logins that wait or are checked. At 30 ms each the last of them waits for
/// two seconds.
const LINE: usize = 64;

/// Too many logins at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Where passwords are checked.
#[derive(Debug)]
pub struct HashingQueue {
    workers: Arc<Semaphore>,
    /// Taken for as long as a login waits or is checked.
    line: Semaphore,
}

impl HashingQueue {
    /// A queue for a machine of so many cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self { workers: Arc::new(Semaphore::new((cores / 2).max(1))), line: Semaphore::new(LINE) }
    }

    /// Whether the password is the hash's. Dropping the future gives up the place
    /// in the line; a check that has begun runs to its end and keeps its worker.
    ///
    /// # Errors
    /// The line is full, or the runtime ends.
    pub async fn matches(&self, hash: Arc<PasswordHash>, password: Zeroizing<String>) -> Result<bool, Busy> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
