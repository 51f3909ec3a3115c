//! Files to channels: every error of every file at once, with file, line and caret.
//!
//! The daemon calls [`load`] at start and on reload, `vitald check` too; the
//! embedded demo calls [`parse`]. The rules of channels are not here but in
//! [`crate::channel::reader`]; this room finds the files, turns TOML and JSON
//! into the tree those rules read, reads the daemon's own tables, looks into
//! certificates, and shows what is wrong.
//!
//! | file | what it does |
//! |---|---|
//! | `loader` | which files are read, in which order; duplicates across files |
//! | `tables` | `[server]`, `[prober]`, `[store]`, `[include]`, `[tls]`, `[ecs]` |
//! | `api`, `api_tables` | `[api]`: what it says, and reading it |
//! | `secret`, `password` | secret files, password hashes |
//! | `toml`, `json` | text to the neutral tree, syntax errors included |
//! | `certificates` | PEM files; what the channel rules ask of the disk |
//! | `source` | a file's text and where its lines begin |
//! | `diagnostics` | all errors, ordered and rendered |

pub mod api;
mod api_tables;
mod certificates;
mod diagnostics;
mod json;
mod loader;
pub mod password;
pub mod secret;
mod source;
mod tables;
mod toml;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{Channel, ClientIdentity, Host, PemFile};
use api::ApiSettings;

pub use certificates::{check_trust_anchors, client_identity_of};
pub use diagnostics::{Diagnostic, Diagnostics, Paint, Related};
#[cfg(feature = "fuzzing")]
pub use loader::parse_included;
pub use loader::{load, load_channel, parse};
pub use source::SourceText;
pub use tables::KNOWN_KEYS;

/// Everything a configuration says, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[prober]`.
    pub prober: ProberSettings,
    /// `[api]`; none when it is absent or switched off.
    pub api: Option<ApiSettings>,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[tls] backend_client_certificate`.
    pub backend_client_certificate: Option<ClientIdentity>,
    /// `[ecs]`: addresses of cloud servers by their `ecs_id`.
    pub ecs: HashMap<String, Host>,
    /// The channels: those of the main file first, then one per included file,
    /// in the lexical order of their paths. No two share a name.
    pub channels: Vec<FileChannel>,
}

/// A channel and the file it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct FileChannel {
    /// The channel.
    pub channel: Arc<Channel>,
    /// The file, as reached from the path that was loaded.
    pub file: PathBuf,
}

/// `[server]`: where the HTTP server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// `listen`; loopback unless said otherwise.
    pub listen: SocketAddr,
    /// `[server.tls]`; none for plain HTTP.
    pub tls: Option<ServerTlsSettings>,
    /// `socket`: a Unix socket beside the address, for the local command line.
    pub socket: Option<PathBuf>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9650)), tls: None, socket: None }
    }
}

/// `[server.tls]`: read at every load, so a reload brings new certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsSettings {
    /// `certificate` and `key`.
    pub identity: ClientIdentity,
    /// `client_ca`: only clients with a certificate of these are heard.
    pub client_ca: Option<PemFile>,
}

/// `[store]`: what survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// `path`: the state directory; none when it is not named.
    pub path: Option<PathBuf>,
    /// `verdict_age_limit`: a verdict whose last conclusive probe was longer ago
    /// is not gone on with after a restart. 0 seconds to 1 day.
    pub verdict_age_limit: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { path: None, verdict_age_limit: Duration::from_secs(600) }
    }
}

/// `[prober]`: how the daemon probes, over all channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProberSettings {
    /// `max_in_flight`: probes at once.
    pub max_in_flight: MaxInFlight,
    /// `ready_within`: the daemon is ready once every member has a verdict, or
    /// after this long. 0 to 1 hour.
    pub ready_within: Duration,
    /// `resolve_interval`: how often host names are resolved again. 1 second to
    /// 1 day.
    pub resolve_interval: Duration,
    /// `reference`: when none of these answers either, a member's silence is
    /// taken for the prober's own. Empty: never.
    pub reference: Vec<SocketAddr>,
}

impl Default for ProberSettings {
    fn default() -> Self {
        Self {
            max_in_flight: MaxInFlight::Auto,
            ready_within: Duration::from_secs(10),
            resolve_interval: Duration::from_secs(30),
            reference: Vec::new(),
        }
    }
}

/// `max_in_flight`: how many probes may run at once, over all channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaxInFlight {
    /// `"auto"`: what the limit on open files allows.
    #[default]
    Auto,
    /// A number, 1 to 1,000,000.
    Limit(NonZeroU32),
}
