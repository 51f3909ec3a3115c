//! Verdicts over a restart: found at the start, saved every few seconds.
//!
//! Called by control. Collecting and writing run on a thread of the blocking pool,
//! so that drivers never wait for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::clock::Clock;
use super::observer::Observer;
use crate::catalog::{ChannelSlot, Entry, MemberSlot, Snapshot};
use crate::serve::DaemonHandle as _;
use crate::store::{
    ChannelKeys, MemberKeys, Recall, SavedAt, SavedVerdicts, StateDirectory, StoredKind, VerdictFile,
    VerdictRecord, WriteMonitor,
};

/// How often verdicts are saved.
pub const SAVE_EVERY: Duration = Duration::from_secs(5);

/// The verdicts that the last run left, if they can be gone on with.
#[must_use]
pub fn recall(directory: &Arc<StateDirectory>, clock: Clock, limit: Duration) -> Option<Arc<Recall>> {
    let verdicts = match VerdictFile::of(directory).load() {
        Ok(verdicts) => verdicts?,
        Err(error) => {
            tracing::warn!(%error, "members start at unknown");
            return None;
        }
    };
    match verdicts.recall(&clock.saved_at(), limit) {
        // Who of the members is there still is known when the channels are in effect.
        Ok(recall) => Some(Arc::new(recall)),
        Err(refusal) => {
            tracing::info!("saved verdicts are not used: {refusal}; members start at unknown");
            None
        }
    }
}

/// Saves verdicts now and then, and at the end.
#[derive(Debug)]
pub struct VerdictSaver {
    file: VerdictFile,
    monitor: WriteMonitor,
    remembered: Arc<Mutex<Remembered>>,
    clock: Clock,
    /// The save under way.
    saving: Option<JoinHandle<()>>,
}

/// What the saver remembers from one save to the next: the keys, which take time to make.
#[derive(Debug, Default)]
struct Remembered {
    channels: HashMap<ChannelSlot, KnownChannel>,
}

#[derive(Debug)]
struct KnownChannel {
    entry: Arc<Entry>,
    members: Vec<(MemberSlot, MemberKeys)>,
}

impl VerdictSaver {
    /// Saves nothing yet.
    pub fn new(directory: &Arc<StateDirectory>, clock: Clock) -> Self {
        Self {
            file: VerdictFile::of(directory),
            monitor: WriteMonitor::new(StoredKind::Verdicts),
            remembered: Arc::default(),
            clock,
            saving: None,
        }
    }

    /// How saving fares.
    pub fn monitor(&self) -> &WriteMonitor {
        &self.monitor
    }

    /// Whether the last save has ended, so that the next one may begin.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.saving.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Has the verdicts of now saved, soon. A driver that does not answer is reported
    /// elsewhere; the next save is near.
    pub fn observe_and_save(&mut self, observer: Observer) {
        let (save, clock) = (self.saving_of(), self.clock);
        self.saving = Some(tokio::spawn(async move {
            if let Ok(snapshot) = observer.observe().await {
                let saved_at = clock.saved_at();
                // If it panics, the hook reports it.
                let _ = tokio::task::spawn_blocking(move || save(snapshot, saved_at)).await;
            }
        }));
    }

    /// Has the verdicts of a snapshot saved, soon.
    pub fn save(&mut self, snapshot: Snapshot) {
        let (save, saved_at) = (self.saving_of(), self.clock.saved_at());
        self.saving = Some(tokio::task::spawn_blocking(move || save(snapshot, saved_at)));
    }

    /// What saves a snapshot. Blocks.
    fn saving_of(&self) -> impl FnOnce(Snapshot, SavedAt) + Send + use<> {
        let (file, monitor) = (self.file.clone(), self.monitor.clone());
        let remembered = Arc::clone(&self.remembered);
        move |snapshot, saved_at| {
            let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
            let verdicts = remembered.collect(&snapshot, saved_at);
            // The drivers copy the pages they write to while it is held.
            drop(snapshot);
            monitor.note(1, file.save(&verdicts).as_ref().map(drop));
        }
    }

    /// Saves the last verdicts, and returns when they are on disk.
    pub async fn finish(mut self, snapshot: Option<Snapshot>) {
        if let Some(saving) = self.saving.take() {
            // If it panicked, that was reported; the last save is worth a try.
            let _ = saving.await;
        }
        if let Some(snapshot) = snapshot {
            self.save(snapshot);
        }
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
    }
}

impl Remembered {
    fn collect(&mut self, snapshot: &Snapshot, saved_at: SavedAt) -> SavedVerdicts {
        let mut before = std::mem::take(&mut self.channels);
        let mut records = Vec::new();
        for entry in snapshot.channels.entries() {
            let known = before.remove(&entry.slot).filter(|known| Arc::ptr_eq(&known.entry, entry));
            let channel = known.unwrap_or_else(|| KnownChannel::of(entry));
            records.extend(channel.members.iter().filter_map(|(slot, keys)| {
                VerdictRecord::of(*keys, &snapshot.state(*slot)?.known(), saved_at.wall)
            }));
            self.channels.insert(entry.slot, channel);
        }
        SavedVerdicts { saved_at, records }
    }
}

impl KnownChannel {
    fn of(entry: &Arc<Entry>) -> Self {
        let keys = ChannelKeys::of(entry.channel());
        let members = entry.members().map(|(member, row)| (row.slot, keys.member(member)));
        Self { members: members.collect(), entry: Arc::clone(entry) }
    }
}
