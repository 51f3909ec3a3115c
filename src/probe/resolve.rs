//! Names to addresses, off the probe path.
//!
//! The daemon makes one [`Resolver`] and runs its [`Refresher`] beside the drivers;
//! `vitald probe` does the same for its few probes. Every target of a name shares the
//! name's cell, and gets the address from it at once if the name has ever had one.
//!
//! - At most [`LOOKUPS_AT_MOST`] look-ups run at once: `getaddrinfo` cannot be
//!   cancelled, and each call holds a thread. Further names wait; their last address
//!   stays in use.
//! - An answer is kept until a newer good one comes. A name that stops resolving keeps
//!   its last address: the probe finds out whether a member is still there.
//! - An answer in another order is the same answer: the order of before stays. One with
//!   other addresses is counted ([`Resolver::changes`]) and logged, at most once in an
//!   interval for each name. `machine` decides which of several addresses is probed.
//! - A name is looked up every `interval`, and sooner while it has never had an address.
//!   A name without targets is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::addresses::{self, AddressSet};

/// Look-ups that run at once.
const LOOKUPS_AT_MOST: usize = 32;

/// How soon a name that has no address yet is tried again, at first.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The addresses of a name, or why there are none, in one line.
pub type Addresses = Result<Vec<IpAddr>, String>;

/// Something that knows the addresses of names.
pub trait Lookup: Send + Sync + 'static {
    /// Looks a name up, in the order of preference.
    fn lookup(&self, name: Arc<str>) -> Pin<Box<dyn Future<Output = Addresses> + Send>>;
}

/// The system's resolver: `getaddrinfo`, so `/etc/hosts` and nsswitch count.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: Arc<str>) -> Pin<Box<dyn Future<Output = Addresses> + Send>> {
        Box::pin(async move {
            match tokio::net::lookup_host((&*name, 0)).await {
                Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
                Err(error) => Err(without_preamble(&error.to_string())),
            }
        })
    }
}

/// The standard library begins every such error with the same words.
fn without_preamble(message: &str) -> String {
    message.strip_prefix("failed to lookup address information: ").unwrap_or(message).to_owned()
}

/// Where targets get cells for their names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Resolver {
    table: Arc<NameTable>,
}

/// The names that targets hold, and those that are new to the refresher. Both are
/// bounded by the number of names in use.
#[derive(Debug, Default)]
struct NameTable {
    names: Mutex<HashMap<Arc<str>, Weak<NameCell>>>,
    fresh: Mutex<Vec<(Arc<str>, Weak<NameCell>)>>,
    arrived: Notify,
    /// How often a name has got other addresses.
    changes: AtomicU64,
}

/// One name and the last that is known of it. It is refreshed while a target holds it.
#[derive(Debug)]
pub(super) struct NameCell {
    name: Arc<str>,
    /// The addresses, or why there has never been one; none before the first answer.
    /// Written by the refresher only.
    known: watch::Sender<Option<Result<AddressSet, Arc<str>>>>,
}

/// An answer that has replaced another.
#[derive(Debug, PartialEq, Eq)]
struct AddressChange {
    before: AddressSet,
    now: AddressSet,
}

impl Resolver {
    /// A resolver, and the task that keeps its answers fresh: the caller runs it.
    #[must_use]
    pub fn new(lookup: impl Lookup, interval: Duration) -> (Self, Refresher) {
        let table = Arc::<NameTable>::default();
        let refresher = Refresher {
            table: Arc::clone(&table),
            lookup: Arc::new(lookup),
            interval,
            due: BTreeMap::new(),
            arrivals: 0,
            running: JoinSet::new(),
        };
        (Self { table }, refresher)
    }

    /// The cell of a name. If no target holds it yet it is made, and looked up soon.
    pub(super) fn cell(&self, name: &Arc<str>) -> Arc<NameCell> {
        let mut names = lock(&self.table.names);
        if let Some(cell) = names.get(name).and_then(Weak::upgrade) {
            return cell;
        }
        let cell = Arc::new(NameCell { name: Arc::clone(name), known: watch::Sender::new(None) });
        names.insert(Arc::clone(name), Arc::downgrade(&cell));
        lock(&self.table.fresh).push((Arc::clone(name), Arc::downgrade(&cell)));
        self.table.arrived.notify_one();
        cell
    }

    /// How often the addresses of a name have changed. A first answer is no change, nor is
    /// another order.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.table.changes.load(Ordering::Relaxed)
    }

    /// How many names are held.
    #[must_use]
    pub fn names(&self) -> usize {
        lock(&self.table.names).values().filter(|cell| cell.strong_count() > 0).count()
    }
}

impl NameCell {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The addresses, at least one. Waits for the first answer, at most `patience`. The
    /// error is one line for people.
    pub(super) async fn addresses(&self, patience: Duration) -> Result<AddressSet, String> {
        let name = &self.name;
        let known = self.known.borrow().clone();
        let known = match known {
            Some(known) => known,
            None => {
                let mut changes = self.known.subscribe();
                // The sender is part of this cell, so only the time can run out.
                let first = timeout(patience, changes.wait_for(Option::is_some)).await;
                let first = first.ok().and_then(Result::ok).and_then(|known| known.clone());
                first.ok_or_else(|| format!("no answer for {name} from the resolver within {patience:?}"))?
            }
        };
        known.map_err(|why| format!("no address for {name}: {why}"))
    }

