//! The permits against books of the test's own.

use proptest::prelude::*;

use super::*;

/// Takes permits until there is none for the channel that asks alone.
fn take_all(permits: &mut Permits, channel: u32) -> usize {
    let mut taken = 0;
    while permits.are_free_for(channel) {
        permits.take(channel);
        taken += 1;
    }
    taken
}

fn permits(limit: usize, members: &[usize]) -> Permits {
    let mut permits = Permits::new(limit);
    for (channel, members) in (0..).zip(members) {
        (0..*members).for_each(|_| permits.add_member(channel));
    }
    permits
}

#[test]
fn a_channel_leaves_a_share_to_those_that_may_come() {
    // Permits, and how many of them one channel gets beside another that rests.
    for (limit, expected) in [(1, 1), (2, 1), (3, 2), (8, 7), (16, 14), (64, 56), (1_024, 896)] {
        let mut permits = permits(limit, &[100_000, 100_000]);
        assert_eq!(take_all(&mut permits, 0), expected, "of {limit}");
        assert_eq!(permits.are_free_for(1), expected < limit, "of {limit}");
    }
}

#[test]
fn what_others_cannot_use_is_not_kept_from_anybody() {
    for (members, expected) in [(0, 64), (1, 63), (3, 61), (8, 56), (500, 56)] {
        let mut permits = permits(64, &[500, members]);
        assert_eq!(take_all(&mut permits, 0), expected, "beside {members} members");
    }
}

#[test]
fn fewer_permits_than_are_taken_give_none_until_enough_came_back() {
    let mut permits = permits(8, &[20]);
    assert_eq!(take_all(&mut permits, 0), 8);
    permits.set_limit(2);
    for free in [false, false, false, false, false, false, true] {
        permits.give_back(0);
        assert_eq!(permits.are_free_for(0), free, "{} taken", permits.taken());
    }
}

const CHANNELS: u32 = 5;
const MEMBERS: u32 = 6;

#[derive(Debug, Clone)]
enum Step {
    /// This member of this channel is due, unless it waits or runs.
    Due(u32, u32),
    /// The probe that has run for longest but so many ends.
    End(usize),
    /// This member no longer wants a permit.
    Leave(u32, u32),
    Limit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..CHANNELS, 0..MEMBERS).prop_map(|(channel, member)| Step::Due(channel, member)),
        3 => (0_usize..20).prop_map(Step::End),
        1 => (0..CHANNELS, 0..MEMBERS).prop_map(|(channel, member)| Step::Leave(channel, member)),
        1 => (1_usize..24).prop_map(Step::Limit),
    ]
}

proptest! {
    /// Nobody waits who may take a permit, the channel that holds the fewest comes first,
    /// and a channel's members come in the order in which they were due.
    #[test]
    fn permits_agree_with_the_books(
        limit in 1_usize..24, steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut limit = limit;
        let mut permits = permits(limit, &[MEMBERS as usize; CHANNELS as usize]);
        let mut running: Vec<(u32, u32)> = Vec::new();
        let mut waiting: Vec<WaitingMember> = Vec::new();
        for (time, step) in (0..).zip(steps) {
            match step {
                Step::Due(channel, member) => {
                    let is_busy = running.contains(&(channel, member))
                        || waiting.iter().any(|it| (it.channel, it.member) == (channel, member));
                    if is_busy {
                        continue;
                    }
                    if permits.are_free_for(channel) {
                        permits.take(channel);
                        running.push((channel, member));
                    } else {
                        let one = WaitingMember { channel, due: MonotonicTime(time), member };
                        permits.wait(one);
                        waiting.push(one);
                    }
                }
                Step::End(index) if index < running.len() => permits.give_back(running.remove(index).0),
                Step::End(_) => {}
                Step::Leave(channel, member) => {
                    if let Some(index) =
                        waiting.iter().position(|it| (it.channel, it.member) == (channel, member))
                    {
                        permits.leave(waiting.remove(index));
                    }
                }
                Step::Limit(new) => {
                    limit = new;
                    permits.set_limit(new);
                }
            }
            let held = |running: &[(u32, u32)], channel| running.iter().filter(|it| it.0 == channel).count();
            let may_take = |running: &[(u32, u32)], channel| {
                let (free, held) = (limit.saturating_sub(running.len()), held(running, channel));
                let others = (CHANNELS as usize - 1) * MEMBERS as usize;
                free > 0 && (held == 0 || held < SHARE * (free - 1) || free > others)
            };
            while let Some(next) = permits.next_waiting() {
                prop_assert!(may_take(&running, next.channel));
                let first = waiting.iter().min_by_key(|it| (held(&running, it.channel), it.due)).copied();
                prop_assert_eq!(Some(next), first);
                permits.leave(next);
                permits.take(next.channel);
                waiting.retain(|it| *it != next);
                running.push((next.channel, next.member));
            }
            for one in &waiting {
                prop_assert!(!may_take(&running, one.channel), "{:?} waits in vain", one);
            }
            prop_assert_eq!(permits.waiting(), waiting.len());
            prop_assert_eq!(permits.taken(), running.len());
        }
    }
}
