//! The balancer: the handle that all threads of a program share.

use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::core::Core;
use super::member::{Drain, MAX_WEIGHT, Member, MemberId, MemberSummary, UnknownMember};
use super::member_table::PickedMember;
use super::membership::{MemberEntry, UpdateError};
use super::options::Options;
use super::picker::Picker;
use super::pool::Active;
use super::request::{Draws, NoPick, Request, Search};
use super::strategy::Counting;
use super::sync::{Mutex, Ordering::Relaxed, lock};
use super::thread_pickers::TakenPickers;
use super::writer::TableWriter;
use crate::channel::{Health, MemberStatus, Strategy, Tier};

/// Picks members of one channel by its strategy, from many threads, while health
/// and membership change underneath.
///
/// A clone is another handle of the same balancer. A worker that picks often
/// takes a [`picker`](Self::picker); anyone else calls [`pick`](Self::pick).
///
/// Changes are visible to every pick that begins after they return. They wait
/// for each other, never for picks; picks never wait for them. (Least connections
/// keeps exact orders under short locks, which both sides take.)
///
/// ```
/// use std::net::SocketAddr;
/// use vitald::balance::{Balancer, Member, Options, Request};
/// use vitald::channel::{Health, Strategy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let addresses: [SocketAddr; 2] = ["192.0.2.1:80".parse()?, "192.0.2.2:80".parse()?];
/// let members = addresses.map(|address| Member::new(address).weight(3));
/// let balancer = Balancer::new(Strategy::WeightedRoundRobin, Options::default(), members)?;
///
/// let down = balancer.id_of("192.0.2.1:80").ok_or("not a member")?;
/// balancer.set_health(down, Health::Unhealthy)?;
/// assert_eq!(*balancer.pick(&Request::new())?.address(), addresses[1]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Balancer<A> {
    id: u64,
    core: Arc<Core<A>>,
    writer: Arc<Mutex<TableWriter<A>>>,
    /// Tells threads that keep a picker whether the balancer still has a handle.
    life: Arc<()>,
}

impl<A> fmt::Debug for Balancer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("strategy", &self.core.method.strategy)
            .field("options", &self.core.method.options)
            .finish_non_exhaustive()
    }
}

