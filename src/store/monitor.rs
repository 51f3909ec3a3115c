//! How writes into the state directory fare, for metrics and status.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::StoreError;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredKind {
    /// Channels and instances that the API made.
    Channels,
    /// Members' verdicts.
    Verdicts,
    /// Overrides of members.
    Overrides,
}

impl StoredKind {
    /// The word in metrics and status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Verdicts => "verdicts",
            Self::Overrides => "overrides",
        }
    }
}

/// How writes of one kind went, since the start.
#[derive(Debug, Clone, Default)]
pub struct WriteState {
    /// Why the last write failed; none once one succeeds.
    pub failure: Option<StoreError>,
    /// Writes that failed.
    pub failed: u64,
    /// Writes that are durable.
    pub durable: u64,
    /// Commits that made them so: several writes that wait share one.
    pub commits: u64,
}

/// Shared by the writer and by the observer that shows it.
#[derive(Debug, Clone)]
pub struct WriteMonitor {
    stored: StoredKind,
    state: Arc<Mutex<WriteState>>,
}

impl WriteMonitor {
    /// A monitor of writes that have not begun.
    pub fn new(stored: StoredKind) -> Self {
        Self { stored, state: Arc::default() }
    }

    /// What is written.
    pub fn stored(&self) -> StoredKind {
        self.stored
    }

    /// How it fares. Answers at once.
    pub fn state(&self) -> WriteState {
        self.lock().clone()
    }

    /// Notes what became of so many writes, and logs when they begin to fail and
    /// when they work again.
    pub fn note(&self, writes: u64, result: Result<(), &StoreError>) {
        let mut state = self.lock();
        match result {
            Ok(()) => {
                if state.failure.take().is_some() {
                    match self.stored {
                        StoredKind::Channels => tracing::info!("the store can be written again"),
                        StoredKind::Verdicts => tracing::info!("verdicts are saved again"),
                        StoredKind::Overrides => tracing::info!("overrides of members can be saved again"),
                    }
                }
                state.durable += writes;
                state.commits += 1;
            }
            Err(error) => {
                if state.failure.is_none() {
                    match self.stored {
                        StoredKind::Channels => {
                            tracing::error!(%error, "the store cannot be written; API changes are refused");
                        }
                        StoredKind::Verdicts => {
                            tracing::warn!(%error, "verdicts are not saved; members would start at unknown");
                        }
                        StoredKind::Overrides => {
                            tracing::error!(%error, "overrides of members cannot be saved; changes are refused");
                        }
                    }
                }
                state.failure = Some(error.clone());
                state.failed += writes;
            }
        }
    }

    /// A panic under the lock leaves a whole value.
    fn lock(&self) -> MutexGuard<'_, WriteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
