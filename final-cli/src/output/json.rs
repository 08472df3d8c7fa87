//! Lines of JSON.
//!
//! Input: a row. Output: one object a line, with the version of its form and its kind first. Text of others is
//! written so that a terminal that shows the line obeys none of it.

use std::io;

use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

use super::text::commands;
use crate::exit::Failure;

/// The version of the fields. A field's meaning changes only with it; new fields may come without.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Line<'a, T> {
    v: u32,
    kind: &'static str,
    #[serde(flatten)]
    row: &'a T,
}

/// A row as a line.
pub(super) fn line(kind: &'static str, row: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let line = Line {
        v: VERSION,
        kind,
        row,
    };
    line.serialize(&mut Serializer::with_formatter(&mut bytes, Harmless))
        .map_err(|error| Failure::doing("a row cannot be written as JSON", &error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// JSON on one line, with escapes for what commands a terminal. JSON itself asks for those below 0x20 only.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_harmless(writer, fragment)
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Checked JSON without spaces between its tokens: what commands a terminal stands in its strings.
        write_harmless(writer, fragment)
    }
}

fn write_harmless<W: ?Sized + io::Write>(writer: &mut W, mut text: &str) -> io::Result<()> {
    while let Some(at) = text.find(commands) {
        let (before, after) = text.split_at(at);
        writer.write_all(before.as_bytes())?;
        let mut rest = after.chars();
        if let Some(c) = rest.next() {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        text = rest.as_str();
    }
    writer.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, value::RawValue};

    use super::*;

    #[derive(Serialize)]
    struct Shown {
        topic: String,
        number: u64,
        payload: Box<RawValue>,
    }

    #[test]
    fn a_line_is_one_object_and_commands_no_terminal() {
        let topic = "a\u{1b}[2J\u{9b}31m\n\u{202e}\u{e0041}\u{7f}\"".to_owned();
        let payload = "{\"n\":123456789012345678901234567890,\"t\":\"\u{9b}\"}".to_owned();
        let row = Shown {
            topic: topic.clone(),
            number: u64::MAX,
            payload: RawValue::from_string(payload).expect("JSON"),
        };
        let line = line("record", &row).expect("a line");
        let line = String::from_utf8(line).expect("UTF-8");
        assert!(line.starts_with("{\"v\":1,\"kind\":\"record\","), "{line}");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.trim_end().chars().any(commands), "{line}");
        assert!(line.contains("18446744073709551615"), "{line}");
        assert!(line.contains("123456789012345678901234567890"), "{line}");
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["topic"], topic.as_str());
        assert_eq!(read["payload"]["t"], "\u{9b}");
    }
}