impl<A: Clone + Send + Sync + 'static> Balancer<A> {
    /// A balancer over these members.
    ///
    /// A strategy is for life: for another one make another balancer; open picks
    /// end in the one they came from.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn new(
        strategy: Strategy,
        options: Options,
        members: impl IntoIterator<Item = Member<A>>,
    ) -> Result<Self, UpdateError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let members: Vec<_> = members.into_iter().collect();
        let core = Core::new(strategy, options, members.len());
        let mut writer = TableWriter::new(&core);
        writer.update(&core, members)?;
        Ok(Self {
            id: NEXT.fetch_add(1, Relaxed),
            core: Arc::new(core),
            writer: Arc::new(Mutex::new(writer)),
            life: Arc::new(()),
        })
    }

    /// The strategy.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.core.method.strategy
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.core.method.options
    }

    /// A handle for a worker: the fast path.
    #[must_use]
    pub fn picker(&self) -> Picker<A> {
        Picker::new(&self.core)
    }

    /// Picks a member for the request. The pick counts as open until dropped; it
    /// may be dropped on another thread.
    ///
    /// # Errors
    ///
    /// [`NoPick`] says why there is no member.
    #[inline]
    pub fn pick(&self, request: &Request<'_>) -> Result<SharedPick<'_, A>, NoPick> {
        let taken = TakenPickers::take();
        if let Some(picker) = taken.picker::<A>(self.id)
            && let Some(picked) = picker.begin_ready(request)
        {
            return Ok(SharedPick { balancer: self, picked });
        }
        self.pick_slowly(taken, *request)
    }

    #[inline(never)]
    fn pick_slowly(&self, taken: TakenPickers, request: Request<'_>) -> Result<SharedPick<'_, A>, NoPick> {
        self.begin(taken, &request).map(|picked| SharedPick { balancer: self, picked })
    }

    fn begin(&self, mut taken: TakenPickers, request: &Request<'_>) -> Result<PickedMember<A>, NoPick> {
        match taken.picker::<A>(self.id) {
            Some(picker) => picker.begin(request),
            None => taken.with_new(self.id, &self.core, &self.life, |picker| picker.begin(request)),
        }
    }

    /// As [`pick`](Self::pick), but the pick keeps the balancer alive by itself:
    /// for spawned tasks and for storing.
    ///
    /// # Errors
    ///
    /// [`NoPick`] says why there is no member.
    pub fn pick_owned(&self, request: &Request<'_>) -> Result<OwnedPick<A>, NoPick> {
        let picked = self.begin(TakenPickers::take(), request)?;
        Ok(OwnedPick { balancer: self.clone(), picked })
    }

    /// Who would be picked for the request now, and why. Nothing is counted and
    /// no turn is taken.
    ///
    /// For weighted round robin it is the next member of the shared order; a picker may
    /// have claimed turns before. For least connections over many members it is one of
    /// those that tie. Sampled least connections answers the least loaded member. Where a
    /// pick draws at random, it is a member that could be drawn.
    pub fn explain_pick(&self, request: &Request<'_>) -> PickExplanation<A> {
        let writer = lock(&self.writer);
        let snapshot = self.core.newest();
        let (active, method) = (snapshot.members.active(), &self.core.method);
        let (counters, draws) = (&self.core.counters, &Draws(Cell::new(0)));
        let row = active.pool().and_then(|pool| {
            let search = Search { request, members: &snapshot.members, pool, counters, draws };
            method.explain(snapshot.table(pool), &search)
        });
        let member = row.and_then(|row| Some(self.summary(active, row, writer.membership.entry(row)?)));
        PickExplanation {
            member: member.ok_or_else(|| NoPick::because(active, request)),
            strategy: method.strategy,
            tier: active.tier(),
            key_hash: method.key(request),
        }
    }

    /// Replaces the members, all at once. Who has the same identity as before
    /// keeps its health, drain state, slow start and open picks. Who is missing
    /// leaves: it gets no new picks, and its open picks end as they would have.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]; nothing was changed.
    pub fn update(&self, members: impl IntoIterator<Item = Member<A>>) -> Result<(), UpdateError> {
        let members = members.into_iter().collect();
        lock(&self.writer).update(&self.core, members)
    }

    /// The id of the member with this identity.
    #[must_use]
    pub fn id_of(&self, identity: &str) -> Option<MemberId> {
        lock(&self.writer).membership.id_of(&self.core.method.hashing, identity)
    }

    /// A verdict of the probes.
    ///
    /// # Errors
    ///
    /// [`UnknownMember`] when the member has left.
    pub fn set_health(&self, id: MemberId, health: Health) -> Result<(), UnknownMember> {
        lock(&self.writer).set_health(&self.core, id, health)
    }

    /// The user's switch.
    ///
    /// # Errors
    ///
    /// [`UnknownMember`] when the member has left.
    pub fn set_status(&self, id: MemberId, status: MemberStatus) -> Result<(), UnknownMember> {
        lock(&self.writer).change(&self.core, id, |entry| entry.status = status)
    }

    /// Begins or ends emptying a member. While it drains it stands as disabled;
    /// [`open_picks`](Self::open_picks) shows when it is empty.
    ///
    /// # Errors
    ///
    /// [`UnknownMember`] when the member has left.
    pub fn set_drain(&self, id: MemberId, drain: Drain) -> Result<(), UnknownMember> {
        lock(&self.writer).change(&self.core, id, |entry| entry.drain = drain)
    }

    /// Another weight, 0 to 10000; more counts as that.
    ///
    /// # Errors
    ///
    /// [`UnknownMember`] when the member has left.
    pub fn set_weight(&self, id: MemberId, weight: u16) -> Result<(), UnknownMember> {
        lock(&self.writer).change(&self.core, id, |entry| entry.weight = weight.min(MAX_WEIGHT))
    }

    /// Tells the time, and answers when to call again at the latest, if ever.
    ///
    /// Slow starts go on, orders of weighted round robin that changes of health have left
    /// uneven are written again, and searches for keys become as short as the members that
    /// are in rotation allow. Call it about every second, after many verdicts at once, and before
    /// a verdict if slow start matters. Without it everything else still holds.
    ///
    /// `now` counts from any fixed moment and never goes back.
    pub fn advance(&self, now: Duration) -> Option<Duration> {
        lock(&self.writer).advance(&self.core, now)
    }

    /// The active tier, by the rule of [`Tier::of`].
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.core.newest().members.active().tier()
    }

    /// All members as they stand, in a stable order.
    #[must_use]
    pub fn members(&self) -> Vec<MemberSummary<A>> {
        let writer = lock(&self.writer);
        let active = self.core.newest().members.active();
        writer.membership.members().map(|(row, entry)| self.summary(active, row, entry)).collect()
    }

    /// Picks of a member that have begun and not ended. Also of a member that has
    /// left, until its id is used again.
    #[must_use]
    pub fn open_picks(&self, id: MemberId) -> u32 {
        self.core.open_picks(id.row)
    }

    /// Picks since the balancer was made.
    #[must_use]
    pub fn total_picks(&self) -> u64 {
        self.core.counters.picks()
    }

    /// How often tables were published since the balancer was made: at its start, at
    /// changes of members, weights and slow starts, and for weighted round robin when
    /// an order was written again.
    #[must_use]
    pub fn rebuilds(&self) -> u64 {
        self.core.generation()
    }

    /// Bytes of the tables that picks use, without members' names and addresses
    /// and without the counters of pickers (4 bytes a member each).
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.core.newest().heap_bytes() + self.core.method.least.lock_all().heap_bytes()
    }

    fn summary(&self, active: Active, row: u32, entry: &MemberEntry<A>) -> MemberSummary<A> {
        MemberSummary {
            id: MemberId { row, serial: entry.serial },
            identity: entry.identity.to_string(),
            address: entry.address.clone(),
            weight: entry.weight,
            ramp_percent: entry.ramp_percent(),
            in_rotation: active.pool().is_some_and(|pool| entry.pools().contains(&Some(pool))),
            standing: entry.standing(),
            drain: entry.drain,
            open_picks: self.core.open_picks(row),
        }
    }
}

