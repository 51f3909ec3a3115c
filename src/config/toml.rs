//! TOML text to the neutral tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::channel::document::{Entry, Kind, Place, Table, Value};
use crate::channel::{FieldPath, Rule, Violation};

/// Every syntax error, and what could be read in spite of them.
pub(super) fn read(text: &str) -> (Value, Vec<Violation>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let violations = errors.into_iter().map(|error| Violation {
        rule: Rule::Syntax,
        path: FieldPath::default(),
        place: error.span().map(Place::from).unwrap_or_default(),
        message: format!("not TOML: {}", error.message().replace('\n', " ")),
        remedy: remedy_of(error.message()).to_owned(),
        related: None,
    });
    // The document's own place is its beginning: there is no header to point at.
    let root = Value { place: Place::default(), kind: Kind::Table(table_of(table.into_inner())) };
    (root, violations.collect())
}

fn remedy_of(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "a key can be given once; remove one of the two, or write [[double brackets]] for a list of tables"
    } else {
        "see https://toml.io for the notation; strings need quotes"
    }
}

fn table_of(table: DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_place: key.span().into(),
            key: key.into_inner().into_owned(),
            value: value_of(value),
        })
        .collect();
    // The parser sorts by name; errors read better in the order of the file.
    entries.sort_by_key(|entry| entry.key_place.start);
    Table { entries }
}

fn value_of(value: Spanned<DeValue<'_>>) -> Value {
    let place = value.span().into();
    let kind = match value.into_inner() {
        DeValue::String(text) => Kind::String(text.into_owned()),
        DeValue::Boolean(value) => Kind::Boolean(value),
        DeValue::Integer(number) => {
            let saturated = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
            Kind::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(saturated))
        }
        DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(_) => Kind::Other("date"),
        DeValue::Array(items) => Kind::Array(items.into_iter().map(value_of).collect()),
        DeValue::Table(table) => Kind::Table(table_of(table)),
    };
    Value { place, kind }
}
