//! Citations: a comment or document that names `docs/NAME.md` names a file that
//! is there, and quotes headings that it has: docs/config.md, "Notation". A link
//! of a document leads to a file. No comment cites a numbered section or call.

use std::collections::BTreeSet;
use std::path::Path;

/// What documents are there, and which headings each has.
pub(crate) struct Library {
    headings: BTreeSet<(String, String)>,
    files: BTreeSet<String>,
}

impl Library {
    /// From documents by their paths from the repository's root.
    pub(crate) fn new<'t>(documents: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let mut library = Self { headings: BTreeSet::new(), files: BTreeSet::new() };
        for (path, text) in documents {
            library.files.insert(path.to_owned());
            library.headings.extend(headings(text).map(|heading| (path.to_owned(), heading)));
        }
        library
    }

    /// The citations of one file that lead nowhere.
    pub(crate) fn broken(&self, path: &str, text: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        let joined = joined(text);
        for (start, _) in joined.match_indices("docs/") {
            let Some(rest) = joined.get(start..) else { continue };
            let Some(end) = rest.find(".md").map(|dot| dot + ".md".len()) else { continue };
            let Some((document, after)) = rest.split_at_checked(end) else { continue };
            let is_path = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
            if !document.chars().all(is_path) || joined[..start].ends_with(is_path) {
                continue; // other words, or somebody else's `docs/`
            }
            if !self.files.contains(document) {
                breaches.push(format!("{path}: there is no {document}"));
                continue;
            }
            for heading in quoted(after) {
                if !self.headings.contains(&(document.to_owned(), heading.to_owned())) {
                    breaches.push(format!("{path}: {document} has no heading \"{heading}\""));
                }
            }
        }
        breaches
    }
}

/// The text on one line, with the marks of comments taken out: a citation may wrap.
fn joined(text: &str) -> String {
    let words = |line: &str| line.trim().trim_start_matches(['/', '!', '#']).trim().to_owned();
    text.lines().map(words).collect::<Vec<_>>().join(" ")
}

/// The headings behind a document's name: `, "One"`, `, "One" and "Two"`.
fn quoted(mut rest: &str) -> Vec<&str> {
    let mut headings = Vec::new();
    let mut marks = [", \""].as_slice();
    while let Some((heading, after)) =
        marks.iter().find_map(|mark| rest.strip_prefix(mark)).and_then(|inside| inside.split_once('"'))
    {
        headings.push(heading);
        (rest, marks) = (after, [", \"", " and \"", " or \""].as_slice());
    }
    headings
}

fn headings(text: &str) -> impl Iterator<Item = String> {
    let mut in_code = false;
    text.lines().filter_map(move |line| {
        in_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        (!in_code && heading.len() < line.len()).then(|| heading.trim().to_owned())
    })
}

/// Links of a document, `[words](path)`, that lead to no file. Links to other
/// sites and to headings are not followed.
pub(crate) fn dead_links(root: &Path, path: &str, text: &str) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or_else(|| Path::new(""));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets
        .map(|target| target.split_once('#').map_or(target, |(file, _)| file))
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .filter(|target| !root.join(folder).join(target).exists())
        .map(|target| format!("{path}: no file behind the link to {target}"))
        .collect()
}

/// Files that a document names as `room/file.rs` and that are not in `src`.
pub(crate) fn missing_sources(root: &Path, path: &str, text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|name| name.ends_with(".rs") && name.contains('/'))
        .filter(|name| !root.join("src").join(name).exists() && !root.join(name).exists())
        .map(|name| format!("{path}: there is no {name}"))
        .collect()
}

/// Numbered sections and calls of a document that a reader does not have.
pub(crate) fn numbered(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((_, comment)) = line.split_once("//") else { continue };
        let words: Vec<&str> = comment.split_whitespace().collect();
        for pair in words.windows(2) {
            if let [first, second] = pair
                && matches!(
                    first.trim_start_matches('(').to_ascii_lowercase().as_str(),
                    "reference" | "call" | "calls"
                )
                && second.starts_with(|c: char| c.is_ascii_digit())
            {
                breaches.push(format!("{path}:{}: cite a document and its heading", index + 1));
            }
        }
    }
    breaches
}
