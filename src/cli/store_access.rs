//! Access to what the API made, for `export` and `import`: from the running daemon over
//! its Unix socket, or from the store of a daemon that does not run.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;

use super::client::{ClientError, DaemonPresence, DaemonUrl};
use super::exit::CliError;
use super::locate::{CONFIG, ConfiguredLocation};
use crate::catalog::{ApiRecord, Archive};
use crate::store::{Collection, DirectoryUse, LocalStore, StateDirectory, StoreError};

/// The file that makes a directory a store.
const STORE_FILE: &str = "store.redb";

const PATIENCE: Duration = Duration::from_secs(60);

const OPEN_A_SOCKET: &str = "vitald is running and can be asked over its Unix socket only: add `socket = \"/run/vitald/vitald.sock\"` \
     to [server] and restart it, or stop it first";

/// `--socket`, `--store` and `--config`: where the channels of the API are.
#[derive(Debug, clap::Args)]
pub(super) struct StoreAccessArguments {
    /// The running daemon's Unix socket; default: the configuration's
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// The store's directory, while no daemon uses it; default: the configuration's
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    store: Option<PathBuf>,

    /// The configuration that names both
    #[arg(long, value_name = "PATH", env = "VITALD_CONFIG", default_value = CONFIG, hide_env_values = true)]
    config: PathBuf,
}

/// Where the channels of the API are.
pub(super) enum StoreAccess {
    /// With a daemon that answers; it handed these out.
    Daemon(DaemonUrl, Archive),
    /// In a directory that no daemon uses.
    Directory(PathBuf),
}

impl StoreAccessArguments {
    /// Asks the daemon if there is one; else finds the store's directory.
    ///
    /// # Errors
    /// Neither is there, or the daemon does not hand its channels out.
    pub(super) async fn find(&self) -> Result<StoreAccess, CliError> {
        if let Some(store) = &self.store {
            return Ok(StoreAccess::Directory(store.clone()));
        }
        if let Some(socket) = &self.socket {
            return Ok(ask(DaemonUrl::at_socket(socket.clone(), "--socket")).await?);
        }
        let configured = ConfiguredLocation::read(&self.config);
        if let Some(socket) = configured.socket {
            match ask(DaemonUrl::at_socket(socket, self.config.display())).await {
                // No daemon runs: the store may be read instead.
                Err(ClientError::Unreachable { presence: DaemonPresence::Absent, .. }) => {}
                answer => return Ok(answer?),
            }
        }
        let from_manager = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        configured.store.or_else(from_manager).map(StoreAccess::Directory).ok_or_else(|| {
            CliError::Usage(format!(
                "no daemon and no store: {} names neither a `socket` in [server] that answers nor a `path` in \
                 [store]; name one with --socket or --store",
                self.config.display()
            ))
        })
    }
}

async fn ask(daemon: DaemonUrl) -> Result<StoreAccess, ClientError> {
    let response = daemon.get("/v1/export", PATIENCE).await?;
    if response.status != 200 {
        return Err(daemon.refused(&response));
    }
    let archive = Archive::parse(&response.body).map_err(|error| daemon.not_vitald(error))?;
    Ok(StoreAccess::Daemon(daemon, archive))
}

/// Gives what root has made in a directory of another user to that user: the daemon has to
/// read it.
fn give_to_owner(directory: &Path) -> std::io::Result<()> {
    let owner = directory.metadata()?;
    if !geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let file = path.symlink_metadata()?;
        // Another name of a file may have been put there to have it given away.
        if file.is_file() && file.uid() == 0 && file.nlink() == 1 {
            lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

/// A store that this process holds; no daemon can start on it meanwhile.
pub(super) struct OfflineStore {
    pub(super) store: LocalStore,
    pub(super) archive: Archive,
}

impl OfflineStore {
    /// Opens a store that is there, to read from it.
    ///
    /// # Errors
    /// There is none, a daemon uses it, or it cannot be read.
    pub(super) async fn open(path: &Path) -> Result<Self, CliError> {
        if !path.join(STORE_FILE).exists() {
            let what = format!("there is no {STORE_FILE} in {}: no store", path.display());
            return Err(CliError::Preparation(what));
        }
        Self::open_or_make(path).await
    }

    /// Opens a store to write to, making it if there is none.
    ///
    /// # Errors
    /// A daemon uses it, it is another user's and this is not root, or it cannot be read.
    pub(super) async fn open_or_make(path: &Path) -> Result<Self, CliError> {
        let directory = StateDirectory::open_for(path, DirectoryUse::Visit).map_err(|error| match error {
            StoreError::Locked { .. } => CliError::Preparation(format!("{error}\n{OPEN_A_SOCKET}")),
            error => error.into(),
        })?;
        let store = LocalStore::open(&Arc::new(directory))?;
        give_to_owner(path)
            .map_err(CliError::io(format!("cannot give the files of {} away", path.display())))?;
        let contents = store.load().await?;
        let records: Result<Vec<ApiRecord>, _> = contents
            .records
            .iter()
            .filter(|record| matches!(record.key.collection, Collection::Channels | Collection::Instances))
            .map(|record| ApiRecord::decode(&record.value))
            .collect();
        let records =
            records.map_err(|error| CliError::Preparation(format!("{}: {error}", path.display())))?;
        Ok(Self { store, archive: Archive::of_records(records) })
    }
}
