//! Verdicts as bytes, and how old is too old.
//!
//! The file is written whole each time, so it is flat: a head, records of one
//! length, a checksum. 37 bytes a member: 3.7 MB for 100,000.

use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::identity::VerdictKey;
use crate::channel::Health;
use crate::health::{MemberState, Timestamp};

/// How the file begins; its last two bytes are the version, little-endian.
const MAGIC: &[u8; 14] = b"vitald-verdict";
const VERSION: u16 = 1;
const RECORD: usize = 16 + 1 + 4 + 4 + 8 + 4;
const CHECKSUM: usize = 32;

/// What is kept of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictRecord {
    /// Whose it is.
    pub key: VerdictKey,
    /// The verdict; unknown members are kept for their counts.
    pub health: Health,
    /// Successes in a row up to the last conclusive probe.
    pub consecutive_successes: u32,
    /// Failures in a row up to the last conclusive probe.
    pub consecutive_failures: u32,
    /// When `health` became what it is.
    pub since: Timestamp,
    /// How long before the saving the last conclusive probe was; kept in whole
    /// seconds, rounded up. A verdict that was resumed and not probed since goes
    /// on ageing: restarts alone never make it young again.
    pub unconfirmed: Duration,
}

impl VerdictRecord {
    /// What is kept of that state.
    #[must_use]
    pub fn of(key: VerdictKey, state: &MemberState, unconfirmed: Duration) -> Self {
        Self {
            key,
            health: state.health,
            consecutive_successes: state.consecutive_successes,
            consecutive_failures: state.consecutive_failures,
            since: state.since,
            unconfirmed,
        }
    }
}

/// When verdicts were saved, by the clocks of `daemon`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SavedAt {
    /// Wall time: counts after the machine was started again.
    pub wall: Timestamp,
    /// Time since the machine's start, where that is known: counts while it
    /// runs, whatever happens to the wall clock.
    pub boot: Option<BootTime>,
}

/// A moment since a machine's start, suspension included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootTime {
    /// Tells starts apart: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: u128,
    /// Nanoseconds since that start (`CLOCK_BOOTTIME`).
    pub nanos: u64,
}

impl SavedAt {
    /// How long ago that was; none when it lies in the future, so that the
    /// clock cannot be believed.
    #[must_use]
    pub fn age(&self, now: &Self) -> Option<Duration> {
        let nanos = match (self.boot, now.boot) {
            (Some(then), Some(now)) if then.boot_id == now.boot_id => now.nanos.checked_sub(then.nanos),
            _ => now.wall.0.checked_sub(self.wall.0),
        };
        nanos.map(Duration::from_nanos)
    }
}

/// All members' verdicts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedVerdicts {
    /// When the daemon last vouched for them.
    pub saved_at: SavedAt,
    /// In any order.
    pub records: Vec<VerdictRecord>,
}

/// Why bytes are no verdicts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SavedVerdictsError {
    /// They are not as they were written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// Written by a newer vitald.
    #[error("it has version {0}, this vitald reads version {VERSION}")]
    Newer(u16),
}

