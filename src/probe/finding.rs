//! What a protocol concludes, and remote text made fit to print.
//!
//! The words between `attempt` and the protocols: a [`Step`] says what the
//! machine wants next, a [`Finding`] is the end of it.

use std::borrow::Cow;

use tokio::io::Interest;

use crate::health::{MemberReason, Outcome, ProberReason};

/// The longest remote text in a detail, in bytes of the result.
const LONGEST_REMOTE_TEXT: usize = 120;

/// What a probe's machine wants next.
#[derive(Debug)]
pub(super) enum Step {
    /// The kernel said "would block"; go on when the socket is ready for this.
    Wait(Interest),
    /// The probe is over.
    Done(Finding),
}

/// The end of a probe, without its times.
#[derive(Debug)]
pub(super) struct Finding {
    /// The verdict-moving part.
    pub(super) outcome: Outcome,
    /// The final status code, when a head was read.
    pub(super) status: Option<u16>,
    /// One line for people.
    pub(super) detail: Cow<'static, str>,
}

impl Finding {
    pub(super) fn success(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Success, status: None, detail: detail.into() }
    }

    pub(super) fn failure(reason: MemberReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Failure(reason), status: None, detail: detail.into() }
    }

    pub(super) fn inconclusive(reason: ProberReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Inconclusive(reason), status: None, detail: detail.into() }
    }

    pub(super) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }
}

impl From<Finding> for Step {
    fn from(finding: Finding) -> Self {
        Self::Done(finding)
    }
}

/// Remote bytes as one bounded, printable line: whatever is not printable
/// ASCII becomes `?`, so that no escape sequence reaches a terminal or a log.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text: String = bytes
        .iter()
        .take(LONGEST_REMOTE_TEXT)
        .map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' })
        .collect();
    if bytes.len() > LONGEST_REMOTE_TEXT {
        text.truncate(LONGEST_REMOTE_TEXT - 3);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_text_is_bounded_and_printable() {
        assert_eq!(printable(b"Service Unavailable"), "Service Unavailable");
        assert_eq!(printable(b"\x1b[31mred\r\n\xff\0"), "?[31mred????");
        let long = printable(&[b'a'; 500]);
        assert_eq!(long.len(), LONGEST_REMOTE_TEXT);
        assert!(long.ends_with("a..."));
        assert_eq!(printable(&[b'a'; LONGEST_REMOTE_TEXT]).len(), LONGEST_REMOTE_TEXT);
    }
}
