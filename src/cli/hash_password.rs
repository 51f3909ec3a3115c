//! `vitald hash-password`: a password on standard input, its argon2id hash on
//! stdout. The password is never an argument: those are in every process list.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::console::Console;
use super::exit::{CliError, Exit, block_on};
use crate::config::password::PasswordHash;

/// Nobody types more; a file given by mistake may have it.
const LONGEST_PASSWORD: usize = 1024;

/// Hash a password for `password_hash_file` of the configuration
///
/// Reads the password from standard input: twice and unseen from a terminal, else
/// one line. Prints its argon2id hash.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald hash-password > /etc/vitald/ops.hash
  pass show vitald/ops | vitald hash-password

Exit status: 0 hashed, 1 failed.")]
pub(super) struct HashPasswordArguments {}

pub(super) fn execute(_: &HashPasswordArguments, console: &mut Console) -> Result<Exit, CliError> {
    let Some(hash) = ask()? else { return Ok(Exit::INTERRUPTED) };
    console.print(format!("{}\n", hash.to_phc_string()))?;
    Ok(Exit::Success)
}

/// Asks for a password on standard input and hashes it, with a random salt and the usual
/// cost. None after Ctrl-C.
pub(super) fn ask() -> Result<Option<PasswordHash>, CliError> {
    let password = if io::stdin().is_terminal() {
        let Some(password) = ask_unseen("Password: ")? else { return Ok(None) };
        let Some(again) = ask_unseen("Again: ")? else { return Ok(None) };
        if password != again {
            return Err(CliError::Preparation("the two passwords differ; nothing was written".to_owned()));
        }
        password
    } else {
        read_line().map_err(cannot_read)?
    };
    let refused = |why: &str| Err(CliError::Preparation(why.to_owned()));
    if password.is_empty() {
        return refused("the password is empty: type one, or send one on standard input");
    }
    if password.len() > LONGEST_PASSWORD {
        return refused("the password is longer than 1024 bytes");
    }
    if std::str::from_utf8(&password).is_err() {
        return refused("the password is not UTF-8, so no client could send it");
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| CliError::Preparation(format!("no random numbers: {error}")))?;
    PasswordHash::of(&password, salt).map(Some).map_err(|error| CliError::Preparation(error.to_string()))
}

fn cannot_read(source: io::Error) -> CliError {
    CliError::io("cannot read the password from standard input")(source)
}

/// Echo is off while this lives.
struct EchoOff(Termios);

impl EchoOff {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        modes.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &modes)?;
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // A failure is ignored: the command ends, and the shell sets its own modes.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// One line from the terminal without showing it; none after Ctrl-C, which must
/// not leave the terminal mute.
fn ask_unseen(prompt: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CliError> {
    // Before the prompt: what is typed after it must not be shown.
    let echo_off = EchoOff::new().map_err(cannot_read)?;
    let mut stderr = io::stderr();
    stderr.write_all(prompt.as_bytes()).and_then(|()| stderr.flush()).map_err(cannot_read)?;
    let line = block_on(async {
        let (sender, line) = tokio::sync::oneshot::channel();
        // A thread of its own: after Ctrl-C the command does not wait for its read to end.
        std::thread::spawn(move || drop(sender.send(read_line())));
        // Cancel-safe: both are dropped together, and the process ends soon.
        tokio::select! {
            line = line => line.unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into())).map(Some),
            _ = tokio::signal::ctrl_c() => Ok(None),
        }
    })?;
    drop(echo_off);
    line.map_err(cannot_read)
}

/// Reads up to a newline or the end, past the buffer of std, which is not wiped.
fn read_line() -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST_PASSWORD + 2));
    let mut byte = Zeroizing::new([0; 1]);
    while line.len() <= LONGEST_PASSWORD {
        let count = match rustix::io::read(io::stdin(), byte.as_mut_slice()) {
            Err(rustix::io::Errno::INTR) => continue,
            read => read?,
        };
        match byte.first() {
            Some(byte) if count > 0 && *byte != b'\n' => line.push(*byte),
            _ => break,
        }
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    Ok(line)
}
