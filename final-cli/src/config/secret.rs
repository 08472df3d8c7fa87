//! A password or token that never shows itself.
//!
//! Input: `"env:NAME"`, `"file:/path"`, `{ env = "NAME" }`, `{ file = "/path" }`, `{ text = "…" }`, or the secret
//! itself. Output: the secret, read once, while the configuration is read. A secret in plain text works, because a
//! first try should need no second file; it leaves a note, which becomes a warning.

use std::{fmt, fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use super::context::{Context, Note};

/// A password is a line. A certificate is a page.
const MOST_BYTES: u64 = 64 * 1024;

/// A password or token.
///
/// `Debug` shows nothing of it, and no error has it. It is never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret that does not come from a file of configuration.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Show it to nobody but the server that asks for it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secret = deserializer
            .deserialize_any(SecretVisitor)?
            .read()
            .map_err(Error::custom)?;
        match secret.0.is_empty() {
            true => Err(Error::custom(
                "the secret is empty; write it into the place that is named here",
            )),
            false => Ok(secret),
        }
    }
}

/// Where a secret is.
pub(super) enum Source {
    Text(String),
    Env(String),
    File(String),
}

impl Source {
    /// Where a text says that a secret is.
    pub(super) fn of_text(text: &str) -> Self {
        if let Some(name) = text.strip_prefix("env:") {
            return Self::Env(name.to_owned());
        }
        match text.strip_prefix("file:") {
            Some(path) => Self::File(path.to_owned()),
            None => Self::Text(text.to_owned()),
        }
    }

    /// Reads the secret. The text of an error is what is wrong, a semicolon, and the cure.
    pub(super) fn read(self) -> Result<Secret, String> {
        match self {
            Self::Text(text) => {
                Context::note(Note::PlainText(text.clone()));
                Ok(Secret(text))
            }
            Self::Env(name) => match Context::variable(&name) {
                Ok(Some(value)) if value.is_empty() => Err(format!(
                    "the environment variable {name:?} is empty; set it"
                )),
                Ok(Some(value)) => Ok(Secret(value)),
                Ok(None) => Err(format!(
                    "the environment variable {name:?} is not set; set it"
                )),
                Err(()) => Err(format!(
                    "the environment variable {name:?} is not UTF-8; set it anew"
                )),
            },
            Self::File(path) => from_file(&Context::path(&path)),
        }
    }
}

/// The secret of a file, without the newline at its end.
fn from_file(path: &Path) -> Result<Secret, String> {
    let name = path.display();
    let unreadable = |error: std::io::Error| {
        format!(
            "the secret file {name} cannot be read ({error}); look at its path and its permissions"
        )
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        // Reading a pipe could wait for ever.
        return Err(format!(
            "the secret file {name} is no ordinary file; name one"
        ));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!(
            "the secret file {name} is larger than 64 KiB; look whether it is the right one"
        ));
    }
    let Ok(mut text) = String::from_utf8(bytes) else {
        return Err(format!(
            "the secret file {name} is not UTF-8; save it as such"
        ));
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(format!(
            "the secret file {name} is empty; write the secret into it"
        ));
    }
    if text.contains('\0') {
        return Err(format!(
            "the secret file {name} has a byte of zero; remove it"
        ));
    }
    if metadata.permissions().mode() & 0o007 != 0 {
        Context::note(Note::OpenFile(path.to_owned()));
    }
    Ok(Secret(text))
}

/// What may stand in place of a secret. Refuses everything else without quoting it.
const WANTED: &str =
    "write \"env:NAME\", \"file:/path\", { env = \"NAME\" } or { file = \"/path\" }";

/// Reads where a secret is.
struct SecretVisitor;

impl SecretVisitor {
    fn refuse<E: Error, T>() -> Result<T, E> {
        Err(E::custom(format_args!("this is no secret; {WANTED}")))
    }
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Source, E> {
        Ok(Source::of_text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Source, A::Error> {
        let mut source = None;
        while let Some(key) = map.next_key::<String>()? {
            let value = match key.as_str() {
                "env" | "file" | "text" => map.next_value::<Word>()?.0,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    return Self::refuse();
                }
            };
            let one = match key.as_str() {
                "env" => Source::Env(value),
                "file" => Source::File(value),
                _ => Source::Text(value),
            };
            if source.replace(one).is_some() {
                return Self::refuse();
            }
        }
        source.map_or_else(Self::refuse, Ok)
    }

    // serde's own refusals would quote the value.
    fn visit_bool<E: Error>(self, _: bool) -> Result<Source, E> {
        Self::refuse()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Source, E> {
        Self::refuse()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Source, E> {
        Self::refuse()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Source, E> {
        Self::refuse()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Source, E> {
        Self::refuse()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Source, E> {
        Self::refuse()
    }
}

/// A text. Everything else is refused without being quoted.
pub(super) struct Word(pub(super) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer);
        text.map(Self)
            .map_err(|_| Error::custom("this is no text; write a text in quotes"))
    }
}
