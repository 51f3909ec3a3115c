//! `vitald user add`: a user for the management API, as a hash file and the
//! lines that go into the configuration. It edits no configuration.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::console::Console;
use super::exit::{CliError, Exit, write_new_for_owner_of};
use super::hash_password;
use super::locate::ConfigArgument;
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
/// Reads the password as `vitald hash-password` does. The hash goes into a new file
/// beside the configuration, where the printed lines name it. Its mode is 0640; made by
/// root, it gets the owner and the group of the configuration's directory.
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

    /// Where the hash goes; default: NAME.hash in the directory of the configuration
    #[arg(long, value_name = "PATH")]
    hash_file: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigArgument,
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
    let config = &arguments.config.config;
    let directory = directory_of(config);
    let path = match &arguments.hash_file {
        Some(path) => path.clone(),
        None => directory.join(format!("{}.hash", arguments.name)),
    };
    // Before the password is asked for.
    if !directory_of(&path).is_dir() {
        return Err(CliError::Preparation(format!(
            "there is no directory {}: name the configuration with --config, or the file with --hash-file",
            directory_of(&path).display()
        )));
    }
    let named = named_in(directory, &path)?;
    let Some(hash) = hash_password::ask()? else { return Ok(Exit::INTERRUPTED) };
    let text = format!("{}\n", hash.to_phc_string());
    let readers = write_new_for_owner_of(directory_of(&path), &path, text.as_bytes(), 0o640)?;
    let role = match arguments.role {
        RoleWord::Admin => AccountRole::Admin.word(),
        RoleWord::Viewer => AccountRole::Viewer.word(),
    };
    console.print(format!(
        "\n[[api.users]]\nname = \"{}\"\ndomain = \"{}\"\npassword_hash_file = {}\nrole = \"{role}\"\n",
        arguments.name,
        arguments.domain,
        toml::Value::from(named.display().to_string()),
    ))?;
    let readers = match (readers.user, readers.group) {
        (0, 0) => "Only root can read it: `chgrp vitald` gives it to the daemon's group.".to_owned(),
        (user, group) => {
            format!("User {user} and group {group} can read it: the daemon must be one of them.")
        }
    };
    console.message(format!(
        "{} is made. {readers}\nPut these lines into {}, then run `vitald reload`.",
        path.display(),
        config.display()
    ));
    Ok(Exit::Success)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How a configuration in `directory` names a file: relative paths in it are relative to
/// that directory, and not to where the command runs.
fn named_in(directory: &Path, path: &Path) -> Result<PathBuf, CliError> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(CliError::io(format!("cannot find {}", path.display())))
    };
    let (directory, path) = (absolute(directory)?, absolute(path)?);
    Ok(path.strip_prefix(&directory).map(Path::to_owned).unwrap_or(path))
}
