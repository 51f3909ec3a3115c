//! What an operator has said of a member at run time, over what the channel's file says.
//!
//! The catalog keeps overrides and puts them over a channel whenever it works out what is
//! in effect; nothing else knows of them. See docs/config.md, "Overrides".

use super::identity::MemberIdentity;
use super::model::{Channel, MemberWeight};
use super::words::MemberStatus;

/// What was said of one member. What is absent is as the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberOverride {
    /// Whether it takes new traffic.
    pub state: Option<OverrideState>,
    /// Its weight, 0 to 10000, whatever its group's is.
    pub weight: Option<u16>,
}

/// What an operator has a member do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverrideState {
    /// Enabled, although the file says that it is not.
    Enabled,
    /// Switched off.
    Disabled,
    /// Enabled and of weight 0: it takes no new traffic and counts as a member that serves.
    Drained,
}

impl OverrideState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Enabled, Self::Disabled, Self::Drained];

    /// The word in JSON and in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Drained => "drained",
        }
    }

    /// The state of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    fn status(self) -> MemberStatus {
        match self {
            Self::Enabled | Self::Drained => MemberStatus::Enabled,
            Self::Disabled => MemberStatus::Disabled,
        }
    }
}

impl MemberOverride {
    /// Whether it says nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The weight that rules over the group's and the member's own.
    fn fixed_weight(self) -> Option<u16> {
        if self.state == Some(OverrideState::Drained) { Some(0) } else { self.weight }
    }
}

impl Channel {
    /// The same channel with what `find` says of its members; none where it says nothing
    /// of any of them.
    pub fn with_overrides(&self, find: impl Fn(&MemberIdentity) -> Option<MemberOverride>) -> Option<Self> {
        let found: Vec<Option<MemberOverride>> =
            self.members.iter().map(|member| find(&self.host_identity(member))).collect();
        if found.iter().all(Option::is_none) {
            return None;
        }
        let mut channel = self.clone();
        for (member, said) in channel.members.iter_mut().zip(found) {
            let Some(said) = said else { continue };
            if let Some(state) = said.state {
                member.status = state.status();
            }
            if let Some(weight) = said.fixed_weight() {
                member.weight = MemberWeight::Fixed(weight);
            }
        }
        Some(channel)
    }
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use super::*;
    use crate::channel::fixture::{channel, member};

    /// Of `10.0.0.1:8080`, in a group of weight 7, and `10.0.0.2:8080` without a group.
    fn said(said: MemberOverride) -> Option<Vec<(MemberStatus, u16)>> {
        let blue = "blue".into();
        let members = vec![member("10.0.0.1").in_group(&blue), member("10.0.0.2").weighing(3)];
        let web = channel("web", None, members).with_group("blue", Some(7));
        let found = web.with_overrides(|identity| (identity.server() == "10.0.0.1").then_some(said))?;
        let shown = |member| (crate::channel::Member::status(member), found.effective_weight(member));
        Some(found.members().iter().map(shown).collect())
    }

    #[test]
    fn what_is_said_rules_over_member_and_group() {
        use MemberStatus::{Disabled, Enabled};
        use OverrideState as State;
        let rows = [
            (Some(State::Disabled), None, (Disabled, 7)),
            (Some(State::Enabled), None, (Enabled, 7)),
            (Some(State::Drained), None, (Enabled, 0)),
            (Some(State::Drained), Some(9), (Enabled, 0)),
            (None, Some(9), (Enabled, 9)),
            (Some(State::Disabled), Some(0), (Disabled, 0)),
        ];
        for (state, weight, expected) in rows {
            let shown = said(MemberOverride { state, weight });
            assert_eq!(shown, Some(vec![expected, (Enabled, 3)]), "{state:?} {weight:?}");
        }
        let web = channel("web", None, vec![member("10.0.0.1")]);
        assert_eq!(web.with_overrides(|_| None), None);
    }

    #[test]
    fn words_read_back() {
        for state in OverrideState::ALL {
            assert_eq!(OverrideState::of_word(state.word()), Some(state));
        }
        assert_eq!(OverrideState::of_word("maint"), None);
    }
}
