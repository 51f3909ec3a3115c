//! The state directory: where it is, and that it stays there.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::store::{StateDirectory, StoreError};

/// Where state is kept, and for what; fixed when the daemon starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSource {
    /// The state directory; none keeps nothing.
    path: Option<PathBuf>,
    api: ApiSwitch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ApiSwitch {
    On,
    Off,
}

impl StateSource {
    /// `[store] path`, else the first directory of `$STATE_DIRECTORY`, as
    /// systemd sets it.
    ///
    /// # Errors
    /// There is an API and no place for what it makes.
    pub fn of(config: &Config) -> Result<Self, String> {
        let of_manager = || {
            let listed = std::env::var_os("STATE_DIRECTORY")?;
            std::env::split_paths(&listed).find(|path| path.is_absolute())
        };
        let path = config.store.path.clone().or_else(of_manager);
        let api = if config.api.is_some() { ApiSwitch::On } else { ApiSwitch::Off };
        if path.is_none() && api == ApiSwitch::On {
            return Err("[api] needs a place for the channels it makes: set [store] path = \
                        \"/var/lib/vitald\", or StateDirectory=vitald in the systemd unit"
                .to_owned());
        }
        Ok(Self { path, api })
    }

    /// Whether a new configuration keeps it.
    ///
    /// # Errors
    /// It would take a restart.
    pub fn judge(&self, config: &Config) -> Result<(), String> {
        let new = Self::of(config)?;
        if new.api != self.api {
            let (verb, is) = if new.api == ApiSwitch::On { ("on", "off") } else { ("off", "on") };
            return Err(format!(
                "[api] was switched {verb}, which takes a restart of vitald; restart it, or leave the API {is}"
            ));
        }
        if new.path != self.path {
            return Err("[store] path changed, which takes a restart of vitald; restart it, or put the old \
                        one back"
                .to_owned());
        }
        Ok(())
    }

    /// Makes and locks the directory, if there is to be one; with an API there is.
    ///
    /// # Errors
    /// It is in use, or the system refused.
    pub fn open(&self) -> Result<Option<Arc<StateDirectory>>, StoreError> {
        self.path.as_deref().map(|path| StateDirectory::open(path).map(Arc::new)).transpose()
    }
}
