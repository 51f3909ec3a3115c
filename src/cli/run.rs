//! `vitald run`: the daemon.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::ConfigArgument;
use super::console::Console;
use super::exit::{CliError, Exit};
use super::logging::{self, LogArguments};
use crate::daemon::{self, ConfigSource, DaemonOptions, Ending};

/// Run the daemon
///
/// Probes every member as its channel says, decides who is in rotation, and
/// shows it over HTTP. SIGHUP or `vitald reload` reads the configuration again;
/// SIGTERM or SIGINT ends it in order, a second one at once.
///
/// Exit status: 0 after an orderly end, 1 it could not start, 78 the
/// configuration is bad.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald run
  vitald run --config ./vitald.toml --log-level debug
  vitald run --log-format json 2>>/var/log/vitald.json")]
pub(super) struct RunArguments {
    #[command(flatten)]
    config: ConfigArgument,

    #[command(flatten)]
    log: LogArguments,
}

pub(super) fn execute(arguments: RunArguments, console: &Console) -> Result<Exit, CliError> {
    let log = logging::install(&arguments.log, console)?;
    let ending = daemon::run(DaemonOptions {
        config: ConfigSource::File(arguments.config.config),
        listen: None,
        stop: CancellationToken::new(),
        on_ready: None,
        events: None,
        lost_log_lines: Some(log.lost.clone()),
    })
    .map_err(|error| CliError::daemon(error, console))?;
    Ok(exit_of(ending))
}

/// The exit of a daemon that ran.
pub(super) fn exit_of(ending: Ending) -> Exit {
    match ending {
        Ending::Stopped => Exit::Success,
        Ending::Forced(signal) => Exit::Signal(signal),
    }
}
