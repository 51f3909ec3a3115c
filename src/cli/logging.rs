//! Where log lines go, and in which form.
//!
//! Logs are messages: they go to stderr, or straight to the journal when stderr
//! is the journal, so that every field can be searched there.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::console::{Colour, Console};
use super::exit::CliError;

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// journald when stderr is the journal (JOURNAL_STREAM), else text
    Auto,
    /// one line for people on stderr
    Text,
    /// one JSON object per line on stderr
    Json,
    /// fields straight to systemd's journal
    Journald,
}

/// How a long-running command logs.
#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// The form of log lines
    #[arg(long, value_enum, default_value = "auto", value_name = "FORMAT")]
    pub(super) log_format: LogFormat,

    /// How much is logged: error, warn, info, debug, trace, off, or directives
    /// such as vitald=debug
    #[arg(long, env = "VITALD_LOG", default_value = "info", value_name = "LEVEL",
        value_parser = parse_level, hide_env_values = true)]
    pub(super) log_level: String,
}

/// A level word speaks of vitald itself; of libraries only warnings are of use.
fn parse_level(text: &str) -> Result<String, String> {
    let directives = match text.parse::<LevelFilter>() {
        Ok(level) if level < LevelFilter::WARN => format!("{level}"),
        Ok(level) => format!("warn,vitald={level}"),
        Err(_) => text.to_owned(),
    };
    match EnvFilter::builder().parse(&directives) {
        Ok(_) => Ok(directives),
        Err(error) => {
            Err(format!("{error}; use a level (error, warn, info, debug, trace, off) or vitald=debug"))
        }
    }
}

/// Makes the process log. Called once, before the daemon starts.
///
/// # Errors
/// The journal was asked for and cannot be reached.
pub(super) fn install(arguments: &LogArguments, console: &Console) -> Result<(), CliError> {
    let filter = EnvFilter::new(&arguments.log_level);
    let layer = match arguments.log_format {
        LogFormat::Text => text(console),
        LogFormat::Json => json(),
        LogFormat::Journald => journald()
            .map_err(|source| CliError::Io { what: "cannot log to the journal".to_owned(), source })?,
        LogFormat::Auto if stderr_is_the_journal() => journald().unwrap_or_else(|_| text(console)),
        LogFormat::Auto => text(console),
    };
    // Not `init()`: that would also take in the `log` lines of rustls, which a
    // remote peer can trigger at will.
    let subscriber = Registry::default().with(layer.with_filter(filter));
    // Only a second call can fail, and the first subscriber then stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Only errors, as text: for a command whose output already shows the rest.
pub(super) fn install_errors_only(console: &Console) {
    let subscriber = Registry::default().with(text(console).with_filter(LevelFilter::ERROR));
    // Only a second call can fail, and the first subscriber then stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

fn text(console: &Console) -> Boxed {
    let ansi = console.stderr_colour() == Colour::On;
    fmt::layer().with_writer(io::stderr).with_ansi(ansi).with_target(false).boxed()
}

fn json() -> Boxed {
    fmt::layer()
        .with_writer(io::stderr)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_target(false)
        .boxed()
}

fn journald() -> io::Result<Boxed> {
    let layer = tracing_journald::layer()?
        .with_syslog_identifier("vitald".to_owned())
        .with_field_prefix(Some("VITALD".to_owned()));
    Ok(layer.boxed())
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
            ("info", Ok("warn,vitald=info")),
            ("DEBUG", Ok("warn,vitald=debug")),
            ("error", Ok("error")),
            ("off", Ok("off")),
            ("vitald=trace,hyper=debug", Ok("vitald=trace,hyper=debug")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_level(text).as_deref(), expected, "{text}");
        }
        assert!(parse_level("vitald=loud").is_err());
    }
}
