//! `[server] hosts` and `proxies`: whom the HTTP server knows beside itself. Called by
//! `settings`.

use std::net::IpAddr;
use std::str::FromStr;

use crate::channel::reader::section::{FieldReader, TableReader};
use crate::channel::reader::{ViolationLog, host};
use crate::channel::violation::quoted;
use crate::channel::{Host, Rule};

const PROXY_REMEDY: &str =
    "write an IP address, or a network with the number of its bits: \"192.0.2.1\", \"192.0.2.0/24\"";

/// Who is known to the server beside itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// `hosts`: what `Host` and `Origin` may name beside loopback and the address that
    /// was connected to.
    pub hosts: Vec<Host>,
    /// `proxies`: reverse proxies, which no limit per source holds.
    pub proxies: Vec<AddressRange>,
}

/// An address, or all that begin with the same bits: `192.0.2.1`, `192.0.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// Its bits beyond `prefix` are zero.
    first: IpAddr,
    /// How many bits addresses share: 0 to 32, or to 128 for IPv6.
    prefix: u32,
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRangeError {
    /// No IP address before the slash.
    #[error("no address or network")]
    Address,
    /// No number of bits that such an address has.
    #[error("a network with a wrong number of bits")]
    Prefix,
    /// The address has bits that the prefix leaves out.
    #[error("an address within a network, not the network itself")]
    HostBits,
}

impl AddressRange {
    /// Whether an address is in it. `address` is no IPv4 address in the form of IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && network(address, self.prefix) == Some(self.first)
    }
}

/// An address with all bits beyond the first `prefix` ones cleared; none if it has fewer.
fn network(address: IpAddr, prefix: u32) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => {
            let cleared = 32_u32.checked_sub(prefix)?;
            let mask = u32::MAX.checked_shl(cleared).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let cleared = 128_u32.checked_sub(prefix)?;
            let mask = u128::MAX.checked_shl(cleared).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    })
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| AddressRangeError::Address)?;
        let prefix = match bits {
            Some(bits) => bits.parse().map_err(|_| AddressRangeError::Prefix)?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        match network(address, prefix) {
            None => Err(AddressRangeError::Prefix),
            Some(first) if first != address => Err(AddressRangeError::HostBits),
            Some(first) => Ok(Self { first, prefix }),
        }
    }
}

/// Reads the two lists out of the server's table.
pub(super) fn read(section: &TableReader<'_>, log: &mut ViolationLog) -> AccessSettings {
    let hosts = list_of(section, "hosts", host, log);
    let proxies = list_of(section, "proxies", proxy_of, log);
    AccessSettings { hosts, proxies }
}

/// The entries of a list that `read` takes.
fn list_of<T>(
    section: &TableReader<'_>,
    key: &str,
    read: impl Fn(&FieldReader<'_>, &mut ViolationLog) -> Option<T>,
    log: &mut ViolationLog,
) -> Vec<T> {
    let Some(field) = section.field(key) else { return Vec::new() };
    field.items(log).into_iter().flatten().filter_map(|item| read(&item, log)).collect()
}

fn proxy_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<AddressRange> {
    let text = field.text(log)?;
    match text.parse::<AddressRange>() {
        Ok(range) => Some(range),
        Err(problem) => {
            let message = format!("`{}` is {}, which is {problem}", field.key(), quoted(text));
            field.report(Rule::WrongFormat, message, PROXY_REMEDY, log);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_shares_their_bits() {
        let holds = |range: &str, address: &str| {
            range.parse::<AddressRange>().expect(range).contains(address.parse().expect(address))
        };
        for (range, inside, outside) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.0/28", "192.0.2.15", "192.0.2.16"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("::1", "::1", "::2"),
        ] {
            assert!(holds(range, inside), "{inside} is in {range}");
            assert!(!holds(range, outside), "{outside} is not in {range}");
        }
    }

    #[test]
    fn texts_that_are_no_range() {
        for (text, error) in [
            ("", AddressRangeError::Address),
            ("proxy.example", AddressRangeError::Address),
            ("192.0.2.1:80", AddressRangeError::Address),
            ("192.0.2.0/33", AddressRangeError::Prefix),
            ("192.0.2.0/", AddressRangeError::Prefix),
            ("192.0.2.0/-1", AddressRangeError::Prefix),
            ("2001:db8::/129", AddressRangeError::Prefix),
            ("192.0.2.1/24", AddressRangeError::HostBits),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(error), "{text}");
        }
    }
}