    /// Takes an answer; a bad one does not replace a good one.
    fn learn(&self, answer: Addresses) -> Option<AddressChange> {
        let answer = answer.and_then(addresses::usable);
        let mut change = None;
        self.known.send_if_modified(|known| {
            let next = match (&*known, answer) {
                (Some(Ok(_)), Err(_)) => return false,
                (Some(Ok(before)), Ok(now)) if addresses::is_same_set(before, &now) => return false,
                (Some(Ok(before)), Ok(now)) => {
                    change = Some(AddressChange { before: Arc::clone(before), now: Arc::clone(&now) });
                    Ok(now)
                }
                (_, Ok(now)) => Ok(now),
                (_, Err(why)) => Err(why.into()),
            };
            let is_news = known.as_ref() != Some(&next);
            *known = Some(next);
            is_news
        });
        change
    }

    fn has_address(&self) -> bool {
        matches!(*self.known.borrow(), Some(Ok(_)))
    }
}

/// Looks the names of a [`Resolver`] up, again and again until it is dropped.
pub struct Refresher {
    table: Arc<NameTable>,
    lookup: Arc<dyn Lookup>,
    interval: Duration,
    /// Names by when they are due, then by arrival. One entry per name; none while its
    /// look-up runs.
    due: BTreeMap<(Instant, u64), DueName>,
    /// How many entries have been made.
    arrivals: u64,
    running: JoinSet<DueName>,
}

struct DueName {
    name: Arc<str>,
    cell: Weak<NameCell>,
    /// The wait before it is tried again if it still has no address.
    retry: Duration,
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresher").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Refresher {
    /// Runs until dropped.
    pub async fn run(mut self) {
        let table = Arc::clone(&self.table);
        loop {
            self.admit_fresh();
            self.start_due();
            let first = self.due.first_key_value().map(|((at, _), _)| *at);
            let next = first.filter(|_| self.running.len() < LOOKUPS_AT_MOST);
            tokio::select! {
                // Cancel-safe: a notification that is not received stays stored.
                () = table.arrived.notified() => {}
                // Cancel-safe: an unfinished look-up stays in the set.
                Some(finished) = self.running.join_next() => {
                    if let Ok(due) = finished {
                        self.requeue(due);
                    }
                }
                // Cancel-safe: the deadline is computed anew in every round.
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    fn admit_fresh(&mut self) {
        let fresh = std::mem::take(&mut *lock(&self.table.fresh));
        let at = Instant::now();
        let retry = FIRST_RETRY.min(self.interval);
        for (name, cell) in fresh {
            self.queue(at, DueName { name, cell, retry });
        }
    }

    fn queue(&mut self, at: Instant, due: DueName) {
        self.arrivals += 1;
        self.due.insert((at, self.arrivals), due);
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while self.running.len() < LOOKUPS_AT_MOST
            && let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            let due = first.remove();
            if due.cell.strong_count() == 0 {
                self.table.forget(&due.name);
                continue;
            }
            let lookup = self.lookup.lookup(Arc::clone(&due.name));
            let table = Arc::clone(&self.table);
            self.running.spawn(async move {
                // In a task of its own: a look-up that panics (the system gives no
                // thread for it) ends as one without an answer, and comes again.
                let answer = tokio::spawn(lookup).await;
                let answer = answer.unwrap_or_else(|_| Err("the look-up could not be made".to_owned()));
                // Held weakly until here: a slow resolver keeps no name alive.
                if let Some(cell) = due.cell.upgrade()
                    && let Some(change) = cell.learn(answer)
                {
                    table.note_change(&due.name, &change);
                }
                due
            });
        }
    }

    /// Back into the queue: an interval later, or sooner while there is no address.
    fn requeue(&mut self, due: DueName) {
        let Some(cell) = due.cell.upgrade() else {
            self.table.forget(&due.name);
            return;
        };
        let (wait, retry) = if cell.has_address() {
            (self.interval, FIRST_RETRY.min(self.interval))
        } else {
            (due.retry, (2 * due.retry).min(self.interval))
        };
        self.queue(Instant::now() + wait, DueName { retry, ..due });
    }
}

impl NameTable {
    fn note_change(&self, name: &str, change: &AddressChange) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        let (before, now) = (addresses::list(&change.before), addresses::list(&change.now));
        tracing::info!(name, before, now, "{name} has other addresses: {now}; before: {before}");
    }

    /// Forgets a name, unless a target holds it again.
    fn forget(&self, name: &str) {
        let mut names = lock(&self.names);
        if names.get(name).is_some_and(|cell| cell.strong_count() == 0) {
            names.remove(name);
        }
    }
}

/// No code that holds one of these locks panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
