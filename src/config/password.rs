//! Password hashes: argon2id in the PHC string form, `$argon2id$v=19$...`.
//!
//! Read from the configuration, made by `vitald hash-password`, checked when a
//! user logs in. Both making and checking one cost tens of milliseconds and 19
//! MiB on purpose, so neither belongs on a runtime's own threads. Whoever checks many
//! keeps a [`HashMemory`]: memory that is taken and given back for every check stays
//! with the allocator, a piece for each thread.

use std::fmt;

use argon2::password_hash::phc;
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, PasswordHasher as _, Version};
use zeroize::Zeroizing;

/// The costliest parameters that are accepted: memory in KiB, passes, lanes.
/// What lies above is a mistake, and a way to let one login take the machine.
const COSTLIEST: (u32, u32, u32) = (256 * 1024, 16, 16);
const LONGEST_HASH_TEXT: usize = 512;

/// The hash of a password, with its salt and cost.
#[derive(Clone)]
pub struct PasswordHash {
    parsed: phc::PasswordHash,
    /// The parameters of `parsed`.
    params: Params,
}

/// What a password is hashed in. It grows to what the costliest hash took, and is used
/// again.
#[derive(Default)]
pub struct HashMemory(Vec<Block>);

/// Why a text is no password hash. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// Not the PHC string form.
    #[error("it is no password hash")]
    Form,
    /// Another function than argon2id.
    #[error("it is no hash of argon2id, version 19")]
    Function,
    /// Parameters out of bounds.
    #[error("its argon2id parameters are out of bounds")]
    Parameters,
    /// A password nobody could use: empty, or hashing it failed.
    #[error("the password is empty")]
    Password,
}

impl PasswordHash {
    /// Reads a hash.
    ///
    /// # Errors
    /// It is none, or one of another function, or one that costs too much.
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let text = text.trim();
        if text.len() > LONGEST_HASH_TEXT {
            return Err(PasswordHashError::Form);
        }
        let parsed = phc::PasswordHash::new(text).map_err(|_| PasswordHashError::Form)?;
        if parsed.algorithm != ARGON2ID_IDENT || parsed.version != Some(Version::V0x13.into()) {
            return Err(PasswordHashError::Function);
        }
        if parsed.salt.is_none() || parsed.hash.is_none() {
            return Err(PasswordHashError::Form);
        }
        let params = Params::try_from(&parsed).map_err(|_| PasswordHashError::Parameters)?;
        let (memory, passes, lanes) = COSTLIEST;
        if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
            return Err(PasswordHashError::Parameters);
        }
        Ok(Self { parsed, params })
    }

    /// Hashes a password with the cost that OWASP recommends: 19 MiB, 2 passes,
    /// 1 lane. `salt` must be random.
    ///
    /// # Errors
    /// The password is empty.
    pub fn of(password: &[u8], salt: [u8; 16]) -> Result<Self, PasswordHashError> {
        Self::with_cost(password, salt, Params::default())
    }

    /// Hashes a password at the lowest cost there is, for tests.
    #[cfg(test)]
    pub(crate) fn cheap(password: &[u8]) -> Self {
        let params = Params::new(8, 1, 1, None).expect("parameters");
        Self::with_cost(password, [7; 16], params).expect("a hash")
    }

    fn with_cost(password: &[u8], salt: [u8; 16], params: Params) -> Result<Self, PasswordHashError> {
        if password.is_empty() {
            return Err(PasswordHashError::Password);
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let parsed: phc::PasswordHash =
            argon2.hash_password_with_salt(password, &salt).map_err(|_| PasswordHashError::Password)?;
        Self::parse(&parsed.to_string())
    }

    /// A hash that no password has, of the same cost as this one: what is
    /// checked when there is no such user, so that both take the same time.
    #[must_use]
    pub fn decoy(&self, random: [u8; 32]) -> Self {
        let mut decoy = self.clone();
        decoy.parsed.hash = self.parsed.hash.as_ref().and_then(|hash| {
            let bytes: Vec<u8> = random.iter().copied().cycle().take(hash.as_ref().len()).collect();
            phc::Output::new(&bytes).ok()
        });
        decoy
    }

    /// How costly a check is, relative to other hashes.
    #[must_use]
    pub fn cost(&self) -> u64 {
        u64::from(self.params.m_cost()) * u64::from(self.params.t_cost())
    }

    /// Whether this is the password's hash. Blocks for as long as hashing takes.
    #[must_use]
    pub fn matches(&self, password: &[u8], memory: &mut HashMemory) -> bool {
        let (Some(salt), Some(expected)) = (&self.parsed.salt, &self.parsed.hash) else { return false };
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone());
        let mut computed = Zeroizing::new(vec![0; expected.as_ref().len()]);
        let blocks = memory.blocks(self.params.block_count());
        let hashed =
            argon2.hash_password_into_with_memory(password, salt.as_ref(), &mut computed, &mut *blocks);
        // The blocks are made of the password, so they are wiped.
        blocks.fill(Block::new());
        // Compares in constant time.
        hashed.is_ok() && phc::Output::new(&computed).is_ok_and(|computed| computed == *expected)
    }

    /// The PHC string, for the file it is kept in.
    #[must_use]
    pub fn to_phc_string(&self) -> String {
        self.parsed.to_string()
    }
}

