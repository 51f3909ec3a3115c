//! Ports of how other balancers pick, faithful in algorithm and in locking.
//!
//! Written from their published behaviour; each names its origin.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::{Mutex, PoisonError};

/// nginx's smooth weighted round robin: raise all, take the highest, lower it
/// by the sum. A scan of all peers under the zone's write lock.
pub struct SmoothScan(Mutex<Vec<Peer>>);

struct Peer {
    weight: i64,
    current: i64,
    open: u64,
}

impl SmoothScan {
    /// Peers of these weights.
    pub fn new(weights: impl Iterator<Item = u16>) -> Self {
        let peer = |weight| Peer { weight: i64::from(weight), current: 0, open: 0 };
        Self(Mutex::new(weights.map(peer).collect()))
    }

    /// `round_robin`.
    pub fn pick(&self) -> usize {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        smooth(&mut peers, |_| true)
    }

    /// `least_conn`: one scan for the fewest connections by weight, a second,
    /// smooth one among those that tie.
    pub fn pick_least(&self) -> usize {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best = 0;
        let mut ties = 1;
        for index in 1..peers.len() {
            let left = peers[index].open as i64 * peers[best].weight;
            let right = peers[best].open as i64 * peers[index].weight;
            if left < right {
                (best, ties) = (index, 1);
            } else if left == right {
                ties += 1;
            }
        }
        if ties > 1 {
            let (open, weight) = (peers[best].open as i64, peers[best].weight);
            best = smooth(&mut peers, |peer| peer.open as i64 * weight == open * peer.weight);
        }
        peers[best].open += 1;
        best
    }

    /// The end of a connection.
    pub fn release(&self, peer: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[peer].open -= 1;
    }
}

fn smooth(peers: &mut [Peer], takes: impl Fn(&Peer) -> bool) -> usize {
    let mut total = 0;
    let mut best: Option<(usize, i64)> = None;
    for (index, peer) in peers.iter_mut().enumerate() {
        if !takes(peer) {
            continue;
        }
        peer.current += peer.weight;
        total += peer.weight;
        if best.is_none_or(|(_, current)| peer.current > current) {
            best = Some((index, peer.current));
        }
    }
    let best = best.map_or(0, |(index, _)| index);
    peers[best].current -= total;
    best
}

/// Envoy's earliest-deadline-first scheduler: a binary heap by virtual deadline,
/// first come first served among equals. Envoy keeps one per worker, so no lock.
pub struct EdfHeap {
    heap: BinaryHeap<Reverse<(Deadline, u64, usize)>>,
    weights: Vec<f64>,
    order: u64,
}

/// A deadline; never NaN.
#[derive(PartialEq, PartialOrd, Clone, Copy)]
struct Deadline(f64);

impl Eq for Deadline {}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl EdfHeap {
    /// Hosts of these weights.
    pub fn new(weights: impl Iterator<Item = u16>) -> Self {
        let weights: Vec<f64> = weights.map(f64::from).collect();
        let first = |(host, weight): (usize, &f64)| Reverse((Deadline(1.0 / weight), host as u64, host));
        let heap = weights.iter().enumerate().map(first).collect();
        Self { heap, order: weights.len() as u64, weights }
    }

    /// Pops the earliest and puts it back behind its weight.
    pub fn pick(&mut self) -> usize {
        let Some(mut top) = self.heap.peek_mut() else { return 0 };
        let Reverse((deadline, _, host)) = *top;
        self.order += 1;
        *top = Reverse((Deadline(deadline.0 + 1.0 / self.weights[host]), self.order, host));
        host
    }
}

/// Least connections in an ordered tree by load, as HAProxy had it before its
/// rewrite of 2025: a pick and a release each move one entry, under a lock.
pub struct OrderedTree(Mutex<Tree>);

struct Tree {
    entries: BTreeSet<(u64, u64, usize)>,
    servers: Vec<(u64, u64, u64)>,
    order: u64,
}

impl Tree {
    fn key(open: u64, weight: u64) -> u64 {
        ((open + 1) << 32) / weight
    }

    fn shift(&mut self, server: usize, open: u64) {
        let (old, weight, order) = self.servers[server];
        self.entries.remove(&(Self::key(old, weight), order, server));
        self.order += 1;
        self.servers[server] = (open, weight, self.order);
        self.entries.insert((Self::key(open, weight), self.order, server));
    }
}

impl OrderedTree {
    /// Servers of these weights.
    pub fn new(weights: impl Iterator<Item = u16>) -> Self {
        let servers: Vec<_> = weights.map(|weight| (0, u64::from(weight), 0)).collect();
        let entry = |(server, (open, weight, order)): (usize, &(u64, u64, u64))| {
            (Tree::key(*open, *weight), *order, server)
        };
        let entries = servers.iter().enumerate().map(entry).collect();
        Self(Mutex::new(Tree { entries, servers, order: 0 }))
    }

    /// The least loaded server.
    pub fn pick(&self) -> usize {
        let mut tree = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let server = tree.entries.first().map_or(0, |(_, _, server)| *server);
        let open = tree.servers[server].0 + 1;
        tree.shift(server, open);
        server
    }

    /// The end of a connection.
    pub fn release(&self, server: usize) {
        let mut tree = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = tree.servers[server].0 - 1;
        tree.shift(server, open);
    }
}
