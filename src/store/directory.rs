//! The state directory: its owner's alone, and held by one process at a time. Its files
//! are opened here: by their names in the directory that was judged, and never through a
//! link, which somebody may have put there to have another file written.
//!
//! The lock is a file of its own, so that it also covers making, closing and
//! reopening the others. Called by `daemon`, by commands that work on a store, and by
//! the other files of this room.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, fchown, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};

use super::error::StoreError;

const LOCK: &str = "lock";
/// Permission bits that let others than the owner change what is in a directory.
const OTHERS_WRITE: u32 = 0o022;
/// Permission bits of others than the owner.
const OTHERS: u32 = 0o077;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What a process wants of a state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryUse {
    /// To keep its own state there: the directory has to be its user's.
    Own,
    /// To work on what another user's daemon left, which root may. What is made there is
    /// given to that user.
    Visit,
}

/// A directory that no other vitald writes to. Unlocks when dropped.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// The one that was judged, whatever has its path by now.
    handle: File,
    // Locked as long as it is open; the kernel unlocks it when the process ends.
    _lock: File,
}

impl StateDirectory {
    /// [`StateDirectory::open_for`] its own user.
    ///
    /// # Errors
    /// The same.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_for(path, DirectoryUse::Own)
    }

    /// Makes the directory when it is missing (mode 0700, its parents as the
    /// umask says) and locks it. One of this user's that others may read is made 0700.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it, [`StoreError::Unsafe`] when it
    /// is another user's or others may write to it, [`StoreError::Io`] when it cannot be
    /// made or written to.
    pub fn open_for(path: &Path, wanted: DirectoryUse) -> Result<Self, StoreError> {
        let failed = |doing| move |error: io::Error| StoreError::io(doing, path, error);
        make(path).map_err(failed("make the directory"))?;
        let handle = open_handle(path)?;
        let metadata = handle.metadata().map_err(failed("read"))?;
        let (owner, mode) = (metadata.uid(), metadata.mode());
        let user = geteuid().as_raw();
        judge(path, (owner, mode), user, wanted)?;
        if owner == user && mode & OTHERS != 0 {
            fchmod(&handle, Mode::RWXU).map_err(io::Error::from).map_err(failed("make private"))?;
        }
        let mut lock = open_in(&handle, path, LOCK, OFlags::RDWR | OFlags::CREATE)?;
        let lock_path = path.join(LOCK);
        if owner != user {
            // The daemon's user has to be able to lock it later.
            let own = fchown(&lock, Some(Uid::from_raw(owner)), Some(Gid::from_raw(metadata.gid())));
            own.map_err(|error| StoreError::io("give away", &lock_path, error.into()))?;
        }
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
        Ok(Self { path: path.to_owned(), handle, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file of the directory; one that is made gets mode 0600. Does not
    /// wait for the other end of a FIFO. `flags` have no `TRUNC`: it would take effect before
    /// the file is known to be one of the directory's alone.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`] when the name leads elsewhere, to no regular file or to one with
    /// another name,
    /// [`StoreError::Io`] when the system refuses, also when there is no file.
    pub(super) fn open_file(&self, name: &str, flags: OFlags) -> Result<File, StoreError> {
        open_in(&self.handle, &self.path, name, flags)
    }

    /// Opens a regular file of a directory to read it, whoever holds the directory.
    ///
    /// # Errors
    /// As [`StateDirectory::open_file`], also when there is no directory.
    pub(super) fn look(path: &Path, name: &str) -> Result<File, StoreError> {
        open_in(&open_handle(path)?, path, name, OFlags::RDONLY)
    }

    /// Whether something has this name: a file, a link that leads anywhere, or the like.
    pub(super) fn holds(&self, name: &str) -> io::Result<bool> {
        match statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file another name, in the place of one that has it.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Removes a file, or a link.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    /// Makes the names of new files durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

fn open_handle(path: &Path) -> Result<File, StoreError> {
    // The path may be a link: systemd makes one for a unit with DynamicUser.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty());
    opened.map(File::from).map_err(|error| StoreError::io("open", path, error.into()))
}

fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // Another vitald made it a moment ago; the lock decides.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Whether a directory with this owner and mode serves a user.
fn judge(path: &Path, (owner, mode): (u32, u32), user: u32, wanted: DirectoryUse) -> Result<(), StoreError> {
    let refuse =
        |found: String, remedy: String| Err(StoreError::Unsafe { path: path.to_owned(), found, remedy });
    let is_root_visiting = user == 0 && wanted == DirectoryUse::Visit;
    if owner != user && !is_root_visiting {
        return refuse(
            format!("it belongs to user {owner}, and this is user {user}"),
            format!(
                "run vitald as user {owner}, or give vitald another [store] path; one that is not there yet is made"
            ),
        );
    }
    if mode & OTHERS_WRITE != 0 {
        return refuse(
            format!("others than its owner may write to it (mode {:04o})", mode & 0o7777),
            format!(
                "see that its files are yours and run `chmod 0700 {}`, or let [store] path name a directory in it, \
                 which is made",
                path.display()
            ),
        );
    }
    Ok(())
}

fn open_in(directory: &File, path: &Path, name: &str, flags: OFlags) -> Result<File, StoreError> {
    let place = || path.join(name);
    let remedy = || "move it elsewhere, or give vitald another [store] path".to_owned();
    let refuse =
        |found: &str| StoreError::Unsafe { path: place(), found: found.to_owned(), remedy: remedy() };
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(directory, name, flags, FILE_MODE) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(refuse("it is a symbolic link")),
        // A directory, a socket, or a FIFO that nobody reads.
        Err(Errno::ISDIR | Errno::NXIO) => return Err(refuse("it is not a regular file")),
        Err(error) => return Err(StoreError::io("open", place(), error.into())),
    };
    let metadata = file.metadata().map_err(|error| StoreError::io("open", place(), error))?;
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    // A file of somebody else's, which a link brought here. Nothing was written to it yet.
    if metadata.nlink() > 1 {
        return Err(refuse("it has another name as well (a hard link)"));
    }
    Ok(file)
}

fn sign(lock: &mut File) -> io::Result<()> {
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

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn one_that_others_may_read_is_made_private() {
        let place = tempfile::tempdir().unwrap();
        for readable in [0o755, 0o750, 0o711] {
            set_mode(place.path(), readable);
            drop(StateDirectory::open(place.path()).unwrap());
            assert_eq!(mode(place.path()), 0o700, "{readable:o}");
        }
    }

    #[test]
    fn one_that_others_may_write_to_is_refused_and_left_alone() {
        let place = tempfile::tempdir().unwrap();
        for writable in [0o777, 0o1777, 0o770, 0o702] {
            set_mode(place.path(), writable);
            let error = StateDirectory::open(place.path()).expect_err("writable").to_string();
            let found = format!("others than its owner may write to it (mode {writable:04o})");
            let remedy = format!("and run `chmod 0700 {}`", place.path().display());
            assert!(error.contains(&found) && error.contains(&remedy), "{error}");
            assert_eq!(mode(place.path()), writable);
            assert!(!place.path().join(LOCK).exists());
        }
    }

    #[test]
    fn one_of_another_user_is_for_that_user_and_for_root_to_visit() {
        let judge = |owner, mode, user, wanted| judge(Path::new("/state"), (owner, mode), user, wanted);
        for (owner, user, wanted) in [
            (7, 7, DirectoryUse::Own),
            (7, 7, DirectoryUse::Visit),
            (0, 0, DirectoryUse::Own),
            (7, 0, DirectoryUse::Visit),
        ] {
            assert!(judge(owner, 0o40700, user, wanted).is_ok(), "{owner} {user} {wanted:?}");
        }
        for (owner, user, wanted) in [
            (7, 0, DirectoryUse::Own),
            (7, 8, DirectoryUse::Own),
            (7, 8, DirectoryUse::Visit),
            (0, 8, DirectoryUse::Own),
        ] {
            let error = judge(owner, 0o40700, user, wanted).expect_err("another user's").to_string();
            let expected = format!(
                "/state is not used: it belongs to user {owner}, and this is user {user}; run vitald as user \
                 {owner}, or give vitald another [store] path; one that is not there yet is made"
            );
            assert_eq!(error, expected);
        }
        assert!(judge(7, 0o40770, 0, DirectoryUse::Visit).is_err());
    }

    #[test]
    fn no_file_is_opened_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let (state, other) = (place.path().join("state"), place.path().join("precious"));
        std::fs::write(&other, "precious").unwrap();
        let directory = StateDirectory::open(&state).unwrap();
        std::os::unix::fs::symlink(&other, state.join("link")).unwrap();
        for flags in [OFlags::RDONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::CREATE] {
            let error = directory.open_file("link", flags).expect_err("a link").to_string();
            assert!(error.contains("state/link is not used: it is a symbolic link"), "{error}");
        }
        drop(directory);
        std::fs::remove_file(state.join(LOCK)).unwrap();
        std::os::unix::fs::symlink(&other, state.join(LOCK)).unwrap();
        let error = StateDirectory::open(&state).expect_err("a link").to_string();
        assert!(error.contains("state/lock is not used: it is a symbolic link"), "{error}");
        std::fs::remove_file(state.join(LOCK)).unwrap();
        std::fs::hard_link(&other, state.join(LOCK)).unwrap();
        let error = StateDirectory::open(&state).expect_err("a hard link").to_string();
        assert!(error.contains("state/lock is not used: it has another name as well"), "{error}");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    }
}
