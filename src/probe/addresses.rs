//! The addresses of a name: which of an answer count, and in which order and for how
//! long each a probe tries them.
//!
//! `resolve` keeps what [`usable`] leaves of an answer; `machine` goes through
//! [`in_order`] of it and gives each address a [`share`] of the probe's time. No clock and
//! no I/O here.
//!
//! Addresses are tried one after another, and not side by side as RFC 8305 has it for
//! clients in a hurry: the member sees one connection, and the reason of a failure does
//! not depend on a race. The last good address goes first, so that a member pays for its
//! dead addresses once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{ResolveFamily, unusable_address};

/// The addresses of a name in the resolver's order, each once. Shared by all members of
/// the name.
pub(super) type AddressSet = Arc<[IpAddr]>;

/// What an address gets at least while the time allows it, in place of an equal share:
/// the delay between attempts that RFC 8305 section 5 recommends.
const SHARE_AT_LEAST: Duration = Duration::from_millis(250);

/// More addresses than this are counted, not listed, in texts.
const LISTED_AT_MOST: usize = 4;

/// The addresses of an answer at which a member can be.
///
/// # Errors
/// There is none, in one line.
pub(super) fn usable(answer: Vec<IpAddr>) -> Result<AddressSet, String> {
    let mut seen = HashSet::new();
    let mut refused = None;
    let mut addresses = Vec::with_capacity(answer.len());
    for address in answer {
        match unusable_address(address) {
            Some(why) => refused = refused.or(Some((address, why))),
            None if seen.insert(address) => addresses.push(address),
            None => {}
        }
    }
    match refused {
        Some((address, why)) if addresses.is_empty() => Err(format!("the answer is {address}, {why}")),
        None if addresses.is_empty() => Err("the answer holds no address".to_owned()),
        _ => Ok(addresses.into()),
    }
}

/// Whether two sets have the same addresses, whatever their order.
pub(super) fn is_same_set(one: &[IpAddr], other: &[IpAddr]) -> bool {
    let one_set: HashSet<&IpAddr> = one.iter().collect();
    one.len() == other.len() && other.iter().all(|address| one_set.contains(address))
}

/// The addresses of a family in the order in which a probe tries them: `last_good` first,
/// if it is still one of them.
pub(super) fn in_order(set: &[IpAddr], family: ResolveFamily, last_good: Option<IpAddr>) -> Vec<IpAddr> {
    let is_wanted = |address: &&IpAddr| match family {
        ResolveFamily::Any => true,
        // A mapped address is called over IPv4.
        ResolveFamily::V4 => address.to_canonical().is_ipv4(),
        ResolveFamily::V6 => address.to_canonical().is_ipv6(),
    };
    let mut addresses: Vec<IpAddr> = set.iter().filter(is_wanted).copied().collect();
    if let Some(good) = addresses.iter().position(|address| Some(*address) == last_good)
        && let Some(before) = addresses.get_mut(..=good)
    {
        before.rotate_right(1);
    }
    addresses
}

/// How long the next of so many addresses may take to be connected, when so much of the
/// probe's time is left: an equal share; of many addresses the first ones more than that
/// and at most half of what is left, so that a share is long enough for a connection.
pub(super) fn share(left: Duration, addresses: usize) -> Duration {
    let equal = left / u32::try_from(addresses.max(1)).unwrap_or(u32::MAX);
    let share = if addresses <= 1 { left } else { equal.max(SHARE_AT_LEAST.min(left / 2)) };
    // Whole milliseconds, as people read them.
    Duration::from_millis(u64::try_from(share.as_millis()).unwrap_or(u64::MAX))
}

/// Addresses for people: `192.0.2.1, 192.0.2.2`.
pub(super) fn list(addresses: &[IpAddr]) -> String {
    listed(addresses.iter().map(ToString::to_string), addresses.len(), ", ")
}

/// What each of `addresses` addresses has said, for people: `192.0.2.1: connection
/// refused; ..`. Of a single one, what it said alone.
pub(super) fn said_of(said: &[(IpAddr, String)], addresses: usize) -> String {
    if let ([(_, only)], 1) = (said, addresses) {
        return only.clone();
    }
    let each = said.iter().map(|(address, what)| format!("{address}: {what}"));
    let mut text = listed(each, said.len(), "; ");
    if said.len() < addresses {
        text.push_str(&format!("; {} not tried", addresses - said.len()));
    }
    text
}

