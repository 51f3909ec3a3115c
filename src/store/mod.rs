//! What survives a restart: the API's records, and the members' verdicts.
//!
//! Records are what users asked for: a batch is written whole or not at all, and
//! is acknowledged when it is on disk. Verdicts are what the probes will find
//! again anyway: they are saved every few seconds, the latest wins, and a lost
//! file costs some unknown members.
//!
//! | file | what it holds |
//! |---|---|
//! | `record` | keys, changes, batches: opaque bytes to the store |
//! | `error` | what can go wrong, with what to do about it |
//! | `directory` | the state directory: made private, locked |
//! | `local` | [`LocalStore`]: the records in one file, and its writer thread |
//! | `commit_log` | commits, and what becomes of those that fail |
//! | `database` | the file: made, checked, opened; panics caught |
//! | `verdict` | verdicts: whose they are, their file, how old is too old |
//! | `override_file` | overrides of members: one text with its checksum |
//! | `monitor` | how writes fare |

mod commit_log;
mod database;
mod directory;
mod error;
mod local;
mod monitor;
mod override_file;
mod record;
mod verdict;

pub use directory::{DirectoryUse, StateDirectory};
pub use error::StoreError;
pub use local::LocalStore;
pub use monitor::{StoredKind, WriteMonitor, WriteState};
pub use override_file::OverrideFile;
pub use record::{Batch, Collection, Record, RecordChange, RecordKey, StoreContents};
pub use verdict::{
    AddressKey, BootTime, ChannelKeys, MemberKeys, OwnerKey, Recall, RecalledVerdict, SavedAt, SavedVerdicts,
    VerdictFile, VerdictRecord, WholeKeys,
};
