//! Stdout, stderr and colour.
//!
//! Stdout carries data, stderr messages. A reader that closes the pipe early
//! (`vitald status | head -1`) is normal: what follows is dropped, and the exit
//! code still says what the command found.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::builder::styling::{AnsiColor, Style};

use super::exit::CliError;

/// What `--no-color` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColourWish {
    /// Colour on a terminal, unless NO_COLOR is set.
    Auto,
    /// None.
    Never,
}

/// Whether a stream gets colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// Escape sequences.
    On,
    /// Plain text.
    Off,
}

/// What a piece of text means; [`Console::paint`] picks its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// Broken.
    Bad,
    /// Of less weight.
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Faint => Style::new().dimmed(),
        }
    }
}

/// Whether anybody still reads stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Listening,
    Gone,
}

/// Both output streams of the process.
#[derive(Debug)]
pub(super) struct Console {
    stdout_colour: Colour,
    stderr_colour: Colour,
    reader: Reader,
}

impl Console {
    /// Looks at the environment once: terminal or not, NO_COLOR, TERM.
    pub(super) fn new(wish: ColourWish) -> Self {
        let refused = wish == ColourWish::Never
            || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = |is_terminal: bool| match is_terminal && !refused {
            true => Colour::On,
            false => Colour::Off,
        };
        Self {
            stdout_colour: colour(io::stdout().is_terminal()),
            stderr_colour: colour(io::stderr().is_terminal()),
            reader: Reader::Listening,
        }
    }

    /// Whether stdout gets colour.
    pub(super) fn colour(&self) -> Colour {
        self.stdout_colour
    }

    /// Whether stderr gets colour.
    pub(super) fn stderr_colour(&self) -> Colour {
        self.stderr_colour
    }

    /// Text for stdout in the colour of its meaning.
    pub(super) fn paint(&self, tone: Tone, text: impl Display) -> String {
        paint(self.stdout_colour, tone, text)
    }

    /// Whether stdout is a terminal, which a cleared screen makes sense on.
    pub(super) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Writes data to stdout, as it is.
    ///
    /// # Errors
    /// Stdout cannot be written (a full disk). A closed pipe is no error; see
    /// [`Console::is_closed`].
    pub(super) fn print(&mut self, text: impl AsRef<[u8]>) -> Result<(), CliError> {
        if self.reader == Reader::Gone {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader = Reader::Gone;
                Ok(())
            }
            Err(error) => Err(CliError::Output(error)),
        }
    }

    /// Whether the reader of stdout has gone; endless output then ends.
    pub(super) fn is_closed(&self) -> bool {
        self.reader == Reader::Gone
    }

    /// Writes a message to stderr. There is nobody to tell when that fails.
    pub(super) fn message(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Writes an error to stderr. Configuration errors come with their own
    /// headings; every other one gets the word `error`.
    pub(super) fn error(&self, error: &CliError) {
        match error {
            CliError::Config { rendered } => self.message(rendered.trim_end()),
            error => self.message(format_args!("{} {error}", paint(self.stderr_colour, Tone::Bad, "error:"))),
        }
    }
}

/// Text in the colour of its meaning, for a stream that has colour or not.
pub(super) fn paint(colour: Colour, tone: Tone, text: impl Display) -> String {
    match colour {
        Colour::On => {
            let style = tone.style();
            format!("{style}{text}{style:#}")
        }
        Colour::Off => text.to_string(),
    }
}

/// Text from a remote peer, made safe for a terminal: control characters become
/// spaces, and what is longer than `limit` characters is cut.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let mut safe: String = text.chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(limit).is_some() {
        safe.push_str("...");
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_text_cannot_steer_the_terminal() {
        assert_eq!(printable("200 OK", 20), "200 OK");
        assert_eq!(printable("a\x1b[31mb\r\nc\u{9b}d", 20), "a [31mb  c d");
        assert_eq!(printable("0123456789", 10), "0123456789");
        assert_eq!(printable("0123456789a", 10), "0123456789...");
    }

    #[test]
    fn plain_text_has_no_escapes() {
        assert_eq!(paint(Colour::Off, Tone::Bad, "x"), "x");
        assert_eq!(paint(Colour::On, Tone::Good, "x"), "\x1b[32mx\x1b[0m");
    }
}