impl<A: 'static> Balancer<A> {
    /// Ends a shared pick, on whatever thread this is.
    #[inline]
    fn end(&self, row: u32) {
        if self.core.method.counting == Counting::Sharded
            && let Some(shard) = TakenPickers::take().shard(self.id)
        {
            shard.close(row);
        } else {
            self.core.end(row);
        }
    }
}

/// Who would be picked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickExplanation<A> {
    /// The member, or why there is none.
    pub member: Result<MemberSummary<A>, NoPick>,
    /// The strategy that decided.
    pub strategy: Strategy,
    /// The tier that takes traffic.
    pub tier: Tier,
    /// The hash of the address or URI, for the strategies that place by it.
    pub key_hash: Option<u64>,
}

/// A picked member; counts as open until dropped, on any thread.
pub type SharedPick<'b, A> = HandlePick<A, &'b Balancer<A>>;

/// A picked member that keeps its balancer alive; counts as open until dropped,
/// on any thread.
pub type OwnedPick<A> = HandlePick<A, Balancer<A>>;

/// A picked member, and the handle `H` of the balancer that it came from.
#[derive(Debug)]
#[must_use = "the pick ends when it is dropped"]
pub struct HandlePick<A: 'static, H: Borrow<Balancer<A>>> {
    balancer: H,
    picked: PickedMember<A>,
}

impl<A: 'static, H: Borrow<Balancer<A>>> HandlePick<A, H> {
    /// What the member was made with.
    #[inline]
    pub fn address(&self) -> &A {
        &self.picked.address
    }

    /// The member's name, for [`Request::tried`] and for changes.
    #[must_use]
    #[inline]
    pub fn id(&self) -> MemberId {
        self.picked.id()
    }
}

impl<A: 'static, H: Borrow<Balancer<A>>> Drop for HandlePick<A, H> {
    #[inline]
    fn drop(&mut self) {
        self.balancer.borrow().end(self.picked.row);
    }
}

#[cfg(test)]
mod tests;
