//! The file: made, checked, opened, read and written. Every call of redb is here.
//!
//! redb may panic on pages that it did not write. So the whole file is verified
//! when the daemon starts (every page has a checksum), and every call goes through
//! [`catch_panic`], which turns a panic into [`StoreError::Damaged`].
//!
//! Format 1: table `records` holds key to value as `record` encodes them; table
//! `about` holds `format` (u32) and `revision` (u64), little-endian, and
//! `version`, the vitald that wrote last. Values are opaque bytes, so that a
//! later redb with other ideas of types reads them alike.

use std::any::Any;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use rustix::fs::OFlags;

use super::directory::StateDirectory;
use super::error::StoreError;
use super::record::{Record, RecordChange, RecordKey, Revision, StoreContents};

/// The format written here, and the newest that can be read.
pub(super) const FORMAT: u32 = 1;

const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");
const ABOUT: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("about");
const FILE: &str = "store.redb";
const DRAFT: &str = "store.new";
/// How every redb file begins.
const MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// Readers load everything once; the cache only has to hold what a commit touches.
const CACHE_BYTES: usize = 16 << 20;

/// How much of the file is verified when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verification {
    /// Every page. Reads the whole file.
    Everything,
    /// The header: enough after a failed write of our own.
    Header,
}

/// Where the database is. Tests put disks here that fail on demand.
pub(super) trait Medium: Debug + Send + 'static {
    /// What errors call it.
    fn path(&self) -> &Path;
    /// Opens it. It must not be open already.
    fn open(&self, check: Verification) -> Result<Database, StoreError>;
}

/// The store's file in a state directory.
#[derive(Debug)]
pub(super) struct StoreFile {
    directory: Arc<StateDirectory>,
    path: PathBuf,
}

impl StoreFile {
    /// The file of that directory; made, with nothing in it, when there is none.
    pub(super) fn prepare(directory: &Arc<StateDirectory>) -> Result<Self, StoreError> {
        let path = directory.path().join(FILE);
        if !directory.holds(FILE).map_err(|error| StoreError::io("read", &path, error))? {
            create(directory)?;
        }
        Ok(Self { directory: Arc::clone(directory), path })
    }
}

impl Medium for StoreFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, check: Verification) -> Result<Database, StoreError> {
        let file = self.directory.open_file(FILE, OFlags::RDWR)?;
        refuse_foreign(&self.path, &file)?;
        // Makes nothing: the file is not empty.
        open_with(&self.path, || builder(check).create_with_backend(FileBackend::new(file)?))
    }
}

/// Opens a database; errors and panics become a [`StoreError`].
pub(super) fn open_with(
    path: &Path,
    open: impl FnOnce() -> Result<Database, redb::DatabaseError>,
) -> Result<Database, StoreError> {
    catch_panic(path, || open().map_err(|error| explain("open", path, error)))
}

/// Fills a new file beside its place and then moves it there: a file of that
/// name is always a whole store, and an empty one has been damaged.
fn create(directory: &StateDirectory) -> Result<(), StoreError> {
    let draft = directory.path().join(DRAFT);
    let failed = |error| StoreError::io("make", &draft, error);
    match directory.remove(DRAFT) {
        // Left by an earlier start that did not come this far; nothing was
        // ever acknowledged in it.
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let file = directory.open_file(DRAFT, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    catch_panic(&draft, || fill(file).map_err(|error| explain("make", &draft, error)))?;
    directory.rename(DRAFT, FILE).map_err(failed)?;
    directory.sync().map_err(|error| StoreError::io("write", directory.path(), error))
}

fn fill(file: File) -> Result<(), redb::Error> {
    let database = builder(Verification::Header).create_with_backend(FileBackend::new(file)?)?;
    initialise(&database)?;
    Ok(database.close()?)
}

/// Writes what every store holds from the start.
pub(super) fn initialise(database: &Database) -> Result<(), redb::Error> {
    write_edits(database, Revision::default(), &[], &mut Vec::new())
}

/// How files are opened, here and by tests on disks of their own.
pub(super) fn builder(check: Verification) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(check == Verification::Everything);
    builder
}

/// Refuses a file that is obviously no store before redb opens it.
fn refuse_foreign(path: &Path, file: &File) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    if file.metadata().map_err(failed)?.len() == 0 {
        return Err(StoreError::Damaged { path: path.to_owned(), found: "it is empty".to_owned() });
    }
    let mut start = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
    let found = "it does not begin as a store does".to_owned();
    if start == MAGIC { Ok(()) } else { Err(StoreError::Foreign { path: path.to_owned(), found }) }
}

