//! Which tokens are good: a bounded table of their hashes.
//!
//! Pure: the clock and the random bytes are arguments. A token is 256 random
//! bits; only its SHA-256 is kept, so whoever reads this memory cannot use it.
//! The table lives in memory: after a restart clients log in again, as they do
//! after 24 hours.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::signature::hex;
use crate::health::{MonotonicTime, Now, Timestamp};

#[cfg(test)]
mod tests;

/// How long a token is good (docs/vendor-api.md, "Tokens").
pub(super) const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const LIFETIME_NANOS: u64 = LIFETIME.as_secs() * 1_000_000_000;
/// How long after that it is still known to have expired.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Tokens of one user. One more removes the oldest of that user. So the number of
/// users bounds the table.
const TOKENS_PER_USER: usize = 1000;

type TokenHash = [u8; 32];

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) user_id: Arc<str>,
    /// Changes when the user's password does; see [`super::identity`].
    pub(super) stamp: [u8; 32],
    pub(super) scope: Scope,
    pub(super) proof: Proof,
}

/// What a token was given for, Keystone's `methods`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// A password.
    Password,
    /// Another token, whose own proof was a password in the end.
    Token,
}

/// From when to when a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// `expires_at` on the monotonic clock, which decides.
    pub(super) expires: MonotonicTime,
}

impl Validity {
    /// That of a token that is given for a password.
    pub(super) fn from(now: Now) -> Self {
        Self {
            issued_at: now.wall,
            expires_at: Timestamp(now.wall.0.saturating_add(LIFETIME_NANOS)),
            expires: now.monotonic + LIFETIME,
        }
    }

    /// That of a token that is given for this one: it ends no later.
    pub(super) fn again(self, now: Now) -> Self {
        Self { issued_at: now.wall, ..self }
    }
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Scope {
    /// The project.
    Project,
    /// The user's account, which has nothing to manage here.
    Domain,
    /// Nothing but asking which projects there are.
    #[default]
    Unscoped,
}

/// A new token; the only time its text exists on this side.
#[derive(Debug)]
pub(super) struct Issued {
    /// The text, to be sent and forgotten. Not printed by `Debug`.
    pub(super) token: TokenText,
    pub(super) validity: Validity,
}

/// A token's text: 64 hexadecimal digits.
pub(super) struct TokenText(Zeroizing<String>);

impl TokenText {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for TokenText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TokenText(..)")
    }
}

/// Why a token is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenFault {
    /// Never issued, or forgotten.
    Unknown,
    /// Issued more than 24 hours ago.
    Expired,
}

/// A token that is good or has expired lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenRecord {
    pub(super) grant: Grant,
    pub(super) validity: Validity,
}

/// All tokens that are good or have expired lately.
#[derive(Debug, Default)]
pub(super) struct TokenTable {
    records: HashMap<TokenHash, TokenRecord>,
    /// Oldest first. Those given for a password live equally long, so the first of them
    /// expires first. Those given for a token expire earlier and stay until their turn
    /// comes.
    of_user: HashMap<Arc<str>, VecDeque<TokenHash>>,
}

impl TokenTable {
    pub(super) fn issue(
        &mut self,
        grant: Grant,
        validity: Validity,
        random: &Zeroizing<[u8; 32]>,
        now: MonotonicTime,
    ) -> Issued {
        let token = TokenText(Zeroizing::new(hex(random.as_slice())));
        let hash = hash_of(token.expose().as_bytes());
        let own = self.of_user.entry(Arc::clone(&grant.user_id)).or_default();
        while let Some(oldest) = own.front() {
            let is_forgotten =
                self.records.get(oldest).is_none_or(|record| now.since(record.validity.expires) > REMEMBERED);
            if own.len() < TOKENS_PER_USER && !is_forgotten {
                break;
            }
            self.records.remove(oldest);
            own.pop_front();
        }
        own.push_back(hash);
        self.records.insert(hash, TokenRecord { grant, validity });
        Issued { token, validity }
    }

    pub(super) fn find(&self, token: &[u8], now: MonotonicTime) -> Result<&TokenRecord, TokenFault> {
        // Looking up a hash tells a prober nothing: it cannot choose the hash.
        let record = self.records.get(&hash_of(token)).ok_or(TokenFault::Unknown)?;
        if now >= record.validity.expires { Err(TokenFault::Expired) } else { Ok(record) }
    }

    pub(super) fn revoke(&mut self, token: &[u8]) {
        let hash = hash_of(token);
        if let Some(record) = self.records.remove(&hash)
            && let Some(own) = self.of_user.get_mut(&record.grant.user_id)
        {
            own.retain(|other| *other != hash);
        }
    }

    /// Forgets the tokens of every user that is not wanted any more.
    pub(super) fn retain_users(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.of_user.retain(|user, _| is_wanted(user));
        self.records.retain(|_, record| is_wanted(&record.grant.user_id));
    }
}

fn hash_of(token: &[u8]) -> TokenHash {
    Sha256::digest(token).into()
}
