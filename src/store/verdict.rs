//! Verdicts that outlive the daemon: their bytes and their file, and how old is too old.
//! `keys` says whose they are.
//!
//! The file is written whole each time, so it is flat: a head, records of one
//! length, a checksum. 53 bytes a member: 5.3 MB for 100,000. It is written
//! beside the old one, flushed, and moved into its place, so that a crash leaves
//! one of the two.

mod keys;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

pub use self::keys::{AddressKey, ChannelKeys, MemberKeys, OwnerKey, QuestionKey, WholeKey, WholeKeys};
use super::directory::StateDirectory;
use super::error::StoreError;
use crate::channel::Health;
use crate::health::time::nanos;
use crate::health::{ConfirmedAt, Resumed, Timestamp, VerdictFrom};

const FILE: &str = "verdicts";
const DRAFT: &str = "verdicts.new";
/// How the file begins; its last two bytes are the version, little-endian.
const MAGIC: &[u8; 14] = b"vitald-verdict";
const VERSION: u16 = 2;
const RECORD: usize = 16 + 8 + 8 + 1 + 4 + 4 + 8 + 4;
/// That of vitald 0.1, and the length of its records.
const FIRST_VERSION: u16 = 1;
const FIRST_RECORD: usize = 16 + 1 + 4 + 4 + 8 + 4;
const CHECKSUM: usize = 32;
/// Largest file that is read. A million members take 53 MB.
const LARGEST_FILE: u64 = 128 << 20;
/// Added to a record's verdict when its key is of vitald 0.1.
const WHOLE: u8 = 0x80;

/// Every health with each origin that it can have. On disk a pair is its number in this list.
const VERDICTS: [(Health, VerdictFrom); 7] = [
    (Health::Unknown, VerdictFrom::InitialState),
    (Health::Healthy, VerdictFrom::Check),
    (Health::Unhealthy, VerdictFrom::Check),
    (Health::Healthy, VerdictFrom::EarlierCheck),
    (Health::Unhealthy, VerdictFrom::EarlierCheck),
    (Health::Unknown, VerdictFrom::LastKnown(Health::Healthy)),
    (Health::Unknown, VerdictFrom::LastKnown(Health::Unhealthy)),
];

/// Whose a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictSubject {
    /// The member with these keys.
    Member(MemberKeys),
    /// The member that vitald 0.1 knew by this key, with the very check that it had.
    Whole(WholeKey),
}

/// What is kept of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictRecord {
    /// Whose it is.
    pub subject: VerdictSubject,
    /// The health that counted. With [`VerdictFrom::InitialState`] it is unknown.
    pub health: Health,
    /// Whose verdict that was.
    pub from: VerdictFrom,
    /// Successes in a row; members without a verdict are kept for their counts.
    pub consecutive_successes: u32,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// When `health` became what it was.
    pub since: Timestamp,
    /// How long before the saving the last conclusive probe was; kept in whole
    /// seconds, rounded up. A verdict that was resumed and not probed since goes
    /// on ageing: restarts alone never make it young again.
    pub unconfirmed: Duration,
}

impl VerdictRecord {
    /// What to keep of a member at `now`; nothing as long as no probe has said anything,
    /// or when nothing of it could go on.
    pub fn of(keys: MemberKeys, known: &Resumed, now: Timestamp) -> Option<Self> {
        let is_last_known = matches!(known.from, VerdictFrom::LastKnown(_));
        if is_last_known == keys.question.is_some() {
            return None;
        }
        let confirmed = known.confirmed.time()?;
        Some(Self {
            subject: VerdictSubject::Member(keys),
            health: match known.from {
                VerdictFrom::InitialState => Health::Unknown,
                _ => known.health,
            },
            from: known.from,
            consecutive_successes: known.consecutive_successes,
            consecutive_failures: known.consecutive_failures,
            since: known.since,
            unconfirmed: Duration::from_nanos(now.0.saturating_sub(confirmed.0)),
        })
    }

