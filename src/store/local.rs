//! The store over one file: a thread that owns it, and a queue before it.
//!
//! Batches that wait while a commit runs go into the next one together, so that
//! many writers share the cost of a flush. Each caller hears of its batch after
//! the commit that holds it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::commit_log::CommitLog;
use super::database::{Medium, StoreFile};
use super::directory::StateDirectory;
use super::error::StoreError;
use super::monitor::{StoredKind, WriteMonitor};
use super::record::{Batch, Revision, StoreContents};

/// Calls waiting for the writer thread. When it is full, callers wait in line:
/// a slow disk slows its writers down and costs no memory.
const QUEUE: usize = 256;

/// Batches of one commit at most, so that the first does not wait for the last of a flood.
const COMMIT_BATCHES: usize = 256;

/// Bytes after which a commit takes no further batch.
const COMMIT_BYTES: usize = 16 << 20;

type StoreReply<T> = oneshot::Sender<Result<T, StoreError>>;

enum StoreCall {
    Load(StoreReply<StoreContents>),
    Write(Batch, StoreReply<Revision>),
    Close(StoreReply<()>),
}

/// A store in a state directory of this machine. [`LocalStore::close`] waits until it is
/// closed. Dropping it waits for nothing, as a disk may hang: its thread writes what is
/// queued, closes the file and unlocks the directory, unless the process ends before.
#[derive(Debug)]
pub struct LocalStore {
    calls: mpsc::Sender<StoreCall>,
    monitor: WriteMonitor,
}

impl LocalStore {
    /// Opens the store of a directory, making an empty one if there is none.
    /// Reads and verifies the whole file; blocks.
    ///
    /// # Errors
    /// The file is damaged, foreign, of a newer format, or cannot be opened. It
    /// is left as it is.
    pub fn open(directory: &Arc<StateDirectory>) -> Result<Self, StoreError> {
        let file = StoreFile::prepare(directory)?;
        Self::over(Box::new(file), Some(Arc::clone(directory)))
    }

    /// The same over another medium. The directory stays locked until the
    /// writer thread has ended.
    pub(super) fn over(
        medium: Box<dyn Medium>,
        directory: Option<Arc<StateDirectory>>,
    ) -> Result<Self, StoreError> {
        let path = medium.path().to_owned();
        let log = CommitLog::open(medium)?;
        let monitor = WriteMonitor::new(StoredKind::Channels);
        let (calls, queue) = mpsc::channel(QUEUE);
        let writer = Writer { log, monitor: monitor.clone(), queue };
        let thread = std::thread::Builder::new().name("store".to_owned());
        let run = move || {
            let (closed, answer) = writer.run();
            // Whoever hears that it is closed may open it again.
            drop(directory);
            if let Some(answer) = answer {
                let _ = answer.send(closed);
            }
        };
        thread.spawn(run).map_err(|error| StoreError::io("start the writer of", path, error))?;
        Ok(Self { calls, monitor })
    }

    /// Cancel-safe up to the moment the call is queued; from then on it is done.
    async fn call<T>(&self, call: impl FnOnce(StoreReply<T>) -> StoreCall) -> Result<T, StoreError> {
        let (answer, result) = oneshot::channel();
        self.calls.send(call(answer)).await.map_err(|_| StoreError::Closed)?;
        result.await.map_err(|_| StoreError::Closed)?
    }

    /// Every record, as of the last acknowledged batch.
    ///
    /// # Errors
    /// The records cannot be read; nothing is made up in their place.
    pub async fn load(&self) -> Result<StoreContents, StoreError> {
        self.call(StoreCall::Load).await
    }

    /// Makes a batch durable: when this returns, it survives the end of the
    /// process and a loss of power. All of it or none of it.
    ///
    /// Waits while the queue is full. Not cancel-safe in one respect: a batch
    /// whose caller went away may still be written.
    ///
    /// # Errors
    /// Nothing of the batch is in effect, and what was there still is. Later
    /// batches are tried afresh.
    pub async fn write(&self, batch: Batch) -> Result<Revision, StoreError> {
        if let Some(breach) = batch.breach() {
            return Err(StoreError::TooLarge(breach));
        }
        self.call(|answer| StoreCall::Write(batch, answer)).await
    }

    /// How its writes fare.
    pub fn monitor(&self) -> &WriteMonitor {
        &self.monitor
    }

    /// Writes what is queued, closes the file and unlocks the directory.
    ///
    /// # Errors
    /// The file did not close in order. Acknowledged batches are safe
    /// nevertheless.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.call(StoreCall::Close).await
    }
}

/// The thread that owns the file.
struct Writer {
    log: CommitLog,
    monitor: WriteMonitor,
    queue: mpsc::Receiver<StoreCall>,
}

impl Writer {
    /// Writes until the store is closed or every handle is gone. Gives how the file closed,
    /// and who waits for that.
    fn run(mut self) -> (Result<(), StoreError>, Option<StoreReply<()>>) {
        let mut next = self.queue.blocking_recv();
        while let Some(call) = next.take() {
            match call {
                StoreCall::Load(answer) => {
                    // The caller may have gone; the same holds for all replies here.
                    let _ = answer.send(self.log.contents());
                }
                StoreCall::Write(batch, answer) => next = self.write(batch, answer),
                StoreCall::Close(answer) => return (self.log.close(), Some(answer)),
            }
            next = next.or_else(|| self.queue.blocking_recv());
        }
        // Every handle is gone. An error changes nothing for acknowledged batches.
        (self.log.close(), None)
    }

    /// Commits a batch together with those that wait behind it; gives back the
    /// call that ended their row.
    fn write(&mut self, first: Batch, answer: StoreReply<Revision>) -> Option<StoreCall> {
        let mut bytes = first.size();
        let (mut batches, mut answers, mut next) = (vec![first], vec![answer], None);
        while batches.len() < COMMIT_BATCHES && bytes < COMMIT_BYTES {
            match self.queue.try_recv() {
                Ok(StoreCall::Write(batch, answer)) => {
                    bytes = bytes.saturating_add(batch.size());
                    batches.push(batch);
                    answers.push(answer);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let result = self.log.commit(&batches);
        self.monitor.note(batches.len() as u64, result.as_ref().map(drop));
        for (behind, answer) in (0..).zip(answers.into_iter().rev()) {
            let _ = answer.send(result.clone().map(|last| last.before(behind)));
        }
        next
    }
}

#[cfg(test)]
mod tests;
