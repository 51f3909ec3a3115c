//! TOML text to the neutral tree, from the events of `toml_parser`.
//!
//! That parser checks the notation; what keys and headers mean together is decided
//! here, as <https://toml.io/en/v1.1.0> has it. Its tokens take up to ten times the
//! memory of their text, so a long text is parsed some 16,000 tokens at a time. A
//! text with an error is parsed again in one go: only the whole says what is wrong.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::mem;

use toml::value::Datetime;
use toml_parser::decoder::ScalarKind;
use toml_parser::lexer::{Token, TokenKind};
use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{Expected, ParseError, Source, Span};

use crate::channel::document::{Kind, Map, Pair, Place, Value};
use crate::channel::reader::KNOWN_KEYS;
use crate::channel::{FieldPath, Rule, Violation};

/// Tokens that are parsed together, at least; each takes 24 bytes.
const BATCH: usize = 16 * 1024;

/// How deep values may be nested, and how many keys dots may join.
const DEEPEST: u32 = 80;

/// Keys of a table from which on they are looked up by hash.
const LARGE: usize = 64;

/// Every syntax error, and what could be read in spite of them.
pub(super) fn read(text: &str) -> (Value, Vec<Violation>) {
    let (mut table, mut errors) = parse(text, BATCH);
    if !errors.is_empty() {
        (table, errors) = parse(text, usize::MAX);
    }
    // The document's own place is its beginning: there is no header to point at.
    let root = Value { place: Place::default(), kind: Kind::Table(table) };
    (root, errors.iter().map(violation_of).collect())
}

fn violation_of(error: &ParseError) -> Violation {
    let expected = match error.expected() {
        None => String::new(),
        Some([]) => ", expected nothing".to_owned(),
        Some(some) => format!(", expected {}", some.iter().map(words_of).collect::<Vec<_>>().join(", ")),
    };
    let message = format!("not TOML: {}{expected}", error.description());
    let remedy = match error.description() {
        DUPLICATE => {
            "a key can be given once; remove one of the two, or write [[double brackets]] for a list of tables"
        }
        _ => "see https://toml.io for the notation; strings need quotes",
    };
    Violation {
        rule: Rule::Syntax,
        path: FieldPath::default(),
        place: error.unexpected().map(place_of).unwrap_or_default(),
        message: message.replace('\n', " "),
        remedy: remedy.to_owned(),
        related: None,
    }
}

fn words_of(expected: &Expected) -> String {
    match expected {
        Expected::Literal("\n") => "newline".to_owned(),
        Expected::Literal("`") => "'`'".to_owned(),
        Expected::Literal(text) => format!("`{text}`"),
        Expected::Description(text) => (*text).to_owned(),
        // The parser may learn to expect more.
        _ => "something else".to_owned(),
    }
}

/// The tree of a text and its errors. At least `batch` tokens are parsed together.
///
/// A batch ends after an expression, or after a comma of an array that is the value
/// of an expression: a closing bracket is put there, and the next batch begins with
/// the array's key and opening bracket once more. So each batch is a document of its
/// own; if none has an error, the whole has none and means the same.
fn parse(text: &str, batch: usize) -> (Map, Vec<ParseError>) {
    let mut builder = Builder { text, header: Some(Vec::new()), ..Builder::default() };
    let mut tokens = Vec::new();
    // Where in `tokens` the current expression begins, and what is in its brackets.
    let (mut expression, mut content, mut depth) = (0, 0, 0_usize);
    for token in Source::new(text).lex() {
        tokens.push(token);
        let is_full = tokens.len() >= batch;
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                content = if depth == 0 { tokens.len() } else { content };
                depth += 1;
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => depth = depth.saturating_sub(1),
            TokenKind::Newline if depth == 0 => {
                if is_full {
                    builder.parse(&tokens);
                    tokens.clear();
                }
                expression = tokens.len();
            }
            TokenKind::Comma if depth == 1 && is_full => {
                tokens.extend(Source::new("]").lex().next());
                builder.parse(&tokens);
                tokens.truncate(content);
                tokens.drain(..expression);
                (expression, content) = (0, tokens.len());
            }
            _ => {}
        }
    }
    builder.parse(&tokens);
    report_duplicates(&builder.root, &mut builder.errors);
    (builder.root, builder.errors)
}

