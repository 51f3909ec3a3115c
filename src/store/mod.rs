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
//! | `local` | [`Store`] over one file, with one writer thread |
//! | `ledger` | commits, and what becomes of those that fail |
//! | `database` | the file: made, checked, opened; panics contained |
//! | `identity` | whose verdict it is: a hash that survives versions |
//! | `verdict` | verdicts as bytes, and how old is too old |
//! | `keeper` | the verdicts' file and the thread that writes it |

mod database;
mod directory;
mod error;
mod identity;
mod keeper;
mod ledger;
mod local;
mod record;
mod verdict;

pub use directory::StateDirectory;
pub use error::StoreError;
pub use identity::{DefinitionHash, VerdictKey};
pub use keeper::{VerdictFile, VerdictKeeper};
pub use local::LocalStore;
pub use record::{Batch, Collection, Contents, Edit, Key, Record, Revision};
pub use verdict::{BootTime, Recall, Refusal, SavedAt, VerdictRecord, Verdicts, VerdictsError};

/// Records that outlive the daemon. [`LocalStore`] keeps them in a file of its
/// own; one shared by several daemons would answer the same calls, and a fifth
/// that tells of others' changes.
pub trait Store: Send + Sync + 'static {
    /// Every record, as of the last acknowledged batch.
    ///
    /// # Errors
    /// The records cannot be read; nothing is made up in their place.
    fn load(&self) -> impl Future<Output = Result<Contents, StoreError>> + Send;

    /// Makes a batch durable: when this returns, it survives the end of the
    /// process and a loss of power. All of it or none of it.
    ///
    /// Waits while the queue is full. Not cancel-safe in one respect: a batch
    /// whose caller went away may still be written.
    ///
    /// # Errors
    /// Nothing of the batch is in effect, and what was there still is. Later
    /// batches are tried afresh.
    fn write(&self, batch: Batch) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// How the store fares. Answers at once.
    fn state(&self) -> StoreState;

    /// Writes what is queued and lets go of everything.
    ///
    /// # Errors
    /// The last words could not be written. Acknowledged batches are safe
    /// nevertheless.
    fn close(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

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
