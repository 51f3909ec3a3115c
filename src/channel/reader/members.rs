//! The rules of `member_groups` (docs/vendor-api.md, "MemberGroupCreate") and of
//! `members` (docs/vendor-api.md, "MemberInfo").

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::super::document::{Kind, Place, Value};
use super::super::identity::{Duplicates, MemberIdentity};
use super::super::model::{EcsIdentity, Host, Member, MemberGroup};
use super::super::violation::{Rule, Violation, nearest, quoted};
use super::super::words::{ChannelKind, MemberStatus, MemberType, Role};
use super::context::{Dialect, ReadContext, ViolationLog};
use super::section::{FieldReader, TableReader};
use super::text;

pub(super) const GROUP_KEYS: [&str; 8] = [
    "member_group_name",
    "member_group_remark",
    "member_group_weight",
    "dict_code",
    "microservice_version",
    "microservice_port",
    "microservice_labels",
    "reference_vpc_channel_id",
];
pub(super) const LABEL_KEYS: [&str; 2] = ["label_name", "label_value"];

/// What was found in a list of groups: the groups, and every name that was written,
/// so that a group with a fault elsewhere does not make its members faulty too.
#[derive(Debug, Default)]
pub(super) struct ReadGroups {
    pub(super) groups: Vec<MemberGroup>,
    pub(super) names: Vec<String>,
}

/// Reads a list of groups by itself, as `POST .../member-groups` sends it.
///
/// # Errors
/// Every broken rule.
pub fn read_groups(groups: &Value) -> Result<Vec<MemberGroup>, Vec<Violation>> {
    let mut log = ViolationLog::new(Dialect::Api);
    let groups = groups_of(&FieldReader::alone(groups, "member_groups"), &mut log).groups;
    log.finish(Some(groups))
}

/// Reads one group by itself, as `PUT .../member-groups/{id}` sends it.
///
/// # Errors
/// Every broken rule.
pub fn read_group(group: &Value) -> Result<MemberGroup, Vec<Violation>> {
    let mut log = ViolationLog::new(Dialect::Api);
    let section = TableReader::root(group, "group", &mut log);
    let group = section.and_then(|section| group_of(&section, &mut log));
    log.finish(group)
}

pub(super) fn groups_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> ReadGroups {
    let mut found = ReadGroups::default();
    let mut places: HashMap<String, Place> = HashMap::new();
    let Some(items) = field.items(log) else { return found };
    for item in items {
        let Some(section) = item.section("group", log) else { continue };
        let group = group_of(&section, log);
        let Some(name) = section.field("member_group_name") else { continue };
        let Kind::String(written) = name.kind() else { continue };
        if let Some(first) = places.get(written) {
            // The API keeps the first of equal names (docs/vendor-api.md, "VpcCreate"); in a file
            // the second is a mistake.
            if log.dialect == Dialect::File {
                let message = format!("two groups are named {}", quoted(written));
                let violation = name.violation(Rule::DuplicateGroup, message, "rename or remove one of them");
                let related = Some((*first, "the first one".to_owned()));
                log.report(Violation { related, ..violation });
            }
            continue;
        }
        places.insert(written.clone(), name.place());
        found.names.push(written.clone());
        found.groups.extend(group);
    }
    found
}

fn group_of(section: &TableReader<'_>, log: &mut ViolationLog) -> Option<MemberGroup> {
    section.refuse_unknown_keys(&GROUP_KEYS, log);
    if let Some(field) = section.filled("dict_code") {
        text::dict_code(&field, log);
    }
    let remark = section.field("member_group_remark");
    let weight = section.field("member_group_weight");
    let version = section.field("microservice_version");
    let port = section.field("microservice_port");
    let labels = section.field("microservice_labels");
    let reference = section.field("reference_vpc_channel_id");

    let remedy = "name the group: member_group_name = \"blue\"";
    let name = section.required("member_group_name", remedy, log).and_then(|field| text::name(&field, log));
    let short_text = |field: Option<FieldReader<'_>>, most: usize, log: &mut ViolationLog| {
        field.and_then(|field| text::with_length(&field, 0, most, log)).unwrap_or_default().to_owned()
    };
    let remark = short_text(remark, 255, log);
    let microservice_version = short_text(version, 64, log);
    let reference_vpc_channel_id = short_text(reference, 64, log);
    let weight = weight.and_then(|field| field.number(0..=100_u8, log));
    let microservice_port = port.and_then(|field| field.number(0..=65535_u16, log)).and_then(NonZeroU16::new);
    let microservice_labels = labels.map(|field| labels_of(&field, log)).unwrap_or_default();
    Some(MemberGroup {
        name: name?.to_owned(),
        remark,
        weight,
        microservice_version,
        microservice_port,
        microservice_labels,
        reference_vpc_channel_id,
    })
}

fn labels_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> Vec<(String, String)> {
    let Some(items) = field.items(log) else { return Vec::new() };
    let mut labels = Vec::new();
    for item in items {
        let Some(section) = item.section("label", log) else { continue };
        section.refuse_unknown_keys(&LABEL_KEYS, log);
        let mut part = |key| {
            let field = section.required(key, "give both `label_name` and `label_value`", log)?;
            text::label(&field, log).map(str::to_owned)
        };
        if let (Some(name), Some(value)) = (part("label_name"), part("label_value")) {
            labels.push((name, value));
        }
    }
    labels
}