    /// What a member can go on with at `now`; `unconfirmed` is as of then.
    fn resumed(&self, now: Timestamp) -> Resumed {
        Resumed {
            health: self.health,
            from: self.from,
            consecutive_successes: self.consecutive_successes,
            consecutive_failures: self.consecutive_failures,
            since: self.since,
            confirmed: ConfirmedAt::at(Timestamp(now.0.saturating_sub(nanos(self.unconfirmed)))),
        }
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        // A pair that is not in the list cannot occur, and has no number to be kept by.
        let Some((number, _)) = (0..).zip(VERDICTS).find(|(_, verdict)| *verdict == (self.health, self.from))
        else {
            return;
        };
        let (address, owner, question, flag) = match self.subject {
            VerdictSubject::Member(MemberKeys { address, owner, question }) => {
                (address.0, owner.0, question.map_or([0; 8], |question| question.0), 0)
            }
            VerdictSubject::Whole(key) => (key.0, [0; 8], [0; 8], WHOLE),
        };
        bytes.extend_from_slice(&address);
        bytes.extend_from_slice(&owner);
        bytes.extend_from_slice(&question);
        bytes.push(flag | number);
        bytes.extend_from_slice(&self.consecutive_successes.to_le_bytes());
        bytes.extend_from_slice(&self.consecutive_failures.to_le_bytes());
        bytes.extend_from_slice(&self.since.0.to_le_bytes());
        let unconfirmed = self.unconfirmed;
        let seconds = unconfirmed.as_secs().saturating_add((unconfirmed.subsec_nanos() > 0).into());
        bytes.extend_from_slice(&u32::try_from(seconds).unwrap_or(u32::MAX).to_le_bytes());
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
            record.encode(&mut bytes);
        }
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Reads what [`SavedVerdicts::encode`] wrote, here or in vitald 0.1.
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
        let version = head.take().map(u16::from_le_bytes).ok_or_else(cut_off)?;
        match version {
            FIRST_VERSION | VERSION => {}
            0 => return Err(damaged("it has version 0")),
            newer => {
                return Err(format!(
                    "it has version {newer}, this vitald reads versions {FIRST_VERSION} to {VERSION}"
                ));
            }
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
        let length = if version == FIRST_VERSION { FIRST_RECORD } else { RECORD };
        if records.len() % length != 0 {
            return Err(cut_off());
        }
        let records: Option<Vec<VerdictRecord>> = records
            .chunks_exact(length)
            .map(|record| match version {
                FIRST_VERSION => ByteReader(record).first_record(),
                _ => ByteReader(record).record(),
            })
            .collect();
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
                let mut recall = Recall { age, now: now.wall, ..Recall::default() };
                for record in self.records {
                    let unconfirmed = record.unconfirmed.saturating_add(age);
                    if unconfirmed <= limit {
                        recall.add(VerdictRecord { unconfirmed, ..record }, now.wall);
                    }
                }
                Ok(recall)
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

/// A kept verdict of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecalledVerdict {
    /// The channel and group that had the member.
    pub owner: OwnerKey,
    /// What it was asked; none when it was not probed.
    pub question: Option<QuestionKey>,
    /// What it can go on with.
    pub resumed: Resumed,
}

/// Kept verdicts, young enough to go on with.
#[derive(Debug, Clone, Default)]
pub struct Recall {
    addresses: HashMap<AddressKey, Vec<RecalledVerdict>>,
    /// Those of vitald 0.1.
    wholes: HashMap<WholeKey, Resumed>,
    members: usize,
    /// How long ago they were saved.
    pub age: Duration,
    /// When they were read.
    pub now: Timestamp,
}

impl Recall {
    fn add(&mut self, record: VerdictRecord, now: Timestamp) {
        let resumed = record.resumed(now);
        self.members += 1;
        match record.subject {
            VerdictSubject::Member(MemberKeys { address, owner, question }) => {
                let verdict = RecalledVerdict { owner, question, resumed };
                self.addresses.entry(address).or_default().push(verdict);
            }
            VerdictSubject::Whole(key) => drop(self.wholes.insert(key, resumed)),
        }
    }

