//! Files that are no stores, and how they come to be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::*;

/// As a later vitald would leave it.
pub(in crate::store) fn pretend_format(database: &Database, format: u32, version: &str) {
    let transaction = database.begin_write().unwrap();
    {
        let mut about = transaction.open_table(ABOUT).unwrap();
        about.insert("format", format.to_le_bytes().as_slice()).unwrap();
        about.insert("version", version.as_bytes()).unwrap();
    }
    transaction.commit().unwrap();
}

/// As another program would use redb.
pub(in crate::store) fn fill_with_something_else(database: &Database) {
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("numbers")).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
}

fn directory() -> (tempfile::TempDir, Arc<StateDirectory>) {
    let place = tempfile::tempdir().unwrap();
    let directory = StateDirectory::open(&place.path().join("state")).unwrap();
    (place, Arc::new(directory))
}

#[test]
fn a_new_store_is_private_and_whole() {
    let (_place, directory) = directory();
    // What an earlier start left half-made is no hindrance.
    fs::write(directory.path().join("store.new"), "half").unwrap();
    let file = StoreFile::prepare(&directory).unwrap();
    assert_eq!(file.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!directory.path().join("store.new").exists());
    let database = file.open(Verification::Everything).unwrap();
    assert_eq!(contents(&database, &file.path).unwrap(), StoreContents::default());
}

#[test]
fn what_is_no_store_is_named_and_left_alone() {
    let rows: [(&[u8], &str); 3] = [
        (b"", "is damaged: it is empty; it was left as it is. Put a copy of it back, or move it aside (`mv "),
        (b"SQLite format 3\\0", "is no vitald store: it does not begin as a store does; move it elsewhere"),
        (b"red", "is no vitald store: it does not begin as a store does; move it elsewhere"),
    ];
    for (bytes, expected) in rows {
        let (_place, directory) = directory();
        let path = directory.path().join(FILE);
        fs::write(&path, bytes).unwrap();
        let error =
            StoreFile::prepare(&directory).unwrap().open(Verification::Everything).expect_err("no store");
        assert!(error.to_string().starts_with(&format!("{} {expected}", path.display())), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_directory_or_a_dangling_link_in_its_place_is_no_store() {
    let (_place, directory) = directory();
    let path = directory.path().join(FILE);
    fs::create_dir(&path).unwrap();
    let error = StoreFile::prepare(&directory).unwrap().open(Verification::Everything).expect_err("no store");
    assert!(error.to_string().contains("it is not a regular file"), "{error}");
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap();
    let error = StoreFile::prepare(&directory).unwrap().open(Verification::Everything).expect_err("no store");
    assert!(error.to_string().contains("it is a symbolic link"), "{error}");
    assert!(path.is_symlink());
}

#[test]
fn panics_become_errors() {
    let error = catch_panic(Path::new("/x"), || -> Result<(), StoreError> { panic!("page {}", 7) });
    let text = error.expect_err("it panicked").to_string();
    assert!(text.starts_with("/x is damaged: reading it fails (page 7)"), "{text}");
}
