//! Who is let in when the server is full, and who is given up for it. Called by the
//! accept loop of `server`; one table for each listener.
//!
//! There are places for so many connections in all, and each source has a share of them.
//! While there are places, whoever comes gets one; what a source has beyond its share is
//! lent. When all are taken, one connection is given up for the newcomer. A source that has
//! its share gives up its own longest idle one. For the others [`Places::least_entitled`]
//! says which: lent places come first, and where nobody is idle, they are taken back from
//! connections that are being answered. Idle is a connection that has no answer under way,
//! so also one whose request does not end; one that has just come has a moment for its
//! request before it counts, unless its source has more connections than the newcomer's.
//! Where there is none to give up, the newcomer gets a reserved place, on which only
//! `/livez` and `/metrics` are answered. When those are taken too, one of them is given up.
//! So accepting never waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{ExchangeState, ExchangeTimer};
use super::peer::{PeerNetwork, PlaceKind};

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaceLimits {
    /// In all.
    pub(super) total: usize,
    /// The share of one source. It has more only while there are places.
    pub(super) each: usize,
    /// Beside the total.
    pub(super) reserved: usize,
    /// How long a regular connection is idle before it may be given up.
    pub(super) least_idle: Duration,
}

/// The connections that have a place.
#[derive(Debug)]
pub(super) struct Places {
    limits: PlaceLimits,
    /// By the order in which they came.
    held: BTreeMap<PlaceId, Held>,
    next: PlaceId,
}

/// Names a place for as long as the server runs.
pub(super) type PlaceId = u64;

#[derive(Debug)]
struct Held {
    network: PeerNetwork,
    kind: PlaceKind,
    exchange: ExchangeTimer,
    /// Ends the connection.
    give_up: CancellationToken,
}

/// How little a connection is entitled to its place: who is given up first comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum YieldOrder {
    /// Idle, of a source that has more than its share.
    LentAndIdle,
    /// Idle.
    Idle,
    /// Idle for a moment only, of a source with so many connections, more than the
    /// newcomer's.
    OfLarger(Reverse<usize>),
    /// Being answered, of a source that has more than its share.
    LentAndAnswering,
}

/// What a newcomer gets.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) id: PlaceId,
    pub(super) kind: PlaceKind,
    /// Cancelled when the connection is given up.
    pub(super) given_up: CancellationToken,
    /// Whether somebody was given up for it.
    is_replacement: bool,
}

impl Admission {
    /// Whether the places for everything are taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_replacement || self.kind == PlaceKind::Reserved
    }
}

impl Places {
    pub(super) fn new(limits: PlaceLimits) -> Self {
        Self { limits, held: BTreeMap::new(), next: 0 }
    }

    /// Gives a connection a place. `exchange` says how far its exchange is.
    pub(super) fn admit(&mut self, network: PeerNetwork, exchange: ExchangeTimer) -> Admission {
        let is_regular = |held: &Held| held.kind == PlaceKind::Regular;
        let is_reserved = |held: &Held| held.kind == PlaceKind::Reserved;
        if self.count(is_regular) < self.limits.total {
            return self.grant(network, PlaceKind::Regular, exchange, None);
        }
        let is_own = |held: &Held| is_regular(held) && held.network == network;
        let own = self.count(is_own);
        let replaced = match network.is_limited() && own >= self.limits.each {
            true => self.longest_idle(is_own, self.limits.least_idle),
            false => self.least_entitled(own),
        };
        if replaced.is_some() {
            return self.grant(network, PlaceKind::Regular, exchange, replaced);
        }
        let replaced = match self.count(is_reserved) >= self.limits.reserved {
            true => self.longest_idle(is_reserved, Duration::ZERO).or_else(|| self.oldest(is_reserved)),
            false => None,
        };
        self.grant(network, PlaceKind::Reserved, exchange, replaced)
    }

    /// The connection has ended.
    pub(super) fn leave(&mut self, id: PlaceId) {
        self.held.remove(&id);
    }

    fn grant(
        &mut self,
        network: PeerNetwork,
        kind: PlaceKind,
        exchange: ExchangeTimer,
        replaced: Option<PlaceId>,
    ) -> Admission {
        let replaced = replaced.and_then(|id| self.held.remove(&id));
        if let Some(replaced) = &replaced {
            replaced.give_up.cancel();
        }
        let (id, given_up) = (self.next, CancellationToken::new());
        self.next += 1;
        self.held.insert(id, Held { network, kind, exchange, give_up: given_up.clone() });
        Admission { id, kind, given_up, is_replacement: replaced.is_some() }
    }

