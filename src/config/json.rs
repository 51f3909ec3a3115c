//! JSON text to the neutral tree: strict JSON, no comments, no trailing commas.

use std::collections::HashMap;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::channel::document::{Kind, Map, Pair, Place, Value};
use crate::channel::violation::quoted;
use crate::channel::{FieldPath, Rule, Violation};

const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The tree, unless the parser gave up, and what is wrong with the notation.
pub(super) fn read(text: &str) -> (Option<Value>, Vec<Violation>) {
    if text.starts_with('\u{feff}') {
        let message = "not JSON: the file begins with a byte order mark (BOM)".to_owned();
        let remedy = "save the file as UTF-8 without a byte order mark".to_owned();
        let place = Place { start: 0, end: 3 };
        return (None, vec![Violation { remedy, ..syntax(place, message) }]);
    }
    let mut violations = Vec::new();
    let value = match parse_to_ast(text, &CollectOptions::default(), &STRICT) {
        Ok(parsed) => parsed.value.map(|value| value_of(value, &mut violations)),
        Err(error) => {
            let message = format!("not JSON: {}", lower_first(&error.kind().to_string()));
            return (None, vec![syntax((error.range().start..error.range().end).into(), message)]);
        }
    };
    if value.is_none() {
        violations.push(syntax(Place::default(), "not JSON: the file is empty".to_owned()));
    }
    (value, violations)
}

fn syntax(place: Place, message: String) -> Violation {
    let remedy =
        "write one JSON object: keys and texts in double quotes, no comments, no comma after the last entry";
    let path = FieldPath::default();
    Violation { rule: Rule::Syntax, path, place, message, remedy: remedy.to_owned(), related: None }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_lowercase().chain(characters).collect())
}

fn value_of(value: ast::Value<'_>, violations: &mut Vec<Violation>) -> Value {
    let place = place_of(&value);
    let kind = match value {
        ast::Value::NullKeyword(_) => Kind::Null,
        ast::Value::BooleanLit(literal) => Kind::Boolean(literal.value),
        ast::Value::NumberLit(literal) => number_of(literal.value),
        ast::Value::StringLit(literal) => Kind::String(literal.value.into_owned()),
        ast::Value::Array(array) => {
            Kind::Array(array.elements.into_iter().map(|element| value_of(element, violations)).collect())
        }
        ast::Value::Object(object) => Kind::Table(table_of(object, violations)),
    };
    Value { place, kind }
}

fn number_of(text: &str) -> Kind {
    if text.contains(['.', 'e', 'E']) {
        return text.parse().map_or(Kind::Other("number"), Kind::Float);
    }
    let saturated = if text.starts_with('-') { i128::MIN } else { i128::MAX };
    Kind::Integer(text.parse().unwrap_or(saturated))
}

/// JSON leaves the meaning of equal keys open (RFC 8259, 4); in a file they are a mistake.
fn table_of(object: ast::Object<'_>, violations: &mut Vec<Violation>) -> Map {
    let mut entries = Vec::with_capacity(object.properties.len());
    let mut seen: HashMap<String, Place> = HashMap::new();
    for property in object.properties {
        let key_place = place_of(&property.name);
        let key = property.name.into_string();
        let value = value_of(property.value, violations);
        if let Some(first) = seen.get(&key) {
            let mut violation = syntax(key_place, format!("the key {} is given twice", quoted(&key)));
            violation.remedy = "remove one of them".to_owned();
            violation.related = Some((*first, "the first one".to_owned()));
            violations.push(violation);
            continue;
        }
        seen.insert(key.clone(), key_place);
        entries.push(Pair { key: key.into(), key_place, value });
    }
    Map { entries }
}

fn place_of(node: &impl Ranged) -> Place {
    Place { start: node.start(), end: node.end() }
}
