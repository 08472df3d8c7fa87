//! Tables for a person.
//!
//! Input: a heading and rows of cells, whose texts may come from anywhere. Output: columns as wide as their widest
//! cell. Where the terminal is narrower, the columns that give way are cut, the widest first. A pipe gets
//! everything.

use super::text::{cut, harmless, width};

/// Between two columns.
const SPACE: usize = 2;

/// No column is made narrower than this.
const NARROWEST: usize = 6;

/// A cell of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Bad,
    Good,
}

impl Cell {
    /// A text; of anybody.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: harmless(text.as_ref()),
            tone: Tone::Plain,
        }
    }

    /// What an operator has to look at.
    pub(crate) fn bad(mut self, is_bad: bool) -> Self {
        if is_bad {
            self.tone = Tone::Bad;
        }
        self
    }

    /// What is as it should be.
    pub(crate) fn good(mut self, is_good: bool) -> Self {
        if is_good {
            self.tone = Tone::Good;
        }
        self
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// Rows under a heading.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Heading>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Copy, Debug)]
struct Heading {
    name: &'static str,
    /// Numbers stand at the right.
    right: bool,
    /// A column that is never cut: ids, which are copied into the next command.
    whole: bool,
}

impl Table {
    /// A table without rows. A column's name begins with `>` where it has numbers, and with `!` where it is never
    /// cut.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        let heading = |name: &&'static str| Heading {
            name: name.trim_start_matches(['>', '!']),
            right: name.starts_with('>'),
            whole: name.starts_with(['>', '!']),
        };
        Self {
            columns: columns.iter().map(heading).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines of the table, for a terminal of so many columns.
    pub(super) fn draw(&self, terminal: Option<usize>, colour: bool) -> String {
        let widths = self.widths(terminal);
        let mut text = String::new();
        let names = self.columns.iter().map(|column| Cell {
            text: column.name.to_owned(),
            tone: Tone::Plain,
        });
        if self.columns.iter().any(|column| !column.name.is_empty()) {
            let bold = colour.then_some("1");
            self.draw_row(&mut text, &names.collect::<Vec<_>>(), &widths, |_| bold);
        }
        for row in &self.rows {
            self.draw_row(&mut text, row, &widths, |cell| match cell.tone {
                Tone::Bad if colour => Some("31"),
                Tone::Good if colour => Some("32"),
                _ => None,
            });
        }
        text
    }

    fn draw_row(
        &self,
        text: &mut String,
        cells: &[Cell],
        widths: &[usize],
        style: impl Fn(&Cell) -> Option<&'static str>,
    ) {
        let begin = text.len();
        for ((cell, column), columns) in cells.iter().zip(&self.columns).zip(widths) {
            let shown = cut(&cell.text, *columns);
            let fill = " ".repeat(columns.saturating_sub(width(&shown)));
            if column.right {
                text.push_str(&fill);
            }
            match style(cell) {
                Some(style) if !shown.is_empty() => {
                    text.push_str(&format!("\x1b[{style}m{shown}\x1b[0m"));
                }
                _ => text.push_str(&shown),
            }
            if !column.right {
                text.push_str(&fill);
            }
            text.push_str(&" ".repeat(SPACE));
        }
        let end = begin + text[begin..].trim_end().len();
        text.truncate(end);
        text.push('\n');
    }

    fn widths(&self, terminal: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                let widest = cells.map(|cell| width(&cell.text)).max().unwrap_or(0);
                widest.max(width(column.name))
            })
            .collect();
        let Some(terminal) = terminal else {
            return widths;
        };
        let spaces = SPACE * widths.len().saturating_sub(1);
        loop {
            let too_wide = (widths.iter().sum::<usize>() + spaces).saturating_sub(terminal);
            if too_wide == 0 {
                return widths;
            }
            let gives_way = |at: &usize| !self.columns[*at].whole && widths[*at] > NARROWEST;
            let widest = (0..widths.len())
                .filter(gives_way)
                .max_by_key(|at| widths[*at]);
            match widest {
                Some(at) => widths[at] -= 1,
                // Nothing can give way any further, so the terminal breaks the lines.
                None => return widths,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["!id", "topic", ">count"]);
        table.row(["0192".into(), "order.placed".into(), "7".into()]);
        table.row([
            "0193".into(),
            "注文\u{1b}[31m".into(),
            Cell::new("12").bad(true),
        ]);
        table
    }

    #[test]
    fn columns_stand_below_each_other() {
        let text = "id    topic           count\n\
                    0192  order.placed        7\n\
                    0193  注文\\u{1b}[31m     12\n";
        assert_eq!(table().draw(None, false), text);
    }

    #[test]
    fn a_narrow_terminal_gets_cut_cells_and_whole_ids() {
        for line in table().draw(Some(20), false).lines() {
            assert!(width(line) <= 20, "{line}");
        }
        let line = "0192  order.…      7";
        assert_eq!(table().draw(Some(20), false).lines().nth(1), Some(line));
        assert!(table().draw(Some(1), false).contains("0192"));
    }

    #[test]
    fn colour_is_written_only_where_it_is_wanted() {
        assert!(!table().draw(None, false).contains('\u{1b}'));
        assert!(table().draw(None, true).contains("\u{1b}[31m12\u{1b}[0m"));
    }
}