    fn count(&self, which: impl Fn(&Held) -> bool) -> usize {
        self.held.values().filter(|held| which(held)).count()
    }

    /// Of those that are idle for so long at least.
    fn longest_idle(&self, which: impl Fn(&Held) -> bool, least: Duration) -> Option<PlaceId> {
        let idle_since = |held: &Held| match held.exchange.state() {
            ExchangeState::Idle(since) => Some(since).filter(|since| since.elapsed() >= least),
            ExchangeState::Answering(_) => None,
        };
        let idle = self.held.iter().filter(|(_, held)| which(held));
        let idle = idle.filter_map(|(id, held)| Some((idle_since(held)?, *id)));
        idle.min().map(|(_, id): (Instant, _)| id)
    }

    /// The regular connection that gives way to one of a source with `own` connections: by
    /// its [`YieldOrder`], then the one idle or answered longest. Sources that connect again at
    /// once keep out no other, because those with most connections give way even so.
    fn least_entitled(&self, own: usize) -> Option<PlaceId> {
        let mut counts: HashMap<PeerNetwork, usize> = HashMap::new();
        let regular = || self.held.iter().filter(|(_, held)| held.kind == PlaceKind::Regular);
        for (_, held) in regular() {
            *counts.entry(held.network).or_default() += 1;
        }
        let candidates = regular().filter_map(|(id, held)| {
            let count = counts.get(&held.network).copied()?;
            let is_lent = held.network.is_limited() && count > self.limits.each;
            let (claim, since) = match held.exchange.state() {
                ExchangeState::Idle(since) if since.elapsed() >= self.limits.least_idle => {
                    (if is_lent { YieldOrder::LentAndIdle } else { YieldOrder::Idle }, since)
                }
                ExchangeState::Idle(since) if count > own => (YieldOrder::OfLarger(Reverse(count)), since),
                ExchangeState::Answering(since) if is_lent => (YieldOrder::LentAndAnswering, since),
                ExchangeState::Idle(_) | ExchangeState::Answering(_) => return None,
            };
            Some((claim, since, *id))
        });
        candidates.min().map(|(.., id)| id)
    }

