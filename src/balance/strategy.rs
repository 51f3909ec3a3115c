//! The list of strategies: where each is, and what the rest of the room asks of it.
//!
//! | strategy | file | how it picks |
//! |---|---|---|
//! | `wrr` | `round_robin` | the next turn of an order that all pickers share |
//! | `wleastconn` | `least_connections` | the least loaded member, by an exact order or of a few |
//! | `source` | `source`, over `key_table` | the member that has the key of the client address |
//! | `uri` | `uri`, over `key_table` | the member that has the key of the URI |
//!
//! A fifth strategy is a file beside these, and an arm in each `match` of this one.
//! The writer, the pickers and explanations come here and name no strategy.

mod key_table;
mod least_connections;
mod round_robin;
mod source;
mod uri;

use self::key_table::KeyTable;
use self::least_connections::{LeastConnections, Sampled};
use self::round_robin::RoundRobin;
use super::hash::{GOLDEN, Hashing, fold};
use super::member_table::{MemberTable, PickedMember, RowBits};
use super::membership::Membership;
use super::options::{LeastRule, Options};
use super::pool::MemberPool;
use super::request::{Request, Search};
use super::sync::{AtomicU64, Padded};
use crate::channel::Strategy;

pub(super) use self::least_connections::ShardAffinity;
pub(super) use self::round_robin::ClaimedTurns;

/// Where the open picks of a balancer are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// In the picker's own counters: nobody decides by them.
    Sharded,
    /// In shared counters: bounded load and sampling decide by them.
    Shared,
    /// In the least-connections order.
    Ordered,
}

/// A balancer's strategy, its options, and what its pickers share because of it.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) strategy: Strategy,
    pub(super) options: Options,
    pub(super) counting: Counting,
    pub(super) hashing: Hashing,
    /// Virtual time up to which turns of weighted round robin are claimed.
    pub(super) cursor: Padded<AtomicU64>,
    pub(super) least: LeastConnections,
}

impl Method {
    pub(super) fn new(strategy: Strategy, options: Options) -> Self {
        let counting = match (strategy, options.least, options.hash.bounded_load) {
            (Strategy::WeightedLeastConnections, LeastRule::Sampled(_), _) => Counting::Shared,
            (Strategy::WeightedLeastConnections, _, _) => Counting::Ordered,
            (Strategy::SourceHash | Strategy::UriHash, _, Some(_)) => Counting::Shared,
            (Strategy::SourceHash | Strategy::UriHash, _, None) => Counting::Sharded,
            (Strategy::WeightedRoundRobin, ..) => Counting::Sharded,
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

    /// Whether the key alone decides who is picked: then [`PoolTable::hit`] has the answer.
    pub(super) fn key_decides(&self) -> bool {
        match self.strategy {
            Strategy::SourceHash | Strategy::UriHash => self.counting == Counting::Sharded,
            Strategy::WeightedRoundRobin | Strategy::WeightedLeastConnections => false,
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

    /// The table of a pool of so many members, of whom those of `able` may take picks;
    /// none if it has none, or if the strategy needs no table.
    pub(super) fn table<A>(
        &self,
        membership: &Membership<A>,
        pool: MemberPool,
        size: usize,
        able: &RowBits,
    ) -> Option<PoolTable> {
        match (self.strategy, self.options.least) {
            (Strategy::WeightedRoundRobin, _) => {
                RoundRobin::new(membership, pool, size, able).map(PoolTable::RoundRobin)
            }
            (Strategy::WeightedLeastConnections, LeastRule::Sampled(samples)) => {
                Sampled::new(membership, pool, samples.get()).map(PoolTable::Sampled)
            }
            (Strategy::WeightedLeastConnections, LeastRule::Exact | LeastRule::IdleFirst) => None,
            (Strategy::SourceHash | Strategy::UriHash, _) => {
                KeyTable::new(membership, pool, &self.options.hash).map(PoolTable::Keyed)
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
                self.least.lock_all().least_where(|row| !search.was_tried(row))
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
        match self {
            Self::Keyed(table) => table.hit(key),
            Self::RoundRobin(_) | Self::Sampled(_) => None,
        }
    }

    /// The next member, if no member needs a look; those of more picks are made ready
    /// in `turns`.
    pub(super) fn prepare<A: Clone>(
        &self,
        method: &Method,
        turns: &ClaimedTurns<A>,
        members: &MemberTable<A>,
    ) -> Option<PickedMember<A>> {
        match self {
            Self::RoundRobin(table) => table.prepare(turns, members, &method.cursor.0),
            Self::Sampled(_) | Self::Keyed(_) => None,
        }
    }

    /// A member weighs this from now on; 0 while it may not take picks. Called by the
    /// one writer.
    pub(super) fn set_weight(&self, row: u32, weight: u32) {
        match self {
            Self::Keyed(table) => table.set_weight(row, weight),
            // Their picks ask the member table who may be picked.
            Self::RoundRobin(_) | Self::Sampled(_) => {}
        }
    }

    /// The table that takes this one's place when others of its members are able now, if
    /// any. `written` counts the slots written since the last advance.
    pub(super) fn after_flip<A>(
        &self,
        membership: &Membership<A>,
        pool: MemberPool,
        able: &RowBits,
        written: &mut u64,
    ) -> Option<Self> {
        match self {
            Self::RoundRobin(table) => {
                table.after_flip(membership, pool, able, written).map(Self::RoundRobin)
            }
            Self::Sampled(_) | Self::Keyed(_) => None,
        }
    }

    /// Does what was put off: the table that takes this one's place, if any.
    pub(super) fn caught_up<A>(
        &self,
        membership: &Membership<A>,
        pool: MemberPool,
        able: &RowBits,
    ) -> Option<Self> {
        match self {
            Self::RoundRobin(table) => table.caught_up(membership, pool, able).map(Self::RoundRobin),
            Self::Sampled(_) => None,
            Self::Keyed(_) => {
                self.tune();
                None
            }
        }
    }

    /// Makes searches as short as the weights of now allow.
    pub(super) fn tune(&self) {
        match self {
            Self::Keyed(table) => table.tune(),
            Self::RoundRobin(_) | Self::Sampled(_) => {}
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
        match self {
            Self::RoundRobin(table) => Some(table.current()),
            Self::Sampled(_) | Self::Keyed(_) => None,
        }
    }

    pub(super) fn is_tuned(&self) -> bool {
        matches!(self, Self::Keyed(table) if table.is_tuned())
    }
}
