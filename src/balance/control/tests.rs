//! What the writer does for many changes at once.

use super::*;
use crate::balance::key::Hashing;
use crate::balance::options::Options;

fn made(strategy: Strategy, members: u32) -> (Core<u32>, Control<u32>) {
    let options = Options::default();
    let hashing = Hashing::new(&options.hash);
    let (mut control, first) = Control::new();
    let core = Core::new(strategy, options, hashing, first, members as usize);
    control.update(&core, (0..members).map(Member::new).collect()).unwrap();
    (core, control)
}

#[test]
fn members_that_flip_together_rewrite_a_short_order_a_few_times() {
    let (core, mut control) = made(Strategy::WeightedRoundRobin, 4000);
    let before = core.generation();
    let ids: Vec<MemberId> =
        (1..4000_u32).map(|member| control.id_of(&core, &member.to_string()).unwrap()).collect();
    for id in ids {
        control.set_health(&core, id, Health::Unhealthy).unwrap();
    }
    let rewrites = core.generation() - before;
    assert!((1..20).contains(&rewrites), "{rewrites} for 3999 flips");
    // Afterwards the order is that of the one who is left.
    control.advance(&core, Duration::ZERO);
    let snapshot = core.newest();
    let Some(Table::RoundRobin(table)) = snapshot.table(Pool::Primary) else { panic!("a primary is left") };
    assert_eq!((table.current.length(), table.current.at(0)), (1, 0));
    // And the next flips are written at once again.
    let back = control.id_of(&core, "7").unwrap();
    control.set_health(&core, back, Health::Healthy).unwrap();
    let snapshot = core.newest();
    let Some(Table::RoundRobin(table)) = snapshot.table(Pool::Primary) else { panic!("still there") };
    assert_eq!(table.current.length(), 2);
}
