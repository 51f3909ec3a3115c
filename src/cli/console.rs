//! Stdout, stderr, colour, and numbers as people read them.
//!
//! Whatever a command prints may hold what a remote end, a file or a file's name says, and
//! that must not steer the terminal or the eye. So everything is printed as a
//! [`TerminalText`], in which no control character is left but line ends and the colours
//! of this program.
//!
//! Stdout carries data, stderr messages. A reader that closes the pipe early
//! (`vitald status | head -1`) is normal: what follows is dropped, and the exit
//! code still says what the command found.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};

use crate::channel::violation::{is_control, without_controls};

/// Whether a stream gets colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    On,
    Off,
}

/// What a piece of text means; [`Console::paint`] picks its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warning,
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

/// Stdout cannot be written. A closed pipe is not this: it ends quietly.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub(super) struct StdoutError(#[source] io::Error);

/// Both output streams of the process.
#[derive(Debug)]
pub(super) struct Console {
    stdout_colour: Colour,
    stderr_colour: Colour,
    /// Whether the reader of stdout closed the pipe.
    is_closed: bool,
}

impl Console {
    /// Looks at the environment once: terminal or not, NO_COLOR, TERM. `choice` is what
    /// `--no-color` says.
    pub(super) fn new(choice: ColorChoice) -> Self {
        let refused = choice == ColorChoice::Never
            || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = |is_terminal: bool| match is_terminal && !refused {
            true => Colour::On,
            false => Colour::Off,
        };
        Self {
            stdout_colour: colour(io::stdout().is_terminal()),
            stderr_colour: colour(io::stderr().is_terminal()),
            is_closed: false,
        }
    }

    /// The colour of stdout.
    pub(super) fn colour(&self) -> Colour {
        self.stdout_colour
    }

    pub(super) fn stderr_colour(&self) -> Colour {
        self.stderr_colour
    }

    /// Text for stdout in the colour of its meaning.
    pub(super) fn paint(&self, tone: Tone, text: impl Into<TerminalText>) -> TerminalText {
        paint(self.stdout_colour, tone, text)
    }

    /// Whether stdout is a terminal, which a cleared screen makes sense on.
    pub(super) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Writes data to stdout.
    ///
    /// # Errors
    /// Stdout cannot be written (a full disk). A closed pipe is no error; see
    /// [`Console::is_closed`].
    pub(super) fn print(&mut self, text: impl Into<TerminalText>) -> Result<(), StdoutError> {
        self.print_own(text.into().0.as_bytes())
    }

    /// Writes bytes to stdout as they are. Only for what nothing but this program has a part
    /// in, such as its manual pages.
    ///
    /// # Errors
    /// As [`Console::print`].
    pub(super) fn print_own(&mut self, bytes: &[u8]) -> Result<(), StdoutError> {
        if self.is_closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error) => Err(StdoutError(error)),
        }
    }

    /// Whether the reader of stdout has gone; endless output then ends.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Writes a message to stderr. A failure is ignored: no other stream could report it.
    pub(super) fn message(&self, text: impl Into<TerminalText>) {
        let _ = writeln!(io::stderr().lock(), "{}", text.into());
    }
}

/// Text without control characters, but for line ends and the colours of this program; and
/// without those that change the direction of writing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TerminalText(String);

impl TerminalText {
    /// The text of a renderer that puts colours around what is passed to it, and passes on
    /// no escape character of that.
    pub(super) fn of_renderer(text: &str) -> Self {
        let parts: Vec<Cow<'_, str>> = text.split(ESCAPE).map(without_controls).collect();
        Self(parts.join("\x1b"))
    }

    /// Empties the screen, for a picture in the place of the one before.
    pub(super) fn cleared_screen() -> Self {
        Self("\x1b[H\x1b[2J".to_owned())
    }

    /// The same with more behind it.
    pub(super) fn and(mut self, text: impl Into<Self>) -> Self {
        self.push(text);
        self
    }

    /// Adds text.
    pub(super) fn push(&mut self, text: impl Into<Self>) {
        self.0.push_str(&text.into().0);
    }
}

impl Display for TerminalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for TerminalText {
    fn from(text: &str) -> Self {
        Self(without_controls(text).into_owned())
    }
}

impl From<String> for TerminalText {
    fn from(text: String) -> Self {
        match without_controls(&text) {
            Cow::Owned(safe) => Self(safe),
            Cow::Borrowed(_) => Self(text),
        }
    }
}

const ESCAPE: char = '\x1b';

/// Text in the colour of its meaning, for a stream that has colour or not.
pub(super) fn paint(colour: Colour, tone: Tone, text: impl Into<TerminalText>) -> TerminalText {
    let text = text.into();
    match colour {
        Colour::On => {
            let style = tone.style();
            TerminalText(format!("{style}{text}{style:#}"))
        }
        Colour::Off => text,
    }
}

/// A text from a remote peer as one short field: control characters and line ends become
/// spaces, and what is longer than `limit` characters is cut.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let mut safe: String = text.chars().take(limit).map(|c| if is_control(c) { ' ' } else { c }).collect();
    if text.chars().nth(limit).is_some() {
        safe.push_str("...");
    }
    safe
}

/// A duration for people, in milliseconds where that reads well: `0.42 ms`, `1.50 s`.
pub(super) fn milliseconds(seconds: f64) -> String {
    if seconds < 0.1 {
        format!("{:.2} ms", seconds * 1e3)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

/// A duration for people, its two largest units: `5m 3s`.
pub(super) fn rough(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A duration for people, exactly: `17s`, `1m 30s 500ms`.
pub(super) fn exact(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// `1 member`, `2 members`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// JSON for people and programs, with its last line ended.
pub(super) fn json_text(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_text_cannot_steer_the_terminal() {
        assert_eq!(printable("200 OK", 20), "200 OK");
        assert_eq!(printable("a\x1b[31mb\r\nc\u{9b}d\u{202e}", 20), "a [31mb  c d ");
        assert_eq!(printable("0123456789", 10), "0123456789");
        assert_eq!(printable("0123456789a", 10), "0123456789...");
    }

    #[test]
    fn plain_text_has_no_escapes() {
        assert_eq!(paint(Colour::Off, Tone::Bad, "x\x1b[0m").to_string(), "x\\u001b[0m");
        assert_eq!(paint(Colour::On, Tone::Good, "x\u{9b}").to_string(), "\x1b[32mx\\u009b\x1b[0m");
    }
}
