//! Whose a kept verdict is: hashes of a member's address, of the channel and group that
//! have it, and of what it is asked.
//!
//! They are apart, so that a restart tells a member that moved or is asked something else
//! from a new one. SHA-256, because std's hashers may change with the compiler.

use sha2::{Digest as _, Sha256};

use crate::channel::{Channel, Host, Member};

/// The hash of a member's host and traffic port. 128 bits, which no two of millions of
/// addresses share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey(pub(super) [u8; 16]);

/// The hash of a channel's name and a group's. 64 bits: it tells apart the few that have
/// one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerKey(pub(super) [u8; 8]);

/// The hash of what a member is asked. 64 bits: it is compared with one other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionKey(pub(super) [u8; 8]);

/// The one hash that vitald 0.1 kept, of all this and of how often the check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WholeKey(pub(super) [u8; 16]);

/// By what a member's verdict is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKeys {
    /// Where it is.
    pub address: AddressKey,
    /// The channel and group that have it.
    pub owner: OwnerKey,
    /// What it is asked; none when it is not probed.
    pub question: Option<QuestionKey>,
}

/// Makes the keys of a channel's members.
#[derive(Debug)]
pub struct ChannelKeys<'c> {
    channel: &'c Channel,
    /// The hash of what all its members are asked.
    question: Option<[u8; 32]>,
}

impl<'c> ChannelKeys<'c> {
    /// For the members of that channel.
    pub fn of(channel: &'c Channel) -> Self {
        let question = channel.check_question();
        Self { channel, question: question.map(|question| Sha256::digest(question.as_bytes()).into()) }
    }

    /// The keys of a member.
    pub fn member(&self, member: &Member) -> MemberKeys {
        let port = self.channel.traffic_port(member).get();
        // Names compare without case.
        let host = member.host().to_string();
        let address = match member.host() {
            Host::Ip(_) => hash(&[], &[&host], &[port]),
            Host::Name(_) => hash(&[], &[&host.to_ascii_lowercase()], &[port]),
        };
        let owner = hash(&[], &[self.channel.name(), member.group().unwrap_or_default()], &[]);
        let question = self.question.as_ref().map(|question| {
            // As it was written: `Host` and the server name are made of it.
            let digest = hash(question, &[&host], &[self.channel.check_port(member).get()]);
            QuestionKey(cut(digest))
        });
        MemberKeys { address: AddressKey(cut(address)), owner: OwnerKey(cut(owner)), question }
    }
}

/// Finds verdicts of vitald 0.1.
#[derive(Debug)]
pub struct WholeKeys<'c> {
    channel: &'c Channel,
    definition: [u8; 32],
}

impl<'c> WholeKeys<'c> {
    /// For the members of that channel; none when they are not probed.
    pub fn of(channel: &'c Channel) -> Option<Self> {
        let definition = Sha256::digest(channel.check_definition()?.as_bytes()).into();
        Some(Self { channel, definition })
    }

    /// The key of a member.
    pub fn member(&self, member: &Member) -> WholeKey {
        let identity = self.channel.host_identity(member);
        let texts = [self.channel.name(), identity.group(), &identity.server()];
        let ports = [identity.port(), self.channel.check_port(member).get()];
        WholeKey(cut(hash(&self.definition, &texts, &ports)))
    }
}

/// Each text is preceded by its length, so that no two lists share their bytes.
fn hash(begin: &[u8], texts: &[&str], ports: &[u16]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(begin);
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    for port in ports {
        hash.update(port.to_le_bytes());
    }
    hash.finalize().into()
}

/// The first bytes of a hash.
fn cut<const N: usize>(hash: [u8; 32]) -> [u8; N] {
    let mut first = [0; N];
    for (byte, from) in first.iter_mut().zip(hash) {
        *byte = from;
    }
    first
}
