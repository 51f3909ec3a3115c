//! `vitald completions SHELL`: a completion script on stdout.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

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

pub(super) fn execute(arguments: &CompletionsArguments, console: &mut Console) -> Result<Exit, CliError> {
    // Into memory first: the generator panics on a closed pipe.
    let mut script = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "vitald", &mut script);
    console.print(&script)?;
    Ok(Exit::Success)
}
