//! Interleavings of picks with flips, updates and each other.
//!
//! Each test is small enough for loom to walk through completely up to its bound
//! of preemptions, in seconds.

#![cfg(all(test, vitald_loom))]

use loom::thread;
use vitald::balance::{Balancer, Drain, Member, NoPick, Options, Request};
use vitald::channel::{Health, MemberStatus, NobodyReason, Role, Strategy};

fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(test);
}

fn two(strategy: Strategy) -> Balancer<u32> {
    let members = [Member::new(0), Member::new(1).role(Role::Backup)];
    Balancer::new(strategy, Options::default(), members).unwrap()
}

fn id(balancer: &Balancer<u32>, member: u32) -> vitald::balance::MemberId {
    balancer.id_of(&member.to_string()).unwrap()
}

/// A pick while the primary goes down finds one of the two; a pick after it
/// finds the backup.
fn fails_over(strategy: Strategy) {
    model(move || {
        let balancer = two(strategy);
        let other = balancer.clone();
        let picks = thread::spawn(move || {
            let picker = other.picker();
            let pick = picker.pick(&Request::new().uri(b"/")).expect("somebody is always up");
            assert!(*pick.address() < 2);
        });
        balancer.set_health(id(&balancer, 0), Health::Unhealthy).unwrap();
        let picker = balancer.picker();
        assert_eq!(*picker.pick(&Request::new().uri(b"/")).unwrap().address(), 1);
        picks.join().unwrap();
        drop(picker);
        assert!(balancer.members().iter().all(|member| member.open_picks == 0));
        assert_eq!(balancer.total_picks(), 2);
    });
}

#[test]
fn wrr_fails_over() {
    fails_over(Strategy::WeightedRoundRobin);
}

#[test]
fn least_connections_fails_over() {
    fails_over(Strategy::WeightedLeastConnections);
}

#[test]
fn uri_fails_over() {
    fails_over(Strategy::UriHash);
}

/// A flip that another thread has seen finished binds every later pick.
#[test]
fn a_published_flip_is_never_missed() {
    model(|| {
        let members = [Member::new(0), Member::new(1)];
        let balancer = Balancer::new(Strategy::UriHash, Options::default(), members).unwrap();
        let done = loom::sync::Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let (other, seen) = (balancer.clone(), done.clone());
        let picks = thread::spawn(move || {
            let picker = other.picker();
            let published = seen.load(loom::sync::atomic::Ordering::Acquire);
            let pick = picker.pick(&Request::new().uri(b"/key")).unwrap();
            assert!(!published || *pick.address() == 1);
        });
        balancer.set_health(id(&balancer, 0), Health::Unhealthy).unwrap();
        done.store(true, loom::sync::atomic::Ordering::Release);
        picks.join().unwrap();
    });
}

/// What a picker has ready for the picks to come is dropped when it is no longer
/// true, at whatever moment the writer was seen: also when the epoch was seen before
/// what it stands for. The second of the order goes down, as the first is picked first.
#[test]
fn what_a_picker_has_ready_never_outlives_a_flip() {
    model(|| {
        let members = [Member::new(0), Member::new(1)];
        let balancer =
            Balancer::new(Strategy::WeightedRoundRobin, Options::default(), members).unwrap();
        let done = loom::sync::Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let (other, seen) = (balancer.clone(), done.clone());
        let picks = thread::spawn(move || {
            let picker = other.picker();
            for _ in 0..2 {
                let published = seen.load(loom::sync::atomic::Ordering::Acquire);
                let pick = picker.pick(&Request::new()).unwrap();
                assert!(!published || *pick.address() == 0);
            }
        });
        balancer.set_health(id(&balancer, 1), Health::Unhealthy).unwrap();
        done.store(true, loom::sync::atomic::Ordering::Release);
        picks.join().unwrap();
    });
}

/// Two pickers share the order: over one cycle nobody is picked twice.
#[test]
fn blocks_are_claimed_once() {
    model(|| {
        let members = [Member::new(0), Member::new(1)];
        let balancer =
            Balancer::new(Strategy::WeightedRoundRobin, Options::default(), members).unwrap();
        let run = |balancer: &Balancer<u32>| {
            let picker = balancer.picker();
            [(); 2].map(|()| *picker.pick(&Request::new()).unwrap().address())
        };
        let other = balancer.clone();
        let picks = thread::spawn(move || run(&other));
        assert_eq!(run(&balancer), [0, 1]);
        assert_eq!(picks.join().unwrap(), [0, 1]);
        assert_eq!(balancer.total_picks(), 4);
    });
}

