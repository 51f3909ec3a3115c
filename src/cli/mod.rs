//! The command line: one file per subcommand, called by `main.rs`.
//!
//! Data goes to stdout, messages go to stderr, and the exit code says how it
//! went (`Exit`). `docs/cli.md` is the reference for users.
//!
//! | file | what it does |
//! |---|---|
//! | `run` | the daemon |
//! | `check` | reads a configuration: all its errors, or what it means |
//! | `probe` | probes every member once, or one URL |
//! | `status` | asks a running daemon how things are |
//! | `reload` | tells a running daemon to read its configuration again |
//! | `export`, `import` | the API's channels to files and back; `holdings`: where they are |
//! | `demo` | the daemon over backends of its own |
//! | `hash_password`, `user` | passwords of the management API |
//! | `completions`, `man` | what packages install |
//! | `console`, `table` | stdout, stderr, colour, columns |
//! | `client` | the HTTP client that a running daemon is asked with |
//! | `logging`, `journal` | where log lines go |
//! | `detection` | the longest time until a verdict, computed |
//! | `exit` | exit codes and errors |

mod check;
mod client;
mod completions;
mod console;
mod demo;
mod exit;
mod export;
mod hash_password;
mod holdings;
mod import;
mod journal;
mod logging;
mod man;
mod probe;
mod reload;
mod run;
mod status;
mod table;
mod user;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::console::{ColourWish, Console};
use self::exit::{CliError, Exit};

/// Where the configuration is unless `--config` or `VITALD_CONFIG` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/vitald/vitald.toml";

/// `0.1.0`, or `0.1.0 (revision)` when the build was told its revision.
static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("VITALD_REVISION") {
    Some(revision) => format!("{} ({revision})", env!("CARGO_PKG_VERSION")),
    None => env!("CARGO_PKG_VERSION").to_owned(),
});

const EXAMPLES: &str = "\
Examples:
  vitald demo                               see it work, nothing to set up
  vitald check --config vitald.toml         what a configuration means, or all its errors
  vitald probe --config vitald.toml         every member once
  vitald probe https://10.0.0.7/ --explain  one address, step by step
  vitald run --config vitald.toml           the daemon
  vitald status --watch                     what a running daemon sees

Exit status: 0 success, 1 failure, 2 wrong usage, 78 bad configuration;
`vitald status`: 0 healthy, 1 degraded, 2 critical, 3 unknown.";

/// Health-check prober and load-balancer core for VPC channels.
#[derive(Debug, Parser)]
#[command(
    name = "vitald",
    version = VERSION.as_str(),
    about,
    after_long_help = EXAMPLES,
    after_help = "`vitald --help` shows examples; `vitald COMMAND --help` explains a command.",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Arguments {
    /// Never colour the output (so does a non-empty NO_COLOR)
    #[arg(long, global = true, help_heading = "Global options")]
    no_color: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArguments),
    Check(check::CheckArguments),
    Probe(Box<probe::ProbeArguments>),
    Status(status::StatusArguments),
    Reload(reload::ReloadArguments),
    Export(export::ExportArguments),
    Import(import::ImportArguments),
    Demo(demo::DemoArguments),
    HashPassword(hash_password::HashPasswordArguments),
    User(user::UserArguments),
    Completions(completions::CompletionsArguments),
    Man(man::ManArguments),
}

/// `--config`, the same for every command that reads one.
#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The configuration file
    #[arg(
        long,
        value_name = "PATH",
        env = "VITALD_CONFIG",
        default_value = DEFAULT_CONFIG,
        hide_env_values = true
    )]
    config: PathBuf,
}

/// The whole program behind `main`: reads the arguments, does what they ask,
/// and says how it went.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Clap colours its own help and errors, and must know before it has parsed.
    let wish = match arguments.iter().any(|argument| argument == "--no-color") {
        true => ColourWish::Never,
        false => ColourWish::Auto,
    };
    let mut console = Console::new(wish);
    let parsed = match parse(&arguments, wish) {
        Ok(parsed) => parsed,
        Err(error) => {
            // A closed pipe behind `--help` is no failure of ours.
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            return ExitCode::from(exit.code());
        }
    };
    let result = execute(parsed.command, &mut console);
    let exit = result.unwrap_or_else(|error| {
        console.error(&error);
        error.exit()
    });
    ExitCode::from(exit.code())
}

fn parse(arguments: &[OsString], wish: ColourWish) -> Result<Arguments, clap::Error> {
    let colour = match wish {
        ColourWish::Auto => ColorChoice::Auto,
        ColourWish::Never => ColorChoice::Never,
    };
    let matches = Arguments::command().color(colour).try_get_matches_from(arguments)?;
    Arguments::from_arg_matches(&matches)
}

fn execute(command: Command, console: &mut Console) -> Result<Exit, CliError> {
    match command {
        Command::Run(arguments) => run::execute(arguments, console),
        Command::Check(arguments) => check::execute(&arguments, console),
        Command::Probe(arguments) => probe::execute(&arguments, console),
        Command::Status(arguments) => status::execute(&arguments, console),
        Command::Reload(arguments) => reload::execute(&arguments, console),
        Command::Export(arguments) => export::execute(&arguments, console),
        Command::Import(arguments) => import::execute(&arguments, console),
        Command::Demo(arguments) => demo::execute(&arguments, console),
        Command::HashPassword(arguments) => hash_password::execute(&arguments, console),
        Command::User(arguments) => user::execute(&arguments, console),
        Command::Completions(arguments) => completions::execute(&arguments, console),
        Command::Man(arguments) => man::execute(&arguments, console),
    }
}

/// Runs one future on a runtime of its own: commands that ask something and end.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { what: "cannot start the runtime".to_owned(), source })?;
    let result = runtime.block_on(future);
    // A name look-up may hang in the system's resolver; the end does not wait for it.
    runtime.shutdown_background();
    Ok(result)
}

/// A duration for people, in milliseconds where that reads well: `0.42 ms`, `1.50 s`.
fn milliseconds(seconds: f64) -> String {
    if seconds < 0.1 {
        format!("{:.2} ms", seconds * 1e3)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

/// A duration for people, its two largest units: `5m 3s`.
fn rough(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A duration for people, exactly: `17s`, `1m 30s 500ms`.
fn exact(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// `1 member`, `2 members`.
fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// JSON for people and programs, with its last line ended.
fn json_text(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
