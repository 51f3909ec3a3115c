//! The state directory: made private, and held by one daemon at a time.
//!
//! The lock is a file of its own, so that it also covers making, closing and
//! reopening the others.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::StoreError;

const LOCK: &str = "lock";

/// A directory that no other vitald writes to. Unlocks when dropped.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    // Locked as long as it is open; the kernel unlocks it when the process ends.
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory when it is missing (mode 0700, its parents as the
    /// umask says) and locks it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it, [`StoreError::Io`]
    /// when it cannot be made or written to.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        make(path).map_err(|error| StoreError::io("make the directory", path, error))?;
        let lock_path = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&lock_path).map_err(|error| StoreError::io("open", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", lock_path, error)),
        }
        // Only for the error message above. A full disk must not keep the
        // daemon from starting with what it has.
        let _ = sign(&mut lock);
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the names of new files durable.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn make(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // Another vitald made it a moment ago; the lock decides.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

fn sign(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    writeln!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_private_and_held_by_one() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("var/lib/vitald");
        let held = StateDirectory::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.join(LOCK).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let error = StateDirectory::open(&path).expect_err("held");
        let expected = format!(
            "{} is in use by another vitald (process {}); stop that one, or give this one another [store] path",
            path.display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        drop(held);
        StateDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state");
        std::fs::write(&path, "x").unwrap();
        let error = StateDirectory::open(&path).expect_err("a file").to_string();
        assert!(error.contains("make the directory") && error.contains("state"), "{error}");
    }
}
