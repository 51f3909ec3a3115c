//! Ids and times, as the API writes them.
//!
//! The catalog makes neither: its callers pass a [`Fresh`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::health::Timestamp;

/// The id of a channel, member, group, health check, microservice or feature:
/// 32 lower-case hexadecimal digits (docs/vendor-api.md, "Conventions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);

impl Id {
    /// Reads what [`fmt::Display`] writes, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }

    /// An id that depends on the parts alone: what a file describes has the
    /// same id after every restart. FNV-1a, 128 bits; the parts are not secret
    /// and a clash would need a user who wants one.
    #[must_use]
    pub fn of_parts(parts: &[&str]) -> Self {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        // A byte that UTF-8 never has ends each part.
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
        Self(bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The id of an instance, chosen by the user: 32 hexadecimal digits or a dashed
/// UUID (docs/vendor-api.md, "Conventions").
pub type InstanceId = Arc<str>;

/// A time to the second, since the Unix epoch: the API's times have no fraction
/// (docs/vendor-api.md, "Conventions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// Later than any time RFC 3339 can write: 9999-12-31T23:59:59Z.
    const LAST: u64 = 253_402_300_799;

    /// Milliseconds since the Unix epoch, as instances show their age.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0.min(Self::LAST) * 1000
    }
}

impl fmt::Display for UnixSeconds {
    /// RFC 3339 in UTC, whole seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(self.0.min(Self::LAST));
        humantime::format_rfc3339_seconds(time).fmt(f)
    }
}

impl From<Timestamp> for UnixSeconds {
    fn from(time: Timestamp) -> Self {
        Self(time.0 / 1_000_000_000)
    }
}

/// Where new ids and the time of a change come from.
pub trait Fresh {
    /// An id nobody has.
    fn id(&mut self) -> Id;
    /// The time of the change.
    fn now(&self) -> UnixSeconds;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_lower_case_digits() {
        let id = Id(0xab);
        assert_eq!(id.to_string(), "000000000000000000000000000000ab");
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        let wrong = ["", "ab", "000000000000000000000000000000AB", "+00000000000000000000000000000ab"];
        assert!(wrong.iter().all(|text| Id::parse(text).is_none()));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(Id::of_parts(&["ab", "c"]), Id::of_parts(&["a", "bc"]));
        assert_eq!(Id::of_parts(&["ab", "c"]), Id::of_parts(&["ab", "c"]));
    }

    #[test]
    fn times_have_no_fraction() {
        assert_eq!(UnixSeconds(1_595_488_317).to_string(), "2020-07-23T07:11:57Z");
        assert_eq!(UnixSeconds(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }
}