impl SavedVerdicts {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.records.len() * RECORD + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.saved_at.wall.0.to_le_bytes());
        let boot = self.saved_at.boot;
        bytes.push(boot.is_some().into());
        bytes.extend_from_slice(&boot.map_or(0, |boot| boot.boot_id).to_le_bytes());
        bytes.extend_from_slice(&boot.map_or(0, |boot| boot.nanos).to_le_bytes());
        for record in &self.records {
            let VerdictRecord {
                key,
                health,
                consecutive_successes,
                consecutive_failures,
                since,
                unconfirmed,
            } = record;
            bytes.extend_from_slice(&key.0);
            bytes.push(match health {
                Health::Unknown => 0,
                Health::Healthy => 1,
                Health::Unhealthy => 2,
            });
            bytes.extend_from_slice(&consecutive_successes.to_le_bytes());
            bytes.extend_from_slice(&consecutive_failures.to_le_bytes());
            bytes.extend_from_slice(&since.0.to_le_bytes());
            let seconds = unconfirmed.as_secs().saturating_add((unconfirmed.subsec_nanos() > 0).into());
            bytes.extend_from_slice(&u32::try_from(seconds).unwrap_or(u32::MAX).to_le_bytes());
        }
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Reads what [`SavedVerdicts::encode`] wrote.
    ///
    /// # Errors
    /// A newer version, or anything that is not as it was written.
    pub fn decode(bytes: &[u8]) -> Result<Self, SavedVerdictsError> {
        let cut_off = || SavedVerdictsError::Damaged("it is cut off");
        let mut head = ByteReader(bytes);
        if head.take() != Some(*MAGIC) {
            return Err(SavedVerdictsError::Damaged("it does not begin as verdicts do"));
        }
        match head.take().map(u16::from_le_bytes).ok_or_else(cut_off)? {
            VERSION => {}
            0 => return Err(SavedVerdictsError::Damaged("it has version 0")),
            version => return Err(SavedVerdictsError::Newer(version)),
        }
        let end = bytes.len().checked_sub(CHECKSUM).ok_or_else(cut_off)?;
        let (content, checksum) = bytes.split_at(end);
        if Sha256::digest(content).as_slice() != checksum {
            return Err(SavedVerdictsError::Damaged("its checksum is wrong"));
        }
        let (head, records) = head.0.split_at_checked(8 + 1 + 16 + 8).ok_or_else(cut_off)?;
        let records = records.split_at_checked(records.len().saturating_sub(CHECKSUM)).ok_or_else(cut_off)?.0;
        let mut head = ByteReader(head);
        let wall = head.take().map(u64::from_le_bytes).map(Timestamp).ok_or_else(cut_off)?;
        let [has_boot] = head.take().ok_or_else(cut_off)?;
        let boot_id = head.take().map(u128::from_le_bytes).ok_or_else(cut_off)?;
        let nanos = head.take().map(u64::from_le_bytes).ok_or_else(cut_off)?;
        let boot = (has_boot == 1).then_some(BootTime { boot_id, nanos });
        let (records, rest) = records.as_chunks::<RECORD>();
        if !rest.is_empty() {
            return Err(cut_off());
        }
        let records: Option<Vec<VerdictRecord>> =
            records.iter().map(|record| ByteReader(record).record()).collect();
        let records = records.ok_or(SavedVerdictsError::Damaged("a record has an unknown verdict"))?;
        Ok(Self { saved_at: SavedAt { wall, boot }, records })
    }

    /// The verdicts to go on with at `now`; those whose last conclusive probe
    /// was longer ago than `limit` are history (ten minutes is the default).
    ///
    /// # Errors
    /// All of them are too old, or the clock cannot say how old they are.
    pub fn recall(self, now: &SavedAt, limit: Duration) -> Result<Recall, Refusal> {
        match self.saved_at.age(now) {
            None => Err(Refusal::FromTheFuture),
            Some(age) if age > limit => Err(Refusal::TooOld { age, limit }),
            Some(age) => {
                let aged = self.records.into_iter().map(|record| {
                    let unconfirmed = record.unconfirmed.saturating_add(age);
                    (record.key, VerdictRecord { unconfirmed, ..record })
                });
                let records = aged.filter(|(_, record)| record.unconfirmed <= limit).collect();
                Ok(Recall { records, age })
            }
        }
    }
}

/// Why verdicts that were read are not used: members start at unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too much may have happened since.
    #[error("they are {} s old, the limit is {} s", age.as_secs(), limit.as_secs())]
    TooOld {
        /// How old they are.
        age: Duration,
        /// How old they may be.
        limit: Duration,
    },
    /// The wall clock went back.
    #[error("they were saved in the future: the clock was set back")]
    FromTheFuture,
}

/// Kept verdicts by key, young enough to go on with.
#[derive(Debug, Clone, Default)]
pub struct Recall {
    records: HashMap<VerdictKey, VerdictRecord>,
    age: Duration,
}

impl Recall {
    /// What is known of the member, with `unconfirmed` as of now; none when it,
    /// its channel or its check is new or changed.
    #[must_use]
    pub fn find(&self, key: VerdictKey) -> Option<&VerdictRecord> {
        self.records.get(&key)
    }

    /// How many members are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How long ago they were saved.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }
}

struct ByteReader<'b>(&'b [u8]);

impl ByteReader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn record(&mut self) -> Option<VerdictRecord> {
        let key = VerdictKey(self.take()?);
        let health = match self.take()? {
            [0] => Health::Unknown,
            [1] => Health::Healthy,
            [2] => Health::Unhealthy,
            _ => return None,
        };
        Some(VerdictRecord {
            key,
            health,
            consecutive_successes: u32::from_le_bytes(self.take()?),
            consecutive_failures: u32::from_le_bytes(self.take()?),
            since: Timestamp(u64::from_le_bytes(self.take()?)),
            unconfirmed: Duration::from_secs(u32::from_le_bytes(self.take()?).into()),
        })
    }
}

#[cfg(test)]
mod tests;
