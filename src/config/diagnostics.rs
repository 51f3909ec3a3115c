//! All errors of a configuration, ordered by file and place, and their rendering, with
//! excerpts of the texts that were read.
//!
//! `vitald check`, `run` and a refused reload print them. The rendering is stable:
//! fixtures compare it whole.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::masking::{mask_hashes, without_secrets};
use crate::channel::document::Place;
use crate::channel::violation::without_controls;
use crate::channel::{FieldPath, Rule, Violation};

/// Two places this many lines apart or fewer are shown in one excerpt.
const NEAR: usize = 40;

/// A line longer than this is not shown: somebody's JSON in one line.
const LONGEST_LINE: usize = 2000;

/// So many errors are printed: more than anybody reads before mending the first. Clang stops
/// after 20, the Go compiler after 10.
const PRINTED: usize = 100;

/// Every error of a configuration; at least one.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    sources: Vec<SourceText>,
    errors: Vec<Diagnostic>,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which rule was broken.
    pub rule: Rule,
    /// The field, from the file's root.
    pub path: FieldPath,
    /// What is wrong, one line.
    pub message: String,
    /// What to do about it, one line.
    pub remedy: String,
    /// The offending text; none when the file could not be read at all.
    pub place: Option<Place>,
    /// A second place that explains the first, in the same or another file.
    pub related: Option<Related>,
    pub(super) source: usize,
}

/// A second place that explains an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// Where it stands in its file.
    pub place: Place,
    /// What it is, a few words.
    pub label: String,
    pub(super) source: usize,
}

impl Diagnostic {
    /// The error that a violation is in a file.
    pub(super) fn of(violation: Violation, source: usize) -> Self {
        let Violation { rule, path, place, message, remedy, related } = violation;
        let related = related.map(|(place, label)| Related { place, label, source });
        Self { rule, path, message, remedy, place: Some(place), related, source }
    }
}

/// Whether the rendering carries terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Paint {
    /// Plain text.
    #[default]
    Plain,
    /// ANSI escape codes.
    Ansi,
}

impl Diagnostics {
    pub(super) fn new(sources: Vec<SourceText>, mut errors: Vec<Diagnostic>) -> Self {
        for error in &mut errors {
            for text in [&mut error.message, &mut error.remedy] {
                mask_hashes(text);
                // The renderer passes on what steers a terminal in some texts.
                if let Cow::Owned(safe) = without_controls(text) {
                    *text = safe;
                }
            }
        }
        errors.sort_by_key(|error| (error.source, error.place.map(|place| place.start), error.rule));
        Self { sources, errors }
    }

    /// The errors, by file in the order of reading, then by place.
    #[must_use]
    pub fn errors(&self) -> &[Diagnostic] {
        &self.errors
    }

    /// Where an error is: file name and, when it has a place, line and column from 1.
    #[must_use]
    pub fn position(&self, error: &Diagnostic) -> (&str, Option<(usize, usize)>) {
        let Some(source) = self.sources.get(error.source) else { return ("", None) };
        (&source.name, error.place.map(|place| source.line_and_column(place.start)))
    }

    /// The last line: how many errors, in how many files.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut files: Vec<usize> = self.errors.iter().map(|error| error.source).collect();
        files.dedup();
        let count = |number: usize, noun: &str| match number {
            1 => format!("1 {noun}"),
            number => format!("{number} {noun}s"),
        };
        format!("{} in {}", count(self.errors.len(), "error"), count(files.len(), "file"))
    }

    /// The errors with their excerpts, [`PRINTED`] at most, and the summary of all.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        let renderer = match paint {
            Paint::Plain => Renderer::plain(),
            Paint::Ansi => Renderer::styled(),
        };
        let mut text = String::new();
        for error in self.errors.iter().take(PRINTED) {
            text.push_str(&renderer.render(&[self.group(error)]));
            text.push_str("\n\n");
        }
        text.push_str(&self.summary());
        if self.errors.len() > PRINTED {
            text.push_str(&format!(", the first {PRINTED} shown; `vitald check --json` lists all"));
        }
        text.push('\n');
        text
    }

    /// The code and the place of each error, and nothing that stands in a file: for those
    /// who may not read the files. A hundred errors at most.
    #[must_use]
    pub fn brief(&self) -> String {
        let mut text = String::new();
        for error in self.errors.iter().take(PRINTED) {
            let code = error.rule.code();
            text.push_str(&match self.position(error) {
                (file, Some((line, _))) => format!("{code} {file}:{line}\n"),
                (file, None) => format!("{code} {file}\n"),
            });
        }
        if self.errors.len() > PRINTED {
            text.push_str("...\n");
        }
        text + &self.summary() + "; `vitald check` shows what is wrong"
    }

    fn group<'a>(&'a self, error: &'a Diagnostic) -> Group<'a> {
        let title = Level::ERROR.primary_title(error.message.as_str()).id(error.rule.code());
        let mut group = Group::with_title(title);
        if let Some(source) = self.sources.get(error.source) {
            group = match error.place {
                Some(place) => self.with_excerpts(group, error, source, source.first_line_of(place)),
                None => group.element(Origin::path(&source.shown_name)),
            };
        }
        group.element(Level::HELP.message(error.remedy.as_str()))
    }

    /// The offending line, and the related one: in the same excerpt when near.
    fn with_excerpts<'a>(
        &'a self,
        group: Group<'a>,
        error: &'a Diagnostic,
        source: &'a SourceText,
        span: Range<usize>,
    ) -> Group<'a> {
        let primary = Mark { kind: AnnotationKind::Primary, span, label: None };
        let Some(related) = &error.related else { return excerpt(group, source, &[primary]) };
        let Some(other) = self.sources.get(related.source) else { return excerpt(group, source, &[primary]) };
        let span = other.first_line_of(related.place);
        let secondary = Mark { kind: AnnotationKind::Context, span, label: Some(related.label.as_str()) };
        let distance = source
            .line_of(primary.span.start)
            .abs_diff(source.line_of(secondary.span.start.min(source.text.len())));
        if related.source == error.source && distance <= NEAR {
            return excerpt(group, source, &[primary, secondary]);
        }
        let group = excerpt(group, source, &[primary]);
        excerpt(group, other, &[secondary])
    }
}

