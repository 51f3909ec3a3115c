//! The verdicts' file, and the thread that writes it.
//!
//! `daemon` offers all verdicts now and then; while a write runs, only the
//! latest offer waits. A file is written beside the old one, flushed, and moved
//! into its place, so that a crash leaves one of the two.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::directory::StateDirectory;
use super::error::StoreError;
use super::verdict::SavedVerdicts;

const FILE: &str = "verdicts";

/// The file of verdicts in a state directory.
#[derive(Debug, Clone)]
pub struct VerdictFile {
    directory: Arc<StateDirectory>,
    path: PathBuf,
}

impl VerdictFile {
    /// The file of that directory; it need not be there yet.
    #[must_use]
    pub fn of(directory: &Arc<StateDirectory>) -> Self {
        Self { directory: Arc::clone(directory), path: directory.path().join(FILE) }
    }

    /// Where it is.
    #[must_use]
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
            let mut file: File = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
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

/// Saves the latest verdicts on a thread of its own. Saves what is offered and
/// ends when dropped, which waits for the last write.
#[derive(Debug)]
pub struct VerdictWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Desk {
    /// The one place: a newer offer replaces one that was not taken yet.
    offered: Option<SavedVerdicts>,
    failure: Option<StoreError>,
    saves: u64,
    phase: Phase,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Ending,
}

impl VerdictWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(file: VerdictFile) -> Result<Self, StoreError> {
        let path = file.path.clone();
        let shared = Arc::new(Shared::default());
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("verdicts".to_owned());
        let handle = thread
            .spawn(move || worker.run(&file))
            .map_err(|error| StoreError::io("start the writer of", path, error))?;
        Ok(Self { shared, thread: Some(handle) })
    }

    /// Has these saved instead of any that still wait. Never blocks on the disk.
    pub fn offer(&self, verdicts: SavedVerdicts) {
        self.shared.lock().offered = Some(verdicts);
        self.shared.changed.notify_all();
    }

    /// Why the last save failed; none once one succeeds.
    #[must_use]
    pub fn failure(&self) -> Option<StoreError> {
        self.shared.lock().failure.clone()
    }

    /// How many saves succeeded.
    #[must_use]
    pub fn saves(&self) -> u64 {
        self.shared.lock().saves
    }
}

impl Drop for VerdictWriter {
    fn drop(&mut self) {
        self.shared.lock().phase = Phase::Ending;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has nothing to panic on; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        // Whoever panicked under it left whole values.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<SavedVerdicts> {
        let is_idle = |desk: &mut Desk| desk.offered.is_none() && desk.phase == Phase::Open;
        let mut desk = self.changed.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        desk.offered.take()
    }

    fn run(&self, file: &VerdictFile) {
        while let Some(verdicts) = self.next() {
            let result = file.save(&verdicts);
            let mut desk = self.lock();
            match result {
                Ok(()) => {
                    if desk.failure.take().is_some() {
                        tracing::info!("verdicts are saved again");
                    }
                    desk.saves += 1;
                }
                Err(error) => {
                    if desk.failure.is_none() {
                        tracing::warn!(%error, "verdicts are not saved; members would start at unknown");
                    }
                    desk.failure = Some(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Timestamp;
    use crate::store::SavedAt;

    fn verdicts(wall: u64) -> SavedVerdicts {
        let saved_at = SavedAt { wall: Timestamp(wall), boot: None };
        SavedVerdicts { saved_at, records: Vec::new() }
    }

    fn file() -> (tempfile::TempDir, VerdictFile) {
        let place = tempfile::tempdir().unwrap();
        let directory = Arc::new(StateDirectory::open(&place.path().join("state")).unwrap());
        (place, VerdictFile::of(&directory))
    }

    #[test]
    fn the_last_offer_is_what_is_kept() {
        let (_place, file) = file();
        assert_eq!(file.load().unwrap(), None);
        let keeper = VerdictWriter::start(file.clone()).unwrap();
        for wall in 1..=1000 {
            keeper.offer(verdicts(wall));
        }
        drop(keeper);
        assert_eq!(file.load().unwrap(), Some(verdicts(1000)));
    }

    #[test]
    fn a_failed_save_is_shown_and_the_next_one_tried() {
        let (_place, file) = file();
        let keeper = VerdictWriter::start(file.clone()).unwrap();
        // A directory in the draft's place fails for root too.
        let draft = file.path().with_extension("new");
        fs::create_dir(&draft).unwrap();
        keeper.offer(verdicts(1));
        while keeper.failure().is_none() {
            std::thread::yield_now();
        }
        let error = keeper.failure().unwrap().to_string();
        assert!(error.contains("verdicts") && error.contains("os error"), "{error}");
        fs::remove_dir(&draft).unwrap();
        keeper.offer(verdicts(2));
        while keeper.saves() == 0 {
            std::thread::yield_now();
        }
        assert!(keeper.failure().is_none());
        assert_eq!(file.load().unwrap(), Some(verdicts(2)));
    }

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        let (_place, file) = file();
        fs::write(file.path(), "scribble").unwrap();
        let error = file.load().expect_err("no verdicts").to_string();
        assert!(error.contains("it does not begin as verdicts do"), "{error}");
        assert_eq!(fs::read(file.path()).unwrap(), b"scribble");
    }
}