pub(super) const MEMBER_KEYS: [&str; 8] =
    ["host", "port", "weight", "is_backup", "member_group_name", "status", "ecs_id", "ecs_name"];

/// What the rules of members use of the channel.
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
///
/// # Errors
/// Every broken rule.
pub fn read_members(
    members: &Value,
    channel: MemberContext<'_>,
    context: &dyn ReadContext,
) -> Result<Vec<Member>, Vec<Violation>> {
    let mut log = ViolationLog::new(Dialect::Api);
    let names: Vec<String> = channel.groups.iter().map(|group| group.name().to_owned()).collect();
    let field = FieldReader::alone(members, "members");
    let members = members_of(&field, channel, &names, context, &mut log);
    log.finish(Some(members))
}

/// One pass over a channel's members.
struct MemberRules<'c> {
    channel: MemberContext<'c>,
    context: &'c dyn ReadContext,
    /// Every group name a member may use, shared by the members that do.
    group_names: HashMap<&'c str, Arc<str>>,
    duplicates: Duplicates<'c, Place>,
    /// Groups already reported as unknown: one report each, not one per member.
    unknown_groups: HashSet<String>,
}

/// The good members of a list. `group_names` are all that a member may use, be
/// the groups good or not.
pub(super) fn members_of(
    field: &FieldReader<'_>,
    channel: MemberContext<'_>,
    group_names: &[String],
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Vec<Member> {
    let Some(items) = field.items(log) else { return Vec::new() };
    let count = items.size_hint().0;
    let mut rules = MemberRules {
        channel,
        context,
        group_names: group_names.iter().map(|name| (name.as_str(), Arc::from(name.as_str()))).collect(),
        duplicates: Duplicates::new(channel.kind, channel.port, channel.groups, count),
        unknown_groups: HashSet::new(),
    };
    let mut members = Vec::with_capacity(count);
    for item in items {
        let Some(section) = item.section("member", log) else { continue };
        let Some(member) = rules.member_of(&section, log) else { continue };
        if rules.is_first(&member, &section, log) {
            members.push(member);
        }
    }
    members.shrink_to_fit();
    members
}

impl MemberRules<'_> {
    fn member_of(&mut self, section: &TableReader<'_>, log: &mut ViolationLog) -> Option<Member> {
        section.refuse_unknown_keys(&MEMBER_KEYS, log);
        let port = section.field("port").and_then(|field| field.number(0..=65535_u16, log));
        let weight = section.field("weight").and_then(|field| field.number(0..=10_000_u16, log));
        let is_backup = section.field("is_backup").and_then(|field| field.boolean(log));
        let role = if is_backup == Some(true) { Role::Backup } else { Role::Primary };
        let statuses = MemberStatus::ALL.map(|status| (status.number().into(), status));
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
                (text::member_host(&field, self.context, log)?, None)
            }
            MemberType::Ecs => {
                let ecs = ecs_identity(section, log)?;
                (self.ecs_host(section, &ecs, log)?, Some(Box::new(ecs)))
            }
        };
        let port = port.and_then(NonZeroU16::new);
        let weight = weight.into();
        Some(Member { host, port, weight, role, group, status: status.unwrap_or_default(), ecs })
    }

    fn group_of(&mut self, field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<Arc<str>> {
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

    /// The address of a cloud server: the member's `host`, the address that the
    /// `[ecs]` table has for its id, or its name, to be resolved.
    fn ecs_host(&self, section: &TableReader<'_>, ecs: &EcsIdentity, log: &mut ViolationLog) -> Option<Host> {
        if let Some(field) = section.filled("host") {
            return text::member_host(&field, self.context, log);
        }
        if let Some(host) = self.context.ecs_address(&ecs.id) {
            return Some(host);
        }
        if let Some(host) = text::host_name(&ecs.name, self.context) {
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

    /// Whether no member before is the same. In a file a second one is a mistake;
    /// the API lets the first win (docs/vendor-api.md, "VpcCreate").
    fn is_first(&mut self, member: &Member, section: &TableReader<'_>, log: &mut ViolationLog) -> bool {
        let host_key =
            if member.ecs.is_some() && section.filled("host").is_none() { "ecs_name" } else { "host" };
        let place_of = |identity: &MemberIdentity| {
            let key = if identity.is_ecs() { "ecs_id" } else { host_key };
            section.filled(key).map_or(section.place(), |field| field.place())
        };
        let Some((identity, first)) = self.duplicates.find(member, place_of) else { return true };
        if log.dialect == Dialect::File {
            let group = match identity.group() {
                "" => String::new(),
                group => format!("in group {} ", quoted(group)),
            };
            let what = if identity.is_ecs() {
                format!("the server {} on port {}", quoted(&identity.server()), identity.port())
            } else {
                // Printed as it compares.
                identity.address().to_ascii_lowercase()
            };
            log.report(Violation {
                rule: Rule::DuplicateMember,
                path: section.path(),
                place: place_of(&identity),
                message: format!("two members {group}are {what}"),
                remedy: "remove one of them, or give it another host, port or group".to_owned(),
                related: Some((first, "the first one".to_owned())),
            });
        }
        false
    }
}

/// `ecs_id` and `ecs_name`. The API wants both (docs/vendor-api.md, "MemberInfo"); in a file one is
/// enough, because either can lead to an address.
fn ecs_identity(section: &TableReader<'_>, log: &mut ViolationLog) -> Option<EcsIdentity> {
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
