//! Commits to the store's file, and how a failed one is settled.
//!
//! The caller of a failed commit is told that nothing was written, and that must
//! hold. After an I/O error redb has to be opened again, and the file may hold the
//! commit or not. The file's revision decides: a commit that did reach the file is
//! undone before anything else is written.
//!
//! Used by the one writer thread of `local`; every call blocks.

use redb::Database;

use super::database::{self, Medium, Verification, catch_panic};
use super::error::StoreError;
use super::record::{Batch, RecordChange, Revision, StoreContents};

/// The one writer of a store's file.
#[derive(Debug)]
pub(super) struct CommitLog {
    medium: Box<dyn Medium>,
    /// None after a failure, until it can be opened again.
    database: Option<Database>,
    /// What the next opening has to verify.
    check: Verification,
    /// The last acknowledged batch.
    revision: Revision,
    unsettled: Option<UnsettledCommit>,
}

/// A commit that was reported as failed and may be in the file all the same.
#[derive(Debug)]
struct UnsettledCommit {
    revision: Revision,
    inverse: Vec<RecordChange>,
}

impl CommitLog {
    /// Opens the file and verifies all of it.
    pub(super) fn open(medium: Box<dyn Medium>) -> Result<Self, StoreError> {
        let database = medium.open(Verification::Everything)?;
        let path = medium.path();
        let revision = catch_panic(path, || database::revision(&database, path));
        match revision {
            Ok(revision) => Ok(Self {
                medium,
                database: Some(database),
                check: Verification::Header,
                revision,
                unsettled: None,
            }),
            Err(error) => {
                // The error that matters is the one in hand.
                let _ = database::close(database, path);
                Err(error)
            }
        }
    }

    /// Reads everything.
    pub(super) fn contents(&mut self) -> Result<StoreContents, StoreError> {
        self.reopen()?;
        self.attempt(database::contents)
    }

    /// Makes all batches durable, in order, or none of them.
    pub(super) fn commit(&mut self, batches: &[Batch]) -> Result<Revision, StoreError> {
        self.reopen()?;
        let revision = self.revision.after(batches.len() as u64);
        let mut inverse = Vec::new();
        let edits = || batches.iter().flat_map(Batch::edits);
        let attempt =
            self.attempt(|database, path| database::apply(database, path, revision, edits(), &mut inverse));
        match attempt {
            Ok(()) => {
                self.revision = revision;
                Ok(revision)
            }
            Err(error) => {
                self.unsettled = Some(UnsettledCommit { revision, inverse });
                // Settled at once if the disk allows, so that a restart cannot
                // find what was just refused. The next call tries again.
                let _ = self.reopen();
                Err(error)
            }
        }
    }

    /// Closes the file; the next call opens it again.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        if self.unsettled.is_some() {
            self.reopen()?;
        }
        self.database.take().map_or(Ok(()), |database| database::close(database, self.medium.path()))
    }

    /// Opens the file if a failure closed it, and settles what that failure
    /// left unsettled.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.database.is_none() {
            self.database = Some(self.medium.open(self.check)?);
            self.check = Verification::Header;
        }
        let found = self.attempt(database::revision)?;
        let Some(unsettled) = self.unsettled.take() else { return self.expect(found) };
        let undone = unsettled.revision.after(1);
        if found == undone {
            self.revision = undone;
        } else if found == unsettled.revision {
            let mut redo = Vec::new();
            let undo = self.attempt(|database, path| {
                database::apply(database, path, undone, &unsettled.inverse, &mut redo)
            });
            if let Err(error) = undo {
                self.unsettled = Some(unsettled);
                return Err(error);
            }
            self.revision = undone;
        } else if found != self.revision {
            self.unsettled = Some(unsettled);
            return self.expect(found);
        }
        Ok(())
    }

    fn expect(&self, found: Revision) -> Result<(), StoreError> {
        if found == self.revision {
            return Ok(());
        }
        Err(StoreError::Damaged {
            path: self.medium.path().to_owned(),
            found: format!(
                "it is at revision {}, where this vitald left it at {}: somebody else wrote to it",
                found.0, self.revision.0
            ),
        })
    }

    /// Does something with the open database; closes it when that fails.
    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&Database, &std::path::Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let path = self.medium.path();
        let Some(database) = self.database.take() else { return Err(StoreError::Closed) };
        match catch_panic(path, || work(&database, path)) {
            Ok(done) => {
                self.database = Some(database);
                Ok(done)
            }
            Err(error) => {
                if matches!(error, StoreError::Damaged { .. }) {
                    self.check = Verification::Everything;
                }
                // The error that matters is the one in hand.
                let _ = database::close(database, path);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
