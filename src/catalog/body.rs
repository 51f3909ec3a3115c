//! Bodies: JSON to the tree that the rules of [`crate::channel::reader`] read.
//!
//! A body that is no JSON is an error only once instance, channel and kind have
//! been looked at (docs/vendor-api.md, "Order of the checks"), so it travels as a value.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::fault::Fault;
use crate::channel::document::{Kind, Map, Pair, Place, Value};

/// The body of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Body(Result<Value, String>);

impl Body {
    /// Reads a body. Never fails here; see [`Body::object`].
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        if bytes.trim_ascii().is_empty() {
            return Self(Err("the body is empty".to_owned()));
        }
        Self(parse(bytes))
    }

    /// The body's object.
    ///
    /// # Errors
    /// No JSON, or JSON that is no object.
    pub fn object(&self) -> Result<&Value, Fault> {
        match &self.0 {
            Ok(value) if matches!(value.kind, Kind::Table(_)) => Ok(value),
            Ok(value) => {
                Err(Fault::MalformedBody(format!("the body is {}, not an object", value.kind.with_article())))
            }
            Err(why) => Err(Fault::MalformedBody(why.clone())),
        }
    }
}

/// JSON text as a tree without places.
///
/// # Errors
/// What is wrong with the text, with line and column.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Tree.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// A value without a place.
#[must_use]
pub(super) fn value(kind: Kind) -> Value {
    Value { place: Place::default(), kind }
}

/// A text without a place.
#[must_use]
pub(super) fn text(text: &str) -> Value {
    value(Kind::String(text.to_owned()))
}

/// What stands under a key of a table; none when absent or `null`.
#[must_use]
pub(super) fn field<'v>(table: &'v Value, key: &str) -> Option<&'v Value> {
    let Kind::Table(table) = &table.kind else { return None };
    table.get(key).map(|entry| &entry.value).filter(|value| value.kind != Kind::Null)
}

/// The text under a key, if it is one and not empty.
#[must_use]
pub(super) fn text_field<'v>(table: &'v Value, key: &str) -> Option<&'v str> {
    match &field(table, key)?.kind {
        Kind::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The items of the list under a key; none when there is no list.
#[must_use]
pub(super) fn list_field<'v>(table: &'v Value, key: &str) -> Option<&'v [Value]> {
    match &field(table, key)?.kind {
        Kind::Array(items) => Some(items),
        _ => None,
    }
}

/// The object with some keys set anew, or taken out where the value is none.
#[must_use]
pub(super) fn with_fields(object: &Value, fields: Vec<(&str, Option<Value>)>) -> Value {
    let Kind::Table(table) = &object.kind else { return object.clone() };
    let kept = table.entries.iter().filter(|entry| fields.iter().all(|(key, _)| *key != entry.key)).cloned();
    let mut entries: Vec<Pair> = kept.collect();
    entries.extend(fields.iter().filter_map(|(key, new)| {
        let value = new.clone()?;
        Some(Pair { key: (*key).to_owned().into(), key_place: Place::default(), value })
    }));
    Value { place: object.place, kind: Kind::Table(Map { entries }) }
}

/// Builds the tree straight from the text: a body of 100,000 members must not
/// stand in memory twice.
struct Tree;

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(value(Kind::Null))
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Value, E> {
        Ok(value(Kind::Boolean(boolean)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(value(Kind::Integer(number.into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(value(Kind::Integer(number.into())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(value(Kind::Float(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(value(Kind::String(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(value(Kind::String(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Tree)? {
            list.push(item);
        }
        Ok(value(Kind::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut entries: Vec<Pair> = Vec::new();
        // A set only for tables larger than any of ours: a short scan is cheaper.
        let mut many: Option<HashSet<String>> = None;
        while let Some(key) = pairs.next_key::<String>()? {
            let is_twice = match &mut many {
                Some(keys) => !keys.insert(key.clone()),
                None => entries.iter().any(|entry| entry.key == key),
            };
            if is_twice {
                return Err(A::Error::custom(format_args!("the key {key:?} stands there twice")));
            }
            let value = pairs.next_value_seed(Tree)?;
            entries.push(Pair { key: key.into(), key_place: Place::default(), value });
            if many.is_none() && entries.len() == 32 {
                many = Some(entries.iter().map(|entry| entry.key.clone().into_owned()).collect());
            }
        }
        Ok(value(Kind::Table(Map { entries })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::PathFamily;

    #[test]
    fn json_becomes_the_tree() {
        let body = Body::read(br#"{"a":[1,-2,1.5,"x",null,true],"b":{}}"#);
        let object = body.object().expect("an object");
        let kinds: Vec<&str> =
            list_field(object, "a").expect("a list").iter().map(|item| item.kind.type_name()).collect();
        assert_eq!(kinds, ["integer", "integer", "float", "string", "null", "boolean"]);
        assert_eq!(field(object, "b").map(|b| b.kind.type_name()), Some("table"));
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for text in ["", " \n", "{", "[]", "1", "null", "{}{}", r#"{"a":1,"a":2}"#, "\u{feff}{}"] {
            let fault = Body::read(text.as_bytes()).object().expect_err(text);
            assert_eq!((fault.code(), fault.answer(PathFamily::Apig).0), ("APIG.2000", 400), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(Body::read(deep.as_bytes()).object().is_err());
    }

    #[test]
    fn fields_are_replaced_and_removed() {
        let object = parse(br#"{"a":1,"b":2,"c":3}"#).expect("JSON");
        let edited = with_fields(&object, vec![("a", Some(text("x"))), ("b", None)]);
        assert_eq!(text_field(&edited, "a"), Some("x"));
        assert!(field(&edited, "b").is_none());
        assert!(field(&edited, "c").is_some());
    }
}