impl HashMemory {
    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            // What was there is given back first.
            self.0 = Vec::new();
            self.0.resize(count, Block::new());
        }
        self.0.get_mut(..count).unwrap_or_default()
    }
}

impl fmt::Debug for HashMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HashMemory(..)")
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(..)")
    }
}

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        self.parsed == other.parsed
    }
}

impl Eq for PasswordHash {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_and_no_other() {
        let hash = PasswordHash::cheap(b"correct horse");
        assert!(hash.matches(b"correct horse", &mut HashMemory::default()));
        for other in [&b"correct hors"[..], b"correct horse ", b"", b"Correct horse"] {
            assert!(!hash.matches(other, &mut HashMemory::default()));
        }
        let again = PasswordHash::parse(&hash.to_phc_string()).expect("its own text");
        assert_eq!(hash, again);
        assert!(again.matches(b"correct horse", &mut HashMemory::default()));
    }

    #[test]
    fn a_decoy_costs_the_same_and_matches_nothing() {
        let hash = PasswordHash::cheap(b"correct horse");
        let decoy = hash.decoy([3; 32]);
        assert_eq!(decoy.cost(), hash.cost());
        assert!(!decoy.matches(b"correct horse", &mut HashMemory::default()));
        assert_ne!(decoy, hash);
    }

    #[test]
    fn the_reference_tool_makes_the_same_hashes() {
        // echo -n password | argon2 somesalt -id -v 13 -t 2 -m 8 -p 1 -e
        let text = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(PasswordHash::parse(text).expect("a hash").matches(b"password", &mut HashMemory::default()));
    }

    #[test]
    fn texts_that_are_no_hash() {
        let salt_and_hash = "c29tZXNhbHRzb21l$RdescudvJCsgt3ub+b7dWRWJTmaaJObGmc6T/W0vV7E";
        let cases = [
            (String::new(), PasswordHashError::Form),
            ("hunter2".to_owned(), PasswordHashError::Form),
            ("$2b$12$abcdefghijklmnopqrstuv".to_owned(), PasswordHashError::Form),
            (format!("$argon2i$v=19$m=8,t=1,p=1${salt_and_hash}"), PasswordHashError::Function),
            (format!("$argon2id$v=16$m=8,t=1,p=1${salt_and_hash}"), PasswordHashError::Function),
            (format!("$argon2id$v=19$m=8,t=0,p=1${salt_and_hash}"), PasswordHashError::Parameters),
            (format!("$argon2id$v=19$m=262145,t=1,p=1${salt_and_hash}"), PasswordHashError::Parameters),
            (format!("$argon2id$v=19$m=8,t=17,p=1${salt_and_hash}"), PasswordHashError::Parameters),
            ("$argon2id$v=19$m=8,t=1,p=1".to_owned(), PasswordHashError::Form),
            ("$".repeat(600), PasswordHashError::Form),
        ];
        for (text, expected) in cases {
            let error = PasswordHash::parse(&text).expect_err(&text);
            assert_eq!(error, expected, "{text}");
        }
        assert_eq!(PasswordHash::of(b"", [1; 16]), Err(PasswordHashError::Password));
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let hash = PasswordHash::cheap(b"correct horse");
        assert_eq!(format!("{hash:?}"), "PasswordHash(..)");
    }

    #[test]
    fn memory_is_used_again_and_keeps_nothing() {
        let hash = PasswordHash::parse(
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        )
        .expect("a hash");
        let small = PasswordHash::cheap(b"password");
        let mut memory = HashMemory::default();
        let mut check = |hash: &PasswordHash, password: &[u8]| {
            let mut matches = false;
            let taken = allocation_counter::measure(|| matches = hash.matches(password, &mut memory));
            (matches, taken.bytes_total)
        };
        let (matches, taken) = check(&hash, b"password");
        assert!(matches && taken >= 256 * 1024, "{taken}");
        for (hash, password, expected) in
            [(&hash, &b"password"[..], true), (&hash, b"passwore", false), (&small, b"password", true)]
        {
            let (matches, taken) = check(hash, password);
            assert_eq!(matches, expected);
            assert!(taken < 1024, "{taken} bytes were taken anew");
        }
        assert!(memory.0.iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
    }
}
