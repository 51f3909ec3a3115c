//! What the API made: asked of the running daemon over its Unix socket, or read
//! from the store of a daemon that does not run. `export` and `import` use it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::DEFAULT_CONFIG;
use super::client::{Absence, ClientError, ConfiguredPlaces, DaemonUrl};
use super::exit::CliError;
use crate::catalog::{ApiRecord, Archive};
use crate::store::{Collection, LocalStore, StateDirectory, StoreError};

/// The file that makes a directory a store.
const STORE_FILE: &str = "store.redb";

const PATIENCE: Duration = Duration::from_secs(60);

const OPEN_A_SOCKET: &str = "vitald is running and can be asked over its Unix socket only: add `socket = \"/run/vitald/vitald.sock\"` \
     to [server] and restart it, or stop it first";

/// `--socket`, `--store` and `--config`: where the channels of the API are.
#[derive(Debug, clap::Args)]
pub(super) struct HoldingsArguments {
    /// The running daemon's Unix socket; default: the configuration's
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// The store's directory, while no daemon uses it; default: the configuration's
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    store: Option<PathBuf>,

    /// The configuration that names both
    #[arg(
        long,
        value_name = "PATH",
        env = "VITALD_CONFIG",
        default_value = DEFAULT_CONFIG,
        hide_env_values = true
    )]
    config: PathBuf,
}

/// Where the channels of the API are.
pub(super) enum Holdings {
    /// With a daemon that answers.
    Daemon(DaemonUrl, Archive),
    /// In a directory that no daemon uses.
    Store(PathBuf),
}

impl HoldingsArguments {
    /// Asks the daemon if there is one; else finds the store's directory.
    ///
    /// # Errors
    /// Neither is there, or the daemon does not hand its channels out.
    pub(super) async fn find(&self) -> Result<Holdings, CliError> {
        if let Some(store) = &self.store {
            return Ok(Holdings::Store(store.clone()));
        }
        if let Some(socket) = &self.socket {
            return ask(DaemonUrl::socket_of_argument(socket)).await;
        }
        let configured = ConfiguredPlaces::read(&self.config);
        if let Some(socket) = configured.socket {
            match ask(DaemonUrl::socket_of_config(socket, &self.config)).await {
                // Nobody there: the store may be read instead.
                Err(CliError::Client(ClientError::Unreachable { absence: Absence::Certain, .. })) => {}
                answer => return answer,
            }
        }
        let from_manager = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        configured.store.or_else(from_manager).map(Holdings::Store).ok_or_else(|| {
            CliError::Usage(format!(
                "no daemon and no store: {} names neither a `socket` in [server] that answers nor a `path` in \
                 [store]; name one with --socket or --store",
                self.config.display()
            ))
        })
    }
}

async fn ask(daemon: DaemonUrl) -> Result<Holdings, CliError> {
    let answer = daemon.get("/v1/export", PATIENCE).await?;
    if answer.status != 200 {
        let (url, status, text) = (daemon.to_string(), answer.status, answer.error_text());
        return Err(ClientError::Refused { url, status, text }.into());
    }
    let archive = Archive::parse(&answer.body)
        .map_err(|error| ClientError::NotVitald { url: daemon.to_string(), problem: error.to_string() })?;
    Ok(Holdings::Daemon(daemon, archive))
}

/// A store that this process holds; no daemon can start on it meanwhile.
pub(super) struct OfflineStore {
    pub(super) store: LocalStore,
    pub(super) archive: Archive,
}

impl OfflineStore {
    /// Opens a store that is there.
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

    /// Opens a store, making it if there is none.
    ///
    /// # Errors
    /// A daemon uses it, or it cannot be read.
    pub(super) async fn open_or_make(path: &Path) -> Result<Self, CliError> {
        let directory = StateDirectory::open(path).map_err(|error| match error {
            StoreError::Locked { .. } => CliError::Preparation(format!("{error}\n{OPEN_A_SOCKET}")),
            error => broken(&error),
        })?;
        let store = LocalStore::open(&Arc::new(directory)).map_err(|error| broken(&error))?;
        let contents = store.load().await.map_err(|error| broken(&error))?;
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

/// What the store says against it.
pub(super) fn broken(error: &StoreError) -> CliError {
    CliError::Preparation(error.to_string())
}
