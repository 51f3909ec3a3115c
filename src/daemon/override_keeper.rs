//! Overrides of members over a restart: found at the start, saved before each change of
//! one takes effect.
//!
//! Called by the registrar. Files are read and written on threads of the blocking pool.

use std::sync::Arc;

use crate::catalog::{Fault, Overrides};
use crate::store::{OverrideFile, StateDirectory, StoreError, StoredKind, WriteMonitor};

const NO_PLACE: &str = "there is no state directory, so a restart would forget it; set [store] path = \
                        \"/var/lib/vitald\", or StateDirectory=vitald in the systemd unit, and restart vitald";

/// Keeps overrides in a state directory.
#[derive(Debug, Clone)]
pub struct OverrideKeeper {
    file: OverrideFile,
    monitor: WriteMonitor,
}

impl OverrideKeeper {
    /// The overrides that a state directory holds. Blocks.
    ///
    /// # Errors
    /// They cannot be read: to start without them would bring members back that somebody
    /// took out.
    pub fn open(directory: &Arc<StateDirectory>) -> Result<(Self, Overrides), StoreError> {
        let file = OverrideFile::of(directory);
        let overrides = match file.load()? {
            Some(text) => Overrides::decode(&text).map_err(|error| file.unusable(error))?,
            None => Overrides::default(),
        };
        Ok((Self { file, monitor: WriteMonitor::new(StoredKind::Overrides) }, overrides))
    }

    /// How writes fare.
    pub fn monitor(&self) -> &WriteMonitor {
        &self.monitor
    }

    /// Saves all overrides; they are on disk when this returns. `keeper`: none without a
    /// state directory.
    ///
    /// # Errors
    /// There is no state directory, or it cannot be written: the change must not take effect.
    pub async fn save(keeper: Option<Self>, overrides: Overrides) -> Result<(), Fault> {
        let Some(Self { file, monitor }) = keeper else { return Err(Fault::NotStored(NO_PLACE.to_owned())) };
        let save = move || {
            let text = overrides.encode().map_err(|error| error.to_string())?;
            let saved = file.save(&text);
            monitor.note(1, saved.as_ref().map(drop));
            saved.map_err(|error| error.to_string())
        };
        let saved = tokio::task::spawn_blocking(save).await.unwrap_or_else(|error| Err(error.to_string()));
        saved.map_err(Fault::NotStored)
    }
}
