//! The list of strategies: where each is, and what the rest of the room asks of it.
//!
//! | strategy | file | how it picks |
//! |---|---|---|
//! | `wrr` | `round_robin` | the next turn of an order that all pickers share |
//! | `wleastconn` | `least_connections` | the least loaded member, by an exact order or of a few |
//! | `source` | `source`, over `key_table` | the member that has the key of the client address |
//! | `uri` | `uri`, over `key_table` | the member that has the key of the URI |
//!
//! A fifth strategy is a file beside these, and its name in [`PickMethod`] and
//! [`PoolTable`]. The writer, the pickers and explanations ask these two, name no
//! strategy, and only know where open picks are counted.

mod key_table;
mod least_connections;
mod round_robin;
mod source;
mod uri;

use self::key_table::KeyTable;
use self::least_connections::{LeastConnections, Sampled};
use self::round_robin::RoundRobin;
use super::hash::{GOLDEN, Hashing, fold};
use super::member_table::{MemberTable, PickedMember};
use super::membership::PoolMembers;
use super::options::{LeastRule, Options};
use super::request::{Request, Search};
use super::sync::{AtomicU64, Padded};
use crate::channel::Strategy;

pub(super) use self::least_connections::ShardAffinity;
pub(super) use self::round_robin::ClaimedTurns;

/// Where the open picks of a balancer are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// In the picker's own counters: no choice depends on them.
    Sharded,
    /// In shared counters: bounded load and sampling choose by them.
    Shared,
    /// In the least-connections order.
    Ordered,
}

/// A balancer's strategy, its options, and what its pickers share because of it.
#[derive(Debug)]
pub(super) struct PickMethod {
    pub(super) strategy: Strategy,
    pub(super) options: Options,
    pub(super) counting: Counting,
    pub(super) hashing: Hashing,
    /// Virtual time up to which turns of weighted round robin are claimed.
    pub(super) cursor: Padded<AtomicU64>,
    pub(super) least: LeastConnections,
}

impl PickMethod {
    pub(super) fn new(strategy: Strategy, options: Options) -> Self {
        let counting = match (strategy, options.least, options.hash.bounded_load) {
            (Strategy::WeightedLeastConnections, LeastRule::Sampled(_), _) => Counting::Shared,
            (Strategy::WeightedLeastConnections, _, _) => Counting::Ordered,
            (Strategy::SourceHash | Strategy::UriHash, _, Some(_)) => Counting::Shared,
            (Strategy::SourceHash | Strategy::UriHash, _, None) | (Strategy::WeightedRoundRobin, ..) => {
                Counting::Sharded
            }
        };
        let hashing = Hashing::new(&options.hash);
        let least = LeastConnections::by(options.least);
        Self { strategy, options, counting, hashing, cursor: Padded(AtomicU64::new(0)), least }
    }

    /// The hash of what the strategy places by, if the request has it.
    #[inline(always)]
    pub(super) fn key(&self, request: &Request<'_>) -> Option<u64> {
        match self.strategy {
            Strategy::SourceHash => request.source.map(|source| self.hashing.source(source)),
            Strategy::UriHash => request.uri.map(|uri| self.hashing.uri(uri)),
            Strategy::WeightedRoundRobin | Strategy::WeightedLeastConnections => None,
        }
    }

    /// Whether another weight is a word in the tables, as long as the member stays in its
    /// pools. Otherwise the tables are built anew.
    pub(super) fn weighs_in_place(&self) -> bool {
        match self.strategy {
            Strategy::SourceHash | Strategy::UriHash => true,
            Strategy::WeightedLeastConnections => self.counting == Counting::Ordered,
            Strategy::WeightedRoundRobin => false,
        }
    }

    /// The table of a pool; none if the strategy needs none.
    pub(super) fn table<A>(&self, pool: &PoolMembers<'_, A>) -> Option<PoolTable> {
        match (self.strategy, self.options.least) {
            (Strategy::WeightedRoundRobin, _) => RoundRobin::new(pool).map(PoolTable::RoundRobin),
            (Strategy::WeightedLeastConnections, LeastRule::Sampled(samples)) => {
                Sampled::new(pool, samples.get()).map(PoolTable::Sampled)
            }
            (Strategy::WeightedLeastConnections, LeastRule::Exact | LeastRule::IdleFirst) => None,
            (Strategy::SourceHash | Strategy::UriHash, _) => {
                KeyTable::new(pool, &self.options.hash).map(PoolTable::Keyed)
            }
        }
    }

