//! Verdicts over a restart: found at the start, saved every few seconds.
//!
//! Called by control. Collecting and writing run on a thread of the blocking pool,
//! so that drivers never wait for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::clock::Clock;
use crate::catalog::{ChannelSlot, Entry, MemberSlot, Snapshot};
use crate::health::{MemberState, Outcome, Resumed, Timestamp};
use crate::store::{
    DefinitionHash, Recall, SavedAt, SavedVerdicts, StateDirectory, StoredKind, VerdictFile, VerdictKey,
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
        Ok(recall) => {
            let age_seconds = recall.age.as_secs();
            tracing::info!(members = recall.records.len(), age_seconds, "going on with saved verdicts");
            Some(Arc::new(recall))
        }
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

/// What the saver remembers from one save to the next.
#[derive(Debug, Default)]
struct Remembered {
    /// What was gone on with at the start, until the first save.
    recalled: Option<(Arc<Recall>, Timestamp)>,
    channels: HashMap<ChannelSlot, KnownChannel>,
}

#[derive(Debug)]
struct KnownChannel {
    entry: Arc<Entry>,
    members: Vec<KnownMember>,
}

#[derive(Debug, Clone, Copy)]
struct KnownMember {
    slot: MemberSlot,
    key: VerdictKey,
    /// When its last conclusive probe began, as far as was seen.
    confirmed: Option<Timestamp>,
}

impl VerdictSaver {
    /// Saves nothing yet. `recalled` is what members went on with.
    pub fn new(directory: &Arc<StateDirectory>, recalled: Option<Arc<Recall>>, clock: Clock) -> Self {
        let recalled = recalled.map(|recall| (recall, clock.now().wall));
        Self {
            file: VerdictFile::of(directory),
            monitor: WriteMonitor::new(StoredKind::Verdicts),
            remembered: Arc::new(Mutex::new(Remembered { recalled, channels: HashMap::new() })),
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

    /// Has the verdicts of a snapshot saved, soon.
    pub fn save(&mut self, snapshot: Snapshot) {
        let (file, monitor) = (self.file.clone(), self.monitor.clone());
        let remembered = Arc::clone(&self.remembered);
        let saved_at = self.clock.saved_at();
        self.saving = Some(tokio::task::spawn_blocking(move || {
            let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
            let verdicts = remembered.collect(&snapshot, saved_at);
            // The drivers copy the pages they write to while it is held.
            drop(snapshot);
            monitor.note(1, file.save(&verdicts).as_ref().map(drop));
        }));
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
            let channel = match before.remove(&entry.slot) {
                Some(known) if Arc::ptr_eq(&known.entry, entry) => Some(known),
                old => self.meet(entry, old),
            };
            let Some(mut channel) = channel else { continue };
            for member in &mut channel.members {
                let state = snapshot.state(member.slot);
                records.extend(state.and_then(|state| member.record(state, saved_at.wall)));
            }
            self.channels.insert(entry.slot, channel);
        }
        self.recalled = None;
        SavedVerdicts { saved_at, records }
    }

    /// A channel that is new or changed; none when its members are not probed.
    fn meet(&self, entry: &Arc<Entry>, old: Option<KnownChannel>) -> Option<KnownChannel> {
        let channel = entry.channel();
        let definition = DefinitionHash::of(channel)?;
        let old: HashMap<VerdictKey, KnownMember> =
            old.into_iter().flat_map(|old| old.members).map(|member| (member.key, member)).collect();
        let known = |key: VerdictKey, slot: MemberSlot| match old.get(&key) {
            // Another generation was asked something else in between.
            Some(member) => member.confirmed.filter(|_| member.slot == slot),
            None => self.recalled.as_ref().and_then(|(recall, at)| {
                let unconfirmed =
                    u64::try_from(recall.records.get(&key)?.unconfirmed.as_nanos()).unwrap_or(u64::MAX);
                Some(Timestamp(at.0.saturating_sub(unconfirmed)))
            }),
        };
        let members = entry.members().map(|(member, row)| {
            let key = VerdictKey::of(definition, channel, member);
            KnownMember { slot: row.slot, key, confirmed: known(key, row.slot) }
        });
        Some(KnownChannel { members: members.collect(), entry: Arc::clone(entry) })
    }
}

impl KnownMember {
    /// What is kept of the member; nothing as long as no probe has said anything.
    fn record(&mut self, state: &MemberState, now: Timestamp) -> Option<VerdictRecord> {
        if let Some(last) = &state.last
            && !matches!(last.outcome, Outcome::Inconclusive(_))
        {
            self.confirmed = Some(last.at);
        }
        let unconfirmed = Duration::from_nanos(now.0.saturating_sub(self.confirmed?.0));
        let resumed = Resumed {
            health: state.health,
            consecutive_successes: state.consecutive_successes,
            consecutive_failures: state.consecutive_failures,
            since: state.since,
        };
        Some(VerdictRecord { key: self.key, resumed, unconfirmed })
    }
}
