//! The rules themselves: each takes one file and gives its breaches, one line
//! each, with the place and what to do.

use super::code::{self, CodePath, Kind, Token};

/// Lines a file may have, tests beside the code included. The house asks for
/// about 500; the slack is for a table of cases that reads better in one piece.
pub(crate) const LONGEST_FILE: usize = 600;

/// Rooms by height. A room imports from lower rows only, never from its own
/// row: those are siblings.
const ROWS: [(&str, usize); 12] = [
    ("main", 7),
    ("cli", 6),
    ("daemon", 5),
    ("serve", 4),
    ("forward", 4),
    ("catalog", 3),
    ("config", 2),
    ("probe", 2),
    ("store", 2),
    ("health", 1),
    ("balance", 1),
    ("channel", 0),
];

const PURE_ROOMS: [&str; 3] = ["channel", "health", "balance"];

/// Modules and crates that read a clock, roll dice or touch the world.
const IMPURE_PREFIXES: [&[&str]; 20] = [
    &["std", "fs"],
    &["std", "io"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "os"],
    &["tokio"],
    &["tracing"],
    &["log"],
    &["rand"],
    &["fastrand"],
    &["getrandom"],
    &["rustix"],
    &["libc"],
    &["socket2"],
    &["hyper"],
    &["axum"],
    &["rustls"],
    &["crossbeam"],
    &["prometheus"],
];

/// Names that are impure wherever they come from.
const IMPURE_NAMES: [&str; 8] = [
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "to_socket_addrs",
];

const IMPURE_MACROS: [&str; 5] = ["println", "eprintln", "print", "eprint", "dbg"];

/// One file, read.
pub(crate) struct Source {
    path: String,
    text: String,
    tokens: Vec<Token>,
}

impl Source {
    /// A file by its path from the repository's root.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), tokens: code::tokens(text) }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The module that the file is, from the crate's root: `probe`, `http`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path).trim_end_matches(".rs");
        let mut steps: Vec<&str> = inside.split('/').collect();
        if steps.last() == Some(&"mod") {
            steps.pop();
        }
        steps
    }

    fn room(&self) -> &str {
        self.module().first().copied().unwrap_or_default()
    }

    pub(crate) fn is_test_file(&self) -> bool {
        self.module().iter().skip(1).any(|step| *step == "tests")
    }

    fn breach(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// The rooms, those to come included.
pub(crate) fn rooms() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|(name, _)| *name).filter(|name| *name != "main")
}

fn row(room: &str) -> Option<usize> {
    ROWS.iter().find(|(name, _)| *name == room).map(|(_, row)| *row)
}

/// `main -> cli -> daemon -> {serve, forward} -> catalog ->
/// {config, probe, store} -> {health, balance} -> channel -> std`.
pub(crate) fn imports_run_one_way(source: &Source) -> Vec<String> {
    let room = source.room();
    if source.path == "src/lib.rs" {
        return Vec::new();
    }
    let Some(own_row) = row(room) else {
        return vec![source.breach(1, &format!("`{room}` is no room; the map is in src/lib.rs"))];
    };
    let mut breaches = Vec::new();
    for path in code::paths(&source.tokens) {
        let Some(target) = target_room(source, &path) else { continue };
        match row(target) {
            Some(row) if row < own_row || target == room => {}
            Some(_) => breaches.push(source.breach(
                path.line,
                &format!("`{room}` must not import `{target}`: move what both need to a lower room"),
            )),
            None => breaches.push(source.breach(
                path.line,
                &format!("`{}` names no room; import from the room itself", path.segments.join("::")),
            )),
        }
    }
    breaches
}

/// The room a path leads into when it goes by the crate's root.
fn target_room<'a>(source: &Source, path: &'a CodePath) -> Option<&'a str> {
    let segments: Vec<&str> =
        path.segments.iter().map(String::as_str).skip_while(|step| *step == "self").collect();
    match segments.as_slice() {
        // `pub(crate)`; renaming the whole crate would hide what is imported.
        ["crate"] => is_renamed(source, path.line).then_some("crate"),
        ["crate", room, ..] => Some(room),
        ["vitald", room, ..] if source.path == "src/main.rs" => Some(room),
        ["super", ..] => {
            let climbs = segments.iter().take_while(|step| **step == "super").count();
            let depth = source.module().len() + path.inline_depth;
            (climbs >= depth).then(|| segments.get(climbs).copied().unwrap_or("crate"))
        }
        _ => None,
    }
}

fn is_renamed(source: &Source, line: usize) -> bool {
    source.tokens.windows(2).any(|pair| {
        matches!(pair, [first, second] if first.line == line
            && first.word() == Some("crate") && second.word() == Some("as"))
    })
}

/// No clock, chance, I/O, runtime or logging in `channel`, `health`, `balance`.
pub(crate) fn pure_rooms_stay_pure(source: &Source) -> Vec<String> {
    if !PURE_ROOMS.contains(&source.room()) || source.is_test_file() {
        return Vec::new();
    }
    let mut breaches: Vec<String> = code::paths(&code::without_tests(&source.tokens))
        .iter()
        .filter_map(|path| {
            let what = impurity(path)?;
            Some(source.breach(path.line, &format!("`{what}` in a pure room: take the value as an argument")))
        })
        .collect();
    breaches.dedup();
    breaches
}

fn impurity(path: &CodePath) -> Option<String> {
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let prefix = IMPURE_PREFIXES.iter().find(|prefix| {
        let is_crate_alone = prefix.len() == 1 && segments.len() == 1;
        segments.starts_with(prefix) && !is_crate_alone
    });
    if let Some(prefix) = prefix {
        return Some(prefix.join("::"));
    }
    if let Some(name) = segments.iter().find(|name| IMPURE_NAMES.contains(name)) {
        return Some((*name).to_owned());
    }
    match segments.as_slice() {
        [.., clock @ ("Instant" | "SystemTime"), "now"] => Some(format!("{clock}::now")),
        [name] if path.is_macro && IMPURE_MACROS.contains(name) => Some(format!("{name}!")),
        _ => None,
    }
}

/// A file opens with `//!` and words.
pub(crate) fn files_open_with_what_they_are_for(source: &Source) -> Vec<String> {
    let opening = source.text.lines().next().and_then(|line| line.strip_prefix("//!"));
    match opening.map(str::trim) {
        Some(words) if !words.is_empty() => Vec::new(),
        _ => vec![source.breach(1, "open with `//!`: what the file decides or does, and who calls it")],
    }
}

/// No file is longer than [`LONGEST_FILE`].
pub(crate) fn files_stay_short(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= LONGEST_FILE {
        return Vec::new();
    }
    vec![
        source.breach(
            lines,
            &format!("{lines} lines, {LONGEST_FILE} at most: split it, tests into foo/tests.rs"),
        ),
    ]
}

/// No `allow` attribute, no `todo!`, no `unimplemented!`.
pub(crate) fn nothing_is_silenced_or_left_undone(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    for (_, _, inside) in code::attributes(&source.tokens) {
        for pair in inside.windows(2) {
            if let [first, second] = pair
                && first.word() == Some("allow")
                && second.kind == Kind::Mark('(')
            {
                breaches.push(source.breach(first.line, "use `expect` with a reason, not `allow`"));
            }
        }
    }
    for path in code::paths(&source.tokens) {
        let name = path.segments.last().map_or("", String::as_str);
        if path.is_macro && matches!(name, "todo" | "unimplemented") {
            breaches.push(source.breach(path.line, &format!("`{name}!` is left")));
        }
    }
    breaches
}
