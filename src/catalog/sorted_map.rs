//! A sorted map whose copies share what they have in common.
//!
//! A published state must never change under its readers, and a batch of calls
//! changes little of it. So the pairs stand in short runs, each behind an `Arc`: a
//! copy of the map copies the list of runs, and a change copies one run. A plain
//! copy of 10,000 channels for each call would take longer than the call itself.

use std::cmp::Ordering;
use std::sync::Arc;

/// Pairs in one run at most. The list of runs and one run cost about the same to
/// copy where there are some thousand pairs.
const LONGEST_RUN: usize = 64;

/// A map in the order of its keys; cheap to copy.
#[derive(Debug, Clone)]
pub(super) struct SortedMap<K, V> {
    /// In order, none of them empty. Runs that have become short are not joined.
    runs: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self { runs: Vec::new(), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> SortedMap<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.runs.iter().flat_map(|run| run.iter().map(|(key, value)| (key, value)))
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.get_by(|held| held.cmp(key))
    }

    /// The value of the key that `order` calls equal; `order` says how a key
    /// compares with the one looked for.
    pub(super) fn get_by(&self, order: impl Fn(&K) -> Ordering) -> Option<&V> {
        let run = self.runs.get(self.run_of(&order))?;
        let place = run.binary_search_by(|(key, _)| order(key)).ok()?;
        run.get(place).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let number = self.run_of(&|held: &K| held.cmp(&key));
        let Some(run) = self.runs.get_mut(number) else {
            self.runs.push(Arc::new(vec![(key, value)]));
            self.len += 1;
            return;
        };
        let run = Arc::make_mut(run);
        match run.binary_search_by(|(held, _)| held.cmp(&key)) {
            Ok(place) => {
                if let Some((_, held)) = run.get_mut(place) {
                    *held = value;
                }
            }
            Err(place) => {
                run.insert(place, (key, value));
                self.len += 1;
                if run.len() > LONGEST_RUN {
                    let rest = run.split_off(LONGEST_RUN / 2);
                    self.runs.insert(number + 1, Arc::new(rest));
                }
            }
        }
    }

    pub(super) fn remove_by(&mut self, order: impl Fn(&K) -> Ordering) {
        let number = self.run_of(&order);
        let Some(run) = self.runs.get_mut(number) else { return };
        let Ok(place) = run.binary_search_by(|(key, _)| order(key)) else { return };
        let run = Arc::make_mut(run);
        run.remove(place);
        self.len -= 1;
        if run.is_empty() {
            self.runs.remove(number);
        }
    }

    /// The run that holds a key if any does: the last that does not begin after it.
    fn run_of(&self, order: &impl Fn(&K) -> Ordering) -> usize {
        let begins_before = |run: &Arc<Vec<(K, V)>>| run.first().is_some_and(|(key, _)| order(key).is_le());
        self.runs.partition_point(begins_before).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_a_tree_is_and_copies_stay_as_they_were(
            steps in prop::collection::vec((0..300u16, any::<bool>()), 0..2_000),
        ) {
            let (mut map, mut tree) = (SortedMap::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for (number, (key, is_put)) in steps.into_iter().enumerate() {
                if number % 500 == 0 {
                    copies.push((map.clone(), tree.clone()));
                }
                if is_put {
                    map.insert(key, number);
                    tree.insert(key, number);
                } else {
                    map.remove_by(|held| held.cmp(&key));
                    tree.remove(&key);
                }
                prop_assert_eq!(map.get(&key), tree.get(&key));
            }
            copies.push((map, tree));
            for (map, tree) in copies {
                prop_assert_eq!(map.len(), tree.len());
                prop_assert!(map.iter().eq(tree.iter()));
            }
        }
    }
}
