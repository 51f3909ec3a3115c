//! The neutral form of what a user wrote, before any rule has looked at it.
//!
//! TOML files, JSON files and API bodies all become a [`Value`] tree; the rules
//! of this room read only that tree, so that one rule serves every source.
//! `config` builds it with byte places for carets; the management API builds it
//! without.

use std::borrow::Cow;
use std::ops::Range;

/// Where in its source a value stands: a byte range, empty when unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset one past the last byte; equal to `start` when the place is unknown.
    pub end: usize,
}

impl From<Range<usize>> for Place {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// One value of a document, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Where the value was written.
    pub place: Place,
    /// What was written.
    pub kind: Kind,
}

/// What a [`Value`] holds. TOML dates arrive as [`Kind::Other`].
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// JSON `null`; means "absent" in API bodies and JSON files.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number; wider than any field so that range errors stay exact.
    Integer(i128),
    /// A number with a fraction or exponent.
    Float(f64),
    /// A string, unescaped.
    String(String),
    /// An ordered list.
    Array(Vec<Value>),
    /// Key and value pairs in source order.
    Table(Map),
    /// A type no field takes; the text names it, for example "date".
    Other(&'static str),
}

/// Key and value pairs in source order. Duplicates were refused by the parser.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    /// The pairs, as written.
    pub entries: Vec<Pair>,
}

/// One key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The key, unescaped; borrowed where it is one that the reader of the text knows.
    pub key: Cow<'static, str>,
    /// Where the key itself stands.
    pub key_place: Place,
    /// The value.
    pub value: Value,
}

impl Map {
    /// The entry of `key`, if written.
    pub fn get(&self, key: &str) -> Option<&Pair> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl Kind {
    /// What a person calls this type, for "expected X, found Y".
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "boolean",
            Self::Integer(_) => "integer",
            Self::Float(_) => "float",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Table(_) => "table",
            Self::Other(name) => name,
        }
    }

    /// The type's name in a sentence: "not a string".
    pub fn with_article(&self) -> String {
        match self.type_name() {
            "null" => "null".to_owned(),
            name if name.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {name}"),
            name => format!("a {name}"),
        }
    }
}
