//! A file's text, its name, and where its lines begin.

use std::ops::Range;
use std::sync::OnceLock;

use crate::channel::document::Place;

/// One text that was read, kept for showing what is wrong with it.
#[derive(Debug, Clone)]
pub struct SourceText {
    name: String,
    text: String,
    /// Looked for when a line is first asked for: a good text has no use for it.
    line_starts: OnceLock<Vec<usize>>,
}

impl PartialEq for SourceText {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.text == other.text
    }
}

impl Eq for SourceText {}

impl SourceText {
    /// A text and the name to show for it.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), line_starts: OnceLock::new() }
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let bytes = self.text.bytes().enumerate();
            let breaks = bytes.filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(breaks).collect()
        })
    }

    /// The name, usually a path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Makes the value of every `password_hash` unreadable, and what follows on
    /// its line, so that no excerpt shows it. Offsets stay.
    pub(super) fn hide_password_hashes(&mut self) {
        const KEY: &str = "password_hash";
        let mut hidden = String::with_capacity(self.text.len());
        for line in self.text.split_inclusive('\n') {
            let value = line.match_indices(KEY).find_map(|(at, _)| {
                let after = line.get(at + KEY.len()..)?;
                let value = after.trim_start_matches(['"', '\'', ' ', '\t']).strip_prefix('=')?;
                Some(line.len() - value.len())
            });
            let (shown, secret) = line.split_at(value.unwrap_or(line.len()));
            hidden.push_str(shown);
            for character in secret.chars() {
                match character.is_whitespace() {
                    true => hidden.push(character),
                    false => hidden.extend(std::iter::repeat_n('*', character.len_utf8())),
                }
            }
        }
        self.text = hidden;
    }

    /// Line and column of an offset, both from 1, columns in characters.
    #[must_use]
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line_of(offset);
        let start = self.line_range(line).start;
        let before = self.text.get(start..self.boundary(offset)).unwrap_or_default();
        (line + 1, before.chars().count() + 1)
    }

    /// The line, from 0, that an offset is in.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts().partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The bytes of a line, without its end.
    pub(super) fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.line_starts().get(line).copied().unwrap_or(self.text.len());
        let end = self.line_starts().get(line + 1).map_or(self.text.len(), |next| next - 1);
        let text = self.text.get(start..end).unwrap_or_default();
        start..start + text.trim_end_matches('\r').len()
    }

    /// The part of a place that is on its first line, on character boundaries:
    /// a table that runs over many lines is pointed at by its opening.
    pub(super) fn first_line_of(&self, place: Place) -> Range<usize> {
        let line = self.line_range(self.line_of(place.start.min(self.text.len())));
        let start = self.boundary(place.start).clamp(line.start, line.end);
        let end = self.boundary(place.end).clamp(start, line.end);
        start..end
    }

    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}
