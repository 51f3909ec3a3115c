//! How a command ended: exit codes for scripts, errors for people; and what fails the
//! same way in several commands.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::process::geteuid;

use super::client::ClientError;
use super::console::{Colour, Console, StdoutError, TerminalText, Tone, paint};
use crate::config::{Diagnostics, Paint};
use crate::daemon::{DaemonError, Ending};
use crate::store::StoreError;

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
    /// Ended by Ctrl-C.
    pub(super) const INTERRUPTED: Self = Self::Signal(2);

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

impl From<Ending> for Exit {
    /// The exit of a daemon that ran.
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Stopped => Self::Success,
            Ending::Unsaved => Self::Failure,
            Ending::Forced(signal) => Self::Signal(signal),
        }
    }
}

/// Why a command could not do its work. Printed on stderr by `main`.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("{0}")]
    Usage(String),
    /// The configuration has errors; they are already rendered, with their carets.
    #[error("{rendered}")]
    Config { rendered: TerminalText },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Output(#[from] StdoutError),
    #[error(transparent)]
    Daemon(DaemonError),
    /// What a command needs of the system, and did not get.
    #[error("{0}")]
    Preparation(String),
    /// A file or directory of ours.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

impl CliError {
    /// What was tried, with the path, for the error that comes of it.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { what: what.into(), source }
    }

    /// All errors of a configuration, in the colours of stderr.
    pub(super) fn config(diagnostics: &Diagnostics, console: &Console) -> Self {
        let paint = match console.stderr_colour() {
            Colour::On => Paint::Ansi,
            Colour::Off => Paint::Plain,
        };
        Self::Config { rendered: TerminalText::of_renderer(diagnostics.render(paint).trim_end()) }
    }

    /// Channels whose probes cannot be prepared, one problem a line. What is
    /// wrong with them stands in the configuration or in a file it names.
    pub(super) fn channels(problems: &str, console: &Console) -> Self {
        let word = paint(console.stderr_colour(), Tone::Bad, "error:");
        let mut rendered = TerminalText::default();
        for (index, problem) in problems.lines().enumerate() {
            rendered.push(if index == 0 { "" } else { "\n" });
            rendered.push(word.clone().and(format!(" {problem}")));
        }
        Self::Config { rendered }
    }

    /// Why the daemon did not start; a bad configuration keeps its carets.
    pub(super) fn daemon(error: DaemonError, console: &Console) -> Self {
        match error {
            DaemonError::Config(diagnostics) => Self::config(&diagnostics, console),
            DaemonError::Channels(problems) | DaemonError::Setting(problems) => {
                Self::channels(&problems, console)
            }
            error => Self::Daemon(error),
        }
    }

    /// Writes the error to stderr. Configuration errors come with their own headings;
    /// every other one gets the word `error`.
    pub(super) fn print(&self, console: &Console) {
        match self {
            Self::Config { rendered } => console.message(rendered.clone()),
            error => {
                let word = paint(console.stderr_colour(), Tone::Bad, "error:");
                console.message(word.and(format!(" {error}")));
            }
        }
    }

    /// The exit code that belongs to the error.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Config { .. } => Exit::BadConfig,
            Self::Client(_)
            | Self::Store(_)
            | Self::Output(_)
            | Self::Daemon(_)
            | Self::Preparation(_)
            | Self::Io { .. } => Exit::Failure,
        }
    }
}

/// Runs one future on a runtime of its own: commands that ask something and end.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::io("cannot start the runtime"))?;
    let result = runtime.block_on(future);
    // A name look-up may hang in the system's resolver; the end does not wait for it.
    runtime.shutdown_background();
    Ok(result)
}

/// Writes a new file. Nothing that is there is ever replaced: it may be somebody's only
/// copy.
pub(super) fn write_new(path: &Path, text: &[u8], mode: u32) -> Result<(), CliError> {
    write_given_away(path, text, mode, |_| Ok(())).map(drop)
}

/// Whose a file is: numbers, as the kernel has them.
pub(super) struct FileOwner {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// Writes a new file like [`write_new`]. Made by root, it belongs to the user and the
/// group of `directory`, so that it is for those whom the directory is for: a daemon that
/// does not run as root reads files by its group.
pub(super) fn write_new_for_owner_of(
    directory: &Path,
    path: &Path,
    text: &[u8],
    mode: u32,
) -> Result<FileOwner, CliError> {
    write_given_away(path, text, mode, |file| {
        if geteuid().is_root() {
            let owner = directory.metadata()?;
            fchown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        // Whatever the umask: the group is meant to read it.
        file.set_permissions(Permissions::from_mode(mode))
    })
}

/// Gives the file away before anything is written to it.
fn write_given_away(
    path: &Path,
    text: &[u8],
    mode: u32,
    give_away: impl FnOnce(&File) -> io::Result<()>,
) -> Result<FileOwner, CliError> {
    let io = |doing: &str| CliError::io(format!("cannot {doing} {}", path.display()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io("make"))?;
    give_away(&file).map_err(io("give away"))?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(io("write"))?;
    let owner = file.metadata().map_err(io("read"))?;
    Ok(FileOwner { user: owner.uid(), group: owner.gid() })
}
