//! A picker per thread, for picks without a picker at hand.
//!
//! [`Balancer::pick`](super::Balancer::pick) takes `&self` and is called from
//! anywhere, so it borrows a picker that belongs to the calling thread. That keeps
//! the shared path free of locked instructions. A thread keeps one picker per
//! balancer that it used; those of dropped balancers go when the next is made.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use super::core::Core;
use super::counters::CounterShard;
use super::picker::Picker;

struct ThreadPicker {
    /// Of the balancer; never used twice.
    id: u64,
    life: Weak<()>,
    /// The picker's.
    shard: Arc<CounterShard>,
    /// A `Picker<A>`.
    picker: Box<dyn Any>,
}

/// The pickers of a thread, open-addressed by id: the length is a power of two.
#[derive(Default)]
struct Pickers(Vec<Option<ThreadPicker>>);

thread_local! {
    /// Taken out while one of them is used, so that a pick inside a pick (from a
    /// `Clone` of `A`) finds nothing and manages without.
    static PICKERS: Cell<Option<Box<Pickers>>> = const { Cell::new(None) };
}

/// The pickers of this thread while one is used; put back on drop, also by a panic.
pub(super) struct TakenPickers(Option<Box<Pickers>>);

impl TakenPickers {
    /// Takes them; none while the thread ends.
    #[inline(always)]
    pub(super) fn take() -> Self {
        Self(PICKERS.try_with(Cell::take).unwrap_or(None))
    }

    #[inline(always)]
    fn find(&self, id: u64) -> Option<&ThreadPicker> {
        let pickers = &self.0.as_deref()?.0;
        // Ids count up, so neighbours never collide.
        let picker = pickers.get(place(id, pickers.len()))?.as_ref()?;
        (picker.id == id).then_some(picker)
    }

    #[inline(always)]
    pub(super) fn picker<A: 'static>(&self, id: u64) -> Option<&Picker<A>> {
        self.find(id)?.picker.downcast_ref()
    }

    #[inline(always)]
    pub(super) fn shard(&self, id: u64) -> Option<&CounterShard> {
        Some(&self.find(id)?.shard)
    }

    /// Runs `work` with a new picker, and keeps it for the picks to come.
    pub(super) fn with_new<A: Clone + 'static, R>(
        &mut self,
        id: u64,
        core: &Arc<Core<A>>,
        life: &Arc<()>,
        work: impl FnOnce(&Picker<A>) -> R,
    ) -> R {
        let picker = Picker::new(core);
        let done = work(&picker);
        let shard = Arc::clone(&picker.shard);
        let entry = ThreadPicker { id, life: Arc::downgrade(life), shard, picker: Box::new(picker) };
        keep(&mut self.0.get_or_insert_default().0, entry);
        done
    }
}

impl Drop for TakenPickers {
    #[inline(always)]
    fn drop(&mut self) {
        let held = self.0.take();
        if let Ok(Some(left)) = PICKERS.try_with(|place| place.replace(held)) {
            discard(left);
        }
    }
}

/// What a pick inside a pick has left, for want of the pickers held meanwhile.
#[cold]
#[inline(never)]
fn discard(left: Box<Pickers>) {
    drop(left);
}

#[inline(always)]
fn place(id: u64, length: usize) -> usize {
    usize::try_from(id & (length as u64).wrapping_sub(1)).unwrap_or(usize::MAX)
}

#[cold]
#[expect(clippy::indexing_slicing, reason = "places are below the length that they are made with")]
fn keep(pickers: &mut Vec<Option<ThreadPicker>>, new: ThreadPicker) {
    let mut all: Vec<ThreadPicker> =
        pickers.drain(..).flatten().filter(|old| old.life.strong_count() > 0).collect();
    all.push(new);
    // The first length at which all have a place of their own; ids differ, so there is one.
    let mut length = all.len().next_power_of_two();
    let places = |length| all.iter().map(|picker| place(picker.id, length)).collect::<BTreeSet<_>>();
    while places(length).len() < all.len() {
        length *= 2;
    }
    pickers.resize_with(length, || None);
    for picker in all {
        let place = place(picker.id, length);
        pickers[place] = Some(picker);
    }
}
