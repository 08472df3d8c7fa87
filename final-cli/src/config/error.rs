//! What is wrong with a configuration, and what could be better.
//!
//! Input: what was found, and where. Output: one line of text for a person: file, line, column, key, what, cure.

use std::{fmt, path::Path};

use super::{
    context::Note,
    explain::explain,
    place::{Place, line_and_column},
};

/// A configuration cannot be used.
///
/// Its text never has a value of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{}{what}; {cure}", Where { file: &self.file, at: self.at, key: &self.key })]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Line and column, each counted from one. `None` if the file could not be read.
    pub at: Option<(usize, usize)>,
    /// The keys that lead to the place, joined by dots. Empty at the top of the file.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

/// Something in a configuration works, and should be changed all the same.
///
/// Its text never has a value of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigWarning {
    /// The file.
    pub file: String,
    /// Line and column, each counted from one.
    pub at: Option<(usize, usize)>,
    /// The keys that lead to the place, joined by dots.
    pub key: String,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

/// What was found, before it is known in which file and line.
pub(crate) struct Found {
    place: Place,
    what: String,
    cure: String,
}

impl Found {
    pub(crate) fn new(at: Option<usize>, what: impl Into<String>, cure: impl Into<String>) -> Self {
        let place = Place {
            at,
            ..Place::default()
        };
        Self {
            place,
            what: what.into(),
            cure: cure.into(),
        }
    }

    /// An error of the reader, in words for a person.
    pub(crate) fn explained(error: &toml::de::Error, mut place: Place) -> Self {
        // Without a place it is about the top of the file.
        place.at.get_or_insert(0);
        let (what, cure) = explain(error.message());
        Self { place, what, cure }
    }

    pub(crate) fn in_file(self, file: &Path, bytes: &[u8]) -> ConfigError {
        ConfigError {
            file: file.display().to_string(),
            at: self.place.at.map(|at| line_and_column(bytes, at)),
            key: self.place.key,
            what: self.what,
            cure: self.cure,
        }
    }
}

impl ConfigWarning {
    pub(crate) fn new(note: Note, place: Option<Place>, file: &Path, bytes: &[u8]) -> Self {
        let place = place.unwrap_or_default();
        let (what, cure) = match note {
            Note::PlainText(_) => (
                "a secret stands in the file as plain text".to_owned(),
                "write \"env:NAME\" or \"file:/path\" instead".to_owned(),
            ),
            Note::OpenFile(path) => (
                format!(
                    "every user of this machine can read the secret in {}",
                    path.display()
                ),
                format!("chmod o-rwx {}", path.display()),
            ),
        };
        Self {
            file: file.display().to_string(),
            at: place.at.map(|at| line_and_column(bytes, at)),
            key: place.key,
            what,
            cure,
        }
    }
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Where {
            file: &self.file,
            at: self.at,
            key: &self.key,
        };
        write!(f, "{place}{}; {}", self.what, self.cure)
    }
}

/// `shop.toml:3:7: `database.url`: `.
struct Where<'a> {
    file: &'a str,
    at: Option<(usize, usize)>,
    key: &'a str,
}

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file)?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        match self.key.is_empty() {
            true => Ok(()),
            false => write!(f, "`{}`: ", self.key),
        }
    }
}
