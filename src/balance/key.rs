//! From a request to the 64 bits that `source` and `uri` place.

#![expect(clippy::cast_possible_truncation, reason = "halves of products and addresses are taken on purpose")]

use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use siphasher::sip::SipHasher13;

use super::options::{HashFunction, HashOptions, Query, SourcePrefix, UriForm, UriRule};

/// 2^64 divided by the golden ratio: spreads successive integers.
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// An odd constant with evenly spread bits (the fraction of the square root of 3).
const ROOT: u64 = 0xBB67_AE85_84CA_A73B;

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
    function: HashFunction,
    secrets: RapidSecrets,
    seeds: [u64; 2],
    prefix: SourcePrefix,
    uri: UriRule,
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
    fn bytes(&self, bytes: &[u8]) -> u64 {
        match self.function {
            HashFunction::Fast => rapidhash_v3_seeded(bytes, &self.secrets),
            HashFunction::FloodResistant => self.sip(bytes),
        }
    }

    fn sip(&self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seeds[0], self.seeds[1]);
        hasher.write(bytes);
        hasher.finish()
    }

    /// The hash of a member's identity. Never equal by design to that of a key
    /// with the same bytes.
    pub(super) fn identity(&self, identity: &str) -> u64 {
        fold(self.bytes(identity.as_bytes()) ^ ROOT, GOLDEN)
    }

    /// The hash of a client address, cut to the prefix.
    #[inline]
    pub(super) fn source(&self, address: IpAddr) -> u64 {
        let (bits, family) = match address {
            IpAddr::V4(address) => (u128::from(self.network_v4(address.to_bits())), 4),
            IpAddr::V6(address) => match mapped(address) {
                Some(bits) => (u128::from(self.network_v4(bits)), 4),
                None => (address.to_bits() & mask(u128::MAX, 128, self.prefix.ipv6), 6),
            },
        };
        match self.function {
            HashFunction::Fast => {
                let low = fold(bits as u64 ^ self.seeds[0] ^ GOLDEN, self.seeds[1] ^ ROOT ^ family);
                fold(low ^ (bits >> 64) as u64, self.seeds[0].rotate_left(17) ^ GOLDEN)
            }
            HashFunction::FloodResistant if family == 4 => self.sip(&(bits as u32).to_be_bytes()),
            HashFunction::FloodResistant => self.sip(&bits.to_be_bytes()),
        }
    }

    #[inline]
    fn network_v4(&self, bits: u32) -> u32 {
        bits & mask(u128::from(u32::MAX), 32, self.prefix.ipv4) as u32
    }

    /// The hash of what the URI rule leaves of a URI.
    #[inline(always)]
    pub(super) fn uri(&self, uri: &[u8]) -> u64 {
        self.bytes(self.uri.key(uri))
    }
}

/// The IPv4 address inside `::ffff:a.b.c.d`.
#[inline]
fn mapped(address: Ipv6Addr) -> Option<u32> {
    let bits = address.to_bits();
    (bits >> 32 == 0xFFFF).then_some(bits as u32)
}

/// A mask of the leading `prefix` of `width` bits.
#[inline]
fn mask(all: u128, width: u8, prefix: u8) -> u128 {
    let host = u32::from(width.saturating_sub(prefix));
    all & u128::MAX.checked_shl(host).unwrap_or(0)
}

impl UriRule {
    /// The part of `uri` that is hashed.
    #[must_use]
    #[inline(always)]
    pub fn key<'a>(&self, uri: &'a [u8]) -> &'a [u8] {
        let uri = match self.form {
            UriForm::AsGiven => uri,
            UriForm::PathOnly => from_path(uri),
        };
        let uri = match self.length {
            Some(length) => uri.get(..length).unwrap_or(uri),
            None => uri,
        };
        match (self.depth, self.query) {
            (None, Query::Included) => uri,
            (None, Query::Excluded) => before_query(uri),
            (Some(depth), query) => within_depth(uri, depth, query),
        }
    }
}

/// Drops scheme and authority.
fn from_path(uri: &[u8]) -> &[u8] {
    if uri.first() == Some(&b'/') {
        return uri;
    }
    let authority = uri.windows(3).position(|part| part == b"://").map(|scheme| scheme + 3);
    let rest = authority.and_then(|start| uri.get(start..)).unwrap_or_default();
    rest.iter().position(|&byte| byte == b'/').and_then(|path| rest.get(path..)).unwrap_or_default()
}