    /// The member that a search comes to. `turns` are those of the picker.
    pub(super) fn choose<A>(
        &self,
        table: &PoolTable,
        search: &Search<'_, A>,
        turns: &ClaimedTurns<A>,
    ) -> Option<u32> {
        match table {
            PoolTable::RoundRobin(table) => table.choose(search, turns, &self.cursor.0),
            PoolTable::Sampled(table) => table.choose(search),
            PoolTable::Keyed(table) => {
                // Without a key every member gets its share.
                let key = self.key(search.request).unwrap_or_else(|| fold(search.draws.next(), GOLDEN));
                table.choose(search, key)
            }
        }
    }

    /// The member that a pick would come to now. Nothing is claimed or counted.
    pub(super) fn explain<A>(&self, table: Option<&PoolTable>, search: &Search<'_, A>) -> Option<u32> {
        match table {
            None if self.counting == Counting::Ordered => {
                self.least.lock_all().least_from(0, |row| !search.was_tried(row))
            }
            None => None,
            Some(PoolTable::Sampled(table)) => table.least_loaded(search),
            Some(table) => self.choose(table, search, &ClaimedTurns::next_of(&self.cursor.0)),
        }
    }
}

/// The members of a pool, arranged for their strategy.
#[derive(Debug)]
pub(super) enum PoolTable {
    RoundRobin(RoundRobin),
    Sampled(Sampled),
    Keyed(KeyTable),
}

impl PoolTable {
    /// The member that a key hits, whoever it is.
    #[inline(always)]
    pub(super) fn hit(&self, key: u64) -> Option<u32> {
        if let Self::Keyed(table) = self { table.placement.hit(key) } else { None }
    }

    /// The next member, if no member needs a look; those of more picks are made ready
    /// in `turns`.
    pub(super) fn prepare<A: Clone>(
        &self,
        method: &PickMethod,
        turns: &ClaimedTurns<A>,
        members: &MemberTable<A>,
    ) -> Option<PickedMember<A>> {
        let Self::RoundRobin(table) = self else { return None };
        turns.prepare(table, members, &method.cursor.0)
    }

    /// A member weighs this from now on; 0 while it may not take picks. Called by the
    /// one writer. Tables that keep no weights have the pick ask the member table.
    pub(super) fn set_weight(&self, row: u32, weight: u32) {
        if let Self::Keyed(table) = self {
            table.set_weight(row, weight);
        }
    }

    /// The table that takes this one's place when others of the pool are able now, if
    /// any. `written` counts the slots written since the last advance.
    pub(super) fn after_flip<A>(&self, pool: &PoolMembers<'_, A>, written: &mut u64) -> Option<Self> {
        let Self::RoundRobin(table) = self else { return None };
        table.after_flip(pool, written).map(Self::RoundRobin)
    }

    /// Does what was put off: the table that takes this one's place, if any.
    pub(super) fn caught_up<A>(&self, pool: &PoolMembers<'_, A>) -> Option<Self> {
        self.tune();
        let Self::RoundRobin(table) = self else { return None };
        table.caught_up(pool).map(Self::RoundRobin)
    }

    /// Makes searches as short as the weights of now allow.
    pub(super) fn tune(&self) {
        if let Self::Keyed(table) = self {
            table.placement.tune();
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::RoundRobin(table) => table.heap_bytes(),
            Self::Sampled(table) => table.heap_bytes(),
            Self::Keyed(table) => table.heap_bytes(),
        }
    }
}

#[cfg(test)]
impl PoolTable {
    pub(super) fn order(&self) -> Option<&round_robin::Sequence> {
        if let Self::RoundRobin(table) = self { Some(&table.current) } else { None }
    }

    pub(super) fn is_tuned(&self) -> bool {
        matches!(self, Self::Keyed(table) if table.placement.is_tuned())
    }
}
