//! The file of overrides: one text, replaced whole.
//!
//! The text is the catalog's and opaque here. Its checksum stands in a line of its own at
//! the end. Called by the daemon: once when it starts, and before each change of an
//! override takes effect. `vitald check` reads it beside a running daemon.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::directory::StateDirectory;
use super::error::StoreError;

const FILE: &str = "overrides";
/// Largest file that is read. Ten thousand overrides take less than 3 MB.
const LARGEST_FILE: u64 = 16 << 20;
/// What stands before the checksum.
const MARK: &[u8] = b"\nsha256 ";

/// The file of overrides in a state directory.
#[derive(Debug, Clone)]
pub struct OverrideFile {
    directory: Arc<StateDirectory>,
    path: PathBuf,
}

impl OverrideFile {
    /// The file of that directory; it need not be there yet.
    pub fn of(directory: &Arc<StateDirectory>) -> Self {
        Self { directory: Arc::clone(directory), path: directory.path().join(FILE) }
    }

    /// The text that was saved last in a directory that another process may hold; none
    /// when nothing ever was. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`], or [`StoreError::Overrides`] when it is not as it was written.
    pub fn read(directory: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let path = directory.join(FILE);
        let unusable = |why: &str| StoreError::Overrides { path: path.clone(), why: why.to_owned() };
        // Waits for no FIFO.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", path, error)),
        };
        let failed = |error| StoreError::io("read", &path, error);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(unusable("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(unusable("it is larger than vitald writes it"));
        }
        match checked_text(&bytes) {
            Some(text) => Ok(Some(text.to_vec())),
            None => Err(unusable("it is damaged: its checksum is missing or wrong")),
        }
    }

    /// The error that a text is which the catalog cannot read.
    pub fn unusable(&self, why: impl ToString) -> StoreError {
        StoreError::Overrides { path: self.path.clone(), why: why.to_string() }
    }

    /// [`OverrideFile::read`] of this directory.
    ///
    /// # Errors
    /// The same.
    pub fn load(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Self::read(self.directory.path())
    }

    /// Replaces the text. It is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// The system refused. What was there before still is, but where only the last flush,
    /// that of the directory, failed: then a loss of power decides which of the two is.
    pub fn save(&self, text: &[u8]) -> Result<(), StoreError> {
        let draft = self.path.with_extension("new");
        let sum = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let write = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file: File = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&[text, MARK, sum.as_bytes(), b"\n"].concat())?;
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

/// The text before the line of its checksum; none unless that is right.
fn checked_text(bytes: &[u8]) -> Option<&[u8]> {
    const SUM: usize = 64;
    let (rest, end) = bytes.split_at_checked(bytes.len().checked_sub(SUM + 1)?)?;
    let text = rest.strip_suffix(MARK)?;
    let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    (end.strip_suffix(b"\n")? == sum.as_bytes()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file() -> (tempfile::TempDir, OverrideFile) {
        let place = tempfile::tempdir().unwrap();
        let directory = Arc::new(StateDirectory::open(&place.path().join("state")).unwrap());
        (place, OverrideFile::of(&directory))
    }

    #[test]
    fn the_last_text_is_read_back_and_private() {
        let (_place, file) = file();
        assert_eq!(file.load().unwrap(), None);
        for text in [&b"first"[..], b"", b"several\nlines\n"] {
            file.save(text).unwrap();
            assert_eq!(file.load().unwrap().as_deref(), Some(text));
        }
        assert_eq!(file.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let names = fs::read_dir(file.directory.path()).unwrap().count();
        assert_eq!(names, 2, "the lock and the file, no draft");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_the_file_is_seen() {
        let (_place, file) = file();
        file.save(b"{}").unwrap();
        let whole = fs::read(&file.path).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(&file.path, bytes).unwrap();
            let error = file.load().expect_err("not as it was written").to_string();
            assert!(error.contains("overrides") && error.contains("damaged"), "{error}");
        };
        for length in 0..whole.len() {
            refused(&whole[..length]);
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            refused(&flipped);
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let (_place, file) = file();
        file.save(b"first").unwrap();
        // A directory in the draft's place: no file can be made there.
        fs::create_dir(file.path.with_extension("new")).unwrap();
        let error = file.save(b"second").expect_err("no place for it").to_string();
        assert!(error.starts_with("cannot write ") && error.contains("overrides"), "{error}");
        assert_eq!(file.load().unwrap().as_deref(), Some(&b"first"[..]));
    }
}
