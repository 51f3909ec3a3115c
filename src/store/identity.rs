//! Whose verdict it is: a hash of the channel, the member and the question.
//!
//! A verdict is found again only by a member of the same channel at the same
//! place that is asked the same. Whatever differs makes another key, so that the
//! member starts at unknown. SHA-256, because std's hashers may change with the
//! compiler; cut to 128 bits, which no two of millions of members share.

use sha2::{Digest as _, Sha256};

use crate::channel::{Channel, Member};

/// The hash of a channel's check with its options. Made once per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefinitionHash([u8; 32]);

impl DefinitionHash {
    /// The hash of what the channel asks its members; none when it asks nothing.
    #[must_use]
    pub fn of(channel: &Channel) -> Option<Self> {
        channel.active_check()?;
        Some(Self(Sha256::digest(channel.check_definition().as_bytes()).into()))
    }
}

/// Finds a member's verdict again after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerdictKey(pub(super) [u8; 16]);

impl VerdictKey {
    /// The key of a member of that channel, whose check has that hash.
    #[must_use]
    pub fn of(definition: DefinitionHash, channel: &Channel, member: &Member) -> Self {
        let mut hash = Sha256::new();
        hash.update(definition.0);
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        let identity = channel.host_identity(member);
        text(channel.name());
        text(identity.group());
        text(&identity.server());
        hash.update(identity.port().to_le_bytes());
        hash.update(channel.check_port(member).get().to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(digest.split_at(16).0);
        Self(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::channel::fixture::{channel, member};
    use crate::channel::{HttpCheck, Method, Protocol};

    fn key(name: &str, protocol: Protocol, member: Member) -> VerdictKey {
        let channel = channel(name, Some(protocol), vec![member]);
        let definition = DefinitionHash::of(&channel).expect("probed");
        VerdictKey::of(definition, &channel, &channel.members()[0])
    }

    #[test]
    fn every_part_of_the_identity_matters() {
        let http = HttpCheck { path: "/".to_owned(), method: Method::Get, codes: Default::default() };
        let group: Arc<str> = "blue".into();
        let keys = [
            key("web", Protocol::Tcp, member("192.0.2.1")),
            key("web2", Protocol::Tcp, member("192.0.2.1")),
            key("web", Protocol::Http(http), member("192.0.2.1")),
            key("web", Protocol::Tcp, member("192.0.2.2")),
            key("web", Protocol::Tcp, member("name.example")),
            key("web", Protocol::Tcp, member("192.0.2.1").on_port(8081)),
            key("web", Protocol::Tcp, member("192.0.2.1").in_group(&group)),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    }

    #[test]
    fn what_only_balancing_minds_does_not_matter() {
        let plain = key("web", Protocol::Tcp, member("192.0.2.1"));
        for other in [
            member("192.0.2.1").on_port(8080),
            member("192.0.2.1").weighing(7),
            member("192.0.2.1").standby(),
            member("192.0.2.1").disabled(),
        ] {
            assert_eq!(key("web", Protocol::Tcp, other), plain);
        }
    }

    /// Kept on disk: a changed key forgets every verdict once.
    #[test]
    fn keys_are_those_of_version_1() {
        let key = key("web", Protocol::Tcp, member("192.0.2.1"));
        let shown: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, "bf293589623def9218154b2d235d7b07");
    }

    #[test]
    fn members_that_are_not_probed_have_no_verdict() {
        assert_eq!(DefinitionHash::of(&channel("web", None, Vec::new())), None);
    }
}
