//! Places for work of one kind, in all and per source: long texts, large bodies,
//! log-ins, answers that wait.
//!
//! A source waits for a place of its own first and for one of all then. So it holds and
//! waits for no more than its share, and who comes next waits behind few. The Unix
//! socket has places of its own, which nobody on the network can take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::peer::PeerNetwork;

/// Places for one kind of work. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct Shares(Arc<SharesState>);

#[derive(Debug)]
struct SharesState {
    /// Places of a source; as many again are the Unix socket's.
    each: usize,
    network: Arc<Semaphore>,
    socket: Arc<Semaphore>,
    /// The places of sources that hold or wait for one: no more than there are
    /// connections.
    sources: Mutex<HashMap<PeerNetwork, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _all: OwnedSemaphorePermit,
    _source: Option<OwnedSemaphorePermit>,
}

/// There is no place now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoShare {
    /// The source has taken all of its own.
    OfSource,
    /// All places are taken.
    OfAll,
}

impl Shares {
    /// `total` places for the network, `each` for one source.
    pub(super) fn new(total: usize, each: usize) -> Self {
        let state = SharesState {
            each,
            network: Arc::new(Semaphore::new(total)),
            socket: Arc::new(Semaphore::new(each)),
            sources: Mutex::default(),
        };
        Self(Arc::new(state))
    }

    /// A place if there is one now.
    pub(super) fn try_take(&self, network: PeerNetwork) -> Result<Share, NoShare> {
        let source = match self.of_source(network) {
            Some(source) => Some(source.try_acquire_owned().map_err(|_| NoShare::OfSource)?),
            None => None,
        };
        let all = Arc::clone(self.of_all(network)).try_acquire_owned().map_err(|_| NoShare::OfAll)?;
        Ok(Share { _all: all, _source: source })
    }

    /// A place as soon as there is one: first come, first served, by source and then
    /// among all. Cancel-safe: dropping the future gives up the place in the line.
    ///
    /// # Errors
    /// A semaphore is closed, which no code does.
    pub(super) async fn take(&self, network: PeerNetwork) -> Result<Share, NoShare> {
        let source = match self.of_source(network) {
            Some(source) => Some(source.acquire_owned().await.map_err(|_| NoShare::OfSource)?),
            None => None,
        };
        let all = Arc::clone(self.of_all(network)).acquire_owned().await.map_err(|_| NoShare::OfAll)?;
        Ok(Share { _all: all, _source: source })
    }

    fn of_all(&self, network: PeerNetwork) -> &Arc<Semaphore> {
        match network {
            PeerNetwork::Local => &self.0.socket,
            PeerNetwork::Address(_) | PeerNetwork::Proxy(_) => &self.0.network,
        }
    }

    /// The places of a source; none where no limit per source holds.
    fn of_source(&self, network: PeerNetwork) -> Option<Arc<Semaphore>> {
        if !network.is_limited() {
            return None;
        }
        let mut sources = lock(&self.0.sources);
        // A permit and a waiting future hold their semaphore.
        sources.retain(|_, places| Arc::strong_count(places) > 1);
        let new = || Arc::new(Semaphore::new(self.0.each));
        Some(Arc::clone(sources.entry(network).or_insert_with(new)))
    }
}

/// What this room keeps behind a lock. Nothing panics while it is held, and what is behind
/// it would still be whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn host(last: u8) -> PeerNetwork {
        PeerNetwork::of([192, 0, 2, last].into())
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_source_takes_its_share_and_all_take_what_there_is() {
        let shares = Shares::new(3, 2);
        let mut held = vec![shares.try_take(host(1)), shares.try_take(host(1))];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(shares.try_take(host(1)).err(), Some(NoShare::OfSource));
        held.push(shares.try_take(host(2)));
        assert_eq!(shares.try_take(host(3)).err(), Some(NoShare::OfAll));
        // The socket's places are its own, and no limit per source holds it.
        let local = [shares.try_take(PeerNetwork::Local), shares.try_take(PeerNetwork::Local)];
        assert!(local.iter().all(Result::is_ok));
        assert_eq!(shares.try_take(PeerNetwork::Local).err(), Some(NoShare::OfAll));
        held.remove(0).expect("held");
        assert!(shares.try_take(host(1)).is_ok());
    }

    #[test]
    fn a_proxy_is_held_by_the_total_alone() {
        let shares = Shares::new(3, 1);
        let proxy = PeerNetwork::Proxy([192, 0, 2, 9].into());
        let held: Vec<_> = (0..3).map(|_| shares.try_take(proxy)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(shares.try_take(proxy).err(), Some(NoShare::OfAll));
    }

    #[test]
    fn who_waits_beyond_a_share_keeps_nobody_else_waiting() {
        let shares = Shares::new(2, 1);
        let held = [shares.try_take(host(1)), shares.try_take(host(2))];
        let mut greedy = pin!(shares.take(host(1)));
        assert!(poll_once(greedy.as_mut()).is_pending());
        let mut modest = pin!(shares.take(host(3)));
        assert!(poll_once(modest.as_mut()).is_pending());
        drop(held);
        assert!(poll_once(modest.as_mut()).is_ready());
    }

    #[test]
    fn sources_that_are_gone_are_forgotten() {
        let shares = Shares::new(8, 2);
        for last in 0..=255 {
            drop(shares.try_take(host(last)));
        }
        let held = shares.try_take(host(1)).expect("a place");
        assert_eq!(shares.0.sources.lock().expect("not poisoned").len(), 1);
        drop(held);
    }
}
