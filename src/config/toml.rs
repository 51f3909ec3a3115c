//! TOML text to the neutral tree.
//!
//! A long text is read a piece at a time (`pieces`), because the parser's own
//! tokens and tables take twenty times the memory of what they become. Whatever a
//! piece cannot tell, an error above all, the whole text tells.

mod pieces;

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::channel::document::{Kind, Map, Pair, Place, Value};
use crate::channel::reader::KNOWN_KEYS;
use crate::channel::{FieldPath, Rule, Violation};

/// Every syntax error, and what could be read in spite of them.
pub(super) fn read(text: &str) -> (Value, Vec<Violation>) {
    // The document's own place is its beginning: there is no header to point at.
    let root = |table| Value { place: Place::default(), kind: Kind::Table(table) };
    match pieces::read(text) {
        Some(table) => (root(table), Vec::new()),
        None => {
            let (table, violations) = read_whole(text);
            (root(table), violations)
        }
    }
}

fn read_whole(text: &str) -> (Map, Vec<Violation>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let violations = errors.into_iter().map(|error| Violation {
        rule: Rule::Syntax,
        path: FieldPath::default(),
        place: error.span().map(Place::from).unwrap_or_default(),
        message: format!("not TOML: {}", error.message().replace('\n', " ")),
        remedy: remedy_of(error.message()).to_owned(),
        related: None,
    });
    (table_of(table.into_inner(), &Offsets::default()), violations.collect())
}

fn remedy_of(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "a key can be given once; remove one of the two, or write [[double brackets]] for a list of tables"
    } else {
        "see https://toml.io for the notation; strings need quotes"
    }
}

/// Where parts of what the parser is given stand in the text, in ascending order:
/// an offset there, and the same one in the text. Without any they are the same.
#[derive(Debug, Default)]
struct Offsets(Vec<(usize, usize)>);

impl Offsets {
    fn place(&self, span: Range<usize>) -> Place {
        if self.0.is_empty() {
            return span.into();
        }
        let start = self.of(span.start);
        // An end is one past a byte that may belong to another part than the byte after it.
        let end = if span.is_empty() { start } else { self.of(span.end - 1) + 1 };
        Place { start, end }
    }

    fn of(&self, offset: usize) -> usize {
        let part = self.0.partition_point(|(here, _)| *here <= offset).checked_sub(1);
        let (here, there) = part.and_then(|part| self.0.get(part)).copied().unwrap_or_default();
        offset - here + there
    }
}

fn table_of(table: DeTable<'_>, offsets: &Offsets) -> Map {
    // Exactly as many: a list that grows begins with room for four, and most
    // tables are members with one key or two.
    let mut entries = Vec::with_capacity(table.len());
    entries.extend(table.into_iter().map(|(key, value)| Pair {
        key_place: offsets.place(key.span()),
        key: key_of(key.into_inner()),
        value: value_of(value, offsets),
    }));
    // The parser may sort by name; errors read better in the order of the file.
    entries.sort_by_key(|entry| entry.key_place.start);
    Map { entries }
}

/// A known key costs no memory: a list of members has the same few again and again.
fn key_of(key: Cow<'_, str>) -> Cow<'static, str> {
    let known = KNOWN_KEYS.iter().flat_map(|(_, keys)| keys.iter()).find(|known| **known == key);
    known.map_or_else(|| Cow::Owned(key.into_owned()), |known| Cow::Borrowed(*known))
}

fn value_of(value: Spanned<DeValue<'_>>, offsets: &Offsets) -> Value {
    let place = offsets.place(value.span());
    let kind = match value.into_inner() {
        DeValue::String(text) => Kind::String(text.into_owned()),
        DeValue::Boolean(value) => Kind::Boolean(value),
        DeValue::Integer(number) => {
            let saturated = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
            Kind::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(saturated))
        }
        DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(_) => Kind::Other("date"),
        DeValue::Array(items) => Kind::Array(items.into_iter().map(|item| value_of(item, offsets)).collect()),
        DeValue::Table(table) => Kind::Table(table_of(table, offsets)),
    };
    Value { place, kind }
}
