//! Weighted least connections: the exact minimum of (open + 1) / weight.
//!
//! One lock around the order makes every pick the true minimum of its moment.

mod leaders;
mod order;

pub(super) use order::{Idle, Order};

#[cfg(test)]
mod tests;