/// What a header defines: `[key]` a table, `[[key]]` one more table of an array.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeaderKind {
    Table,
    Array,
}

/// Builds the tree, event by event.
#[derive(Default)]
struct Builder<'t> {
    text: &'t str,
    errors: Vec<ParseError>,
    root: Map,
    /// Where a header begins whose end was not seen.
    open_header: Option<(usize, HeaderKind)>,
    /// The keys of the header that expressions stand under; none where it was refused.
    header: Option<Vec<Key>>,
    /// The keys read since the last value or header.
    path: Vec<Key>,
    /// Whether the last key was followed by a dot.
    is_dotted: bool,
    /// Arrays and inline tables whose end was not seen, the outermost first, and the
    /// keys that each is the value of.
    open: Vec<(Vec<Key>, Value)>,
    tables: TableNotes,
    /// Whether a key without a value was met: what follows may be anything but TOML.
    is_over: bool,
    /// Whether the next array's beginning was seen in the batch before.
    goes_on: bool,
}

struct Key {
    name: Cow<'static, str>,
    place: Place,
}

/// What is known of tables beside what is in them.
#[derive(Default)]
struct TableNotes {
    /// Where the first key stands that made a table by a dot: no header may define it.
    dotted: HashSet<usize>,
    /// The keys of large tables, by where the first of them stands: how many are noted,
    /// and at which position each is.
    positions: HashMap<usize, (usize, HashMap<Cow<'static, str>, usize>)>,
}

impl TableNotes {
    /// The first entry of a key.
    fn position(&mut self, table: &Map, key: &str) -> Option<usize> {
        let Some(first) = table.entries.first().filter(|_| table.entries.len() > LARGE) else {
            return table.entries.iter().position(|entry| entry.key == key);
        };
        let (noted, positions) = self.positions.entry(first.key_place.start).or_default();
        for (at, entry) in table.entries.iter().enumerate().skip(*noted) {
            positions.entry(entry.key.clone()).or_insert(at);
        }
        *noted = table.entries.len();
        positions.get(key).copied()
    }
}

/// What keys that lead to a table belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Header,
    Expression,
    InlineTable,
}

