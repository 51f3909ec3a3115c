//! Source hash: requests of one client address, or network, go to one member.
//!
//! This file turns an address into a key; `key_table` finds the key's member.

#![expect(clippy::cast_possible_truncation, reason = "halves of addresses are taken on purpose")]

use std::net::{IpAddr, Ipv6Addr};

use crate::balance::hash::{GOLDEN, Hashing, ROOT, fold};
use crate::balance::options::HashFunction;

impl Hashing {
    /// The hash of a client address, cut to the prefix.
    #[inline]
    pub(in crate::balance) fn source(&self, address: IpAddr) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::options::{HashOptions, SourcePrefix};

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
