//! `vitald run`: the daemon, and where its log lines go.
//!
//! Logs are messages: they go to stderr, or straight to the journal when stderr is the
//! journal, so that every field can be searched there. A thread of its own writes them:
//! a reader that is slow or stuck must not delay verdicts or the control loop. The queue
//! between them is bounded: when it is full, lines are dropped and counted.

use std::fmt::Debug;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use clap::builder::styling::Style;
use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::{MakeWriter, format};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::console::{Colour, Console, TerminalText};
use super::exit::{CliError, Exit};
use super::journal::{Journal, JournalLayer};
use super::locate::ConfigArgument;
use crate::channel::violation::without_controls;
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
    let writer = LogWriter { writer, colour: console.stderr_colour() };
    let fields = format::debug_fn(write_field).delimited(" ");
    fmt::layer().fmt_fields(fields).with_writer(writer).with_ansi(ansi).with_target(false).boxed()
}

/// Writes a field as tracing would, which leaves escape characters in some.
fn write_field(writer: &mut format::Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let value = std::format!("{value:?}");
    let value = without_controls(&value);
    match (field.name(), writer.has_ansi_escapes()) {
        ("message", _) => write!(writer, "{value}"),
        (name, true) => {
            let (italic, faint) = (Style::new().italic(), Style::new().dimmed());
            write!(writer, "{italic}{name}{italic:#}{faint}={faint:#}{value}")
        }
        (name, false) => write!(writer, "{name}={value}"),
    }
}

fn json(stderr: NonBlocking) -> Boxed {
    let writer = LogWriter { writer: stderr, colour: Colour::Off };
    fmt::layer().with_writer(writer).json().flatten_event(true).with_current_span(false).boxed()
}

/// Writes lines without control characters, but for the colours around fields: there
/// is no escape character in a field.
struct LogWriter<W> {
    writer: W,
    colour: Colour,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for LogWriter<M> {
    type Writer = LogWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LogWriter { writer: self.writer.make_writer(), colour: self.colour }
    }
}

impl<W: io::Write> io::Write for LogWriter<W> {
    /// Takes all of it: tracing writes an event at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let safe = match self.colour {
            Colour::On => TerminalText::of_renderer(&text),
            Colour::Off => TerminalText::from(&*text),
        };
        self.writer.write_all(safe.to_string().as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
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
    use std::error::Error;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::channel::violation::is_control;

    /// What is written of an event whose every part says the same.
    fn logged(hostile: &'static str, colour: Colour) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = LogWriter { writer: Kept(Arc::clone(&written)), colour };
        let fields = format::debug_fn(write_field).delimited(" ");
        let layer = fmt::layer().fmt_fields(fields).with_writer(writer).with_ansi(colour == Colour::On);
        let error = io::Error::other(hostile);
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::warn!(text = hostile, shown = %hostile, debugged = ?hostile, error = &error as &dyn Error, "{hostile}");
        });
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    #[derive(Clone)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn no_field_of_an_event_steers_the_terminal() {
        let hostile = "a\x1b[35mb\u{9b}35mc\u{202e}d\u{200f}\x07\x7fe\tf\rg";
        let plain = logged(hostile, Colour::Off);
        assert!(!plain.trim_end_matches('\n').contains(is_control), "{plain:?}");
        let coloured = logged(hostile, Colour::On);
        assert!(!coloured.contains("\x1b[35"), "{coloured:?}");
        let rest = coloured.replace('\x1b', "");
        assert!(
            coloured.contains('\x1b') && !rest.trim_end_matches('\n').contains(is_control),
            "{coloured:?}"
        );
    }

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
