//! What threads that pick share, and what they do not.

use super::*;
use crate::balance::pool::MemberPool;
use crate::balance::strategy::PoolTable;

/// What is not written does not travel between caches: over many picks of two
/// pickers the one shared word that changes is the cursor, once in 64 picks.
#[test]
fn pickers_write_nothing_that_they_share() {
    for strategy in [Strategy::WeightedRoundRobin, Strategy::SourceHash, Strategy::UriHash] {
        let members = (0..50_u32).map(|member| Member::new(member).weight(1 + (member % 7) as u16));
        let balancer = Balancer::new(strategy, Options::default(), members).unwrap();
        let pickers = [balancer.picker(), balancer.picker()];
        let generation = balancer.core.generation();
        let snapshot = balancer.core.newest();
        let handles = Arc::strong_count(&snapshot);
        let mut open = Vec::new();
        for turn in 0..3200_u32 {
            for picker in &pickers {
                let (uri, source) = (format!("/{turn}"), std::net::IpAddr::from(turn.to_be_bytes()));
                open.push(picker.pick(&Request::new().uri(uri.as_bytes()).source(source)).unwrap());
            }
        }
        let order = snapshot.table(MemberPool::Primary).and_then(PoolTable::order);
        let step = order.map_or(0, |order| order.step);
        // 50 blocks of 64 for each of the two.
        assert_eq!(balancer.core.method.cursor.0.load(Relaxed), step.wrapping_mul(6400), "{strategy:?}");
        assert_eq!(step != 0, strategy == Strategy::WeightedRoundRobin);
        assert_eq!((balancer.core.generation(), Arc::strong_count(&snapshot)), (generation, handles));
        let counters = &balancer.core.counters;
        assert_eq!(counters.shared_open(), 0);
        assert!((0..50).all(|row| counters.shared.value(row) == 0), "shared counters stay untouched");
        assert_eq!(balancer.members().iter().map(|member| member.open_picks).sum::<u32>(), 6400);
        drop(open);
        assert!((0..50).all(|row| counters.shared.value(row) == 0));
    }
}