    fn oldest(&self, which: impl Fn(&Held) -> bool) -> Option<PlaceId> {
        self.held.iter().find(|(_, held)| which(held)).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PlaceLimits =
        PlaceLimits { total: 4, each: 2, reserved: 2, least_idle: Duration::from_secs(1) };

    /// Places, and the connections by the number at which they came.
    struct Crowd {
        places: Places,
        connections: Vec<(Admission, ExchangeTimer)>,
    }

    impl Crowd {
        fn new() -> Self {
            Self { places: Places::new(LIMITS), connections: Vec::new() }
        }

        /// A connection of a host, a second after the one before.
        async fn come(&mut self, network: PeerNetwork) -> PlaceKind {
            tokio::time::advance(Duration::from_secs(1)).await;
            let exchange = ExchangeTimer::new();
            let place = self.places.admit(network, exchange.clone());
            let kind = place.kind;
            self.connections.push((place, exchange));
            kind
        }

        fn given_up(&self) -> Vec<usize> {
            let numbered = self.connections.iter().enumerate();
            numbered
                .filter(|(_, (place, _))| place.given_up.is_cancelled())
                .map(|(number, _)| number)
                .collect()
        }
    }

    fn host(last: u8) -> PeerNetwork {
        PeerNetwork::of([192, 0, 2, last].into())
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_is_given_up_for_a_newcomer() {
        let mut crowd = Crowd::new();
        for last in [1, 2, 3, 4] {
            assert_eq!(crowd.come(host(last)).await, PlaceKind::Regular);
        }
        // The first has just been answered, the second is being answered.
        drop(crowd.connections[0].1.begin());
        let _busy = crowd.connections[1].1.begin();
        assert_eq!(crowd.come(host(5)).await, PlaceKind::Regular);
        assert_eq!(crowd.given_up(), [2]);
        assert_eq!(crowd.places.held.len(), LIMITS.total);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_with_its_share_gives_up_its_own() {
        let mut crowd = Crowd::new();
        for last in [1, 2, 2, 3, 2] {
            assert_eq!(crowd.come(host(last)).await, PlaceKind::Regular);
        }
        assert_eq!(crowd.given_up(), [1], "the first of all stays");
        assert_eq!(crowd.places.held.len(), LIMITS.total);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lent_is_given_back_first() {
        let mut crowd = Crowd::new();
        for last in [1, 2, 2, 2] {
            assert_eq!(crowd.come(host(last)).await, PlaceKind::Regular, "there are places");
        }
        let _busy = [2, 3].map(|number: usize| crowd.connections[number].1.begin());
        assert_eq!(crowd.come(host(3)).await, PlaceKind::Regular);
        assert_eq!(crowd.given_up(), [1], "the first of all is idle longer, and within its share");
        let _others = [0, 4].map(|number: usize| crowd.connections[number].1.begin());
        assert_eq!(crowd.come(host(4)).await, PlaceKind::Reserved, "nothing is lent, and all are answered");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lent_is_given_back_even_while_it_is_answered() {
        let mut crowd = Crowd::new();
        let mut answering = Vec::new();
        for last in [2, 2, 2, 1] {
            crowd.come(host(last)).await;
            answering.push(crowd.connections[answering.len()].1.begin());
        }
        assert_eq!(crowd.come(host(2)).await, PlaceKind::Reserved, "nothing is lent where nothing is left");
        assert_eq!(crowd.come(host(3)).await, PlaceKind::Regular);
        assert_eq!(crowd.given_up(), [0], "the one that is answered longest");
        answering.push(crowd.connections[5].1.begin());
        assert_eq!(crowd.come(host(4)).await, PlaceKind::Reserved, "shares are not taken back");
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_per_source_holds_proxies_and_the_socket() {
        for network in [PeerNetwork::Proxy([192, 0, 2, 1].into()), PeerNetwork::Local] {
            let mut crowd = Crowd::new();
            for _ in 0..LIMITS.total {
                assert_eq!(crowd.come(network).await, PlaceKind::Regular);
            }
            assert!(crowd.given_up().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_is_idle_newcomers_get_the_reserve() {
        let mut crowd = Crowd::new();
        let mut answering = Vec::new();
        for last in [1, 2, 3, 4] {
            crowd.come(host(last)).await;
            answering.push(crowd.connections[usize::from(last) - 1].1.begin());
        }
        for last in [5, 6] {
            assert_eq!(crowd.come(host(last)).await, PlaceKind::Reserved);
        }
        assert!(crowd.given_up().is_empty());
        let _scrape = crowd.connections[4].1.begin();
        assert_eq!(crowd.come(host(7)).await, PlaceKind::Reserved);
        assert_eq!(crowd.given_up(), [5], "of the reserve, who has not asked");
        let _other = crowd.connections[6].1.begin();
        assert_eq!(crowd.come(host(8)).await, PlaceKind::Reserved);
        assert_eq!(crowd.given_up(), [4, 5], "where all have asked, who came first");
        // As soon as somebody has left, there is a regular place again.
        let id = crowd.connections[0].0.id;
        crowd.places.leave(id);
        assert_eq!(crowd.come(host(9)).await, PlaceKind::Regular);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_come_is_not_given_up() {
        let mut places = Places::new(LIMITS);
        let mut come = || places.admit(host(1), ExchangeTimer::new());
        let young = [come(), come(), come(), come()];
        assert_eq!(come().kind, PlaceKind::Reserved);
        tokio::time::advance(LIMITS.least_idle).await;
        assert_eq!(come().kind, PlaceKind::Regular);
        assert!(young[0].given_up.is_cancelled() && !young[1].given_up.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_greedy_source_gives_way_even_at_once() {
        let mut places = Places::new(LIMITS);
        let mut come = |last| places.admit(host(last), ExchangeTimer::new());
        let [first, one, two, three] = [come(1), come(2), come(2), come(3)];
        assert_eq!(come(4).kind, PlaceKind::Regular);
        assert!(one.given_up.is_cancelled(), "of the source with two");
        for other in [first, two, three] {
            assert!(!other.given_up.is_cancelled());
        }
        assert_eq!(come(1).kind, PlaceKind::Reserved, "nobody has more than one");
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_largest_source_is_being_answered_the_next_one_gives_way() {
        let limits = PlaceLimits { total: 5, each: 3, ..LIMITS };
        let mut places = Places::new(limits);
        let mut come = |last| {
            let exchange = ExchangeTimer::new();
            (places.admit(host(last), exchange.clone()), exchange)
        };
        let largest = [come(1), come(1), come(1)];
        let next = [come(2), come(2)];
        let _answering = largest.each_ref().map(|(_, exchange)| exchange.begin());
        assert_eq!(come(3).0.kind, PlaceKind::Regular);
        assert!(next[0].0.given_up.is_cancelled() && !next[1].0.given_up.is_cancelled());
    }
}
