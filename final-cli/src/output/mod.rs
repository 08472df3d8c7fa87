//! What the program writes.
//!
//! Input: rows of a command. Output: a table for a person, or with `--json` one object a line for a program.
//!
//! | part | does |
//! | --- | --- |
//! | `text` | makes text of others harmless; its width in columns; cuts it |
//! | `table` | tables |
//! | `json` | lines of JSON |
//! | `payload` | payloads in a readable form |
//! | `time` | lengths of time |
//! | `progress` | the bar of a long operation |

mod json;
pub(crate) mod payload;
pub(crate) mod progress;
mod table;
pub(crate) mod text;
pub(crate) mod time;

use std::{
    env,
    io::{self, BufWriter, IsTerminal, Write},
};

use serde::Serialize;

pub(crate) use self::table::{Cell, Table};
use crate::exit::Failure;

/// The standard output: its form, and what the terminal behind it can show.
#[derive(Debug)]
pub(crate) struct Output {
    out: BufWriter<io::Stdout>,
    json: bool,
    /// The columns of the terminal; none where the output is not a terminal.
    width: Option<usize>,
    colour: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let width = is_terminal.then(|| {
            rustix::termios::tcgetwinsize(&stdout)
                .map(|size| usize::from(size.ws_col))
                .ok()
                .filter(|columns| *columns > 0)
                .unwrap_or(80)
        });
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: BufWriter::new(stdout),
            json,
            width,
            colour: is_terminal && !no_colour && !is_dumb,
        }
    }

    /// Whether a program reads the output.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// Writes one object of a kind as a line.
    pub(crate) fn json(&mut self, kind: &'static str, row: &impl Serialize) -> Result<(), Failure> {
        self.out.write_all(&json::line(kind, row)?)?;
        Ok(())
    }

    /// Writes a table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = table.draw(self.width, self.colour);
        self.out.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Writes a line for a person. What comes from others has to be harmless already.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    /// Writes a text as it is.
    pub(crate) fn raw(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.out.write_all(text)?;
        Ok(())
    }

    /// Makes room for the next state of a view that is written again and again.
    pub(crate) fn clear(&mut self) -> Result<(), Failure> {
        if self.is_terminal() && !self.json {
            self.out.write_all(b"\x1b[2J\x1b[H")?;
        }
        Ok(())
    }

    /// Takes everything to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush()?;
        Ok(())
    }
}
