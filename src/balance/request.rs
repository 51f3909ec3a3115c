//! What a pick needs to know, and why it may find nobody.

use std::net::IpAddr;

use super::member::MemberId;
use crate::channel::NobodyReason;

/// What is known of the request that needs a member.
///
/// `wrr` and `wleastconn` need nothing. `source` needs the client's address and
/// `uri` the URI; without it they spread such requests evenly.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    pub(super) source: Option<IpAddr>,
    pub(super) uri: Option<&'a [u8]>,
    pub(super) tried: &'a [MemberId],
}

impl<'a> Request<'a> {
    /// Nothing known.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self { source: None, uri: None, tried: &[] }
    }

    /// From this client.
    #[must_use]
    #[inline]
    pub const fn source(self, address: IpAddr) -> Self {
        Self { source: Some(address), ..self }
    }

    /// For this URI: a path with its query, or as the request line had it.
    #[must_use]
    #[inline]
    pub const fn uri(self, uri: &'a [u8]) -> Self {
        Self { uri: Some(uri), ..self }
    }

    /// A retry: not one of these.
    #[must_use]
    #[inline]
    pub const fn tried(self, members: &'a [MemberId]) -> Self {
        Self { tried: members, ..self }
    }
}

/// Why there is no member for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPick {
    /// Nobody is in rotation.
    #[error("{}", reason(*.0))]
    Nobody(NobodyReason),
    /// Everyone in rotation was tried before.
    #[error("every member in rotation was tried")]
    AllTried,
}

fn reason(reason: NobodyReason) -> &'static str {
    match reason {
        NobodyReason::NoMembers => "there are no members",
        NobodyReason::AllDisabled => "all members are disabled",
        NobodyReason::AllUnhealthy => "all enabled members are unhealthy",
    }
}