/// The revision of the file; an error when it is no store of a format known here.
pub(super) fn revision(database: &Database, path: &Path) -> Result<Revision, StoreError> {
    let About { format, revision, version } =
        read_about(database).map_err(|error| explain("read", path, error))?;
    let damaged = |what: &str| StoreError::Damaged {
        path: path.to_owned(),
        found: format!("its {what} is missing or has a wrong length"),
    };
    match format.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes) {
        Some(FORMAT) => {}
        None | Some(0) => return Err(damaged("format number")),
        Some(format) => {
            return Err(StoreError::Newer {
                path: path.to_owned(),
                format,
                reads: FORMAT,
                written_by: String::from_utf8_lossy(&version.unwrap_or_default()).into_owned(),
            });
        }
    }
    let revision = revision.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    revision.map(Revision).ok_or_else(|| damaged("revision"))
}

/// The entries of table `about`, not decoded.
struct About {
    format: Option<Vec<u8>>,
    revision: Option<Vec<u8>>,
    version: Option<Vec<u8>>,
}

fn read_about(database: &Database) -> Result<About, redb::Error> {
    let table = database.begin_read()?.open_table(ABOUT)?;
    let entry = |name: &str| -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(table.get(name)?.map(|value| value.value().to_vec()))
    };
    Ok(About { format: entry("format")?, revision: entry("revision")?, version: entry("version")? })
}

/// Reads everything.
pub(super) fn contents(database: &Database, path: &Path) -> Result<StoreContents, StoreError> {
    let revision = revision(database, path)?;
    let records = read_records(database).map_err(|error| explain("read", path, error))?;
    let records: Option<Vec<Record>> = records.into_iter().collect();
    let records = records.ok_or_else(|| StoreError::Damaged {
        path: path.to_owned(),
        found: "it holds a record of an unknown collection".to_owned(),
    })?;
    Ok(StoreContents { revision, records })
}

/// None for a record whose key is none.
fn read_records(database: &Database) -> Result<Vec<Option<Record>>, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        records.push(RecordKey::decode(key.value()).map(|key| Record { key, value: value.value().to_vec() }));
    }
    Ok(records)
}

/// Makes edits durable in one transaction, and collects in `inverse` what undoes
/// them, last edit first. After an error the edits may be in the file or not;
/// close it, open it and ask for its [`revision`].
pub(super) fn apply<'e>(
    database: &Database,
    path: &Path,
    revision: Revision,
    edits: impl IntoIterator<Item = &'e RecordChange>,
    inverse: &mut Vec<RecordChange>,
) -> Result<(), StoreError> {
    write_edits(database, revision, edits, inverse).map_err(|error| explain("write", path, error))
}

fn write_edits<'e>(
    database: &Database,
    revision: Revision,
    edits: impl IntoIterator<Item = &'e RecordChange>,
    inverse: &mut Vec<RecordChange>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // Keeps the map of free pages in each commit: after a crash the file opens
    // without being scanned. Also commits in two phases, so that a commit that
    // fails half-way leaves the one before it whole.
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(RECORDS)?;
        for edit in edits {
            let (key, before) = match edit {
                RecordChange::Put(Record { key, value }) => {
                    (key, table.insert(key.encode().as_slice(), value.as_slice())?)
                }
                RecordChange::Remove(key) => (key, table.remove(key.encode().as_slice())?),
            };
            inverse.push(match before {
                Some(value) => RecordChange::Put(Record { key: key.clone(), value: value.value().to_vec() }),
                None => RecordChange::Remove(key.clone()),
            });
        }
        let mut about = transaction.open_table(ABOUT)?;
        about.insert("format", FORMAT.to_le_bytes().as_slice())?;
        about.insert("revision", revision.0.to_le_bytes().as_slice())?;
        about.insert("version", env!("CARGO_PKG_VERSION").as_bytes())?;
    }
    inverse.reverse();
    Ok(transaction.commit()?)
}

/// Closes a database, whatever state it is in.
pub(super) fn close(database: Database, path: &Path) -> Result<(), StoreError> {
    catch_panic(path, || database.close().map_err(|error| explain("close", path, error)))
}

/// Runs a call of redb; a panic becomes an error. The panic hook prints the panic
/// first, once per attempt.
pub(super) fn catch_panic<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // Unwind-safe because the caller drops the database after an error.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let found = format!("reading it fails ({})", panic_text(payload.as_ref()));
        Err(StoreError::Damaged { path: path.to_owned(), found })
    })
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn explain(doing: &'static str, path: &Path, error: impl Into<redb::Error>) -> StoreError {
    let damaged = |found: String| StoreError::Damaged { path: path.to_owned(), found };
    match error.into() {
        redb::Error::Io(error) => match error.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => damaged(error.to_string()),
            _ => StoreError::io(doing, path, error),
        },
        redb::Error::Corrupted(found) => damaged(found),
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned(), holder: None },
        redb::Error::UpgradeRequired(format) => StoreError::Foreign {
            path: path.to_owned(),
            found: format!("it is a redb file of format {format}"),
        },
        error @ (redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
            StoreError::Foreign { path: path.to_owned(), found: format!("it holds something else ({error})") }
        }
        error => StoreError::io(doing, path, io::Error::other(error.to_string())),
    }
}

#[cfg(test)]
pub(super) mod tests;
