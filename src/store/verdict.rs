//! Verdicts that outlive the daemon: whose they are, their bytes and their file,
//! and how old is too old.
//!
//! A verdict is found again only by a member of the same channel at the same
//! place that is asked the same. Whatever differs makes another key, so that the
//! member starts at unknown.
//!
//! The file is written whole each time, so it is flat: a head, records of one
//! length, a checksum. 37 bytes a member: 3.7 MB for 100,000. It is written
//! beside the old one, flushed, and moved into its place, so that a crash leaves
//! one of the two.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::directory::StateDirectory;
use super::error::StoreError;
use crate::channel::{Channel, Health, Member};
use crate::health::{Resumed, Timestamp};

const FILE: &str = "verdicts";
/// How the file begins; its last two bytes are the version, little-endian.
const MAGIC: &[u8; 14] = b"vitald-verdict";
const VERSION: u16 = 1;
const RECORD: usize = 16 + 1 + 4 + 4 + 8 + 4;
const CHECKSUM: usize = 32;

/// The hash of a channel's check with its options. Made once per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefinitionHash([u8; 32]);

impl DefinitionHash {
    /// The hash of what the channel asks its members; none when it asks nothing.
    pub fn of(channel: &Channel) -> Option<Self> {
        channel.active_check()?;
        Some(Self(Sha256::digest(channel.check_definition().as_bytes()).into()))
    }
}

/// Finds a member's verdict again after a restart. SHA-256, because std's hashers
/// may change with the compiler; cut to 128 bits, which no two of millions of
/// members share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerdictKey([u8; 16]);

impl VerdictKey {
    /// The key of a member of that channel, whose check has that hash.
    pub fn of(definition: DefinitionHash, channel: &Channel, member: &Member) -> Self {
        let mut hash = Sha256::new();
        hash.update(definition.0);
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        let identity = channel.host_identity(member);
        text(channel.name());
        text(identity.group());
        text(&identity.server());
        hash.update(identity.port().to_le_bytes());
        hash.update(channel.check_port(member).get().to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(digest.split_at(16).0);
        Self(key)
    }
}

/// What is kept of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictRecord {
    /// Whose it is.
    pub key: VerdictKey,
    /// The verdict and its counts; unknown members are kept for their counts.
    pub resumed: Resumed,
    /// How long before the saving the last conclusive probe was; kept in whole
    /// seconds, rounded up. A verdict that was resumed and not probed since goes
    /// on ageing: restarts alone never make it young again.
    pub unconfirmed: Duration,
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
    /// clock was set back.
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

impl SavedVerdicts {
    /// As bytes.
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
            let VerdictRecord { key, resumed, unconfirmed } = record;
            bytes.extend_from_slice(&key.0);
            bytes.push(match resumed.health {
                Health::Unknown => 0,
                Health::Healthy => 1,
                Health::Unhealthy => 2,
            });
            bytes.extend_from_slice(&resumed.consecutive_successes.to_le_bytes());
            bytes.extend_from_slice(&resumed.consecutive_failures.to_le_bytes());
            bytes.extend_from_slice(&resumed.since.0.to_le_bytes());
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
    /// A newer version, or anything that is not as it was written; the text goes
    /// on after "cannot be used: ".
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let damaged = |what: &str| format!("it is damaged: {what}");
        let cut_off = || damaged("it is cut off");
        let mut head = ByteReader(bytes);
        if head.take() != Some(*MAGIC) {
            return Err(damaged("it does not begin as verdicts do"));
        }
        match head.take().map(u16::from_le_bytes).ok_or_else(cut_off)? {
            VERSION => {}
            0 => return Err(damaged("it has version 0")),
            newer => return Err(format!("it has version {newer}, this vitald reads version {VERSION}")),
        }
        let end = bytes.len().checked_sub(CHECKSUM).ok_or_else(cut_off)?;
        let (content, checksum) = bytes.split_at(end);
        if Sha256::digest(content).as_slice() != checksum {
            return Err(damaged("its checksum is wrong"));
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
        let records = records.ok_or_else(|| damaged("a record has an unknown verdict"))?;
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

/// Kept verdicts, young enough to go on with.
#[derive(Debug, Clone, Default)]
pub struct Recall {
    /// By key, with `unconfirmed` as of now. A member has none when it, its
    /// channel or its check is new or changed.
    pub records: HashMap<VerdictKey, VerdictRecord>,
    /// How long ago they were saved.
    pub age: Duration,
}

/// The file of verdicts in a state directory.
#[derive(Debug, Clone)]
pub struct VerdictFile {
    directory: Arc<StateDirectory>,
    path: PathBuf,
}

impl VerdictFile {
    /// The file of that directory; it need not be there yet.
    pub fn of(directory: &Arc<StateDirectory>) -> Self {
        Self { directory: Arc::clone(directory), path: directory.path().join(FILE) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was saved last; none when nothing ever was. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Verdicts`]. Neither is a reason not
    /// to start: say so and start at unknown. The
    /// next save replaces the file.
    pub fn load(&self) -> Result<Option<SavedVerdicts>, StoreError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &self.path, error)),
        };
        SavedVerdicts::decode(&bytes)
            .map(Some)
            .map_err(|why| StoreError::Verdicts { path: self.path.clone(), why })
    }

    /// Replaces what was saved, durably. Blocks.
    ///
    /// # Errors
    /// The system refused; what was saved before is still there.
    pub fn save(&self, verdicts: &SavedVerdicts) -> Result<(), StoreError> {
        let draft = self.path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&verdicts.encode())?;
            // Before the rename, or a loss of power may leave an empty file.
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            self.directory.sync()
        };
        write().map_err(|error| {
            // What is there of it only takes up the space that is missing.
            let _ = fs::remove_file(&draft);
            StoreError::io("write", &self.path, error)
        })
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
        let resumed = Resumed {
            health,
            consecutive_successes: u32::from_le_bytes(self.take()?),
            consecutive_failures: u32::from_le_bytes(self.take()?),
            since: Timestamp(u64::from_le_bytes(self.take()?)),
        };
        let unconfirmed = Duration::from_secs(u32::from_le_bytes(self.take()?).into());
        Some(VerdictRecord { key, resumed, unconfirmed })
    }
}

#[cfg(test)]
mod tests;
