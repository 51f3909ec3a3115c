//! The command line: one file per subcommand, called by `main.rs`.
//!
//! Data goes to stdout, messages go to stderr, and the exit code says how it
//! went (`Exit`). `docs/cli.md` is the reference for users.
//!
//! | file | what it does |
//! |---|---|
//! | `run` | the daemon, and where its log lines go; `journal`: systemd's own way |
//! | `check` | reads a configuration: all its errors, or what it means |
//! | `probe` | probes every member once, or one URL |
//! | `status` | asks a running daemon how things are |
//! | `wait` | until a channel or a member is as a script wants it |
//! | `member` | tells a running daemon to change a member |
//! | `reload` | tells a running daemon to read its configuration again |
//! | `export`, `import` | the API's channels to files and back, by `store_access` |
//! | `demo` | the daemon over backends of its own |
//! | `hash_password`, `user` | passwords of the management API |
//! | `packaging` | what packages install: completions, manual pages |
//! | `overrides` | changes of members at run time, as `status` and `check` list them |
//! | `locate`, `client` | where a running daemon is; the HTTP client that asks it |
//! | `console`, `table` | stdout, stderr, colour, columns |
//! | `exit` | exit codes and errors |

mod check;
mod client;
mod console;
mod demo;
mod exit;
mod export;
mod hash_password;
mod import;
mod journal;
mod locate;
mod member;
mod overrides;
mod packaging;
mod probe;
mod reload;
mod run;
mod status;
mod store_access;
mod table;
mod user;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::console::Console;
use self::exit::{CliError, Exit};
use crate::channel::violation::is_control;

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
    Wait(wait::WaitArguments),
    Disable(member::DisableArguments),
    Enable(member::EnableArguments),
    Drain(member::DrainArguments),
    Weight(member::WeightArguments),
    Member(member::MemberArguments),
    Export(export::ExportArguments),
    Import(import::ImportArguments),
    Demo(demo::DemoArguments),
    HashPassword(hash_password::HashPasswordArguments),
    User(user::UserArguments),
    Completions(packaging::CompletionsArguments),
    Man(packaging::ManArguments),
}

/// The whole program behind `main`: reads the arguments, does what they ask,
/// and says how it went.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Clap colours its own help and errors, and must know before it has parsed.
    let colour = match arguments.iter().any(|argument| argument == "--no-color") {
        true => ColorChoice::Never,
        false => ColorChoice::Auto,
    };
    let mut console = Console::new(colour);
    let is_harmless = |argument: &OsString| !argument.to_string_lossy().contains(is_control);
    let are_harmless = arguments.iter().all(is_harmless);
    let matches = Arguments::command().color(colour).try_get_matches_from(arguments);
    let parsed = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(parsed) => parsed,
        Err(error) => {
            if are_harmless {
                // A closed pipe behind `--help` is no failure of ours.
                let _ = error.print();
            } else {
                // Clap repeats arguments as they are: a shell may have put names of files there.
                console.message(error.render().to_string().trim_end());
            }
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            return ExitCode::from(exit.code());
        }
    };
    let result = execute(parsed.command, &mut console);
    let exit = result.unwrap_or_else(|error| {
        error.print(&console);
        error.exit()
    });
    ExitCode::from(exit.code())
}

fn execute(command: Command, console: &mut Console) -> Result<Exit, CliError> {
    match command {
        Command::Run(arguments) => run::execute(arguments, console),
        Command::Check(arguments) => check::execute(&arguments, console),
        Command::Probe(arguments) => probe::execute(&arguments, console),
        Command::Status(arguments) => status::execute(&arguments, console),
        Command::Reload(arguments) => reload::execute(&arguments, console),
        Command::Wait(arguments) => wait::execute(&arguments, console),
        Command::Disable(arguments) => member::disable(&arguments, console),
        Command::Enable(arguments) => member::enable(&arguments, console),
        Command::Drain(arguments) => member::drain(&arguments, console),
        Command::Weight(arguments) => member::weigh(&arguments, console),
        Command::Member(arguments) => member::member(&arguments, console),
        Command::Export(arguments) => export::execute(&arguments, console),
        Command::Import(arguments) => import::execute(&arguments, console),
        Command::Demo(arguments) => demo::execute(&arguments, console),
        Command::HashPassword(arguments) => hash_password::execute(&arguments, console),
        Command::User(arguments) => user::execute(&arguments, console),
        Command::Completions(arguments) => {
            packaging::print_completions(&arguments, Arguments::command(), console)
        }
        Command::Man(arguments) => packaging::write_pages(&arguments, Arguments::command(), console),
    }
}
