//! The rules of `members` (docs/vendor-api.md, "MemberInfo").

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::super::document::{Place, Value};
use super::super::model::{EcsIdentity, Host, Member, MemberAddress, MemberGroup};
use super::super::violation::{Rule, Violation};
use super::super::words::{ChannelKind, MemberStatus, MemberType, Role};
use super::section::{FieldReader, TableReader, ViolationLog};
use super::wording::{nearest, quoted};
use super::{Dialect, ReadContext, text};

pub(super) const KEYS: [&str; 8] =
    ["host", "port", "weight", "is_backup", "member_group_name", "status", "ecs_id", "ecs_name"];

/// What the rules of a member need to know of its channel.
#[derive(Debug, Clone, Copy)]
pub struct MemberContext<'c> {
    /// `member_type`.
    pub member_type: MemberType,
    /// What kind of channel it is; decides whether group ports count.
    pub kind: ChannelKind,
    /// The channel's port, for members that have none.
    pub port: NonZeroU16,
    /// The channel's groups.
    pub groups: &'c [MemberGroup],
}

/// Reads a list of members by itself, as `POST .../members` sends it.
/// `None` when a rule is broken.
pub fn read_members(
    members: &Value,
    dialect: Dialect,
    channel: MemberContext<'_>,
    context: &dyn ReadContext,
    violations: &mut Vec<Violation>,
) -> Option<Vec<Member>> {
    let mut log = ViolationLog::new(dialect, violations);
    let before = log.breaches();
    let names: Vec<String> = channel.groups.iter().map(|group| group.name().to_owned()).collect();
    let field = FieldReader::alone(members, "members");
    let members = MemberRules::new(channel, &names, context).members_of(&field, &mut log);
    (log.breaches() == before).then_some(members)
}

/// One pass over a channel's members.
pub(super) struct MemberRules<'c> {
    channel: MemberContext<'c>,
    context: &'c dyn ReadContext,
    /// Every group name a member may use, shared by the members that do.
    group_names: HashMap<&'c str, Arc<str>>,
    /// `microservice_port` by group, where it rules over the member's own.
    group_ports: HashMap<&'c str, NonZeroU16>,
    /// Where each address was first seen.
    seen: HashMap<Identity, Place>,
    /// Groups already reported as unknown: one report each, not one per member.
    unknown_groups: HashSet<String>,
}

/// What makes two members the same one: group and address, or group and server
/// (docs/vendor-api.md, "Add members"). Host names compare without case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Identity {
    Address(Option<Arc<str>>, Host, NonZeroU16),
    Server(Option<Arc<str>>, String, NonZeroU16),
}

impl<'c> MemberRules<'c> {
    pub(super) fn new(
        channel: MemberContext<'c>,
        group_names: &'c [String],
        context: &'c dyn ReadContext,
    ) -> Self {
        let group_ports = match channel.kind {
            ChannelKind::Microservice => {
                let ports = channel.groups.iter();
                ports.filter_map(|group| Some((group.name(), group.microservice_port()?))).collect()
            }
            ChannelKind::Builtin | ChannelKind::Reference => HashMap::new(),
        };
        let group_names = group_names.iter().map(|name| (name.as_str(), Arc::from(name.as_str()))).collect();
        let (seen, unknown_groups) = (HashMap::new(), HashSet::new());
        Self { channel, context, group_names, group_ports, seen, unknown_groups }
    }

