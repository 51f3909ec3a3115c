//! Changes of members of file channels that operators made at run time, and the text that
//! the state directory keeps of them.
//!
//! An override is known by its channel's name and the member's identity. It goes on over
//! every edit of the file until it is taken back; one whose channel or member is gone has no
//! effect meanwhile. `plan` changes overrides, [`super::Transaction`] puts them over what
//! the files say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::UnixSeconds;
use crate::channel::{Host, MemberIdentity, MemberOverride, OverrideState};

/// Most overrides at once: each is listed by every status.
pub(super) const MOST_OVERRIDES: usize = 10_000;

/// Longest name of somebody who made an override, in characters.
const LONGEST_NAME: usize = 128;

/// The format of the text. A higher one was written by a newer vitald.
const FORMAT: u32 = 1;

/// An override as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOverride {
    /// The name of the channel.
    pub channel: Arc<str>,
    /// Which member.
    pub member: MemberIdentity,
    /// What was said of it.
    pub said: MemberOverride,
    /// Who said so last: printable, at most 128 characters.
    pub who: Arc<str>,
    /// When.
    pub since: UnixSeconds,
}

/// The overrides of one channel, by member.
pub type ChannelOverrides = HashMap<MemberIdentity, Arc<KeptOverride>>;

/// All overrides. Copies share what they have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    channels: Arc<BTreeMap<Arc<str>, Arc<ChannelOverrides>>>,
}

/// Why a text is none of overrides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideTextError {
    /// It is not as vitald writes it.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It was written by a newer vitald.
    #[error("it has format {0}, this vitald reads format {FORMAT}; run the newer one")]
    TooNew(u32),
}

/// What stands in every format.
#[derive(Deserialize)]
struct FormatForm {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct OverridesForm<'t> {
    format: u32,
    #[serde(borrow)]
    overrides: Vec<OverrideForm<'t>>,
}

#[derive(Serialize, Deserialize)]
struct OverrideForm<'t> {
    channel: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    group: String,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'t str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    who: String,
    since: u64,
}

impl KeptOverride {
    /// `who` is cut to what may be kept.
    pub(super) fn new(
        channel: &str,
        member: MemberIdentity,
        said: MemberOverride,
        who: &str,
        since: UnixSeconds,
    ) -> Self {
        let who: String = who.chars().filter(|it| !it.is_control()).take(LONGEST_NAME).collect();
        Self { channel: channel.into(), member, said, who: who.into(), since }
    }
}

