//! What of a member's verdict goes on when its channel changes: the table of
//! docs/config.md, "Changes".
//!
//! Reloads, calls of the API and restarts all ask here. The catalog compares members before
//! and after a change, and with the hashes that the verdict file kept over a restart.

use std::num::NonZeroU16;

use super::definition::CheckQuestion;
use super::model::{Channel, Host, Member};

/// What of a member's verdict goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Continuity {
    /// The verdict and the counts: the member is asked as before.
    Kept,
    /// The verdict, until the check as it is now reaches one: the member is asked something
    /// else, or is asked again.
    CarriedOver,
    /// What was known, for when the member is asked again: it is not asked any more.
    LastKnown,
    /// Nothing: it is another member.
    NewMember,
}

impl Continuity {
    /// Compares a member's address and what it is asked (none: it is not probed), before
    /// and after.
    pub fn of<A: PartialEq, Q: PartialEq>(before: (&A, Option<&Q>), after: (&A, Option<&Q>)) -> Self {
        if before.0 != after.0 {
            return Self::NewMember;
        }
        match (before.1, after.1) {
            (_, None) => Self::LastKnown,
            (Some(before), Some(after)) if before == after => Self::Kept,
            (_, Some(_)) => Self::CarriedOver,
        }
    }
}

/// What one member is asked, and how it is called: the bytes that are sent to it follow
/// from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberQuestion<'q> {
    asked: &'q CheckQuestion,
    /// As it was written: `Host` and the server name are made of it.
    host: &'q Host,
    port: NonZeroU16,
}

impl<'q> MemberQuestion<'q> {
    /// What that channel, which asks this of its members, asks one of them.
    pub fn of(asked: &'q CheckQuestion, channel: &Channel, member: &'q Member) -> Self {
        Self { asked, host: member.host(), port: channel.check_port(member) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_and_question_decide() {
        let cases = [
            (Some("a"), "10.0.0.1:80", Some("a"), Continuity::Kept),
            (Some("a"), "10.0.0.1:80", Some("b"), Continuity::CarriedOver),
            (None, "10.0.0.1:80", Some("b"), Continuity::CarriedOver),
            (Some("a"), "10.0.0.1:80", None, Continuity::LastKnown),
            (None, "10.0.0.1:80", None, Continuity::LastKnown),
            (Some("a"), "10.0.0.1:81", Some("a"), Continuity::NewMember),
            (Some("a"), "10.0.0.1:81", None, Continuity::NewMember),
        ];
        for (before, address, after, expected) in cases {
            let found = Continuity::of((&"10.0.0.1:80", before.as_ref()), (&address, after.as_ref()));
            assert_eq!(found, expected, "{before:?} then {after:?} at {address}");
        }
    }
}
