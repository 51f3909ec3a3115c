//! What packages install: `vitald completions SHELL` prints a completion script, `vitald
//! man` manual pages, both from the definition of the command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::console::Console;
use super::exit::{CliError, Exit};

/// Print a shell completion script
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald completions bash > /usr/share/bash-completion/completions/vitald
  vitald completions zsh  > /usr/share/zsh/vendor-completions/_vitald
  vitald completions fish > ~/.config/fish/completions/vitald.fish")]
pub(super) struct CompletionsArguments {
    /// Which shell
    shell: Shell,
}

pub(super) fn print_completions(
    arguments: &CompletionsArguments,
    mut command: Command,
    console: &mut Console,
) -> Result<Exit, CliError> {
    // Into memory first: the generator panics on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "vitald", &mut script);
    console.print_own(&script)?;
    Ok(Exit::Success)
}

/// Print the manual page, or write all pages into a directory
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald man | man -l -                       read it
  vitald man probe | man -l -                 the page of one command
  vitald man --out /usr/share/man/man8        install all pages")]
pub(super) struct ManArguments {
    /// The page of this command instead of the page of vitald itself
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Option<String>,

    /// Write every page into this directory, as vitald.8, vitald-run.8 and so on; it is made
    /// if it is missing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn write_pages(
    arguments: &ManArguments,
    mut root: Command,
    console: &mut Console,
) -> Result<Exit, CliError> {
    // Gives subcommands their full names and the global options.
    root.build();
    if let Some(directory) = &arguments.out {
        fs::create_dir_all(directory)
            .map_err(CliError::io(format!("cannot make the directory {}", directory.display())))?;
        write_page(directory, "vitald", &root)?;
        for command in root.get_subcommands() {
            write_page(directory, &page_name(command), command)?;
        }
        return Ok(Exit::Success);
    }
    let command = match &arguments.command {
        None => &root,
        Some(name) => root.find_subcommand(name).ok_or_else(|| {
            let names: Vec<&str> = root.get_subcommands().map(Command::get_name).collect();
            CliError::Usage(format!("no command is called {name:?}; there are {}", names.join(", ")))
        })?,
    };
    let name = if command.get_name() == "vitald" { "vitald".to_owned() } else { page_name(command) };
    console.print_own(&render(&name, command)?)?;
    Ok(Exit::Success)
}

fn page_name(command: &Command) -> String {
    format!("vitald-{}", command.get_name())
}

fn render(name: &str, command: &Command) -> Result<Vec<u8>, CliError> {
    let man = Man::new(command.clone().display_name(name.to_owned()))
        .title(name)
        .section("8")
        .source(format!("vitald {}", env!("CARGO_PKG_VERSION")))
        .manual("vitald manual");
    let mut page = Vec::new();
    man.render(&mut page).map_err(CliError::io(format!("cannot render the page {name}")))?;
    Ok(page)
}

fn write_page(directory: &Path, name: &str, command: &Command) -> Result<(), CliError> {
    let path = directory.join(format!("{name}.8"));
    let page = render(name, command)?;
    fs::write(&path, page).map_err(CliError::io(format!("cannot write {}", path.display())))
}