impl Overrides {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channels.values().map(|members| members.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Those of a channel; none when it has none.
    #[must_use]
    pub fn of(&self, channel: &str) -> Option<&ChannelOverrides> {
        self.channels.get(channel).map(|members| &**members)
    }

    /// All of them, by channel and then by member.
    #[must_use]
    pub fn listed(&self) -> Vec<&Arc<KeptOverride>> {
        let mut listed = Vec::with_capacity(self.len());
        for members in self.channels.values() {
            let begin = listed.len();
            listed.extend(members.values());
            if let Some(new) = listed.get_mut(begin..) {
                new.sort_by_cached_key(|kept| kept.member.to_string());
            }
        }
        listed
    }

    /// Keeps one in the place of what its member had.
    pub(super) fn put(&mut self, kept: KeptOverride) {
        let members = Arc::make_mut(&mut self.channels).entry(Arc::clone(&kept.channel)).or_default();
        // The key too: a host may be spelled in another way.
        Arc::make_mut(members).remove(&kept.member);
        Arc::make_mut(members).insert(kept.member.clone(), Arc::new(kept));
    }

    /// Takes one back.
    pub(super) fn remove(&mut self, channel: &str, member: &MemberIdentity) {
        let channels = Arc::make_mut(&mut self.channels);
        let Some(members) = channels.get_mut(channel) else { return };
        Arc::make_mut(members).remove(member);
        if members.is_empty() {
            channels.remove(channel);
        }
    }

    /// The text that the state directory keeps.
    ///
    /// # Errors
    /// JSON cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let form = |kept: &Arc<KeptOverride>| OverrideForm {
            channel: kept.channel.to_string(),
            group: kept.member.group().to_owned(),
            host: kept.member.server(),
            port: kept.member.port(),
            state: kept.said.state.map(OverrideState::word),
            weight: kept.said.weight,
            who: kept.who.to_string(),
            since: kept.since.0,
        };
        let overrides = self.listed().into_iter().map(form).collect();
        serde_json::to_vec_pretty(&OverridesForm { format: FORMAT, overrides })
    }

    /// Reads what [`Overrides::encode`] wrote: every override or none.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn decode(text: &[u8]) -> Result<Self, OverrideTextError> {
        let damaged = |error: serde_json::Error| OverrideTextError::Damaged(error.to_string());
        let FormatForm { format } = serde_json::from_slice(text).map_err(damaged)?;
        if format > FORMAT {
            return Err(OverrideTextError::TooNew(format));
        }
        let form: OverridesForm<'_> = serde_json::from_slice(text).map_err(damaged)?;
        let mut overrides = Self::default();
        for OverrideForm { channel, group, host, port, state, weight, who, since } in form.overrides {
            let unknown = |word| OverrideTextError::Damaged(format!("there is no state \"{word}\""));
            let read = |word| OverrideState::of_word(word).ok_or_else(|| unknown(word));
            let said = MemberOverride { state: state.map(read).transpose()?, weight };
            let group = Some(group).filter(|group| !group.is_empty()).map(Arc::from);
            let host = host.parse().map_or_else(|_| Host::Name(host.as_str().into()), Host::Ip);
            let member = MemberIdentity::of_host(group, host, port);
            overrides.put(KeptOverride::new(&channel, member, said, &who, UnixSeconds(since)));
        }
        Ok(overrides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(group: &str, host: &str) -> MemberIdentity {
        let group = Some(group).filter(|group| !group.is_empty()).map(Arc::from);
        let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip);
        MemberIdentity::of_host(group, host, 80)
    }

    /// As format 1 has been written since it exists.
    const TEXT: &str = include_str!("testdata/overrides-1.json");

    fn known() -> Overrides {
        let mut overrides = Overrides::default();
        let mut put = |channel: &str, member, state, weight, who: &str| {
            let said = MemberOverride { state, weight };
            overrides.put(KeptOverride::new(channel, member, said, who, UnixSeconds(1_767_225_600)));
        };
        put("web", identity("blue", "App.Example"), Some(OverrideState::Drained), None, "ops@local");
        put("web", identity("", "2001:db8::7"), None, Some(5), "local socket (uid 0)");
        put(
            "api",
            identity("", "10.0.0.1"),
            Some(OverrideState::Disabled),
            Some(0),
            "local socket (uid 1000)",
        );
        put("api", identity("", "10.0.0.2"), Some(OverrideState::Enabled), None, "192.0.2.7");
        overrides
    }

    #[test]
    fn texts_of_format_1_read_back_whole() {
        assert_eq!(Overrides::decode(TEXT.trim_end().as_bytes()), Ok(known()));
        assert_eq!(String::from_utf8(known().encode().expect("JSON")).expect("UTF-8"), TEXT.trim_end());
        assert_eq!(
            Overrides::decode(&Overrides::default().encode().expect("JSON")),
            Ok(Overrides::default())
        );
    }

    #[test]
    fn what_is_no_such_text_is_an_error_and_nothing_is_made_up() {
        let newer = TEXT.replace("\"format\": 1", "\"format\": 2");
        assert_eq!(Overrides::decode(newer.as_bytes()), Err(OverrideTextError::TooNew(2)));
        for (from, to) in [("drained", "maint"), ("\"port\": 80", "\"port\": 80000"), ("\"who\"", "\"by\"")] {
            let error = Overrides::decode(TEXT.replace(from, to).as_bytes()).expect_err(to);
            assert!(matches!(error, OverrideTextError::Damaged(_)), "{error}");
        }
    }

    #[test]
    fn one_member_has_one_override_however_its_host_is_spelled() {
        let mut overrides = known();
        let said = MemberOverride { state: Some(OverrideState::Disabled), weight: None };
        let respelled = identity("blue", "app.example");
        let who = "x\u{1b}".repeat(200);
        overrides.put(KeptOverride::new("web", respelled.clone(), said, &who, UnixSeconds(1)));
        assert_eq!((overrides.len(), overrides.of("web").map(HashMap::len)), (4, Some(2)));
        let kept = &overrides.of("web").expect("some")[&identity("blue", "APP.example")];
        assert_eq!((kept.said, kept.who.len()), (said, LONGEST_NAME));
        overrides.remove("web", &respelled);
        overrides.remove("web", &identity("", "2001:db8::7"));
        assert_eq!((overrides.len(), overrides.of("web")), (2, None));
    }
}