/// A span to underline, and its short text.
struct Mark<'a> {
    kind: AnnotationKind,
    span: Range<usize>,
    label: Option<&'a str>,
}

/// Only the lines between the first and the last mark go to the renderer, which
/// reads all it gets: the cost of an error does not grow with the file.
fn excerpt<'a>(group: Group<'a>, source: &'a SourceText, marks: &[Mark<'a>]) -> Group<'a> {
    let lines = || marks.iter().map(|mark| source.line_of(mark.span.start));
    let (Some(first), Some(last)) = (lines().min(), lines().max()) else { return group };
    let (start, end) = (source.line_range(first).start, source.line_range(last).end);
    if (first..=last).any(|line| source.line_range(line).len() > LONGEST_LINE) {
        return marks.iter().fold(group, |group, mark| {
            let (line, column) = source.line_and_column(mark.span.start);
            let origin = Origin::path(&source.shown_name).line(line).char_column(column);
            let group = group.element(origin);
            match mark.label {
                Some(label) => group.element(Level::NOTE.message(label)),
                None => group,
            }
        });
    }
    let text = source.text.get(start..end).unwrap_or_default();
    let annotations = marks.iter().map(|mark| {
        let span = mark.span.start.saturating_sub(start)..mark.span.end.saturating_sub(start);
        mark.kind.span(span).label(mark.label)
    });
    let snippet: Snippet<'a, Annotation<'a>> = Snippet::source(text);
    group.element(snippet.line_start(first + 1).path(&source.shown_name).annotations(annotations))
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Paint::Plain))
    }
}

impl std::error::Error for Diagnostics {}

/// How many bytes of a text are counted together.
const STRIDE: usize = 1024;

/// One text that was read, kept for showing what is wrong with it.
#[derive(Debug, Clone)]
pub(super) struct SourceText {
    name: String,
    /// The name without what steers a terminal: the renderer passes on names as they are.
    shown_name: String,
    text: String,
    /// Looked for when a line is first asked for: a good text has no use for it.
    line_starts: OnceLock<Vec<usize>>,
    /// How many characters begin before each [`STRIDE`] of bytes; counted when a column is
    /// first asked for. A line may have a megabyte, and 80,000 errors.
    characters: OnceLock<Vec<usize>>,
}

