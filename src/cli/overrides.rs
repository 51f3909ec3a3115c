//! Overrides of members, as `status` and `check` list them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::console::printable;
use crate::catalog::Overrides;
use crate::channel::{Channel, MemberIdentity, OverrideState};

/// An element of `overrides` in the daemon's status and in what `check --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OverrideDocument {
    pub(super) channel: String,
    pub(super) member: String,
    pub(super) group: Option<String>,
    /// Whether the channel has the member.
    pub(super) is_there: bool,
    #[serde(flatten)]
    pub(super) said: SaidDocument,
}

/// What was said of a member, by whom and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SaidDocument {
    pub(super) state: Option<String>,
    pub(super) weight: Option<u16>,
    pub(super) who: String,
    pub(super) since: String,
}

impl SaidDocument {
    /// `disabled, weight 5, by ops@local since 2026-01-01T00:00:00Z`.
    pub(super) fn words(&self) -> String {
        let state = self.state.as_deref().map(|state| printable(state, 40));
        let weight = self.weight.map(|weight| format!("weight {weight}"));
        let said: Vec<String> = state.into_iter().chain(weight).collect();
        format!("{}, by {} since {}", said.join(", "), printable(&self.who, 128), printable(&self.since, 40))
    }
}

impl OverrideDocument {
    /// Those that a state directory holds, beside the channels of files.
    pub(super) fn of_kept<'c>(
        overrides: &Overrides,
        channels: impl Iterator<Item = &'c Channel>,
    ) -> Vec<Self> {
        let there: HashSet<(&str, MemberIdentity)> = channels
            .flat_map(|channel| {
                channel.members().iter().map(|member| (channel.name(), channel.host_identity(member)))
            })
            .collect();
        let document = |kept: &std::sync::Arc<crate::catalog::KeptOverride>| Self {
            channel: kept.channel.to_string(),
            member: kept.member.address(),
            group: Some(kept.member.group().to_owned()).filter(|group| !group.is_empty()),
            is_there: there.contains(&(&*kept.channel, kept.member.clone())),
            said: SaidDocument {
                state: kept.said.state.map(|state| OverrideState::word(state).to_owned()),
                weight: kept.said.weight,
                who: kept.who.to_string(),
                since: kept.since.to_string(),
            },
        };
        overrides.listed().into_iter().map(document).collect()
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let (channel, member) = (printable(&self.channel, 64), printable(&self.member, 300));
        let member = match &self.group {
            Some(group) => format!("{}/{member}", printable(group, 64)),
            None => member,
        };
        let gone = match self.is_there {
            true => String::new(),
            false => format!("; the member is gone: `vitald member reset {channel} {member}` forgets it"),
        };
        format!("override: {member} of {channel} is {}{gone}", self.said.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_and_since_when_and_whether_the_member_is_gone() {
        let mut document = OverrideDocument {
            channel: "web".to_owned(),
            member: "10.0.0.1:80".to_owned(),
            group: None,
            is_there: true,
            said: SaidDocument {
                state: Some("drained".to_owned()),
                weight: Some(5),
                who: "ops@local\u{1b}[31m".to_owned(),
                since: "2026-01-01T00:00:00Z".to_owned(),
            },
        };
        let line =
            "override: 10.0.0.1:80 of web is drained, weight 5, by ops@local [31m since 2026-01-01T00:00:00Z";
        assert_eq!(document.line(), line);
        (document.is_there, document.group) = (false, Some("blue".to_owned()));
        assert!(
            document.line().contains("`vitald member reset web blue/10.0.0.1:80`"),
            "{}",
            document.line()
        );
    }
}