    pub(super) fn members_of(mut self, field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Vec<Member> {
        let Some(items) = field.items(log) else { return Vec::new() };
        let mut members = Vec::with_capacity(items.size_hint().0);
        // Not grown step by step: old and new would stand side by side.
        self.seen.reserve(items.size_hint().0);
        for item in items {
            let Some(section) = item.section("member", log) else { continue };
            let Some(member) = self.member_of(&section, log) else { continue };
            if self.is_first(&member, &section, log) {
                members.push(member);
            }
        }
        members.shrink_to_fit();
        members
    }

    fn member_of(&mut self, section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> Option<Member> {
        section.refuse_unknown_keys(&KEYS, log);
        let port = section.field("port").and_then(|field| field.number(0..=65535_u16, log));
        let weight = section.field("weight").and_then(|field| field.number(0..=10_000_u16, log));
        let is_backup = section.field("is_backup").and_then(|field| field.boolean(log));
        let role = if is_backup == Some(true) { Role::Backup } else { Role::Primary };
        let statuses = [(1, MemberStatus::Enabled), (2, MemberStatus::Disabled)];
        let status = section
            .field("status")
            .and_then(|field| field.choice(&statuses, "1 is enabled, 2 is disabled", log));
        let group = section.filled("member_group_name").and_then(|field| self.group_of(&field, log));
        let (host, ecs) = match self.channel.member_type {
            MemberType::Ip => {
                let remedy = "give the member's address: host = \"192.0.2.7\"";
                // Empty is as good as absent, as everywhere in the API.
                let Some(field) = section.filled("host") else {
                    section.report_missing("host", remedy, log);
                    return None;
                };
                (text::host(&field, log)?, None)
            }
            MemberType::Ecs => {
                let ecs = ecs_identity(section, log)?;
                (self.ecs_host(section, &ecs, log)?, Some(Box::new(ecs)))
            }
        };
        let port = port.and_then(NonZeroU16::new);
        Some(Member { host, port, weight, role, group, status: status.unwrap_or_default(), ecs })
    }

    fn group_of(&mut self, field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Option<Arc<str>> {
        let name = field.text(log)?;
        if let Some(known) = self.group_names.get(name) {
            return Some(Arc::clone(known));
        }
        if self.unknown_groups.insert(name.to_owned()) {
            let mut known: Vec<&str> = self.group_names.keys().copied().collect();
            known.sort_unstable();
            let remedy = match nearest(name, &known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "add it to `member_groups`, or take the member out of it".to_owned(),
            };
            let message = format!("no group of this channel is named {}", quoted(name));
            field.report(Rule::UnknownGroup, message, remedy, log);
        }
        None
    }

    /// The address of a cloud server: what the member says, what the `[ecs]`
    /// table says, or its name, to be resolved.
    fn ecs_host(
        &self,
        section: &TableReader<'_>,
        ecs: &EcsIdentity,
        log: &mut ViolationLog<'_>,
    ) -> Option<Host> {
        if let Some(field) = section.filled("host") {
            return text::host(&field, log);
        }
        if let Some(host) = self.context.ecs_address(&ecs.id) {
            return Some(host);
        }
        if let Some(host) = text::host_name(&ecs.name) {
            return Some(host);
        }
        let problem = if ecs.name.is_empty() {
            format!("nothing tells the address of the server {}", quoted(&ecs.id))
        } else {
            format!("nothing tells the address of the server {}: its name is no host name", quoted(&ecs.name))
        };
        let field = section.filled("ecs_name").or_else(|| section.filled("ecs_id"))?;
        let remedy = "give the member a `host`, or its `ecs_id` an address in the [ecs] table";
        field.report(Rule::NoAddress, problem, remedy, log);
        None
    }

    /// Whether nobody before had the member's address. In a file a second one is
    /// a mistake; the API lets the first win (docs/vendor-api.md, "VpcCreate").
    fn is_first(&mut self, member: &Member, section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> bool {
        let group_port = member.group().and_then(|name| self.group_ports.get(name)).copied();
        let port = group_port.or(member.port).unwrap_or(self.channel.port);
        let host = match &member.host {
            Host::Name(name) => Host::Name(name.to_ascii_lowercase().into()),
            Host::Ip(address) => Host::Ip(*address),
        };
        let place_of = |key: &str| section.filled(key).map_or(section.place(), |field| field.place());
        let host_key =
            if member.ecs.is_some() && section.filled("host").is_none() { "ecs_name" } else { "host" };
        let address = Identity::Address(member.group.clone(), host, port);
        let server = member.ecs().filter(|ecs| !ecs.id.is_empty());
        let server = server.map(|ecs| Identity::Server(member.group.clone(), ecs.id.clone(), port));
        let identities = server.into_iter().map(|server| (server, place_of("ecs_id")));
        for (identity, place) in identities.chain([(address, place_of(host_key))]) {
            let Some(first) = self.seen.get(&identity) else {
                self.seen.insert(identity, place);
                continue;
            };
            if log.dialect == Dialect::File {
                log.report(Violation {
                    rule: Rule::DuplicateMember,
                    path: section.path(),
                    place,
                    message: format!("two members {identity}"),
                    remedy: "remove one of them, or give it another host, port or group".to_owned(),
                    related: Some((*first, "the first one".to_owned())),
                });
            }
            return false;
        }
        true
    }
}

/// What two members of one identity are: "are 192.0.2.1:80".
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Address(group, ..) | Self::Server(group, ..)) = self;
        if let Some(group) = group {
            write!(f, "in group {} ", quoted(group))?;
        }
        match self {
            Self::Address(_, host, port) => {
                write!(f, "are {}", MemberAddress { host: host.clone(), port: port.get() })
            }
            Self::Server(_, id, port) => write!(f, "are the server {} on port {port}", quoted(id)),
        }
    }
}

/// `ecs_id` and `ecs_name`. The API wants both (docs/vendor-api.md, "MemberInfo"); in a file one is
/// enough, because either can lead to an address.
fn ecs_identity(section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> Option<EcsIdentity> {
    let (id, name) = (section.filled("ecs_id"), section.filled("ecs_name"));
    let remedy =
        "an `ecs` member is named by `ecs_id` and `ecs_name`; set member_type = \"ip\" for addresses";
    match log.dialect {
        Dialect::Api => {
            if id.is_none() {
                section.report_missing("ecs_id", remedy, log);
            }
            if name.is_none() {
                section.report_missing("ecs_name", remedy, log);
            }
        }
        Dialect::File if id.is_none() && name.is_none() => section.report_missing("ecs_id", remedy, log),
        Dialect::File => {}
    }
    let read_id = id.map(|field| text::ecs_id(&field, log));
    let read_name = name.map(|field| text::ecs_name(&field, log));
    if read_id.is_none() && read_name.is_none() {
        return None;
    }
    // A part that was written must be good; one that was not stays empty.
    let part = |read: Option<Option<&str>>| read.map_or(Some(String::new()), |good| good.map(str::to_owned));
    Some(EcsIdentity { id: part(read_id)?, name: part(read_name)? })
}
