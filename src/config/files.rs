//! How a file is read: only a regular one, never more than a bound, and with a note of
//! which one it is, for whoever waits in vain.
//!
//! Called wherever this room reads files, and by `cli` for the files of its commands.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

/// The file or directory that a load is at. Clones share it. The thread that loads writes;
/// who waits for that thread reads.
#[derive(Debug, Clone, Default)]
pub struct LoadProgress(Arc<Mutex<Option<PathBuf>>>);

impl LoadProgress {
    /// The load turns to a file or directory.
    pub(super) fn begin(&self, path: &Path) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.to_owned());
    }

    /// What the load turned to last; none before the first file.
    #[must_use]
    pub fn place(&self) -> Option<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a regular file whole. Anything else that has the path, such as a FIFO, is not
/// waited for, and of a file that grows no more than `largest` bytes are read.
///
/// # Errors
/// One line for people: the file cannot be read, is not a regular one, or is too large.
pub fn read_regular_file(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
    read_with_mode(path, largest).map(|(bytes, _)| bytes)
}

/// [`read_regular_file`], and the mode of the very file that was read.
pub(super) fn read_with_mode(path: &Path, largest: u64) -> Result<(Vec<u8>, u32), String> {
    let plain = |error: io::Error| plain_error(&error);
    judge_regular(&std::fs::metadata(path).map_err(plain)?, largest)?;
    // Something else may have the path by now.
    let file = open_without_waiting(path).map_err(plain)?;
    let metadata = file.metadata().map_err(plain)?;
    judge_regular(&metadata, largest)?;
    // Within `largest`, so it fits; the room is only a beginning.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(largest + 1).read_to_end(&mut bytes).map_err(plain)?;
    if bytes.len() as u64 > largest {
        return Err(too_large(largest));
    }
    Ok((bytes, metadata.mode()))
}

fn judge_regular(metadata: &Metadata, largest: u64) -> Result<(), String> {
    if metadata.is_dir() {
        return Err("it is a directory".to_owned());
    }
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.len() > largest {
        return Err(too_large(largest));
    }
    Ok(())
}

fn too_large(largest: u64) -> String {
    format!("it is larger than {} MiB", largest / (1024 * 1024))
}

/// Opens a file for reading. Does not wait for the writer of a FIFO.
pub(super) fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The common errors in words that are the same everywhere.
pub(super) fn plain_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_within_the_bound_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let (file, fifo) = (directory.path().join("file"), directory.path().join("fifo"));
        std::fs::write(&file, [b'x'; 2048]).unwrap();
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(read_regular_file(&file, 2048).map(|bytes| bytes.len()), Ok(2048));
        for (path, largest, why) in [
            (&*file, 2047, "it is larger than 0 MiB"),
            (&fifo, 2048, "it is not a regular file"),
            (directory.path(), 2048, "it is a directory"),
            (&directory.path().join("absent"), 2048, "there is no such file"),
            // It says that it has no bytes, and has many.
            (Path::new("/proc/kallsyms"), 4, "it is larger than 0 MiB"),
        ] {
            assert_eq!(read_regular_file(path, largest), Err(why.to_owned()), "{}", path.display());
        }
        // What became a FIFO after it was looked at does not hang the reader.
        assert!(!open_without_waiting(&fifo).unwrap().metadata().unwrap().is_file());
    }
}
