//! Plain columns without borders, easy for people and for `awk`.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};

use super::console::{Colour, TerminalText, Tone};
use crate::channel::violation::without_controls;

/// One cell: what it says and what that means.
#[derive(Debug, Clone)]
pub(super) struct TableCell {
    text: String,
    tone: Option<Tone>,
}

impl TableCell {
    /// A cell in the colour of its meaning.
    pub(super) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Some(tone) }
    }
}

impl<T: Into<String>> From<T> for TableCell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: None }
    }
}

/// On which side a column's cells begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Columns of text under a heading.
#[derive(Debug)]
pub(super) struct Columns {
    table: Table,
    colour: Colour,
    sides: Vec<Side>,
}

impl Columns {
    /// An empty table with these headings.
    pub(super) fn new(colour: Colour, headings: &[(&str, Side)]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        match colour {
            Colour::On => table.enforce_styling(),
            Colour::Off => table.force_no_tty(),
        };
        let sides: Vec<Side> = headings.iter().map(|(_, side)| *side).collect();
        let mut columns = Self { table, colour, sides };
        let header =
            headings.iter().map(|(title, side)| columns.cell(&TableCell::toned(Tone::Faint, *title), *side));
        let header: Vec<Cell> = header.collect();
        columns.table.set_header(header);
        columns.table.style_text_only();
        if let Some(first) = columns.table.column_mut(0) {
            first.set_padding((0, 1));
        }
        columns
    }

    /// Adds a line; missing cells stay empty.
    pub(super) fn row(&mut self, fields: impl IntoIterator<Item = TableCell>) {
        let cells: Vec<Cell> =
            fields.into_iter().zip(&self.sides).map(|(field, side)| self.cell(&field, *side)).collect();
        self.table.add_row(cells);
    }

    /// The text, each line ended, no space at the end of a line.
    pub(super) fn render(&self) -> TerminalText {
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        TerminalText::of_renderer(&text)
    }

    fn cell(&self, field: &TableCell, side: Side) -> Cell {
        // An empty cell would make the columns uneven for awk.
        let text = if field.text.is_empty() { "-" } else { &field.text };
        let cell = Cell::new(without_controls(text)).set_alignment(match side {
            Side::Left => CellAlignment::Left,
            Side::Right => CellAlignment::Right,
        });
        match (self.colour, field.tone) {
            (Colour::Off, _) | (Colour::On, None) => cell,
            (Colour::On, Some(Tone::Good)) => cell.fg(Color::DarkGreen),
            (Colour::On, Some(Tone::Warning)) => cell.fg(Color::DarkYellow),
            (Colour::On, Some(Tone::Bad)) => cell.fg(Color::DarkRed),
            (Colour::On, Some(Tone::Faint)) => cell.add_attribute(Attribute::Dim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let mut columns =
            Columns::new(Colour::Off, &[("NAME", Side::Left), ("N", Side::Right), ("X", Side::Left)]);
        columns.row(["web".into(), "1".into(), "".into()]);
        columns.row(["a-longer-name".into(), "1000".into(), TableCell::toned(Tone::Bad, "down")]);
        assert_eq!(
            columns.render().to_string(),
            "NAME              N  X\nweb               1  -\na-longer-name  1000  down\n"
        );
    }

    #[test]
    fn colour_is_an_explicit_choice() {
        let mut columns = Columns::new(Colour::On, &[("NAME", Side::Left)]);
        columns.row([TableCell::toned(Tone::Bad, "down")]);
        let text = columns.render().to_string();
        assert!(text.starts_with("\x1b[2mNAME\x1b[0m\n"), "{text:?}");
    }
}
