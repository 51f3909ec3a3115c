//! The rules of the house, as a test: which room may import which, what the
//! pure rooms keep away from, and what every file owes its reader.
//!
//! Reads the sources as text. Comments, strings and test modules are taken out
//! first, so that only code is judged. Each rule has a test on a made-up
//! snippet that breaks it.

mod house {
    pub(crate) mod circles;
    pub(crate) mod citations;
    pub(crate) mod code;
    pub(crate) mod rules;
}

use std::fs;
use std::path::{Path, PathBuf};

use house::circles;
use house::citations::{self, Library};
use house::rules::{self, Source};

/// Every file under `directory` that ends in one of `endings`: its path from the
/// repository's root and its text.
fn texts(directory: &str, endings: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending = vec![root.join(directory)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository can be listed") {
            let path = entry.expect("a folder's entry can be read").path();
            if path.is_dir() {
                // Benches with a manifest of their own build beside it.
                if !path.ends_with("target") {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|own| endings.iter().any(|ending| own == *ending)) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).expect("a source file is UTF-8");
            let path = file.strip_prefix(root).expect("the file is inside the repository");
            (path.to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// Every `.rs` file under `directory`.
fn sources(directory: &str) -> Vec<Source> {
    texts(directory, &["rs"]).iter().map(|(path, text)| Source::new(path, text)).collect()
}

/// Documents: those of `docs/`, and those in the root.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = texts("docs", &["md"]);
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root.join(name)).expect("the document is there, in UTF-8");
        documents.push((name.to_owned(), text));
    }
    documents
}

