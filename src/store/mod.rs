//! What survives a restart: the API's records, and the members' verdicts.
//!
//! Two kinds of data with two promises. Records are what users asked for: a
//! batch is written whole or not at all, and is acknowledged when it is on disk.
//! Verdicts are what the probes will find again anyway: they are saved now and
//! then, the latest wins, and a lost file costs some unknown members.
//!
//! | file | what it holds |
//! |---|---|
//! | `record` | keys, edits, batches: opaque bytes to the store |
//! | `error` | what can go wrong, with what to do about it |
//! | `directory` | the state directory: made private, locked |
//! | `local` | [`LocalStore`]: the records in one file, and its writer thread |
//! | `commit_log` | commits, and what becomes of those that fail |
//! | `database` | the file: made, checked, opened; panics contained |
//! | `identity` | whose verdict it is: a hash that survives versions |
//! | `verdict` | verdicts as bytes, and how old is too old |
//! | `verdict_writer` | the verdicts' file and the thread that writes it |

mod commit_log;
mod database;
mod directory;
mod error;
mod identity;
mod local;
mod record;
mod verdict;
mod verdict_writer;

pub use directory::StateDirectory;
pub use error::StoreError;
pub use identity::{DefinitionHash, VerdictKey};
pub use local::LocalStore;
pub use record::{Batch, Collection, Record, RecordChange, RecordKey, Revision, StoreContents};
pub use verdict::{BootTime, Recall, Refusal, SavedAt, SavedVerdicts, SavedVerdictsError, VerdictRecord};
pub use verdict_writer::{VerdictFile, VerdictWriter};

/// How a store fares, for status and metrics.
#[derive(Debug, Clone, Default)]
pub struct StoreState {
    /// The last batch that is durable.
    pub revision: Revision,
    /// Why the last write failed; none once one succeeds.
    pub failure: Option<StoreError>,
    /// Batches made durable since the start.
    pub batches: u64,
    /// Commits that took: several batches that wait share one.
    pub commits: u64,
    /// Writes that failed since the start, in batches.
    pub failed_batches: u64,
}
