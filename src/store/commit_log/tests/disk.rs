//! A disk in memory that fails on demand and can lose power.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::{Database, StorageBackend};

use crate::store::StoreError;
use crate::store::database::{Medium, Verification, builder};

/// No space left on device.
pub(crate) const ENOSPC: i32 = 28;
const SECTOR: usize = 512;
const PATH: &str = "/disk/store.redb";

/// What a disk is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Write(usize, Vec<u8>),
    SetLength(usize),
    Flush,
}

/// How long a failure lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Once,
    UntilHealed,
}

/// Shared by all who open it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As the process sees it.
    bytes: Vec<u8>,
    /// What has been done, failed operations aside.
    journal: Vec<Operation>,
    /// Operations until the failure, and how long it lasts.
    fault: Option<(usize, Failure)>,
    failures: usize,
}

impl Disk {
    pub(crate) fn with(bytes: Vec<u8>) -> Self {
        let state = State { bytes, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    pub(crate) fn journal(&self) -> Vec<Operation> {
        self.state().journal.clone()
    }

    pub(crate) fn fail_after(&self, operations: usize, failure: Failure) {
        self.state().fault = Some((operations, failure));
    }

    /// Ends the failure; says how often it struck.
    pub(crate) fn heal(&self) -> usize {
        let mut state = self.state();
        state.fault = None;
        std::mem::take(&mut state.failures)
    }

    fn perform(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state();
        match &mut state.fault {
            Some((0, failure)) => {
                if *failure == Failure::Once {
                    state.fault = None;
                }
                state.failures += 1;
                // Part of a write may get there before the disk is full. A flush
                // that fails leaves everything before it in unsettled.
                if let Operation::Write(offset, data) = operation {
                    let half = data.len() / 2;
                    let torn = Operation::Write(offset, data[..half].to_vec());
                    torn.perform(&mut state.bytes);
                    state.journal.push(torn);
                }
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        operation.perform(&mut state.bytes);
        state.journal.push(operation);
        Ok(())
    }
}

impl Operation {
    fn perform(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                bytes.resize(bytes.len().max(offset + data.len()), 0);
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
            Self::SetLength(length) => bytes.resize(*length, 0),
            Self::Flush => {}
        }
    }

    /// The same, with any sectors of a write missing.
    fn torn(&self) -> Vec<Self> {
        match self {
            Self::Write(offset, data) => {
                let sectors = data.chunks(SECTOR).enumerate().filter(|_| fastrand::bool());
                sectors.map(|(at, sector)| Self::Write(offset + at * SECTOR, sector.to_vec())).collect()
            }
            other => vec![other.clone()],
        }
    }
}

/// What a disk may hold after it lost power: all before the last flush, and of
/// what came later any part, in any order.
pub(crate) fn after_power_loss(journal: &[Operation]) -> Disk {
    let flushed = journal.iter().rposition(|operation| *operation == Operation::Flush).unwrap_or(0);
    let (before, after) = journal.split_at(flushed);
    let mut bytes = Vec::new();
    for operation in before {
        operation.perform(&mut bytes);
    }
    let mut after: Vec<Operation> = match fastrand::u8(0..4) {
        0 => Vec::new(),
        1 => after.to_vec(),
        2 => after.iter().filter(|_| fastrand::bool()).cloned().collect(),
        _ => after.iter().filter(|_| fastrand::bool()).flat_map(Operation::torn).collect(),
    };
    if fastrand::bool() {
        fastrand::shuffle(&mut after);
    }
    for operation in after {
        operation.perform(&mut bytes);
    }
    Disk::with(bytes)
}

impl Medium for Disk {
    fn path(&self) -> &Path {
        Path::new(PATH)
    }

    fn open(&self, check: Verification) -> Result<Database, StoreError> {
        crate::store::database::open_with(self.path(), || builder(check).create_with_backend(self.clone()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let state = self.state();
        let bytes = state.bytes.get(start..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.perform(Operation::SetLength(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.perform(Operation::Flush)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.perform(Operation::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}
