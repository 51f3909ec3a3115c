//! The rules of `member_groups` (docs/vendor-api.md, "MemberGroupCreate").

use std::collections::HashMap;
use std::num::NonZeroU16;

use super::super::document::{Kind, Place, Value};
use super::super::model::MemberGroup;
use super::super::violation::{Rule, Violation};
use super::section::{FieldReader, TableReader, ViolationLog};
use super::wording::quoted;
use super::{Dialect, text};

pub(super) const KEYS: [&str; 8] = [
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
/// `None` when a rule is broken.
pub fn read_groups(
    groups: &Value,
    dialect: Dialect,
    violations: &mut Vec<Violation>,
) -> Option<Vec<MemberGroup>> {
    let mut log = ViolationLog::new(dialect, violations);
    let before = log.breaches();
    let groups = groups_of(&FieldReader::alone(groups, "member_groups"), &mut log).groups;
    (log.breaches() == before).then_some(groups)
}

/// Reads one group by itself, as `PUT .../member-groups/{id}` sends it.
pub fn read_group(group: &Value, dialect: Dialect, violations: &mut Vec<Violation>) -> Option<MemberGroup> {
    let mut log = ViolationLog::new(dialect, violations);
    let before = log.breaches();
    let group = TableReader::root(group, "group", &mut log).and_then(|section| group_of(&section, &mut log));
    group.filter(|_| log.breaches() == before)
}

pub(super) fn groups_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> ReadGroups {
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

fn group_of(section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> Option<MemberGroup> {
    section.refuse_unknown_keys(&KEYS, log);
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
    let short_text = |field: Option<FieldReader<'_>>, most: usize, log: &mut ViolationLog<'_>| {
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

fn labels_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Vec<(String, String)> {
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