impl Builder<'_> {
    fn parse(&mut self, tokens: &[Token]) {
        let (source, mut errors) = (Source::new(self.text), Vec::new());
        let mut receiver = |event| self.take(&event, source);
        let mut checked = ValidateWhitespace::new(&mut receiver, source);
        parse_document(tokens, &mut RecursionGuard::new(&mut checked, DEEPEST), &mut errors);
        self.errors.append(&mut errors);
    }

    fn take(&mut self, event: &Event, source: Source<'_>) {
        let span = event.span();
        match event.kind() {
            _ if self.is_over => {}
            EventKind::StdTableOpen => self.open_header = Some((span.start(), HeaderKind::Table)),
            EventKind::ArrayTableOpen => self.open_header = Some((span.start(), HeaderKind::Array)),
            // A header that ends with its line was reported; its keys stand all the same.
            EventKind::StdTableClose | EventKind::ArrayTableClose | EventKind::Newline => {
                if let Some((start, kind)) = self.open_header.take() {
                    self.header = self.enter(Place { start, end: span.end() }, kind);
                } else {
                    self.is_over = self.open.is_empty() && !self.path.is_empty();
                }
            }
            EventKind::SimpleKey => {
                if !mem::take(&mut self.is_dotted) {
                    self.path.clear();
                }
                let mut name = Cow::Borrowed("");
                if let Some(raw) = source.get(event) {
                    raw.decode_key(&mut name, &mut self.errors);
                }
                self.path.push(Key { name: known_or_owned(&name), place: place_of(span) });
            }
            EventKind::KeySep => self.is_dotted = true,
            EventKind::ArrayOpen if mem::take(&mut self.goes_on) => {}
            EventKind::ArrayOpen => self.begin(span, Kind::Array(Vec::new())),
            EventKind::InlineTableOpen => self.begin(span, Kind::Table(Map::default())),
            // Not of the text: no array can end with its first byte.
            EventKind::ArrayClose if span == Span::new_unchecked(0, 1) => self.goes_on = true,
            EventKind::ArrayClose | EventKind::InlineTableClose => self.end(event),
            EventKind::Scalar => {
                let mut text = Cow::Borrowed("");
                let Some(raw) = source.get(event) else { return };
                let kind = match raw.decode_scalar(&mut text, &mut self.errors) {
                    ScalarKind::String => Kind::String(text.into_owned()),
                    ScalarKind::Boolean(value) => Kind::Boolean(value),
                    ScalarKind::Integer(radix) => {
                        let saturated = if text.starts_with('-') { i128::MIN } else { i128::MAX };
                        Kind::Integer(i128::from_str_radix(&text, radix.value()).unwrap_or(saturated))
                    }
                    // What is no number was reported by the decoder.
                    ScalarKind::Float => text.parse().map_or(Kind::Other("number"), Kind::Float),
                    ScalarKind::DateTime => {
                        if let Err(error) = text.parse::<Datetime>() {
                            self.errors.push(ParseError::new(error.to_string()).with_unexpected(span));
                        }
                        Kind::Other("date")
                    }
                };
                self.put(Value { place: place_of(span), kind });
            }
            // The key that was read has no value, and that was reported.
            EventKind::Error | EventKind::Comment => {
                self.is_over = self.open.is_empty() && self.open_header.is_none() && !self.path.is_empty();
            }
            EventKind::KeyValSep | EventKind::ValueSep | EventKind::Whitespace => {}
        }
    }

    /// Makes the table that a header defines. None where it must not.
    fn enter(&mut self, place: Place, header: HeaderKind) -> Option<Vec<Key>> {
        let mut path = self.take_path();
        let key = path.pop()?;
        let parent =
            follow(&mut self.root, &path, Way::Header, self.text, &mut self.tables, &mut self.errors)?;
        let table = Value { place, kind: Kind::Table(Map::default()) };
        let Some(at) = self.tables.position(parent, &key.name) else {
            let value = match header {
                HeaderKind::Array => Value { place, kind: Kind::Array(vec![table]) },
                HeaderKind::Table => table,
            };
            insert(parent, &key, value);
            path.push(key);
            return Some(path);
        };
        let entry = parent.entries.get_mut(at)?;
        match &mut entry.value.kind {
            Kind::Array(tables) if header == HeaderKind::Array && is_of_headers(tables, self.text) => {
                tables.push(table);
            }
            Kind::Table(_)
                if header == HeaderKind::Table
                    && !is_defined(entry.value.place, self.text)
                    && !self.tables.dotted.contains(&entry.value.place.start) =>
            {
                // Earlier headers only passed through it. It stands where it is defined.
                (entry.key_place, entry.value.place) = (key.place, place);
            }
            kind => {
                self.errors.push(duplicate(key.place));
                if header == HeaderKind::Array || !matches!(kind, Kind::Table(_)) {
                    return None;
                }
            }
        }
        path.push(key);
        Some(path)
    }

    /// The keys that were read; none where they are too many.
    fn take_path(&mut self) -> Vec<Key> {
        let path = mem::take(&mut self.path);
        if path.len() > DEEPEST as usize {
            self.errors.push(ParseError::new("recursion limit"));
            return Vec::new();
        }
        path
    }

    fn begin(&mut self, span: Span, kind: Kind) {
        self.open.push((mem::take(&mut self.path), Value { place: place_of(span), kind }));
    }

    fn end(&mut self, event: &Event) {
        let is_array = event.kind() == EventKind::ArrayClose;
        // Else it is one bracket too many, which was reported.
        if self.open.last().is_some_and(|(_, open)| matches!(open.kind, Kind::Array(_)) == is_array)
            && let Some((path, mut value)) = self.open.pop()
        {
            self.path = path;
            value.place.end = event.span().end();
            self.put(value);
        }
    }

    /// Puts a value where it was written: into the open array, or under its keys.
    fn put(&mut self, value: Value) {
        let mut path = self.take_path();
        let (text, tables) = (self.text, &mut self.tables);
        let (table, way) = match self.open.last_mut().map(|(_, open)| &mut open.kind) {
            Some(Kind::Array(items)) => return items.push(value),
            Some(Kind::Table(table)) => (Some(table), Way::InlineTable),
            _ => {
                let Some(header) = &self.header else { return };
                // What is wrong with the header was reported.
                (follow(&mut self.root, header, Way::Header, text, tables, &mut Vec::new()), Way::Expression)
            }
        };
        if let (Some(key), Some(table)) = (path.pop(), table)
            && let Some(table) = follow(table, &path, way, text, tables, &mut self.errors)
        {
            insert(table, &key, value);
        }
    }
}

