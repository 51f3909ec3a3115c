//! `vitald man`: manual pages from the definition of the command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use super::console::Console;
use super::exit::{CliError, Exit};

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

    /// Write every page into this directory, as vitald.8, vitald-run.8 and so on
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn execute(arguments: &ManArguments, console: &mut Console) -> Result<Exit, CliError> {
    let mut root = super::Arguments::command();
    // Gives subcommands their full names and the global options.
    root.build();
    if let Some(directory) = &arguments.out {
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
    console.print(render(&name, command)?)?;
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
    man.render(&mut page)
        .map_err(|source| CliError::Io { what: format!("cannot render the page {name}"), source })?;
    Ok(page)
}

fn write_page(directory: &Path, name: &str, command: &Command) -> Result<(), CliError> {
    let path = directory.join(format!("{name}.8"));
    let page = render(name, command)?;
    fs::write(&path, page)
        .map_err(|source| CliError::Io { what: format!("cannot write {}", path.display()), source })
}
