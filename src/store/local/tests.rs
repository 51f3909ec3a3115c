//! The queue before the file: who shares a commit, who hears what.

use std::path::Path;

use redb::Database;

use super::*;
use crate::store::commit_log::tests::disk::{Disk, Failure};
use crate::store::database;
use crate::store::database::Verification;
use crate::store::record::{Collection, RecordKey};

fn put(id: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(RecordKey::new(Collection::Channels, format!("{id}")), b"value".to_vec());
    batch
}

fn empty_disk() -> Disk {
    let disk = Disk::default();
    let made = disk.open(Verification::Header).unwrap();
    database::initialise(&made).unwrap();
    made.close().unwrap();
    disk
}

fn open(place: &Path) -> Result<LocalStore, StoreError> {
    LocalStore::open(&Arc::new(StateDirectory::open(place)?))
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path()).unwrap();
    assert_eq!(store.load().await.unwrap(), StoreContents::default());
    assert_eq!(store.write(put(1)).await.unwrap(), Revision(1));
    assert_eq!(store.write(Batch::new()).await.unwrap(), Revision(2));
    let expected = store.load().await.unwrap();
    assert_eq!((expected.revision, expected.records.len()), (Revision(2), 1));
    let error = open(place.path()).expect_err("in use");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    store.close().await.unwrap();
    assert_eq!(open(place.path()).unwrap().load().await.unwrap(), expected);
}

#[tokio::test]
async fn a_closed_store_says_so_and_frees_the_directory() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path()).unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.write(put(1)).await, Err(StoreError::Closed)));
    assert!(matches!(store.load().await, Err(StoreError::Closed)));
    assert!(matches!(store.close().await, Err(StoreError::Closed)));
    open(place.path()).unwrap();
}

/// Is opened well once, and from then on hangs until `go_on` is dropped; tells when it does.
#[derive(Debug)]
struct Hanging {
    disk: Disk,
    state: std::sync::Mutex<HangingState>,
}

#[derive(Debug)]
struct HangingState {
    openings: usize,
    hangs: Option<oneshot::Sender<()>>,
    go_on: std::sync::mpsc::Receiver<()>,
}

impl Medium for Hanging {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn open(&self, verification: Verification) -> Result<Database, StoreError> {
        let mut state = self.state.lock().unwrap();
        state.openings += 1;
        if state.openings > 1 {
            state.hangs.take().map(|hangs| hangs.send(()));
            let _ = state.go_on.recv();
        }
        self.disk.open(verification)
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "what is measured blocks the thread")]
async fn dropping_a_store_waits_for_no_disk() {
    let ((tell, hangs), (_go_on, told)) = (oneshot::channel(), std::sync::mpsc::channel());
    let state = HangingState { openings: 0, hangs: Some(tell), go_on: told };
    let disk = empty_disk();
    let medium = Hanging { disk: disk.clone(), state: std::sync::Mutex::new(state) };
    let store = LocalStore::over(Box::new(medium), None).unwrap();
    disk.fail_after(0, Failure::UntilHealed);
    // The failed write has the file opened again.
    tokio::select! {
        result = store.write(put(1)) => panic!("answered: {result:?}"),
        told = hangs => told.unwrap(),
    }
    let began = std::time::Instant::now();
    drop(store);
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn writers_that_wait_share_a_commit() {
    let store = LocalStore::over(Box::new(empty_disk()), None).unwrap();
    // More than the queue holds: the rest waits in line and gets through.
    let writes = (0..QUEUE * 3).map(|id| store.write(put(id)));
    let results = join_all(writes).await;
    let mut revisions: Vec<u64> = results.into_iter().map(|result| result.unwrap().0).collect();
    revisions.sort_unstable();
    assert!(revisions.into_iter().eq(1..=QUEUE as u64 * 3), "each batch has its own revision");
    let state = store.monitor().state();
    assert_eq!(state.durable, QUEUE as u64 * 3);
    assert!(state.commits < state.durable / 2, "{} commits", state.commits);
    let held = store.load().await.unwrap();
    assert_eq!((held.records.len(), held.revision), (QUEUE * 3, Revision(QUEUE as u64 * 3)));
}

#[tokio::test]
async fn a_failure_is_told_and_forgotten_once_a_write_succeeds() {
    let disk = empty_disk();
    let store = LocalStore::over(Box::new(disk.clone()), None).unwrap();
    store.write(put(1)).await.unwrap();
    disk.fail_after(0, Failure::UntilHealed);
    store.write(put(2)).await.expect_err("full");
    let state = store.monitor().state();
    assert_eq!((state.failed, state.durable), (1, 1));
    assert!(state.failure.is_some_and(|error| error.to_string().contains("No space left")));
    disk.heal();
    store.write(put(3)).await.unwrap();
    assert!(store.monitor().state().failure.is_none());
    let held: Vec<Vec<u8>> =
        store.load().await.unwrap().records.into_iter().map(|held| held.key.id).collect();
    assert_eq!(held, [b"1", b"3"]);
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_alone() {
    let store = LocalStore::over(Box::new(empty_disk()), None).unwrap();
    let mut batch = Batch::new();
    batch.put(RecordKey::new(Collection::Users, Vec::new()), Vec::new());
    let error = store.write(batch).await.expect_err("no id");
    assert_eq!(error.to_string(), "the store cannot keep an id of 0 bytes; 1 to 1024 can be kept");
    assert!(store.monitor().state().failure.is_none());
}

/// Every future at once, on this task.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in pending.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(result) = future.as_mut().poll(context)
            {
                *done = Some(result);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Opens like a disk that always panics.
#[derive(Debug)]
struct Trap;

impl Medium for Trap {
    fn path(&self) -> &Path {
        Path::new("/trap")
    }

    fn open(&self, _: Verification) -> Result<Database, StoreError> {
        database::open_with(self.path(), || panic!("sprung"))
    }
}

#[test]
fn a_panic_while_opening_is_damage() {
    let error = LocalStore::over(Box::new(Trap), None).expect_err("it panics").to_string();
    assert!(error.starts_with("/trap is damaged: reading it fails (sprung)"), "{error}");
}
