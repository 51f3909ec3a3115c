//! Names to addresses, off the probe path.
//!
//! The daemon makes one [`Resolver`] and runs its [`Refresher`] beside the
//! drivers; `vitald probe` does the same for its few probes. A target asks
//! its name's cell, which answers at once when the name has ever had an
//! address.
//!
//! - At most [`LOOKUPS_AT_MOST`] look-ups run at once: `getaddrinfo` cannot be
//!   cancelled, and each holds a thread. When all are taken, names wait their
//!   turn; what was known stays known.
//! - An answer is kept until a newer good one comes. A name that stops
//!   resolving keeps its last address: whether somebody is still there is for
//!   the probe to say.
//! - Of several addresses one is used, and stays in use while the answer holds
//!   it, so that a shuffled answer is not a new member every time.
//! - A name is looked up every `interval`, one that has never been answered
//!   sooner, and none that nobody holds any more.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

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

/// The names somebody holds, and those the refresher has not met yet. Both are
/// bounded by the number of names in use.
#[derive(Debug, Default)]
struct NameTable {
    names: Mutex<HashMap<Arc<str>, Weak<NameCell>>>,
    fresh: Mutex<Vec<(Arc<str>, Weak<NameCell>)>>,
    arrived: Notify,
}

/// One name and the last that is known of it. It is refreshed while a target holds it.
#[derive(Debug)]
pub(super) struct NameCell {
    name: Arc<str>,
    /// Written by the refresher only.
    resolution: watch::Sender<Resolution>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Resolution {
    /// The first look-up has not come back.
    Nothing,
    /// It has never had an address; why not.
    Failed(Arc<str>),
    /// The address in use.
    Address(IpAddr),
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
            due: BinaryHeap::new(),
            next_ticket: 0,
            running: JoinSet::new(),
        };
        (Self { table }, refresher)
    }

    /// The cell of a name; made, and looked up soon, if nobody holds it yet.
    pub(super) fn cell(&self, name: &Arc<str>) -> Arc<NameCell> {
        let mut names = lock(&self.table.names);
        if let Some(cell) = names.get(name).and_then(Weak::upgrade) {
            return cell;
        }
        let cell = Arc::new(NameCell {
            name: Arc::clone(name),
            resolution: watch::Sender::new(Resolution::Nothing),
        });
        names.insert(Arc::clone(name), Arc::downgrade(&cell));
        lock(&self.table.fresh).push((Arc::clone(name), Arc::downgrade(&cell)));
        self.table.arrived.notify_one();
        cell
    }

    /// How many names are held.
    #[must_use]
    pub fn names(&self) -> usize {
        lock(&self.table.names).values().filter(|cell| cell.strong_count() > 0).count()
    }
}

impl NameCell {
    /// The address in use; a name that has never been answered is waited for,
    /// at most `patience`. The error is one line for people.
    pub(super) async fn address(&self, patience: Duration) -> Result<IpAddr, String> {
        let name = &self.name;
        let known = self.resolution.borrow().clone();
        let known = match known {
            Resolution::Nothing => {
                let mut changes = self.resolution.subscribe();
                match timeout(patience, changes.wait_for(|known| *known != Resolution::Nothing)).await {
                    Ok(Ok(known)) => known.clone(),
                    // The sender lives in the cell we hold, so the second case
                    // is the timeout.
                    Ok(Err(_)) | Err(_) => {
                        return Err(format!("no answer for {name} from the resolver within {patience:?}"));
                    }
                }
            }
            known => known,
        };
        match known {
            Resolution::Address(ip) => Ok(ip),
            Resolution::Failed(why) => Err(format!("no address for {name}: {why}")),
            Resolution::Nothing => Err(format!("no answer for {name}")),
        }
    }
}

impl NameCell {
    /// Takes an answer; a bad one changes nothing that is known.
    fn learn(&self, answer: Addresses) {
        let (addresses, why) = match answer {
            Ok(addresses) => (addresses, "the answer holds no address".to_owned()),
            Err(why) => (Vec::new(), why),
        };
        self.resolution.send_if_modified(|known| {
            let next = match (&*known, addresses.first()) {
                (Resolution::Address(current), Some(_)) if addresses.contains(current) => return false,
                (_, Some(first)) => Resolution::Address(*first),
                (Resolution::Address(_), None) => return false,
                (Resolution::Nothing | Resolution::Failed(_), None) => Resolution::Failed(why.into()),
            };
            let is_news = *known != next;
            *known = next;
            is_news
        });
    }

    fn has_address(&self) -> bool {
        matches!(*self.resolution.borrow(), Resolution::Address(_))
    }
}

/// Keeps the names of a [`Resolver`] fresh. Dropping it stops that.
pub struct Refresher {
    table: Arc<NameTable>,
    lookup: Arc<dyn Lookup>,
    interval: Duration,
    /// Names by when they are due. One entry per name; none while its look-up runs.
    due: BinaryHeap<Reverse<Due>>,
    next_ticket: u64,
    running: JoinSet<Due>,
}

/// A name in the queue. Ordered by time, then by arrival.
struct Due {
    at: Instant,
    ticket: u64,
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
            let next = (self.running.len() < LOOKUPS_AT_MOST)
                .then(|| self.due.peek().map(|Reverse(due)| due.at))
                .flatten();
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
            self.queue(Due { at, ticket: 0, name, cell, retry });
        }
    }

    fn queue(&mut self, mut due: Due) {
        self.next_ticket += 1;
        due.ticket = self.next_ticket;
        self.due.push(Reverse(due));
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while self.running.len() < LOOKUPS_AT_MOST
            && self.due.peek().is_some_and(|Reverse(due)| due.at <= now)
            && let Some(Reverse(due)) = self.due.pop()
        {
            if due.cell.strong_count() == 0 {
                self.table.forget(&due.name);
                continue;
            }
            let lookup = self.lookup.lookup(Arc::clone(&due.name));
            self.running.spawn(async move {
                // In a task of its own: a look-up that panics (the system gives no
                // thread for it) ends as one without an answer, and comes again.
                let answer = tokio::spawn(lookup).await;
                let answer = answer.unwrap_or_else(|_| Err("the look-up could not be made".to_owned()));
                // Held weakly until here: a slow resolver keeps no name alive.
                if let Some(cell) = due.cell.upgrade() {
                    cell.learn(answer);
                }
                due
            });
        }
    }

    /// Back into the queue: an interval later, or sooner while there is no address.
    fn requeue(&mut self, due: Due) {
        let Some(cell) = due.cell.upgrade() else {
            self.table.forget(&due.name);
            return;
        };
        let (wait, retry) = if cell.has_address() {
            (self.interval, FIRST_RETRY.min(self.interval))
        } else {
            (due.retry, (2 * due.retry).min(self.interval))
        };
        self.queue(Due { at: Instant::now() + wait, retry, ..due });
    }
}

impl NameTable {
    /// Forgets a name, unless somebody holds it again.
    fn forget(&self, name: &str) {
        let mut names = lock(&self.names);
        if names.get(name).is_some_and(|cell| cell.strong_count() == 0) {
            names.remove(name);
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.ticket).cmp(&(other.at, other.ticket))
    }
}

/// The maps stay whole whatever panicked while holding them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
