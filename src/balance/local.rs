//! A picker per thread, for picks without a picker at hand.
//!
//! [`Balancer::pick`](super::Balancer::pick) takes `&self` and is called from
//! anywhere, so it borrows a picker that belongs to the calling thread. That keeps
//! the shared path free of locked instructions. A thread keeps one picker per
//! balancer that it used; those of dropped balancers go when the next is made.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::core::Core;
use super::picker::Picker;

/// Tells thread-local pickers whether their balancer still has a handle.
pub(super) type Life = ();

struct Entry {
    /// Of the balancer; never used twice.
    id: u64,
    life: Weak<Life>,
    /// A `Picker<A>`.
    picker: Rc<dyn Any>,
}

thread_local! {
    /// Open-addressed by id: the length is a power of two.
    static PICKERS: RefCell<Vec<Option<Entry>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with this thread's picker; `None` while the thread ends.
#[inline]
pub(super) fn with<A: Clone + 'static, R>(
    id: u64,
    core: &Arc<Core<A>>,
    life: &Arc<Life>,
    work: impl Fn(&Picker<A>) -> R,
) -> Option<R> {
    PICKERS
        .try_with(|pickers| {
            let existing = pickers.try_borrow().ok();
            if let Some(done) = existing.as_deref().and_then(|pickers| with_existing(pickers, id, &work)) {
                return done;
            }
            drop(existing);
            let picker = Rc::new(Picker::new(core));
            // Borrowed already when a `Clone` or `Drop` of `A` picks: then for this once.
            if let Ok(mut pickers) = pickers.try_borrow_mut() {
                let entry =
                    Entry { id, life: Arc::downgrade(life), picker: Rc::clone(&picker) as Rc<dyn Any> };
                keep(&mut pickers, entry);
            }
            work(&picker)
        })
        .ok()
}

/// As `with`, but makes no picker.
#[inline]
pub(super) fn with_present<A: 'static, R>(id: u64, work: impl Fn(&Picker<A>) -> R) -> Option<R> {
    PICKERS.try_with(|pickers| with_existing(&pickers.try_borrow().ok()?, id, &work)).ok().flatten()
}

#[inline]
fn with_existing<A: 'static, R>(
    pickers: &[Option<Entry>],
    id: u64,
    work: &impl Fn(&Picker<A>) -> R,
) -> Option<R> {
    let entry = pickers.get(place(id, pickers.len()))?.as_ref()?;
    if entry.id != id {
        return None;
    }
    entry.picker.downcast_ref::<Picker<A>>().map(work)
}

/// Where an id is kept. Ids count up, so neighbours never collide.
#[inline]
fn place(id: u64, length: usize) -> usize {
    usize::try_from(id & (length as u64).wrapping_sub(1)).unwrap_or(usize::MAX)
}

#[cold]
fn keep(pickers: &mut Vec<Option<Entry>>, entry: Entry) {
    let mut all: Vec<Entry> = pickers.drain(..).flatten().filter(|old| old.life.strong_count() > 0).collect();
    all.push(entry);
    // The first length at which all have a place of their own; ids differ, so
    // there is one.
    let mut length = all.len().next_power_of_two();
    loop {
        let mut taken = vec![false; length];
        let fits = all.iter().all(|entry| {
            let place = taken.get_mut(place(entry.id, length));
            place.is_some_and(|taken| !std::mem::replace(taken, true))
        });
        if fits {
            break;
        }
        length *= 2;
    }
    pickers.resize_with(length, || None);
    for entry in all {
        let place = place(entry.id, length);
        if let Some(slot) = pickers.get_mut(place) {
            *slot = Some(entry);
        }
    }
}
