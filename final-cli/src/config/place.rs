//! Where in a file something is: line, column, and the path of keys.
//!
//! Input: the tree of a parsed file, and a range of bytes. Output: the deepest key or value around it.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The byte at which it begins.
    pub(crate) at: Option<usize>,
    /// The keys that lead to it, joined by dots. Empty for the top of the file.
    pub(crate) key: String,
}

impl Place {
    /// Adds the name of a key that the tree does not have.
    pub(crate) fn name(&mut self, key: Option<&str>) {
        let Some(key) = key.map(|key| word(key.trim_matches(['"', '\'']))) else {
            return;
        };
        match self.key.is_empty() {
            true => self.key = key,
            false => self.key = format!("{}.{key}", self.key),
        }
    }
}

/// The place of a range of bytes.
pub(crate) fn place_of(tree: &DeTable<'_>, span: Option<Range<usize>>) -> Place {
    // An empty range at the front stands for the whole file.
    let Some(span) = span.filter(|span| span.end > 0) else {
        return Place::default();
    };
    let mut keys = Vec::new();
    in_table(tree, &span, &mut keys);
    Place {
        at: Some(span.start),
        key: joined(&keys),
    }
}

/// The place of a value that is this text: of the first one behind so many others.
pub(crate) fn text_place(tree: &DeTable<'_>, text: &str, mut others: usize) -> Option<Place> {
    let mut keys = Vec::new();
    let at = table_text(tree, text, &mut others, &mut keys)?;
    Some(Place {
        at: Some(at),
        key: joined(&keys),
    })
}

/// Line and column of a byte, both counted from one, the column in characters.
pub(crate) fn line_and_column(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line = before.iter().filter(|byte| **byte == b'\n').count();
    let begin = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(before.get(begin..).unwrap_or_default())
        .chars()
        .count();
    (line + 1, column + 1)
}

fn in_table(table: &DeTable<'_>, span: &Range<usize>, keys: &mut Vec<String>) {
    // A table that is written in parts has the place of one of them, so a key in it can be outside of that place.
    for (key, value) in table {
        if covers(&key.span(), span) {
            keys.push(word(key.get_ref()));
            return;
        }
        keys.push(word(key.get_ref()));
        let depth = keys.len();
        in_value(value.get_ref(), span, keys);
        if keys.len() > depth || covers(&value.span(), span) {
            return;
        }
        keys.pop();
    }
}

fn in_value(value: &DeValue<'_>, span: &Range<usize>, keys: &mut Vec<String>) {
    match value {
        DeValue::Table(table) => in_table(table, span, keys),
        DeValue::Array(array) => {
            for (at, value) in array.iter().enumerate() {
                keys.push(format!("[{at}]"));
                let depth = keys.len();
                in_value(value.get_ref(), span, keys);
                if keys.len() > depth || covers(&value.span(), span) {
                    return;
                }
                keys.pop();
            }
        }
        _ => {}
    }
}

fn table_text(
    table: &DeTable<'_>,
    text: &str,
    others: &mut usize,
    keys: &mut Vec<String>,
) -> Option<usize> {
    for (key, value) in table {
        keys.push(word(key.get_ref()));
        let found = value_text(value.get_ref(), value.span().start, text, others, keys);
        if found.is_some() {
            return found;
        }
        keys.pop();
    }
    None
}

fn value_text(
    value: &DeValue<'_>,
    at: usize,
    text: &str,
    others: &mut usize,
    keys: &mut Vec<String>,
) -> Option<usize> {
    match value {
        DeValue::String(value) if value == text && *others > 0 => {
            *others -= 1;
            None
        }
        DeValue::String(value) => (value == text).then_some(at),
        DeValue::Table(table) => table_text(table, text, others, keys),
        DeValue::Array(array) => {
            for (number, value) in array.iter().enumerate() {
                keys.push(format!("[{number}]"));
                let found = value_text(value.get_ref(), value.span().start, text, others, keys);
                if found.is_some() {
                    return found;
                }
                keys.pop();
            }
            None
        }
        _ => None,
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && outer.start < outer.end
}

/// A key as it is written in TOML.
pub(crate) fn word(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_owned(),
        false => format!("{:?}", key.chars().take(60).collect::<String>()),
    }
}

/// The path of keys: `outlets[2].url`.
fn joined(keys: &[String]) -> String {
    let mut path = String::new();
    for key in keys {
        if !path.is_empty() && !key.starts_with('[') {
            path.push('.');
        }
        path.push_str(key);
    }
    path
}
