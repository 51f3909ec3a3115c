//! How a command ended: exit codes for scripts, errors for people.

use std::io;

use super::console::{Colour, Console, Tone, paint};
use crate::config::{Diagnostics, Paint};
use crate::daemon::DaemonError;

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
    /// 128 + n: ended at once by a second signal of number n.
    Signal(i32),
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
            Self::Signal(number) => u8::try_from(number).map_or(255, |number| number.saturating_add(128)),
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
    /// The daemon did not start.
    #[error(transparent)]
    Daemon(DaemonError),
    /// What a command needs of the system, and did not get.
    #[error("{0}")]
    Preparation(String),
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
    /// All errors of a configuration, in the colours of stderr.
    pub(super) fn config(diagnostics: &Diagnostics, console: &Console) -> Self {
        let paint = match console.stderr_colour() {
            Colour::On => Paint::Ansi,
            Colour::Off => Paint::Plain,
        };
        Self::Config { rendered: diagnostics.render(paint) }
    }

    /// Channels whose probes cannot be prepared, one problem a line. What is
    /// wrong with them stands in the configuration or in a file it names.
    pub(super) fn channels(problems: &str, console: &Console) -> Self {
        let word = paint(console.stderr_colour(), Tone::Bad, "error:");
        let lines: Vec<String> = problems.lines().map(|problem| format!("{word} {problem}")).collect();
        Self::Config { rendered: lines.join("\n") }
    }

    /// Why the daemon did not start; a bad configuration keeps its carets.
    pub(super) fn daemon(error: DaemonError, console: &Console) -> Self {
        match error {
            DaemonError::Config(diagnostics) => Self::config(&diagnostics, console),
            DaemonError::Channels(problems) => Self::channels(&problems, console),
            DaemonError::Setting(problem) => Self::channels(&problem, console),
            error => Self::Daemon(error),
        }
    }

    /// The exit code that belongs to the error.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Config { .. } => Exit::BadConfig,
            Self::Client(_) | Self::Output(_) | Self::Daemon(_) | Self::Preparation(_) | Self::Io { .. } => {
                Exit::Failure
            }
        }
    }
}
