//! A member's identity: what makes two members of a channel the same one. Lists
//! are searched for duplicates by it, and ids, hashes and placements are made of it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::model::{Channel, Host, Member, MemberAddress, MemberGroup};
use super::words::ChannelKind;

/// Group, server and traffic port (docs/vendor-api.md, "Add members"). Host names compare without case. They are printed as they were
/// written, so that what was made of an identity before stays valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemberIdentity {
    group: Option<Arc<str>>,
    server: MemberServer,
    port: u16,
}

/// How an identity names the server.
#[derive(Debug, Clone)]
pub(super) enum MemberServer {
    /// By address.
    Host(Host),
    /// By `ecs_id`.
    Ecs(Box<str>),
}

impl MemberIdentity {
    /// A member by its address, on this traffic port.
    pub(super) fn by_host(member: &Member, port: u16) -> Self {
        Self { group: member.group.clone(), server: MemberServer::Host(member.host.clone()), port }
    }

    /// A member by its `ecs_id`; none when it has none.
    pub(super) fn by_ecs_id(member: &Member, port: u16) -> Option<Self> {
        let ecs = member.ecs().filter(|ecs| !ecs.id.is_empty())?;
        Some(Self { group: member.group.clone(), server: MemberServer::Ecs(ecs.id.as_str().into()), port })
    }

    /// A member at this host and traffic port. `group`: none outside all groups.
    pub fn of_host(group: Option<Arc<str>>, host: Host, port: u16) -> Self {
        Self { group, server: MemberServer::Host(host), port }
    }

    fn by_ecs_id_or_host(member: &Member, port: u16) -> Self {
        Self::by_ecs_id(member, port).unwrap_or_else(|| Self::by_host(member, port))
    }

    /// The address alone, whatever the group: what a member keeps when it moves.
    pub fn outside_groups(self) -> Self {
        Self { group: None, ..self }
    }

    /// The group's name; empty outside all groups, which no group's name is.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or_default()
    }

    /// The host, an IPv6 address without brackets, or the `ecs_id`.
    pub fn server(&self) -> String {
        match &self.server {
            MemberServer::Host(host) => host.to_string(),
            MemberServer::Ecs(id) => id.to_string(),
        }
    }

    /// The traffic port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the server is named by its `ecs_id`.
    pub(super) fn is_ecs(&self) -> bool {
        matches!(self.server, MemberServer::Ecs(_))
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn address(&self) -> String {
        match &self.server {
            MemberServer::Host(host) => MemberAddress { host: host.clone(), port: self.port }.to_string(),
            MemberServer::Ecs(id) => format!("{id}:{}", self.port),
        }
    }
}

/// `group/host:port`: what balancers call a member. Hash strategies place by it,
/// so it is the same on every instance with the same channel.
impl fmt::Display for MemberIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group(), self.address())
    }
}

impl PartialEq for MemberServer {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(Host::Name(one)), Self::Host(Host::Name(other))) => one.eq_ignore_ascii_case(other),
            (Self::Host(one), Self::Host(other)) => one == other,
            (Self::Ecs(one), Self::Ecs(other)) => one == other,
            (Self::Host(_), Self::Ecs(_)) | (Self::Ecs(_), Self::Host(_)) => false,
        }
    }
}

impl Eq for MemberServer {}

impl Hash for MemberServer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Host(Host::Ip(address)) => address.hash(state),
            Self::Host(Host::Name(name)) => {
                name.bytes().for_each(|byte| state.write_u8(byte.to_ascii_lowercase()));
            }
            Self::Ecs(id) => id.hash(state),
        }
    }
}

impl Channel {
    /// A member by its address.
    pub fn host_identity(&self, member: &Member) -> MemberIdentity {
        MemberIdentity::by_host(member, self.traffic_port(member).get())
    }

    /// A member as the API recognises it in a new list: by its `ecs_id` where it
    /// has one, else by its address.
    pub fn identity(&self, member: &Member) -> MemberIdentity {
        MemberIdentity::by_ecs_id_or_host(member, self.traffic_port(member).get())
    }

    /// The same for a member that inherits its port, whatever that port is; none
    /// for a member with a port of its own.
    pub fn inherited_identity(&self, member: &Member) -> Option<MemberIdentity> {
        member.port.is_none().then(|| MemberIdentity::by_ecs_id_or_host(member, 0))
    }
}

/// Finds duplicates while a list is read. `T` is remembered of each member.
pub(super) struct Duplicates<'c, T> {
    port: NonZeroU16,
    /// Ports that rule over the members' own; looked up once per group, not once
    /// per member.
    group_ports: HashMap<&'c str, NonZeroU16>,
    seen: HashMap<MemberIdentity, T>,
}

impl<'c, T: Copy> Duplicates<'c, T> {
    /// For a list of `members` members of a channel with these parts.
    pub(super) fn new(
        kind: ChannelKind,
        port: NonZeroU16,
        groups: &'c [MemberGroup],
        members: usize,
    ) -> Self {
        let group_ports = groups.iter().filter_map(|group| Some((group.name(), group.port_on(kind)?)));
        // Not grown step by step: old and new would stand side by side.
        Self { port, group_ports: group_ports.collect(), seen: HashMap::with_capacity(members) }
    }

    /// Adds a member. If a member before has the same `ecs_id` or the same address,
    /// answers that identity and what was remembered of the one before.
    pub(super) fn find(
        &mut self,
        member: &Member,
        remember: impl Fn(&MemberIdentity) -> T,
    ) -> Option<(MemberIdentity, T)> {
        let group_port = member.group().and_then(|name| self.group_ports.get(name)).copied();
        let port = group_port.or(member.port).unwrap_or(self.port).get();
        let identities = MemberIdentity::by_ecs_id(member, port).into_iter();
        for identity in identities.chain([MemberIdentity::by_host(member, port)]) {
            if let Some(before) = self.seen.get(&identity) {
                return Some((identity, *before));
            }
            let remembered = remember(&identity);
            self.seen.insert(identity, remembered);
        }
        None
    }
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use super::*;
    use crate::channel::fixture::{channel, member};

    #[test]
    fn names_compare_without_case_and_are_printed_as_written() {
        let group: Arc<str> = "Blue".into();
        let web = channel("web", None, vec![]);
        let one = web.host_identity(&member("App.Example").in_group(&group));
        let other = web.host_identity(&member("app.example").in_group(&group).on_port(8080));
        assert_eq!(one, other);
        let seen = std::collections::HashSet::from([one.clone()]);
        assert!(seen.contains(&other));
        assert_eq!(
            (one.to_string(), other.to_string()),
            ("Blue/App.Example:8080".into(), "Blue/app.example:8080".into())
        );
        let other_group = web.host_identity(&member("app.example").in_group(&"blue".into()));
        assert_ne!(one, other_group);
        let six = web.host_identity(&member("2001:db8::7"));
        assert_eq!((six.to_string(), six.server()), ("/[2001:db8::7]:8080".into(), "2001:db8::7".into()));
    }
}