    /// Of how many members there is one.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Those of the members that had an address.
    pub fn at(&self, address: AddressKey) -> &[RecalledVerdict] {
        self.addresses.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Whether some are of vitald 0.1.
    pub fn has_wholes(&self) -> bool {
        !self.wholes.is_empty()
    }

    /// The one that vitald 0.1 kept of a member with its check.
    pub fn whole(&self, key: WholeKey) -> Option<Resumed> {
        self.wholes.get(&key).copied()
    }
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
        let bytes = match self.read() {
            Ok(bytes) => bytes,
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let verdicts = bytes.and_then(|bytes| SavedVerdicts::decode(&bytes));
        verdicts.map(Some).map_err(|why| StoreError::Verdicts { path: self.path.clone(), why })
    }

    /// Its bytes; or why what has its path is no file of verdicts. Takes no more than
    /// [`LARGEST_FILE`] of a file that grows.
    fn read(&self) -> Result<Result<Vec<u8>, String>, StoreError> {
        let failed = |error| StoreError::io("read", &self.path, error);
        let file = self.directory.open_file(FILE, OFlags::RDONLY)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut bytes = Vec::new();
        if length <= LARGEST_FILE {
            file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        }
        if length.max(bytes.len() as u64) > LARGEST_FILE {
            return Ok(Err(format!("it is larger than {} MiB", LARGEST_FILE >> 20)));
        }
        Ok(Ok(bytes))
    }

    /// Replaces what was saved, durably. Blocks.
    ///
    /// # Errors
    /// The system refused; what was saved before is still there.
    pub fn save(&self, verdicts: &SavedVerdicts) -> Result<(), StoreError> {
        let write = |mut file: File| -> io::Result<()> {
            // Only now: it is known to be no other file.
            file.set_len(0)?;
            file.write_all(&verdicts.encode())?;
            // Before the rename, or a loss of power may leave an empty file.
            file.sync_all()?;
            self.directory.rename(DRAFT, FILE)?;
            self.directory.sync()
        };
        let draft = self.directory.open_file(DRAFT, OFlags::WRONLY | OFlags::CREATE);
        let failed = |error| StoreError::io("write", &self.path, error);
        draft.and_then(|file| write(file).map_err(failed)).inspect_err(|_| {
            // What is there of it only takes up the space that is missing, or the place.
            let _ = self.directory.remove(DRAFT);
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
        let (address, owner, question) = (self.take()?, OwnerKey(self.take()?), QuestionKey(self.take()?));
        let [byte] = self.take()?;
        let (health, from) = *VERDICTS.get(usize::from(byte & !WHOLE))?;
        let subject = if byte & WHOLE == 0 {
            let is_last_known = matches!(from, VerdictFrom::LastKnown(_));
            let question = Some(question).filter(|_| !is_last_known);
            VerdictSubject::Member(MemberKeys { address: AddressKey(address), owner, question })
        } else {
            VerdictSubject::Whole(WholeKey(address))
        };
        self.rest(subject, (health, from))
    }

    /// A record of vitald 0.1. Its check asked in another way, so the verdict is carried
    /// over, and the counts are not.
    fn first_record(&mut self) -> Option<VerdictRecord> {
        let subject = VerdictSubject::Whole(WholeKey(self.take()?));
        let verdict = match self.take()? {
            [0] => (Health::Unknown, VerdictFrom::InitialState),
            [1] => (Health::Healthy, VerdictFrom::EarlierCheck),
            [2] => (Health::Unhealthy, VerdictFrom::EarlierCheck),
            _ => return None,
        };
        let record = self.rest(subject, verdict)?;
        Some(VerdictRecord { consecutive_successes: 0, consecutive_failures: 0, ..record })
    }

    /// What a record ends with.
    fn rest(
        &mut self,
        subject: VerdictSubject,
        (health, from): (Health, VerdictFrom),
    ) -> Option<VerdictRecord> {
        Some(VerdictRecord {
            subject,
            health,
            from,
            consecutive_successes: u32::from_le_bytes(self.take()?),
            consecutive_failures: u32::from_le_bytes(self.take()?),
            since: Timestamp(u64::from_le_bytes(self.take()?)),
            unconfirmed: Duration::from_secs(u32::from_le_bytes(self.take()?).into()),
        })
    }
}

#[cfg(test)]
mod tests;
