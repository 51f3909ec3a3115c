//! How a command ended: exit codes for scripts, errors for people.

use std::io;

/// The exit codes of `docs/cli.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: done; for `probe`, every probe succeeded; for `status`, healthy.
    Success,
    /// 1: failed; for `probe`, some probe did not succeed; for `status`, degraded.
    Failure,
    /// 2: wrong usage. Clap uses the same number.
    Usage,
    /// 2 of `status`: critical.
    Critical,
    /// 3 of `status`: unknown.
    Unknown,
    /// 78 (`EX_CONFIG` of sysexits.h): the configuration is bad.
    BadConfig,
}

impl Exit {
    /// The number the shell sees.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage | Self::Critical => 2,
            Self::Unknown => 3,
            Self::BadConfig => 78,
        }
    }
}

/// Why a command could not do its work. Printed on stderr by `main`.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Arguments that clap could not judge by itself.
    #[error("{0}")]
    Usage(String),
    /// The configuration has errors; they are already rendered, with their carets.
    #[error("{rendered}")]
    Config {
        /// Everything to show.
        rendered: String,
    },
    /// A running daemon could not be asked.
    #[error(transparent)]
    Client(#[from] super::client::ClientError),
    /// Stdout cannot be written. A closed pipe is not this: it ends quietly.
    #[error("cannot write to stdout: {0}")]
    Output(#[source] io::Error),
    /// A file or directory of ours.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl CliError {
    /// The exit code that belongs to the error.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Config { .. } => Exit::BadConfig,
            Self::Client(_) | Self::Output(_) | Self::Io { .. } => Exit::Failure,
        }
    }
}
