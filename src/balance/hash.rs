//! The seeded hash of a balancer, and the mixing of numbers that the room uses.
//!
//! Members' identities are hashed here; the keys of requests in `strategy/source`
//! and `strategy/uri`.

#![expect(clippy::cast_possible_truncation, reason = "halves of products and addresses are taken on purpose")]

use std::hash::Hasher;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use siphasher::sip::SipHasher13;

use super::options::{HashFunction, HashOptions, SourcePrefix, UriRule};

/// 2^64 divided by the golden ratio: spreads successive integers.
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// An odd constant with evenly spread bits (the fraction of the square root of 3).
pub(super) const ROOT: u64 = 0xBB67_AE85_84CA_A73B;

/// Multiplies to 128 bits and folds the halves: one multiplication, all bits mixed.
#[inline]
pub(super) const fn fold(left: u64, right: u64) -> u64 {
    let product = (left as u128).wrapping_mul(right as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// `value * range / 2^64`: a 64-bit fraction as an index below `range`.
#[inline]
pub(super) const fn scale(value: u64, range: u64) -> u64 {
    (((value as u128) * (range as u128)) >> 64) as u64
}

/// The seeded hash of one balancer.
#[derive(Debug, Clone)]
pub(super) struct Hashing {
    pub(super) function: HashFunction,
    secrets: RapidSecrets,
    pub(super) seeds: [u64; 2],
    pub(super) prefix: SourcePrefix,
    pub(super) uri: UriRule,
}

impl Hashing {
    pub(super) fn new(options: &HashOptions) -> Self {
        let seeds = [options.seed as u64, (options.seed >> 64) as u64];
        Self {
            function: options.function,
            secrets: RapidSecrets::seed(seeds[0] ^ seeds[1].rotate_left(32).wrapping_mul(GOLDEN)),
            seeds,
            prefix: options.source_prefix,
            uri: options.uri,
        }
    }

    #[inline(always)]
    pub(super) fn bytes(&self, bytes: &[u8]) -> u64 {
        match self.function {
            HashFunction::Fast => rapidhash_v3_seeded(bytes, &self.secrets),
            HashFunction::FloodResistant => self.sip(bytes),
        }
    }

    pub(super) fn sip(&self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seeds[0], self.seeds[1]);
        hasher.write(bytes);
        hasher.finish()
    }

    /// The hash of a member's identity. It differs by design from that of a key with
    /// the same bytes.
    pub(super) fn identity(&self, identity: &str) -> u64 {
        fold(self.bytes(identity.as_bytes()) ^ ROOT, GOLDEN)
    }
}
