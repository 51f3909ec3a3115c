//! No text makes the reader panic, and what it says holds together.

use std::path::Path;

use proptest::prelude::*;
use vitald::channel::document::{Kind, Map, Pair, Place, Value};
use vitald::channel::reader::{ClientIdentityError, Dialect, ReadContext, read_channel};
use vitald::channel::{ClientIdentity, CodeSet, Host, PemFile};
use vitald::testing::config::{self, Paint};

const GOOD: &str = include_str!("fixtures/config/good/issue.toml");
const BODY: &str = include_str!("fixtures/config/good/include/channels.d/api-body.json");

/// Reads a main file without any other file in reach, and renders what is wrong.
fn read_main(text: &str) {
    if let Err(errors) = config::parse("vitald.toml", text, Path::new("/nonexistent")) {
        assert!(!errors.errors().is_empty());
        let plain = errors.render(Paint::Plain);
        assert!(plain.ends_with(&format!("{}\n", errors.summary())));
        assert!(!plain.contains('\u{1b}'), "control characters reach the terminal: {plain:?}");
        for error in errors.errors() {
            assert!(!error.message.is_empty() && !error.remedy.is_empty());
            assert!(errors.position(error).1.is_none_or(|(line, column)| line > 0 && column > 0));
        }
    }
}

/// Reads a text as the only included file, through the disk.
fn read_included(name: &str, text: &[u8]) {
    let directory = tempfile::tempdir().expect("temporary directory");
    std::fs::write(directory.path().join(name), text).expect("writable");
    let main = directory.path().join("vitald.toml");
    std::fs::write(&main, format!("include.channels = {name:?}")).expect("writable");
    if let Err(errors) = config::load(&main) {
        assert!(errors.render(Paint::Ansi).contains("error"));
    }
}

/// A good text with a few pieces cut out, repeated or replaced.
fn mutated(good: &'static str) -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "",
        "\"",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ":",
        ",",
        "\n",
        "\u{0}",
        "\u{1b}[31m",
        "é",
        "通道",
        "-1",
        "1e400",
        "99999999999999999999999999999999999999999999",
        "null",
        "true",
        "\"500ms\"",
        "#",
        "''",
        "\"\"\"",
        "\\u0000",
        "2026-01-01",
        "nan",
        "\u{feff}",
        "\u{202e}",
    ]);
    let edits = prop::collection::vec((0..good.len(), 0..12_usize, pieces), 1..5);
    edits.prop_map(move |edits| {
        let mut text = good.to_owned();
        for (at, length, piece) in edits {
            let clamp = |mut at: usize| {
                at = at.min(text.len());
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let range = clamp(at)..clamp(at + length);
            text.replace_range(range, piece);
        }
        text
    })
}

/// A world without files.
struct Nothing;

impl ReadContext for Nothing {
    fn trust_anchors(&self, _: &str) -> Result<PemFile, String> {
        Err("there is no such file".to_owned())
    }

    fn client_identity(&self, _: &str, _: &str) -> Result<ClientIdentity, ClientIdentityError> {
        Err(ClientIdentityError::Mismatch)
    }

    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        None
    }

    fn ecs_address(&self, _: &str) -> Option<Host> {
        None
    }
}

/// Trees over the keys and some of the words that channels know.
fn document() -> impl Strategy<Value = Value> {
    let words = [
        "web",
        "ip",
        "ecs",
        "HTTP",
        "https",
        "/",
        "200-299",
        "192.0.2.1",
        "blue",
        "",
        "1s",
        "CSE",
        "reference",
    ];
    let leaf = prop_oneof![
        Just(Kind::Null),
        any::<bool>().prop_map(Kind::Boolean),
        (-1..20_i128).prop_map(Kind::Integer),
        any::<i128>().prop_map(Kind::Integer),
        any::<f64>().prop_map(Kind::Float),
        prop::sample::select(words.to_vec()).prop_map(|word| Kind::String(word.to_owned())),
        ".{0,20}".prop_map(Kind::String),
        Just(Kind::Other("date")),
    ];
    let keys: Vec<&str> = vitald::channel::reader::KNOWN_KEYS
        .iter()
        .flat_map(|(_, keys)| keys.iter().copied())
        .chain(["x"])
        .collect();
    let value = |kind| Value { place: Place::default(), kind };
    leaf.prop_recursive(4, 128, 16, move |inner| {
        let entry = (prop::sample::select(keys.clone()), inner.clone()).prop_map(move |(key, kind)| Pair {
            key: key.to_owned().into(),
            key_place: Place::default(),
            value: value(kind),
        });
        prop_oneof![
            prop::collection::vec(inner, 0..4)
                .prop_map(move |kinds| Kind::Array(kinds.into_iter().map(value).collect())),
            prop::collection::vec(entry, 0..24).prop_map(|entries| Kind::Table(Map { entries })),
        ]
    })
    .prop_map(value)
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        read_main(&text);
    }

    #[test]
    fn no_mutation_of_a_good_file_panics(text in mutated(GOOD)) {
        read_main(&text);
    }

    #[test]
    fn no_included_file_panics(json in mutated(BODY), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        read_included("a.json", json.as_bytes());
        read_included("a.json", &bytes);
        read_included("a.toml", &bytes);
    }

    /// A channel or a reason, never both and never neither.
    #[test]
    fn a_channel_is_refused_exactly_with_a_reason(document in document()) {
        for dialect in [Dialect::File, Dialect::Api] {
            let read = read_channel(&document, dialect, &Nothing);
            prop_assert!(read.map_or_else(|violations| !violations.is_empty(), |_| true));
        }
    }

    #[test]
    fn code_sets_hold_exactly_what_they_list(items in prop::collection::vec((100..600_u16, 0..50_u16), 1..8)) {
        let ranges: Vec<(u16, u16)> = items.iter().map(|(low, more)| (*low, (*low + *more).min(599))).collect();
        let text: Vec<String> = ranges
            .iter()
            .map(|(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") })
            .collect();
        let text = text.join(",");
        let set = CodeSet::parse(&text).expect("the documented grammar");
        prop_assert_eq!(set.text(), text);
        for code in 0..1000 {
            let is_listed = ranges.iter().any(|(low, high)| (*low..=*high).contains(&code));
            prop_assert_eq!(set.contains(code), is_listed, "{}", code);
        }
    }

    #[test]
    fn no_text_panics_as_a_code_set(text in "[0-9,\\- x]{0,20}") {
        if let Ok(set) = CodeSet::parse(&text) {
            prop_assert_eq!(CodeSet::parse(set.text()), Ok(set.clone()));
        }
    }
}
