//! `vitald run`: the daemon, and where its log lines go.
//!
//! Logs are messages: they go to stderr, or straight to the journal when stderr is the
//! journal, so that every field can be searched there. A thread of its own writes them:
//! a reader that is slow or stuck must not delay verdicts or the control loop. The queue
//! between them is bounded: when it is full, lines are dropped and counted.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::console::{Colour, Console};
use super::exit::{CliError, Exit};
use super::journal::{Journal, JournalLayer};
use super::locate::ConfigArgument;
use crate::daemon::{self, ConfigSource, DaemonOptions};

/// Lines that wait for the writer. A line has a few hundred bytes, so a reader
/// that is stuck costs a few megabytes; what comes after that is dropped.
const LINES_AT_MOST: usize = 4096;

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
    let log = install(&arguments.log, console)?;
    let ending = daemon::run(DaemonOptions {
        config: ConfigSource::File(arguments.config.config),
        listen: None,
        stop: CancellationToken::new(),
        on_ready: None,
        events: None,
        lost_log_lines: Some(log.lost.clone()),
    })
    .map_err(|error| CliError::daemon(error, console))?;
    Ok(ending.into())
}

/// Where log lines go, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// journald when stderr is the journal (JOURNAL_STREAM), else text
    Auto,
    /// one line for people on stderr
    Text,
    /// one JSON object per line on stderr
    Json,
    /// fields straight to systemd's journal
    Journald,
}

/// `--log-format` and `--log-level`.
#[derive(Debug, Args)]
struct LogArguments {
    /// The form of log lines
    #[arg(long, value_enum, default_value = "auto", value_name = "FORMAT")]
    log_format: LogFormat,

    /// How much is logged: error, warn, info, debug, trace, off, or directives
    /// such as vitald=debug
    #[arg(long, env = "VITALD_LOG", default_value = "info", value_name = "LEVEL",
        value_parser = parse_level, hide_env_values = true)]
    log_level: String,
}

/// What the audit is logged by, unless the directives name it: a level is not meant to
/// silence it.
const AUDIT: &str = "vitald::audit";

/// A level word speaks of vitald itself; of libraries only warnings are of use.
fn parse_level(text: &str) -> Result<String, String> {
    let directives = match text.parse::<LevelFilter>() {
        Ok(level) if level < LevelFilter::WARN => format!("{level}"),
        Ok(level) => format!("warn,vitald={level}"),
        Err(_) => text.to_owned(),
    };
    let is_named = directives.split(',').any(|directive| directive.trim_start().starts_with(AUDIT));
    let directives = if is_named { directives } else { format!("{directives},{AUDIT}=info") };
    match EnvFilter::builder().parse(&directives) {
        Ok(_) => Ok(directives),
        Err(error) => {
            Err(format!("{error}; use a level (error, warn, info, debug, trace, off) or vitald=debug"))
        }
    }
}

/// The log while it is open. Dropping it writes what is queued, and waits about
/// a second at most for a reader that is stuck.
struct Log {
    /// Lines that were dropped because they were not read in time.
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

/// Makes the process log. Called once, before the daemon starts.
///
/// # Errors
/// The journal was asked for and cannot be reached, or there is no thread.
fn install(arguments: &LogArguments, console: &Console) -> Result<Log, CliError> {
    let filter = EnvFilter::new(&arguments.log_level);
    let journal = match arguments.log_format {
        LogFormat::Text | LogFormat::Json => None,
        LogFormat::Journald => {
            let opened = Journal::open();
            Some(opened.map_err(CliError::io("cannot log to the journal"))?)
        }
        LogFormat::Auto => stderr_is_the_journal().then(Journal::open).and_then(Result::ok),
    };
    // The queue would panic where this fails.
    let thread = std::thread::Builder::new().spawn(|| {}).map(|thread| drop(thread.join()));
    thread.map_err(CliError::io("cannot start: no thread for the log"))?;
    let queue =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_AT_MOST).thread_name("log");
    let (layer, lost, writer): (Boxed, _, _) = if let Some(journal) = journal {
        let (queue, writer) = queue.finish(journal);
        let lost = queue.error_counter();
        (JournalLayer(queue).boxed(), lost, writer)
    } else {
        let (stderr, writer) = queue.finish(io::stderr());
        let lost = stderr.error_counter();
        let layer =
            if arguments.log_format == LogFormat::Json { json(stderr) } else { text(console, stderr) };
        (layer, lost, writer)
    };
    // Not `init()`: that would also take in the `log` lines of rustls, which a
    // remote peer can trigger at will.
    let subscriber = Registry::default().with(layer.with_filter(filter));
    // Only a second call can fail, and the first subscriber then stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(Log { lost, _writer: writer })
}

/// Logs only errors, as text: for a command whose output already shows the rest.
pub(super) fn log_errors_only(console: &Console) {
    let subscriber = Registry::default().with(text(console, io::stderr).with_filter(LevelFilter::ERROR));
    // Only a second call can fail, and the first subscriber then stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

fn text(console: &Console, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) -> Boxed {
    let ansi = console.stderr_colour() == Colour::On;
    fmt::layer().with_writer(writer).with_ansi(ansi).with_target(false).boxed()
}

fn json(stderr: NonBlocking) -> Boxed {
    fmt::layer().with_writer(stderr).json().flatten_event(true).with_current_span(false).boxed()
}

/// Whether JOURNAL_STREAM (systemd.exec(5)) names the very file that stderr is.
/// The variable alone proves nothing: it is inherited by children whose stderr
/// goes elsewhere.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream.to_str() == Some(&format!("{}:{}", stderr.dev(), stderr.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_speak_of_vitald() {
        let cases = [
            ("info", Ok("warn,vitald=info,vitald::audit=info")),
            ("DEBUG", Ok("warn,vitald=debug,vitald::audit=info")),
            ("error", Ok("error,vitald::audit=info")),
            ("off", Ok("off,vitald::audit=info")),
            ("vitald=trace,hyper=debug", Ok("vitald=trace,hyper=debug,vitald::audit=info")),
            ("info,vitald::audit=off", Ok("info,vitald::audit=off")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_level(text).as_deref(), expected, "{text}");
        }
        assert!(parse_level("vitald=loud").is_err());
    }
}
