//! A long TOML text, parsed piece by piece.
//!
//! Two layouts make texts long: many `[[headers]]` in a row, and a list with many
//! entries, one or more lines each. The text is cut before headers and between
//! entries, each piece is parsed by itself, and the trees are joined. Cuts are found
//! by looking at lines only. That is safe: a cut inside of a string, a list or a
//! table leaves the piece before it open, and an open piece does not parse.
//!
//! None of this ever reports an error. Where a piece does not parse, or two pieces
//! meet in anything but a list of tables, the caller reads the whole text.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Offsets, table_of, value_of};
use crate::channel::document::{Kind, Map, Value};

/// Bytes of text that are parsed together, at least; the parser takes about
/// thirty times as much memory.
const PIECE: usize = 64 * 1024;

/// The tree of a long text; none when it is short or must be read as a whole.
pub(super) fn read(text: &str) -> Option<Map> {
    read_by(text, PIECE)
}

fn read_by(text: &str, size: usize) -> Option<Map> {
    if text.len() <= 2 * size {
        return None;
    }
    let mut root = Map::default();
    let mut start = 0;
    while start < text.len() {
        let end = next_header(text, start + size).unwrap_or(text.len());
        let piece = Piece { text, range: start..end, size };
        let parent = parent_of(text.get(start..)?);
        join(&mut root, piece.parse(parent)?, parent, text)?;
        start = end;
    }
    Some(root)
}

/// The first line at or after `from` that is a header of one or two keys in double brackets.
fn next_header(text: &str, from: usize) -> Option<usize> {
    let mut from = text.ceil_char_boundary(from);
    loop {
        let start = from + text.get(from..)?.find("\n[[")? + 1;
        if header_of(text.get(start..)?).is_some() {
            return Some(start);
        }
        from = start;
    }
}

/// The keys of the header that a text begins with: the parent, if there is one, and its own.
fn header_of(text: &str) -> Option<(Option<&str>, &str)> {
    let keys = text.strip_prefix("[[")?.split_once("]]")?.0;
    let is_bare =
        |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    match keys.split_once('.') {
        Some((parent, own)) => (is_bare(parent) && is_bare(own)).then_some((Some(parent), own)),
        None => is_bare(keys).then_some((None, keys)),
    }
}

fn parent_of(piece: &str) -> Option<&str> {
    header_of(piece)?.0
}

/// A part of the text that is parsed by itself.
struct Piece<'t> {
    text: &'t str,
    range: Range<usize>,
    size: usize,
}

impl Piece<'_> {
    /// Its tree. With a parent the piece goes on with the parent's last table, for
    /// which an empty one stands in.
    fn parse(&self, parent: Option<&str>) -> Option<Map> {
        let mut given = String::new();
        let mut offsets = Offsets::default();
        if let Some(parent) = parent {
            given.extend(["[[", parent, "]]\n"]);
        }
        let lists = self.long_lists();
        let mut start = self.range.start;
        for list in &lists {
            offsets.0.push((given.len(), start));
            given.push_str(self.text.get(start..list.start)?);
            start = list.end;
        }
        offsets.0.push((given.len(), start));
        given.push_str(self.text.get(start..self.range.end)?);
        let mut table = table_of(DeTable::parse(&given).ok()?.into_inner(), &offsets);
        drop(given);
        for list in lists {
            let found = table.entries.iter_mut().find_map(|entry| list_at(&mut entry.value, list.start - 1));
            let items = found.filter(|items| items.is_empty())?;
            self.parse_list(list, items)?;
        }
        Some(table)
    }

    /// What stands between the brackets of long lists.
    fn long_lists(&self) -> Vec<Range<usize>> {
        let mut lists = Vec::new();
        let mut from = self.range.start;
        while self.range.end - from > self.size
            && let Some(inside) = self.text.get(from..self.range.end).and_then(|rest| rest.find("[\n"))
            && let start = from + inside + 1
            && let Some(length) = self.text.get(start..self.range.end).and_then(|rest| rest.find("\n]"))
        {
            let end = start + length + 1;
            let line = self
                .text
                .get(self.range.start..start - 1)
                .map(|before| before.rsplit_once('\n').map_or(before, |(_, line)| line));
            if length > self.size && line.is_some_and(is_key_of_list) {
                lists.push(start..end);
            }
            from = end;
        }
        lists
    }

    /// The entries of a list, some lines at a time.
    fn parse_list(&self, list: Range<usize>, items: &mut Vec<Value>) -> Option<()> {
        let mut given = String::new();
        let mut start = list.start;
        while start < list.end {
            let end = next_entry(self.text.get(..list.end)?, start + self.size).unwrap_or(list.end);
            given.clear();
            given.push('[');
            let offsets = Offsets(vec![(given.len(), start)]);
            given.push_str(self.text.get(start..end)?);
            given.push(']');
            let DeValue::Array(more) = DeValue::parse(&given).ok()?.into_inner() else { return None };
            items.extend(more.into_iter().map(|item| value_of(item, &offsets)));
            start = end;
        }
        Some(())
    }
}

/// Whether a list is opened by `key =` and nothing else.
fn is_key_of_list(line: &str) -> bool {
    line.trim_end().strip_suffix('=').is_some_and(|key| {
        let key = key.trim();
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    })
}

/// The start of the first line after `from` whose predecessor ends with a comma
/// that no comment can hold.
fn next_entry(text: &str, from: usize) -> Option<usize> {
    let mut from = text.ceil_char_boundary(from);
    loop {
        let comma = from + text.get(from..)?.find(",\n")?;
        let line = text.get(..comma)?;
        let line = line.rsplit_once('\n').map_or(line, |(_, line)| line);
        if !line.contains('#') {
            return Some(comma + 2);
        }
        from = comma + 2;
    }
}

/// The list that opens at an offset of the text.
fn list_at(value: &mut Value, start: usize) -> Option<&mut Vec<Value>> {
    match &mut value.kind {
        Kind::Array(items) => match value.place.start == start {
            true => Some(items),
            false => items.iter_mut().find_map(|item| list_at(item, start)),
        },
        Kind::Table(table) => table.entries.iter_mut().find_map(|entry| list_at(&mut entry.value, start)),
        _ => None,
    }
}

/// Adds the tree of the next piece. None where it says more than that lists of
/// tables go on: what that means, the whole text tells.
fn join(root: &mut Map, piece: Map, parent: Option<&str>, text: &str) -> Option<()> {
    for entry in piece.entries {
        let goes_on = parent.is_some_and(|parent| entry.key == parent);
        let Some(before) = root.entries.iter_mut().find(|before| before.key == entry.key) else {
            if goes_on {
                return None;
            }
            root.entries.push(entry);
            continue;
        };
        let Kind::Array(after) = entry.value.kind else { return None };
        let before = tables_of(&mut before.value, text)?;
        let mut after = after.into_iter();
        if goes_on {
            let (Kind::Table(last), Kind::Table(more)) = (&mut before.last_mut()?.kind, after.next()?.kind)
            else {
                return None;
            };
            join(last, more, None, text)?;
        }
        before.extend(after);
    }
    Some(())
}

/// The entries of a list whose last one stands under a header in double brackets: only such
/// a list can go on.
fn tables_of<'v>(value: &'v mut Value, text: &str) -> Option<&'v mut Vec<Value>> {
    let Kind::Array(items) = &mut value.kind else { return None };
    let last = items.last()?;
    let is_under_header = matches!(last.kind, Kind::Table(_))
        && text.get(last.place.start..).is_some_and(|rest| rest.starts_with("[["));
    is_under_header.then_some(items)
}

#[cfg(test)]
mod tests;