impl SourceText {
    /// A text and the name to show for it, usually a path.
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            shown_name: without_controls(&name).into_owned(),
            name,
            text: text.into(),
            line_starts: OnceLock::new(),
            characters: OnceLock::new(),
        }
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let bytes = self.text.bytes().enumerate();
            let breaks = bytes.filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(breaks).collect()
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Makes what nobody may see unreadable, so that no excerpt shows it. Offsets stay.
    pub(super) fn hide_secrets(&mut self) {
        self.text = without_secrets(&self.text);
    }

    /// Line and column of an offset, both from 1, columns in characters.
    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line_of(offset);
        let start = self.line_range(line).start;
        let before = self.characters_before(self.text.floor_char_boundary(offset));
        (line + 1, before.saturating_sub(self.characters_before(start)) + 1)
    }

    /// How many characters begin before an offset. Reads less than a stride of the text.
    fn characters_before(&self, offset: usize) -> usize {
        // Bytes 10xxxxxx go on with a character (RFC 3629, section 3).
        let beginnings = |bytes: &[u8]| bytes.iter().filter(|byte| (**byte & 0xC0) != 0x80).count();
        let counts = self.characters.get_or_init(|| {
            let mut sum = 0;
            let strides = self.text.as_bytes().chunks(STRIDE);
            let sums = strides.map(|stride| {
                sum += beginnings(stride);
                sum
            });
            std::iter::once(0).chain(sums).collect()
        });
        let stride = offset / STRIDE;
        let rest = self.text.as_bytes().get(stride * STRIDE..offset).unwrap_or_default();
        counts.get(stride).copied().unwrap_or_default() + beginnings(rest)
    }

    /// The line, from 0, that an offset is in.
    fn line_of(&self, offset: usize) -> usize {
        self.line_starts().partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The bytes of a line, without its end.
    fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.line_starts().get(line).copied().unwrap_or(self.text.len());
        let end = self.line_starts().get(line + 1).map_or(self.text.len(), |next| next - 1);
        let text = self.text.get(start..end).unwrap_or_default();
        start..start + text.trim_end_matches('\r').len()
    }

    /// The part of a place that is on its first line, on character boundaries:
    /// a table that runs over many lines is pointed at by its opening.
    fn first_line_of(&self, place: Place) -> Range<usize> {
        let line = self.line_range(self.line_of(place.start.min(self.text.len())));
        let start = self.text.floor_char_boundary(place.start).clamp(line.start, line.end);
        let end = self.text.floor_char_boundary(place.end).clamp(start, line.end);
        start..end
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    /// What this thread has computed so far.
    fn computed() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    }

    #[test]
    fn columns_count_characters() {
        let text = format!("first\n{}", "aä€😀".repeat(1000));
        let source = SourceText::new("file", text.clone());
        for (at, (offset, _)) in text.char_indices().enumerate().skip(6) {
            assert_eq!(source.line_and_column(offset), (2, at - 5), "{offset}");
        }
        assert_eq!(source.line_and_column(2), (1, 3));
        assert_eq!(source.line_and_column(text.len() + 9), (2, 4001));
    }

    /// Looking from the beginning of the text for each mistake would take half a minute.
    #[test]
    fn eighty_thousand_mistakes_in_one_line_take_no_longer_than_in_as_many() {
        let line = "\"unknown\": 1, ".repeat(80_000);
        let source = SourceText::new("file", line.clone());
        let before = computed();
        let columns: usize = (0..80_000).map(|at| source.line_and_column(14 * at).1).sum();
        assert_eq!(columns, (0..80_000).map(|at| 14 * at + 1).sum::<usize>());
        let mut hashes = format!("{}{line}", "$argon2id$v=19 ".repeat(80_000));
        mask_hashes(&mut hashes);
        assert!(!hashes.contains("$argon2"));
        let took = computed().saturating_sub(before);
        assert!(took < Duration::from_secs(8), "{took:?}");
    }

    #[test]
    fn in_brief_there_is_no_byte_of_a_file() {
        let source = SourceText::new("vitald.toml", "a\nsecret = 1\n");
        let at = |place| Diagnostic {
            rule: Rule::UnknownKey,
            path: FieldPath::default().key("secret"),
            message: "this configuration knows no key \"secret\"".to_owned(),
            remedy: "the keys here are `secret`".to_owned(),
            place,
            related: None,
            source: 0,
        };
        let place = |start| Some(Place { start, end: start + 1 });
        let two = Diagnostics::new(vec![source], vec![at(place(2)), at(None)]);
        let expected =
            "E002 vitald.toml\nE002 vitald.toml:2\n2 errors in 1 file; `vitald check` shows what is wrong";
        assert_eq!(two.brief(), expected);
    }

    #[test]
    fn a_hundred_errors_are_printed_and_all_are_counted() {
        let error = Diagnostic {
            rule: Rule::UnknownKey,
            path: FieldPath::default().key("secret"),
            message: "this configuration knows no key \"secret\"".to_owned(),
            remedy: "the keys here are `secret`".to_owned(),
            place: None,
            related: None,
            source: 0,
        };
        let source = SourceText::new("vitald.toml", "a\nsecret = 1\n");
        let many = Diagnostics::new(vec![source], vec![error; 1000]);
        assert_eq!(many.brief().lines().count(), PRINTED + 2);
        let text = many.to_string();
        assert_eq!(text.matches("error[E002]").count(), PRINTED);
        let summary = "1000 errors in 1 file, the first 100 shown; `vitald check --json` lists all\n";
        assert!(text.ends_with(summary), "{text}");
        assert_eq!(many.errors().len(), 1000);
    }
}
