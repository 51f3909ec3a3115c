//! What can go wrong with the state directory, and what to do about it.
//!
//! Every error names the path. Nothing here ever replaces or repairs a file on
//! its own: a user can put a copy back, a daemon cannot.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why records cannot be read or written. Cheap to clone: all callers of a
/// commit get the same.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process uses the directory.
    #[error(
        "{path} is in use by another vitald{}; stop that one, or give this one another [store] path",
        holder.map_or_else(String::new, |pid| format!(" (process {pid})"))
    )]
    Locked {
        /// The state directory.
        path: PathBuf,
        /// Who holds it, if it said so.
        holder: Option<u32>,
    },
    /// The system refused: disk full, read-only, no permission, broken.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried, as in "write".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// With its errno.
        source: Arc<io::Error>,
    },
    /// Others than its owner could change it, or it leads elsewhere.
    #[error("{path} is not used: {found}; {remedy}")]
    Unsafe {
        /// The directory, or a file in it.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What to do about it.
        remedy: String,
    },
    /// There is something else in the file's place.
    #[error("{path} is no vitald store: {found}; move it elsewhere, or give vitald another [store] path")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The file is not as it was written.
    #[error(
        "{path} is damaged: {found}; it was left as it is. Put a copy of it back, or move it aside \
         (`mv {path} {path}.damaged`) to start without the channels that were made through the API"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The file was written by a newer vitald.
    #[error(
        "{path} has format {format}, written by vitald {written_by}; this one reads format {reads}. \
         Run the newer vitald, or move the file aside"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The newest format known here.
        reads: u32,
        /// The version that wrote it last.
        written_by: String,
    },
    /// The file of verdicts cannot be used.
    #[error("the saved verdicts in {path} cannot be used: {why}; members start at unknown")]
    Verdicts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file of overrides cannot be used.
    #[error(
        "{path} cannot be used: {why}; it was left as it is. Put a copy of it back, or move it aside \
         (`mv {path} {path}.damaged`) to start without overrides of members"
    )]
    Overrides {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A batch holds what no store can keep.
    #[error("the store cannot keep {0}")]
    TooLarge(String),
    /// The store was closed.
    #[error("the store is closed: the daemon is shutting down")]
    Closed,
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { doing, path: path.into(), source: Arc::new(source) }
    }

    /// The errno, when the system refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
