//! The file of overrides: one text, replaced whole.
//!
//! The text is the catalog's and opaque here. Its checksum stands in a line of its own at
//! the end. Called by the daemon: once when it starts, and before each change of an
//! override takes effect. `vitald check` reads it beside a running daemon.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::directory::StateDirectory;
use super::error::StoreError;

const FILE: &str = "overrides";
/// What is written before it gets the name above.
const DRAFT: &str = "overrides.new";
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
    /// [`StoreError::Io`], [`StoreError::Unsafe`] when the name leads elsewhere, or
    /// [`StoreError::Overrides`] when it is not as it was written.
    pub fn read(directory: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        text_of(StateDirectory::look(directory, FILE), &directory.join(FILE))
    }

    /// The error that a text is which the catalog cannot read.
    pub fn unusable(&self, why: impl ToString) -> StoreError {
        StoreError::Overrides { path: self.path.clone(), why: why.to_string() }
    }

    /// The same for a directory that another process may hold.
    pub fn unusable_in(directory: &Path, why: impl ToString) -> StoreError {
        StoreError::Overrides { path: directory.join(FILE), why: why.to_string() }
    }

    /// [`OverrideFile::read`] of this directory.
    ///
    /// # Errors
    /// The same.
    pub fn load(&self) -> Result<Option<Vec<u8>>, StoreError> {
        text_of(self.directory.open_file(FILE, OFlags::RDONLY), &self.path)
    }

    /// Replaces the text. It is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// The system refused. What was there before still is, but where only the last flush,
    /// that of the directory, failed: then a loss of power decides which of the two is.
    pub fn save(&self, text: &[u8]) -> Result<(), StoreError> {
        let sum = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let failed = |error| StoreError::io("write", &self.path, error);
        let draft = self.directory.open_file(DRAFT, OFlags::WRONLY | OFlags::CREATE);
        let mut file = match draft {
            // A link or the like in its place is none of ours, and in the way.
            Err(StoreError::Unsafe { .. }) => {
                self.directory.remove(DRAFT).map_err(failed)?;
                self.directory.open_file(DRAFT, OFlags::WRONLY | OFlags::CREATE)?
            }
            draft => draft?,
        };
        let mut write = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.write_all(&[text, MARK, sum.as_bytes(), b"\n"].concat())?;
            // Before the rename, or a loss of power may leave an empty file.
            file.sync_all()?;
            self.directory.rename(DRAFT, FILE)?;
            self.directory.sync()
        };
        write().map_err(|error| {
            // What is there of it only takes up the space that is missing.
            let _ = self.directory.remove(DRAFT);
            failed(error)
        })
    }
}

/// What an opened file says, which is called `path`.
fn text_of(opened: Result<File, StoreError>, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let unusable = |why: &str| StoreError::Overrides { path: path.to_owned(), why: why.to_owned() };
    let file = match opened {
        Ok(file) => file,
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let read = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|error| StoreError::io("read", path, error))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(unusable("it is larger than vitald writes it"));
    }
    match checked_text(&bytes) {
        Some(text) => Ok(Some(text.to_vec())),
        None => Err(unusable("it is damaged: its checksum is missing or wrong")),
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
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

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

    #[test]
    fn no_link_and_no_fifo_is_followed_or_waited_for() {
        let (place, file) = file();
        let precious = place.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        let draft = file.directory.path().join(DRAFT);
        symlink(&precious, &draft).unwrap();
        file.save(b"first").unwrap();
        fs::hard_link(&precious, &draft).unwrap();
        file.save(b"second").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &draft, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        file.save(b"third").unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert_eq!(file.load().unwrap().as_deref(), Some(&b"third"[..]));
        // A file that was written by vitald, but elsewhere.
        let other = place.path().join("other");
        fs::rename(&file.path, &other).unwrap();
        symlink(&other, &file.path).unwrap();
        let error = file.load().expect_err("a link").to_string();
        assert!(error.contains("symbolic link"), "{error}");
        let error = OverrideFile::read(file.directory.path()).expect_err("a link").to_string();
        assert!(error.contains("symbolic link"), "{error}");
    }

    #[test]
    fn it_stays_in_the_directory_that_was_judged() {
        let (place, file) = file();
        let state = file.directory.path();
        fs::rename(state, place.path().join("moved")).unwrap();
        fs::create_dir(state).unwrap();
        file.save(b"first").unwrap();
        assert_eq!(fs::read_dir(state).unwrap().count(), 0, "nothing is written elsewhere");
        assert_eq!(file.load().unwrap().as_deref(), Some(&b"first"[..]));
    }
}