/// A member that leaves while it is picked: the pick is either of the old list
/// or of the new one, and its end is counted either way.
#[test]
fn membership_changes_under_picks() {
    model(|| {
        let balancer =
            Balancer::new(Strategy::WeightedLeastConnections, Options::default(), [Member::new(0)]).unwrap();
        let first = id(&balancer, 0);
        let other = balancer.clone();
        let picks = thread::spawn(move || {
            let picker = other.picker();
            let pick = picker.pick(&Request::new()).unwrap();
            assert!([0, 7].contains(pick.address()));
        });
        balancer.update([Member::new(7)]).unwrap();
        picks.join().unwrap();
        assert_eq!(balancer.open_picks(first), 0);
        assert_eq!(balancer.open_picks(id(&balancer, 7)), 0);
    });
}

/// Picks without a release, of members dealt to two shards: whatever the threads do
/// at once, nobody has taken a load above the next of anyone.
fn takes_the_smallest(weights: [u16; 3], picks_beside: usize) {
    model(move || {
        let members = (0..).zip(weights).map(|(member, weight): (u32, u16)| Member::new(member).weight(weight));
        let balancer =
            Balancer::new(Strategy::WeightedLeastConnections, Options::default(), members).unwrap();
        let other = balancer.clone();
        let picks = thread::spawn(move || {
            let picker = other.picker();
            (0..picks_beside).for_each(|_| std::mem::forget(picker.pick(&Request::new()).unwrap()));
        });
        let picker = balancer.picker();
        std::mem::forget(picker.pick(&Request::new()).unwrap());
        picks.join().unwrap();
        let open: Vec<u32> = balancer.members().iter().map(|member| member.open_picks).collect();
        assert_eq!(open.iter().sum::<u32>() as usize, 1 + picks_beside);
        for (one, weight) in open.iter().zip(weights) {
            for (other, other_weight) in open.iter().zip(weights) {
                assert!(one * u32::from(other_weight) <= (other + 1) * u32::from(weight), "{open:?}");
            }
        }
    });
}

#[test]
fn least_connections_takes_the_smallest_of_all_shards() {
    takes_the_smallest([2, 1, 1], 2);
}

/// The shard that led may not lead any more when its lock is free.
#[test]
fn least_connections_looks_again_under_the_lock() {
    takes_the_smallest([3, 2, 1], 1);
}

/// Members are dealt to two shards instead of one while one of them is picked: its
/// end finds it where it is then.
#[test]
fn picks_end_where_their_member_was_dealt_to() {
    model(|| {
        let balancer =
            Balancer::new(Strategy::WeightedLeastConnections, Options::default(), [Member::new(0)]).unwrap();
        let other = balancer.clone();
        let picks = thread::spawn(move || {
            let picker = other.picker();
            let pick = picker.pick(&Request::new()).unwrap();
            assert!(*pick.address() < 2);
        });
        balancer.update([Member::new(0), Member::new(1)]).unwrap();
        picks.join().unwrap();
        assert!(balancer.members().iter().all(|member| member.open_picks == 0));
    });
}

/// Draining and switching off: once both returned, nobody is left.
#[test]
fn drains_and_switches_add_up() {
    model(|| {
        let members = [Member::new(0), Member::new(1)];
        let balancer =
            Balancer::new(Strategy::WeightedRoundRobin, Options::default(), members).unwrap();
        let other = balancer.clone();
        let drains = thread::spawn(move || {
            other.set_drain(id(&other, 0), Drain::Draining).unwrap();
        });
        balancer.set_status(id(&balancer, 1), MemberStatus::Disabled).unwrap();
        drains.join().unwrap();
        let picker = balancer.picker();
        let none = picker.pick(&Request::new()).map(|_| ()).unwrap_err();
        assert_eq!(none, NoPick::Nobody(NobodyReason::AllDisabled));
    });
}