fn assert_no_breach(rule: impl Fn(&Source) -> Vec<String>, files: &[Source]) {
    assert!(!files.is_empty(), "no source file was found");
    let breaches: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

fn everything() -> Vec<Source> {
    ["src", "tests"].into_iter().flat_map(sources).collect()
}

#[test]
fn imports_run_one_way() {
    assert_no_breach(rules::imports_run_one_way, &sources("src"));
}

#[test]
fn imports_make_no_circle() {
    let circles = circles::circles(&sources("src"));
    assert!(circles.is_empty(), "\n{}\n", circles.join("\n"));
}

/// The table in `src/lib.rs` has one line for each folder of `src`, and no other.
#[test]
fn the_map_shows_the_rooms_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(root.join("lib.rs")).expect("src/lib.rs can be read");
    let drawn: Vec<&str> = map.lines().filter_map(room_of_line).collect();
    let mut there: Vec<String> = fs::read_dir(&root)
        .expect("src can be listed")
        .map(|entry| entry.expect("an entry of src can be read"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a room's name is UTF-8"))
        .collect();
    let mut sorted = drawn.clone();
    sorted.sort_unstable();
    there.sort_unstable();
    assert_eq!(sorted, there, "the map at the top of src/lib.rs against the folders of src");
    let unknown: Vec<&&str> =
        drawn.iter().filter(|room| !rules::rooms().any(|known| known == **room)).collect();
    assert!(unknown.is_empty(), "tests/house/rules.rs has no row for {unknown:?}");
}

/// The room that a line of the map's table describes.
fn room_of_line(line: &str) -> Option<&str> {
    let cell = line.strip_prefix("//! | ")?.split('|').next()?.trim();
    let name = cell.trim_start_matches(['[', '`']).trim_end_matches([']', '`']);
    (cell.contains('`') && !name.is_empty()).then_some(name)
}

#[test]
fn circles_are_seen() {
    let judged = |files: &[(&str, &str)]| {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        circles::circles(&sources).len()
    };
    let room = ("src/probe/mod.rs", "mod a; mod b; pub use b::B;");
    let circles: [&[(&str, &str)]; 5] = [
        &[room, ("src/probe/a.rs", "use super::b::B;"), ("src/probe/b.rs", "use super::a::A;")],
        // Through a name that the room passes on.
        &[room, ("src/probe/a.rs", "use super::B;"), ("src/probe/b.rs", "fn f() -> super::a::A {}")],
        &[room, ("src/probe/a.rs", "use crate::probe::B;"), ("src/probe/b.rs", "use crate::probe::a;")],
        // A child stands for its parent.
        &[
            room,
            ("src/probe/a.rs", "mod c;"),
            ("src/probe/a/c.rs", "use super::super::B;"),
            ("src/probe/b.rs", "use super::a::A;"),
        ],
        &[
            ("src/probe/mod.rs", "mod a; mod b; mod c;"),
            ("src/probe/a.rs", "use super::b::B;"),
            ("src/probe/b.rs", "use super::c::C;"),
            ("src/probe/c.rs", "use super::a::A;"),
        ],
    ];
    for files in circles {
        assert_eq!(judged(files), 1, "{files:?}");
    }
    let orderly: [&[(&str, &str)]; 3] = [
        &[room, ("src/probe/a.rs", "use super::B;"), ("src/probe/b.rs", "use super::Own;")],
        // A parent and its children.
        &[
            room,
            ("src/probe/a.rs", "mod c; use c::C; pub struct A;"),
            ("src/probe/a/c.rs", "use super::A; pub struct C;"),
        ],
        // Only for tests.
        &[
            room,
            ("src/probe/a.rs", "use super::b::B;"),
            ("src/probe/b.rs", "#[cfg(test)] mod tests { use super::super::a::A; }"),
        ],
    ];
    for files in orderly {
        assert_eq!(judged(files), 0, "{files:?}");
    }
}

#[test]
fn pure_rooms_stay_pure() {
    assert_no_breach(rules::pure_rooms_stay_pure, &sources("src"));
}

#[test]
fn files_open_with_what_they_are_for() {
    assert_no_breach(rules::files_open_with_what_they_are_for, &everything());
}

#[test]
fn files_stay_short() {
    assert_no_breach(rules::files_stay_short, &everything());
}

#[test]
fn nothing_is_silenced_or_left_undone() {
    assert_no_breach(rules::nothing_is_silenced_or_left_undone, &everything());
}

#[test]
fn citations_lead_somewhere() {
    let documents = documents();
    let library = Library::new(documents.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    let code = ["src", "tests", "benches", "examples"]
        .into_iter()
        .flat_map(|directory| texts(directory, &["rs", "py"]))
        .chain(texts("config", &["toml", "service"]))
        .filter(|(path, _)| !path.starts_with("tests/house"));
    let mut breaches: Vec<String> = Vec::new();
    for (path, text) in code.chain(documents.clone()) {
        breaches.extend(library.broken(&path, &text));
        if path.starts_with("src/") {
            breaches.extend(citations::numbered(&path, &text));
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    breaches.extend(documents.iter().flat_map(|(path, text)| citations::dead_links(root, path, text)));
    let architecture = documents.iter().filter(|(path, _)| path == "docs/architecture.md");
    breaches.extend(architecture.flat_map(|(path, text)| citations::missing_sources(root, path, text)));
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

/// What one rule says of one made-up file.
fn judged(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    rule(&Source::new(path, text))
}

#[test]
fn upward_and_sideways_imports_are_seen() {
    let breaches = [
        ("src/channel/model.rs", "use crate::health::Outcome;"),
        ("src/health/engine.rs", "fn f() -> crate::probe::Target { todo() }"),
        ("src/balance/wrr.rs", "use crate::health::Outcome;"),
        ("src/probe/http.rs", "use crate::config::Settings;"),
        ("src/probe/http.rs", "use crate::{channel::Host, catalog::Directory};"),
        ("src/probe/http.rs", "use {std::io, crate::{serve::{self, Api}}};"),
        ("src/probe/http.rs", "use super::super::serve::Api;"),
        ("src/probe/mod.rs", "use super::serve::Api;"),
        ("src/probe/mod.rs", "pub(in crate::serve) fn f() {}"),
        ("src/probe/http.rs", "mod inner { use super::super::super::serve::Api; }"),
        ("src/serve/mod.rs", "use crate::forward::Listener;"),
        ("src/catalog/mod.rs", "type T = Vec<crate::serve::Api>;"),
        ("src/config/mod.rs", "use crate as house; use crate::{self as home};"),
        ("src/config/mod.rs", "use crate::*;"),
        ("src/cli/mod.rs", "use crate::attic::Trunk;"),
        ("src/attic/mod.rs", "use crate::channel::Channel;"),
        ("src/helpers.rs", "use crate::channel::Channel;"),
        ("src/health/engine.rs", "#[cfg(test)] use crate::probe::Target;"),
    ];
    for (path, text) in breaches {
        assert!(!judged(rules::imports_run_one_way, path, text).is_empty(), "{path}: {text}");
    }
    let houseworthy = [
        ("src/main.rs", "fn main() { vitald::cli::run() }"),
        ("src/cli/mod.rs", "use crate::daemon::run; use crate::channel::Channel;"),
        ("src/daemon/mod.rs", "use crate::{serve, forward, config, probe::{http, tcp}};"),
        ("src/catalog/mod.rs", "use crate::config::Settings; use super::catalog::Directory;"),
        ("src/probe/http.rs", "use super::tls; use crate::probe::tcp; use crate::health::Outcome;"),
        ("src/probe/http.rs", "mod tests { use super::super::tls; }"),
        ("src/health/engine.rs", "/// See [`crate::probe::Target`].\nconst WORD: &str = \"crate::probe\";"),
        (
            "src/health/engine.rs",
            "// crate::probe\n/* crate::serve /* crate::cli */ crate::cli */ use crate::channel;",
        ),
        (
            "src/health/engine.rs",
            "macro_rules! m { () => { $crate::channel::Channel } } use other::crate_::probe;",
        ),
        ("src/lib.rs", "pub mod channel; use crate::cli::run;"),
    ];
    for (path, text) in houseworthy {
        assert_eq!(judged(rules::imports_run_one_way, path, text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn impurities_are_seen() {
    let breaches = [
        "let now = std::time::Instant::now();",
        "use std::time::{Duration, SystemTime}; let now = SystemTime::now();",
        "use std::fs;",
        "use std::{sync::Arc, fs::{self, File}};",
        "use std::net::{IpAddr, TcpStream};",
        "let addresses = name.to_socket_addrs()?;",
        "std::process::exit(1);",
        "let home = std::env::var(\"HOME\");",
        "std::thread::sleep(pause);",
        "use std::thread;",
        "async fn f() { tokio::task::yield_now().await }",
        "tracing::info!(\"up\");",
        "let n = fastrand::u32(..);",
        "println!(\"{n}\");",
        "use rustix::time::clock_gettime;",
        "#[cfg(not(test))] mod hidden { use std::fs; }",
        "#[cfg(test)] mod tests { fn f() { if true { x() } } } use std::fs;",
        "fn f<'a>(x: &'a str) -> char { '\"' } use std::fs; const Q: char = '\"';",
        "const RAW: &str = r#\"a \" b\"#; use std::fs;",
    ];
    for room in ["src/channel/a.rs", "src/health/a.rs", "src/balance/a.rs"] {
        for text in breaches {
            assert_eq!(judged(rules::pure_rooms_stay_pure, room, text).len(), 1, "{room}: {text}");
        }
    }
    let houseworthy = [
        ("src/daemon/clock.rs", "let now = std::time::Instant::now();"),
        ("src/health/a.rs", "use std::net::{IpAddr, SocketAddr}; use std::time::Duration;"),
        ("src/health/a.rs", "// println!\nconst HELP: &str = \"std::fs\";"),
        ("src/health/a.rs", "#[cfg(test)] mod tests { use std::fs; fn f() { println!() } }"),
        ("src/health/a.rs", "#[cfg(test)]\n#[expect(dead_code, reason = \"x\")]\nmod tests { use std::fs; }"),
        ("src/health/engine/tests.rs", "fn now() -> Instant { Instant::now() }"),
        ("src/health/tests/model.rs", "use std::fs;"),
    ];
    for (path, text) in houseworthy {
        assert_eq!(judged(rules::pure_rooms_stay_pure, path, text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn a_missing_opening_is_seen() {
    let rule = rules::files_open_with_what_they_are_for;
    assert_eq!(judged(rule, "src/a.rs", "//! Decides a.\n"), [""; 0]);
    for text in ["", "use std::fs;\n//! late", "// Decides a.", "//!\n", "\n//! second line"] {
        assert_eq!(judged(rule, "src/a.rs", text).len(), 1, "{text:?}");
    }
}

#[test]
fn a_long_file_is_seen() {
    let lines = |count: usize| "//! x\n".repeat(count);
    assert_eq!(judged(rules::files_stay_short, "src/a.rs", &lines(rules::LONGEST_FILE)), [""; 0]);
    assert_eq!(judged(rules::files_stay_short, "src/a.rs", &lines(rules::LONGEST_FILE + 1)).len(), 1);
}

#[test]
fn silenced_lints_and_unfinished_code_are_seen() {
    let rule = rules::nothing_is_silenced_or_left_undone;
    for text in [
        "#[allow(dead_code)] fn f() {}",
        "#![allow(dead_code)]",
        "#[cfg_attr(test, allow(dead_code))] fn f() {}",
        "fn f() { todo!() }",
        "fn f() { todo ! ( ) }",
        "fn f() { unimplemented!(\"later\") }",
    ] {
        assert_eq!(judged(rule, "src/a.rs", text).len(), 1, "{text}");
    }
    for text in [
        "#[expect(dead_code, reason = \"x\")] fn f() {}",
        "// todo!() and #[allow(x)]\nfn f() { allow(x); todo() }",
        "const TEXT: &str = \"todo!()\";",
    ] {
        assert_eq!(judged(rule, "src/a.rs", text), [""; 0], "{text}");
    }
}

#[test]
fn citations_that_lead_nowhere_are_seen() {
    let document = "# Ports\n## Two words\n```\n# no heading\n```\n";
    let library = Library::new([("docs/a.md", document)]);
    for text in [
        "/// As it is (docs/b.md).",
        "/// As it is (docs/a.md, \"Weights\").",
        "// As docs/a.md, \"Two\n// ports\", has it.",
        "// docs/a.md, \"Ports\" and \"no heading\"",
    ] {
        assert_eq!(library.broken("src/a.rs", text).len(), 1, "{text}");
    }
    for text in [
        "/// See docs/a.md. \"No citation\"",
        "//! docs/a.md, \"Two\n//! words\" or \"Ports\"",
        "// somebody/docs/b.md, and docs/ without a name.md",
    ] {
        assert_eq!(library.broken("src/a.rs", text), [""; 0], "{text}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = "[a](house.rs) [b](gone.md#part) [c](https://example.org/x.md) [d](#here)";
    assert_eq!(citations::dead_links(root, "tests/x.md", links).len(), 1);
    let files = "`x/tests.rs` `tests/house.rs` `lib.rs` `a/b.txt`";
    assert_eq!(citations::missing_sources(root, "docs/x.md", files).len(), 1);
    let comments = "/// As (reference 3.1).\n// Calls 2 and 3.\nf(); // call 7\n// calls it, by reference\n";
    assert_eq!(citations::numbered("src/a.rs", comments).len(), 3);
}