/// Follows keys from table to table, making those that are not there. None, and an
/// error, where the way leads through something that keys cannot extend.
fn follow<'v>(
    mut table: &'v mut Map,
    path: &[Key],
    way: Way,
    text: &str,
    tables: &mut TableNotes,
    errors: &mut Vec<ParseError>,
) -> Option<&'v mut Map> {
    for key in path {
        let at = tables.position(table, &key.name).unwrap_or_else(|| {
            insert(table, key, Value { place: key.place, kind: Kind::Table(Map::default()) });
            table.entries.len() - 1
        });
        let Value { place, kind } = &mut table.entries.get_mut(at)?.value;
        let refused = match kind {
            Kind::Table(_) if way != Way::InlineTable && begins_with(text, *place, "{") => "inline table",
            Kind::Table(_) if way != Way::Header && is_defined(*place, text) => {
                errors.push(duplicate(key.place));
                return None;
            }
            Kind::Table(inner) => {
                if way != Way::Header {
                    tables.dotted.insert(place.start);
                }
                table = inner;
                continue;
            }
            Kind::Array(items) => match items.last_mut() {
                Some(Value { place, kind: Kind::Table(last) })
                    if way == Way::Header && begins_with(text, *place, "[") =>
                {
                    table = last;
                    continue;
                }
                _ => "array",
            },
            Kind::Other(_) => "datetime",
            kind => kind.type_name(),
        };
        let message = format!("cannot extend value of type {refused} with a dotted key");
        errors.push(ParseError::new(message).with_unexpected(span_of(key.place)));
        return None;
    }
    Some(table)
}

const DUPLICATE: &str = "duplicate key";

fn duplicate(key: Place) -> ParseError {
    ParseError::new(DUPLICATE).with_unexpected(span_of(key))
}

fn place_of(span: Span) -> Place {
    Place { start: span.start(), end: span.end() }
}

fn span_of(place: Place) -> Span {
    Span::new_unchecked(place.start, place.end)
}

fn begins_with(text: &str, place: Place, bracket: &str) -> bool {
    text.get(place.start..).is_some_and(|text| text.starts_with(bracket))
}

/// Whether a header or braces define a table. Else its place is the key that made it.
fn is_defined(table: Place, text: &str) -> bool {
    begins_with(text, table, "[") || begins_with(text, table, "{")
}

/// Whether an array is one of `[[headers]]`, so that more may follow.
fn is_of_headers(items: &[Value], text: &str) -> bool {
    matches!(items.last(), Some(Value { place, kind: Kind::Table(_) }) if begins_with(text, *place, "["))
}

fn insert(table: &mut Map, key: &Key, value: Value) {
    // Exactly as many: a list that grows begins with room for four, and most tables
    // are members with one key or two.
    if table.entries.len() < 4 {
        table.entries.reserve_exact(1);
    }
    table.entries.push(Pair { key: key.name.clone(), key_place: key.place, value });
}

/// Reports each key that a table has again. At the end: looking each up when it comes
/// would take too long in a table of 100,000.
fn report_duplicates(table: &Map, errors: &mut Vec<ParseError>) {
    if table.entries.len() > 1 {
        let mut entries: Vec<&Pair> = table.entries.iter().collect();
        // Stable: equal keys stay in the order of the text.
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        let pairs = entries.windows(2).filter_map(<[&Pair]>::as_array);
        let repeated = pairs.filter(|[first, again]| first.key == again.key);
        errors.extend(repeated.map(|[_, again]| duplicate(again.key_place)));
    }
    let mut values: Vec<&Value> = table.entries.iter().map(|entry| &entry.value).collect();
    while let Some(value) = values.pop() {
        match &value.kind {
            Kind::Table(inner) => report_duplicates(inner, errors),
            Kind::Array(items) => values.extend(items),
            _ => {}
        }
    }
}

/// A known key costs no memory: a list of members has the same few again and again.
fn known_or_owned(key: &str) -> Cow<'static, str> {
    let known = KNOWN_KEYS.iter().flat_map(|(_, keys)| keys.iter()).find(|known| **known == key);
    known.map_or_else(|| Cow::Owned(key.to_owned()), |known| Cow::Borrowed(*known))
}

#[cfg(test)]
mod tests;