fn listed(items: impl Iterator<Item = String>, count: usize, separator: &str) -> String {
    let mut text = items.take(LISTED_AT_MOST).collect::<Vec<_>>().join(separator);
    if count > LISTED_AT_MOST {
        text.push_str(&format!("{separator}and {} more", count - LISTED_AT_MOST));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
        texts.map(|text| text.parse().expect("an address")).to_vec()
    }

    #[test]
    fn addresses_that_no_server_has_are_left_out_and_each_counts_once() {
        let answer = ["0.0.0.0", "192.0.2.1", "::", "224.0.0.1", "192.0.2.1", "ff02::1", "::ffff:0.0.0.0"];
        assert_eq!(usable(ips(answer)).map(|set| set.to_vec()), Ok(ips(["192.0.2.1"])));
        for (address, why) in [
            ("0.0.0.0", "the answer is 0.0.0.0, the unspecified address, which no server has"),
            ("::", "the answer is ::, the unspecified address, which no server has"),
            ("239.1.2.3", "the answer is 239.1.2.3, a multicast address, which no server has"),
            ("ff02::1", "the answer is ff02::1, a multicast address, which no server has"),
        ] {
            assert_eq!(usable(ips([address])), Err(why.to_owned()));
        }
        assert_eq!(usable(Vec::new()), Err("the answer holds no address".to_owned()));
    }

    #[test]
    fn the_last_good_address_goes_first_and_a_family_leaves_the_other_out() {
        let set = ips(["2001:db8::1", "192.0.2.1", "::ffff:192.0.2.2", "192.0.2.3"]);
        let order = |family, good: Option<&str>| {
            list(&in_order(&set, family, good.map(|text| text.parse().expect("an address"))))
        };
        assert_eq!(order(ResolveFamily::Any, None), list(&set));
        assert_eq!(
            order(ResolveFamily::Any, Some("192.0.2.3")),
            "192.0.2.3, 2001:db8::1, 192.0.2.1, ::ffff:192.0.2.2"
        );
        assert_eq!(order(ResolveFamily::Any, Some("192.0.2.9")), list(&set), "gone from the answer");
        assert_eq!(order(ResolveFamily::V6, None), "2001:db8::1");
        assert_eq!(order(ResolveFamily::V4, Some("2001:db8::1")), "192.0.2.1, ::ffff:192.0.2.2, 192.0.2.3");
        assert!(is_same_set(&set, &ips(["192.0.2.3", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"])));
        assert!(!is_same_set(&set, &ips(["192.0.2.3", "192.0.2.1", "2001:db8::1", "192.0.2.4"])));
    }

    #[test]
    fn shares_are_equal_or_long_enough_for_a_connection() {
        /// How long each of so many silent addresses gets of a whole timeout.
        fn shares(timeout: u64, addresses: usize) -> Vec<u64> {
            let mut left = Duration::from_millis(timeout);
            let share_of = |remaining| {
                let given = share(left, remaining);
                left -= given;
                u64::try_from(given.as_millis()).expect("a few seconds")
            };
            (1..=addresses).rev().map(share_of).collect()
        }
        assert_eq!(shares(2000, 1), [2000]);
        assert_eq!(shares(2000, 2), [1000, 1000]);
        assert_eq!(shares(200, 2), [100, 100], "never more than half while another waits");
        assert_eq!(shares(3000, 3), [1000, 1000, 1000]);
        assert_eq!(shares(1000, 8), [250, 250, 250, 125, 62, 31, 16, 16]);
        assert_eq!(shares(10, 3), [5, 2, 3]);
    }

    #[test]
    fn texts_are_bounded() {
        let many: Vec<(IpAddr, String)> =
            (1..=6).map(|last| (IpAddr::from([192, 0, 2, last]), "no".to_owned())).collect();
        let text = "192.0.2.1: no; 192.0.2.2: no; 192.0.2.3: no; 192.0.2.4: no; and 2 more";
        assert_eq!(said_of(&many, 6), text);
        assert_eq!(said_of(&many, 9), format!("{text}; 3 not tried"));
        assert_eq!(said_of(&many[..1], 1), "no", "the address stands elsewhere");
        assert_eq!(said_of(&many[..1], 2), "192.0.2.1: no; 1 not tried");
    }
}
