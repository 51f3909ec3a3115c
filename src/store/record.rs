//! Records as the store sees them: a collection, an id, bytes.
//!
//! `catalog` defines the bytes of channels and instances, the store only keeps
//! them. They may hold private keys and password hashes, so nothing here prints them.

use std::fmt;

/// Counts the batches of a store's life. Never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after so many further batches.
    pub fn after(self, batches: u64) -> Self {
        Self(self.0.saturating_add(batches))
    }

    /// The one so many batches earlier.
    pub(super) fn before(self, batches: u64) -> Self {
        Self(self.0.saturating_sub(batches))
    }
}

/// What kind of thing a record describes. A new kind needs a new format of the
/// file (see `database`), so that an older vitald refuses it instead of losing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Collection {
    /// Channels made through the API.
    Channels,
    /// Instances, with their features.
    Instances,
    /// Users added with `vitald user add`.
    Users,
    /// Issued tokens, hashed.
    Tokens,
}

impl Collection {
    /// All collections, in the order of their tags.
    pub const ALL: [Self; 4] = [Self::Channels, Self::Instances, Self::Users, Self::Tokens];

    /// The first byte of a key in the file. Never reused for another meaning.
    pub(super) fn tag(self) -> u8 {
        match self {
            Self::Channels => 1,
            Self::Instances => 2,
            Self::Users => 3,
            Self::Tokens => 4,
        }
    }

    fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|collection| collection.tag() == tag)
    }
}

/// Names a record. At most one record has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// The kind of thing.
    pub collection: Collection,
    /// Which one; 1 to [`RecordKey::LONGEST_ID`] bytes.
    pub id: Vec<u8>,
}

impl RecordKey {
    /// The longest id in bytes.
    pub const LONGEST_ID: usize = 1024;

    /// The key of that id.
    pub fn new(collection: Collection, id: impl Into<Vec<u8>>) -> Self {
        Self { collection, id: id.into() }
    }

    /// As it stands in the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.id.len());
        bytes.push(self.collection.tag());
        bytes.extend_from_slice(&self.id);
        bytes
    }

    /// Reads what [`RecordKey::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, id) = bytes.split_first()?;
        Some(Self { collection: Collection::of_tag(*tag)?, id: id.to_vec() })
    }
}

/// A key and what is kept under it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// Opaque.
    pub value: Vec<u8>,
}

impl fmt::Debug for Record {
    // The value stays out: it may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({:?}, {} bytes)", self.key, self.value.len())
    }
}

/// One record's change.
#[derive(Clone, PartialEq, Eq)]
pub enum RecordChange {
    /// There is such a record from now on, whatever was there before.
    Put(Record),
    /// There is no such record from now on.
    Remove(RecordKey),
}

impl fmt::Debug for RecordChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(record) => write!(f, "Put({record:?})"),
            Self::Remove(key) => write!(f, "Remove({key:?})"),
        }
    }
}

/// Changes that are made together or not at all, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    edits: Vec<RecordChange>,
}

impl Batch {
    /// The longest value in bytes: 256 MiB, ten times a channel of 100,000 members.
    pub const LONGEST_VALUE: usize = 256 << 20;

    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more record to keep.
    pub fn put(&mut self, key: RecordKey, value: Vec<u8>) -> &mut Self {
        self.edits.push(RecordChange::Put(Record { key, value }));
        self
    }

    /// One more record to forget.
    pub fn remove(&mut self, key: RecordKey) -> &mut Self {
        self.edits.push(RecordChange::Remove(key));
        self
    }

    /// The edits, in order.
    pub fn edits(&self) -> &[RecordChange] {
        &self.edits
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Roughly what it takes in memory and on disk.
    pub(super) fn size(&self) -> usize {
        let sizes = self.edits.iter().map(|edit| match edit {
            RecordChange::Put(record) => record.key.id.len() + record.value.len(),
            RecordChange::Remove(key) => key.id.len(),
        });
        sizes.fold(0, usize::saturating_add)
    }

    /// What is too long or too short to be kept, if anything.
    pub(super) fn breach(&self) -> Option<String> {
        self.edits.iter().find_map(|edit| {
            let (key, value) = match edit {
                RecordChange::Put(record) => (&record.key, record.value.len()),
                RecordChange::Remove(key) => (key, 0),
            };
            if !(1..=RecordKey::LONGEST_ID).contains(&key.id.len()) {
                return Some(format!(
                    "an id of {} bytes; 1 to {} can be kept",
                    key.id.len(),
                    RecordKey::LONGEST_ID
                ));
            }
            (value > Self::LONGEST_VALUE)
                .then(|| format!("a record of {value} bytes; at most {} can be kept", Self::LONGEST_VALUE))
        })
    }
}

impl FromIterator<RecordChange> for Batch {
    fn from_iter<I: IntoIterator<Item = RecordChange>>(edits: I) -> Self {
        Self { edits: edits.into_iter().collect() }
    }
}

/// Everything a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreContents {
    /// Of the last batch.
    pub revision: Revision,
    /// By key, ascending.
    pub records: Vec<Record>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_stay_apart() {
        for collection in Collection::ALL {
            let key = RecordKey::new(collection, *b"id");
            assert_eq!(RecordKey::decode(&key.encode()), Some(key));
        }
        for wrong in [&b""[..], b"\0id", b"\x05id", b"\xffid"] {
            assert_eq!(RecordKey::decode(wrong), None);
        }
    }

    #[test]
    fn tags_are_those_of_format_1() {
        assert_eq!(Collection::ALL.map(Collection::tag), [1, 2, 3, 4]);
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut batch = Batch::new();
        batch.put(RecordKey::new(Collection::Users, *b"ops"), b"$argon2id$secret".to_vec());
        let shown = format!("{batch:?}");
        assert!(!shown.contains("argon2id") && !shown.contains("36, 97"), "{shown}");
        assert!(shown.contains("16 bytes"), "{shown}");
    }

    #[test]
    fn what_cannot_be_kept_is_named() {
        let rows = [(0, 1, "an id of 0 bytes; 1 to 1024"), (1025, 1, "an id of 1025 bytes")];
        for (id, value, expected) in rows {
            let mut batch = Batch::new();
            batch.put(RecordKey::new(Collection::Users, vec![b'x'; id]), vec![0; value]);
            let breach = batch.breach().expect("too long or too short");
            assert!(breach.starts_with(expected), "{breach}");
        }
        let mut batch = Batch::new();
        batch.put(RecordKey::new(Collection::Users, [b'x'; 1024]), vec![0; 10]);
        assert_eq!((batch.breach(), batch.size()), (None, 1034));
    }
}
