//! JSON with comments, and the fields of an object by name.
//!
//! Input: text, and the names of the keys that an object may have. Output: [`Fields`], which are taken one by one.

use serde_json::{Map, Value};

use super::CupidError;
use crate::config::explain;

/// An object, as far as it has not been taken yet.
pub(super) struct Fields {
    /// The keys that lead to it, with a dot at the end.
    path: String,
    /// The keys in lower case, and the values. Go finds a key whatever its case is.
    fields: Vec<(String, Value)>,
}

/// The object of a text.
pub(super) fn object(text: &str, known: &[&str]) -> Result<Fields, CupidError> {
    let text = text.trim_start_matches('\u{feff}');
    let plain = without_comments(text);
    let value = serde_json::from_slice(&plain).map_err(|error| {
        // The reader's message tells what it expected and where, and no value.
        CupidError(format!(
            "this is no JSON: {error}; only comments may stand in it besides"
        ))
    })?;
    match value {
        Value::Object(map) => Fields::new(String::new(), map, known),
        _ => Err(CupidError(
            "this is no configuration of cupid's, because it is no object; begin it with {".into(),
        )),
    }
}

/// The text with spaces in place of comments, so that places stay as they are.
fn without_comments(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    while let Some(rest) = text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
        let length = match rest {
            [b'"', string @ ..] => 1 + end_of_string(string),
            [b'/', b'/', ..] => blank(&mut bytes, at, line(rest)),
            [b'/', b'*', ..] => blank(&mut bytes, at, block(rest)),
            _ => 1,
        };
        at += length;
    }
    bytes
}

/// The length up to the quote that ends a string, and with it.
fn end_of_string(string: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = string.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    string.len()
}

fn line(rest: &[u8]) -> usize {
    let end = rest.iter().position(|byte| *byte == b'\n');
    end.unwrap_or(rest.len())
}

fn block(rest: &[u8]) -> usize {
    let inside = rest.get(2..).unwrap_or_default();
    let end = inside.windows(2).position(|pair| pair == b"*/");
    end.map_or(rest.len(), |end| end + 4)
}

fn blank(bytes: &mut [u8], from: usize, length: usize) -> usize {
    for byte in bytes.iter_mut().skip(from).take(length) {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
    length
}

impl Fields {
    /// # Errors
    ///
    /// Fails if a key is not known.
    fn new(path: String, map: Map<String, Value>, known: &[&str]) -> Result<Self, CupidError> {
        let is_known = |name: &&String| !known.iter().any(|known| known.eq_ignore_ascii_case(name));
        if let Some(name) = map.keys().find(is_known) {
            return Err(unknown(&path, name, known));
        }
        let fields = map
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value));
        Ok(Self {
            path,
            fields: fields.collect(),
        })
    }

    /// Takes a value. The last of several with one name counts, as in Go. `null` is as if nothing were there.
    fn take(&mut self, name: &str) -> Option<Value> {
        let lower = name.to_ascii_lowercase();
        let mut found = None;
        self.fields.retain(|(key, value)| {
            let is_it = *key == lower;
            if is_it {
                found = Some(value.clone());
            }
            !is_it
        });
        found.filter(|value| !value.is_null())
    }

    /// A text that may be left out.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, CupidError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "is no text", "write it in quotes")),
        }
    }

    /// A text that must be there.
    pub(super) fn wanted(&mut self, name: &str) -> Result<String, CupidError> {
        match self.text(name)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(self.wrong(name, "is missing", "add it")),
        }
    }

    /// A whole number that may be left out. Zero is as if it were not there, as in cupid.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, CupidError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number).filter(|number| *number > 0)),
                None => Err(self.wrong(name, "is no whole number", "write one without quotes")),
            },
        }
    }

    /// A truth value that may be left out.
    pub(super) fn truth(&mut self, name: &str) -> Result<Option<bool>, CupidError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(truth)),
            Some(_) => Err(self.wrong(
                name,
                "is neither true nor false",
                "write one of them without quotes",
            )),
        }
    }

    /// An object that must be there.
    pub(super) fn fields(&mut self, name: &str, known: &[&str]) -> Result<Fields, CupidError> {
        match self.take(name) {
            Some(Value::Object(map)) => Fields::new(format!("{}{name}.", self.path), map, known),
            Some(_) => Err(self.wrong(name, "is no object", "write { … }")),
            None => Err(self.wrong(name, "is missing", "add it")),
        }
    }

    /// The objects of a list. The list must have at least one.
    pub(super) fn list(&mut self, name: &str, known: &[&str]) -> Result<Vec<Fields>, CupidError> {
        let Some(Value::Array(values)) = self.take(name) else {
            return Err(self.wrong(name, "is no list", "write [ { … } ]"));
        };
        if values.is_empty() {
            return Err(self.wrong(name, "is empty", "name a table in it"));
        }
        let objects = values.into_iter().enumerate();
        objects
            .map(|(at, value)| match value {
                Value::Object(map) => {
                    let path = format!("{}{name}[{at}].", self.path);
                    Fields::new(path, map, known)
                }
                _ => Err(self.wrong(name, "has something else than objects in it", "write { … }")),
            })
            .collect()
    }

    /// An object of texts, in the order of its names. None of them has to be there.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<(String, String)>, CupidError> {
        let map = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Object(map)) => map,
            Some(_) => return Err(self.wrong(name, "is no object", "write { \"from\": \"to\" }")),
        };
        map.into_iter()
            .map(|(from, to)| match to {
                Value::String(to) => Ok((from, to)),
                _ => Err(self.wrong(name, "has a value that is no text", "write it in quotes")),
            })
            .collect()
    }

    /// What is wrong with a key, and what to do.
    pub(super) fn wrong(&self, name: &str, what: &str, cure: &str) -> CupidError {
        CupidError(format!("`{}{name}` {what}; {cure}", self.path))
    }
}

fn unknown(path: &str, name: &str, known: &[&str]) -> CupidError {
    // What is no name at all may be a part of a value, in a file that was damaged.
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = match name.len() <= 40 && name.chars().all(is_name) {
        true => name,
        false => "…",
    };
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let known = known.join(", ");
    let (what, cure) = explain(&format!("unknown field `{name}`, expected one of {known}"));
    CupidError(format!("`{path}{name}`: {what}; {cure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_spaces_and_texts_stay() {
        let text = "{ // ü\n\"a//\\\"b\": /* \"x */ \"/* no */\" } //";
        let plain = String::from_utf8(without_comments(text)).unwrap();
        assert_eq!(plain.len(), text.len());
        assert_eq!(
            plain.trim_end(),
            "{      \n\"a//\\\"b\":          \"/* no */\" }"
        );
    }

    #[test]
    fn a_comment_without_an_end_goes_to_the_end() {
        for text in ["{} /* ü", "{} //ü", "{} /*/"] {
            let plain = String::from_utf8(without_comments(text)).unwrap();
            assert_eq!(plain.trim_end(), "{}", "{text}");
        }
        assert_eq!(without_comments("\"a\\"), b"\"a\\");
    }
}
