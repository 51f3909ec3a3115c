//! The balancer through its public surface: what is promised, and a plain model beside it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod model;
mod promises;

use vitald::balance::{Balancer, Member, MemberId, Options, Request};
use vitald::channel::Strategy as Way;

fn balancer(way: Way, options: Options, weights: &[u16]) -> Balancer<u32> {
    let members = (0..).zip(weights).map(|(address, &weight)| Member::new(address).weight(weight));
    Balancer::new(way, options, members).unwrap()
}

fn id(balancer: &Balancer<u32>, address: u32) -> MemberId {
    balancer.id_of(&address.to_string()).unwrap()
}

fn uri(key: u64) -> String {
    format!("/object/{key}")
}

fn map(balancer: &Balancer<u32>, keys: u64) -> Vec<u32> {
    let picker = balancer.picker();
    (0..keys).map(|key| *picker.pick(&Request::new().uri(uri(key).as_bytes())).unwrap().address()).collect()
}
