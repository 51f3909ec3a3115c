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
//! | `include` | which files the patterns of `[include]` name |
//! | `files` | reading one file, and saying which one it is |
//! | `toml`, `json` | text to the neutral tree, syntax errors included |
//! | `settings` | `[server]`, `[prober]`, `[store]`, `[include]`, `[tls]`, `[ecs]` |
//! | `access` | `[server] hosts` and `proxies` |
//! | `api` | `[api]` |
//! | `secret`, `password` | secret files, password hashes |
//! | `certificates` | PEM files |
//! | `disk` | what the channel rules ask of the disk |
//! | `diagnostics` | all errors, ordered and rendered |
//! | `masking` | what no excerpt shows |

mod access;
pub mod api;
mod certificates;
mod diagnostics;
mod disk;
mod files;
mod include;
mod json;
mod loader;
mod masking;
pub mod password;
pub mod secret;
mod settings;
mod toml;

pub use access::AccessSettings;
pub use certificates::{check_trust_anchors, client_identity_of};
pub use diagnostics::{Diagnostics, Paint};
pub use files::{LoadProgress, read_regular_file};
#[cfg(feature = "fuzzing")]
pub use loader::parse_included;
pub use loader::{LARGEST_FILE, load, load_channel, load_watched, parse};
pub use settings::{
    Config, DriverNumber, FileChannel, KNOWN_KEYS, MaxInFlight, ProberSettings, ServerSettings,
    ServerTlsSettings,
};
