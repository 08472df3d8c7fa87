//! cupid's `myConfig.json` as a configuration for `final reconcile`.
//!
//! Input: its text, in which comments are allowed. Output: [`CupidImport`]: TOML, and what a person should know. So what runs
//! with cupid's file is what the printed TOML says.
//!
//! ```text
//!   JSON ─ comments ─▶ [`json`] ─ keys ─▶ [`read`] ─ source, copies ─▶ [`write`] ─▶ TOML ─▶ the reader of configurations
//!                                              └ DSN in Go's form: [`dsn`]
//! ```

mod dsn;
mod json;
mod read;
mod write;

#[cfg(test)]
mod tests;

use self::read::Cupid;

/// A configuration of cupid's as one for `final reconcile`.
pub(crate) struct CupidImport {
    /// The configuration, in TOML.
    pub(crate) toml: String,
    /// What a person must know or do.
    pub(crate) notes: Vec<String>,
}

/// Which file of cupid's it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CupidFile<'a> {
    /// Its name without the ending.
    pub(crate) name: &'a str,
    /// Its whole path. Each file has a state of its own, and this tells them apart.
    pub(crate) path: &'a str,
}

/// Where the passwords of cupid's file go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passwords {
    /// Into the TOML, which is read at once and shown to nobody.
    Inside,
    /// Nowhere: the TOML names variables of the environment.
    InVariables,
}

/// A text that is no configuration of cupid's. It has no value of the text, which may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CupidError(String);

impl CupidImport {
    /// Reads the text of cupid's file. A job that has no position yet begins with the id `start`.
    ///
    /// # Errors
    ///
    /// Fails if the text is no JSON, if a key is not known or has a value of another kind, and if a DSN or a URL cannot be
    /// read.
    pub(crate) fn new(
        text: &str,
        file: CupidFile<'_>,
        start: Option<i64>,
        passwords: Passwords,
    ) -> Result<Self, CupidError> {
        let cupid = Cupid::read(text)?;
        Ok(Self {
            toml: write::toml(&cupid, file, start, passwords),
            notes: write::notes(&cupid, file, passwords),
        })
    }
}
