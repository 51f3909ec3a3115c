//! `vitald user add`: a user for the management API, as a hash file and the
//! lines that go into the configuration. It edits no configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::console::Console;
use super::exit::{CliError, Exit, write_new};
use super::hash_password;
use crate::config::api::AccountRole;

/// Users of the management API
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald user add ops --role admin >> /etc/vitald/vitald.toml")]
pub(super) struct UserArguments {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    Add(AddArguments),
}

/// Make a user: ask for a password, write its hash, print what to configure
///
/// Reads the password as `vitald hash-password` does. The hash file must not exist;
/// its mode is 0640, so give it to the daemon's group, or load it as a systemd
/// credential.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald user add ops --role admin >> /etc/vitald/vitald.toml
  vitald user add eye --role viewer --hash-file /etc/vitald/eye.hash < password

Exit status: 0 made, 1 failed.")]
struct AddArguments {
    /// The name to log in with
    #[arg(value_parser = word)]
    name: String,

    /// The account that the user belongs to
    #[arg(long, value_name = "NAME", default_value = "local", value_parser = word)]
    domain: String,

    /// What the user may do
    #[arg(long)]
    role: RoleWord,

    /// Where the hash goes; default: NAME.hash in the current directory
    #[arg(long, value_name = "PATH")]
    hash_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleWord {
    /// Everything
    Admin,
    /// Read only
    Viewer,
}

/// Letters that need no quoting, in a file name or in TOML.
fn word(text: &str) -> Result<String, String> {
    let is_plain = |character: char| character.is_alphanumeric() || "-_.@".contains(character);
    let length = text.chars().count();
    if (1..=64).contains(&length) && text.chars().all(is_plain) && !text.starts_with(['.', '-']) {
        return Ok(text.to_owned());
    }
    Err("write 1 to 64 letters, digits, `-`, `_`, `.`, `@`; the first no `.` or `-`".to_owned())
}

pub(super) fn execute(arguments: &UserArguments, console: &mut Console) -> Result<Exit, CliError> {
    match &arguments.command {
        UserCommand::Add(arguments) => add(arguments, console),
    }
}

fn add(arguments: &AddArguments, console: &mut Console) -> Result<Exit, CliError> {
    let Some(hash) = hash_password::ask()? else { return Ok(Exit::INTERRUPTED) };
    let path =
        arguments.hash_file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.hash", arguments.name)));
    write_new(&path, format!("{}\n", hash.to_phc_string()).as_bytes(), 0o640)?;
    let role = match arguments.role {
        RoleWord::Admin => AccountRole::Admin.word(),
        RoleWord::Viewer => AccountRole::Viewer.word(),
    };
    console.print(format!(
        "\n[[api.users]]\nname = \"{}\"\ndomain = \"{}\"\npassword_hash_file = {}\nrole = \"{role}\"\n",
        arguments.name,
        arguments.domain,
        toml::Value::from(path.display().to_string()),
    ))?;
    console.message(format_args!(
        "Put these lines into the configuration, see that the daemon may read {}, then `vitald reload`.",
        path.display()
    ));
    Ok(Exit::Success)
}
