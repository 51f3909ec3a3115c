//! The rules of `member_groups` (docs/vendor-api.md, "MemberGroupCreate").

use std::collections::HashMap;
use std::num::NonZeroU16;

use super::super::document::{Kind, Place, Value};
use super::super::model::MemberGroup;
use super::super::violation::{Rule, Violation};
use super::section::{Field, Reading, Section};
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

/// What reading the groups found: the groups, and every name that was written,
/// so that a group with a fault elsewhere does not make its members faulty too.
#[derive(Debug, Default)]
pub(super) struct Groups {
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
    let mut reading = Reading::new(dialect, violations);
    let before = reading.breaches();
    let groups = groups_of(&Field::alone(groups, "member_groups"), &mut reading).groups;
    (reading.breaches() == before).then_some(groups)
}

/// Reads one group by itself, as `PUT .../member-groups/{id}` sends it.
pub fn read_group(group: &Value, dialect: Dialect, violations: &mut Vec<Violation>) -> Option<MemberGroup> {
    let mut reading = Reading::new(dialect, violations);
    let before = reading.breaches();
    let group =
        Section::root(group, "group", &mut reading).and_then(|section| group_of(&section, &mut reading));
    group.filter(|_| reading.breaches() == before)
}

pub(super) fn groups_of(field: &Field<'_>, reading: &mut Reading<'_>) -> Groups {
    let mut found = Groups::default();
    let mut places: HashMap<String, Place> = HashMap::new();
    let Some(items) = field.items(reading) else { return found };
    for item in items {
        let Some(section) = item.section("group", reading) else { continue };
        let group = group_of(&section, reading);
        let Some(name) = section.field("member_group_name") else { continue };
        let Kind::String(written) = name.kind() else { continue };
        if let Some(first) = places.get(written) {
            // The API keeps the first of equal names (docs/vendor-api.md, "VpcCreate"); in a file
            // the second is a mistake.
            if reading.dialect == Dialect::File {
                let message = format!("two groups are named {}", quoted(written));
                let violation = name.violation(Rule::DuplicateGroup, message, "rename or remove one of them");
                let related = Some((*first, "the first one".to_owned()));
                reading.report(Violation { related, ..violation });
            }
            continue;
        }
        places.insert(written.clone(), name.place());
        found.names.push(written.clone());
        found.groups.extend(group);
    }
    found
}

fn group_of(section: &Section<'_>, reading: &mut Reading<'_>) -> Option<MemberGroup> {
    section.refuse_unknown_keys(&KEYS, reading);
    if let Some(field) = section.filled("dict_code") {
        text::dict_code(&field, reading);
    }
    let remark = section.field("member_group_remark");
    let weight = section.field("member_group_weight");
    let version = section.field("microservice_version");
    let port = section.field("microservice_port");
    let labels = section.field("microservice_labels");
    let reference = section.field("reference_vpc_channel_id");

    let remedy = "name the group: member_group_name = \"blue\"";
    let name =
        section.required("member_group_name", remedy, reading).and_then(|field| text::name(&field, reading));
    let short_text = |field: Option<Field<'_>>, most: usize, reading: &mut Reading<'_>| {
        field.and_then(|field| text::with_length(&field, 0, most, reading)).unwrap_or_default().to_owned()
    };
    let remark = short_text(remark, 255, reading);
    let microservice_version = short_text(version, 64, reading);
    let reference_vpc_channel_id = short_text(reference, 64, reading);
    let weight = weight.and_then(|field| field.number(0..=100_u8, reading));
    let microservice_port =
        port.and_then(|field| field.number(0..=65535_u16, reading)).and_then(NonZeroU16::new);
    let microservice_labels = labels.map(|field| labels_of(&field, reading)).unwrap_or_default();
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

fn labels_of(field: &Field<'_>, reading: &mut Reading<'_>) -> Vec<(String, String)> {
    let Some(items) = field.items(reading) else { return Vec::new() };
    let mut labels = Vec::new();
    for item in items {
        let Some(section) = item.section("label", reading) else { continue };
        section.refuse_unknown_keys(&LABEL_KEYS, reading);
        let mut part = |key| {
            let field = section.required(key, "give both `label_name` and `label_value`", reading)?;
            text::label(&field, reading).map(str::to_owned)
        };
        if let (Some(name), Some(value)) = (part("label_name"), part("label_value")) {
            labels.push((name, value));
        }
    }
    labels
}