/// Everything before the first `?`.
#[inline(always)]
fn before_query(uri: &[u8]) -> &[u8] {
    // Sixteen bytes at a time: keys are short, and most have no query at all. The last
    // sixteen overlap those before.
    let marked = |bytes: &[u8; 16]| bytes.iter().fold(false, |found, byte| found | (*byte == b'?'));
    let is_plain = match uri.last_chunk() {
        Some(last) => !marked(last) && !uri.as_chunks().0.iter().any(marked),
        None => !uri.contains(&b'?'),
    };
    if is_plain { uri } else { cut_at_query(uri) }
}

#[cold]
fn cut_at_query(uri: &[u8]) -> &[u8] {
    let end = uri.iter().position(|&byte| byte == b'?').unwrap_or(uri.len());
    uri.get(..end).unwrap_or(uri)
}

/// Stops before the `/` that opens one level too many.
fn within_depth(uri: &[u8], depth: usize, query: Query) -> &[u8] {
    let mut slashes = 0;
    let end = uri.iter().position(|&byte| match byte {
        b'/' => {
            slashes += 1;
            slashes > depth
        }
        b'?' => query == Query::Excluded,
        _ => false,
    });
    end.and_then(|end| uri.get(..end)).unwrap_or(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_rules_follow_haproxy() {
        let default = UriRule::default();
        let whole = UriRule { query: Query::Included, ..default };
        let depth = |depth| UriRule { depth: Some(depth), ..default };
        let length = |length| UriRule { length: Some(length), ..default };
        let path = UriRule { form: UriForm::PathOnly, ..default };
        let table: &[(UriRule, &str, &str)] = &[
            (default, "/a/b?c=d", "/a/b"),
            (default, "/a/long/path/without/any/query", "/a/long/path/without/any/query"),
            (default, "/a/long/path/with/a?query=behind?it", "/a/long/path/with/a"),
            (default, "?", ""),
            (default, "http://h/a?b", "http://h/a"),
            (whole, "/a/b?c=d", "/a/b?c=d"),
            (depth(1), "/a/b/c", "/a"),
            (depth(2), "/a/b/c", "/a/b"),
            (depth(2), "/a?x/b/c", "/a"),
            (depth(9), "/a/b/c", "/a/b/c"),
            (UriRule { depth: Some(1), ..whole }, "/a?x/b", "/a?x"),
            (length(3), "/a/b/c", "/a/"),
            (length(99), "/a", "/a"),
            (UriRule { depth: Some(1), ..length(4) }, "/a/b/c", "/a"),
            (path, "http://host:80/a?b", "/a"),
            (path, "/a?b", "/a"),
            (path, "*", ""),
            (path, "host:443", ""),
            (path, "http://host", ""),
        ];
        for (rule, uri, expected) in table {
            assert_eq!(rule.key(uri.as_bytes()), expected.as_bytes(), "{rule:?} of {uri}");
        }
    }

    #[test]
    fn mapped_addresses_equal_ipv4() {
        for function in [HashFunction::Fast, HashFunction::FloodResistant] {
            for prefix in [SourcePrefix::default(), SourcePrefix::NETWORK] {
                let options = HashOptions { function, source_prefix: prefix, seed: 7, ..Default::default() };
                let hashing = Hashing::new(&options);
                let plain: IpAddr = "192.0.2.9".parse().unwrap();
                let mapped: IpAddr = "::ffff:192.0.2.9".parse().unwrap();
                assert_eq!(hashing.source(plain), hashing.source(mapped));
                assert_ne!(hashing.source(plain), hashing.source("192.0.3.9".parse().unwrap()));
                assert_ne!(hashing.source(plain), hashing.source("::192.0.2.9".parse().unwrap()));
            }
        }
    }

    #[test]
    fn prefixes_cut_addresses() {
        let options = HashOptions { source_prefix: SourcePrefix::NETWORK, ..Default::default() };
        let hashing = Hashing::new(&options);
        let of = |text: &str| hashing.source(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.200"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        let zero = HashOptions { source_prefix: SourcePrefix { ipv4: 0, ipv6: 0 }, ..Default::default() };
        let hashing = Hashing::new(&zero);
        assert_eq!(hashing.source("192.0.2.1".parse().unwrap()), hashing.source("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn seeds_change_every_hash() {
        for function in [HashFunction::Fast, HashFunction::FloodResistant] {
            for other in [1, 1 << 64] {
                let plain = Hashing::new(&HashOptions { function, ..Default::default() });
                let seeded = Hashing::new(&HashOptions { function, seed: other, ..Default::default() });
                assert_ne!(plain.uri(b"/a"), seeded.uri(b"/a"));
                assert_ne!(plain.identity("a"), seeded.identity("a"));
                let address = "192.0.2.1".parse().unwrap();
                assert_ne!(plain.source(address), seeded.source(address));
            }
        }
    }
}
