//! Reads a TOML file into a configuration, and says exactly what is wrong with it.
//!
//! Input: a file, and a type that derives `serde::Deserialize` with `#[serde(deny_unknown_fields)]`. Output: the
//! configuration with its [warnings](ConfigWarning), or a [`ConfigError`] that names file, line, column, key and cure.
//! No error and no warning shows a value of the file, because a password may stand under a wrong key.
//!
//! ```text
//!   file ─ bounded, UTF-8 ─▶ tree of keys and places ─▶ the type ─▶ configuration, warnings
//!                                     └───── where an error is ◀────┘
//! ```
//!
//! | value | written as | type |
//! | --- | --- | --- |
//! | a password, a token | `"env:NAME"`, `"file:/path"`, `{ env = "NAME" }`, `{ file = "/path" }` | [`Secret`] |
//! | a database | `"postgres://…"`, or `{ url = "…", password = … }` | [`DatabaseAddress`] |
//! | a RabbitMQ | `"amqp://…"`, or `{ url = "…", password = … }` | [`BrokerAddress`] |
//! | an endpoint | `"https://…"`, or `{ url = "…", password = … }` | [`WebAddress`] |
//! | a time | `"30s"`, `"1h 30m"` | [`Period`] |
//! | a size | `"64 KiB"`, `1000000` | [`ByteSize`] |

mod context;
mod error;
mod explain;
mod place;
mod secret;
mod units;
mod url;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, Deserializer};

pub(crate) use self::explain::explain;
use self::{
    context::Context,
    error::Found,
    place::{Place, place_of, text_place},
};
pub use self::{
    error::{ConfigError, ConfigWarning},
    secret::Secret,
    units::{ByteSize, Period},
    url::{BrokerAddress, DatabaseAddress, WebAddress},
};

/// A configuration has a few kilobytes. A larger file is the wrong one.
const MOST_BYTES: u64 = 1024 * 1024;

/// A configuration that was read, and what its author should know about it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded<C> {
    /// The configuration.
    pub config: C,
    /// What works, and should be changed all the same.
    pub warnings: Vec<ConfigWarning>,
}

/// Reads a file. Paths of secrets in it are relative to its folder.
///
/// ```
/// use final_cli::config::{self, DatabaseAddress, Period};
///
/// #[derive(Debug, serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Gateway {
///     database: DatabaseAddress,
///     timeout: Period,
/// }
///
/// # let folder = std::env::temp_dir().join(format!("config-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("gateway.toml");
/// std::fs::write(&path, "database = 'postgres://shop@db/shop'\ntimeuot = '30s'\n")?;
/// let error = config::read::<Gateway>(&path).unwrap_err().to_string();
/// assert!(error.ends_with("gateway.toml:2:1: `timeuot`: this key is not known; did you mean `timeout`?"));
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<_, std::io::Error>(())
/// ```
///
/// # Errors
///
/// Fails if the file cannot be read, is no TOML, or does not fit the type; and if a secret that it names is missing.
pub fn read<C: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Loaded<C>, ConfigError> {
    let path = path.as_ref();
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let what = format!("the file cannot be read: {error}");
            let cure = "look at its path and its permissions";
            return Err(Found::new(None, what, cure).in_file(path, b""));
        }
    };
    if bytes.len() as u64 > MOST_BYTES {
        let cure = "a configuration is far smaller: look whether this is the right file";
        return Err(Found::new(None, "the file is larger than 1 MiB", cure).in_file(path, b""));
    }
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    parse_in(path, &bytes, folder, read_environment)
}

/// Reads a configuration from text. `file` is the name that errors give it; paths of secrets are relative to its folder.
///
/// # Errors
///
/// Fails as [`read`] does.
pub fn parse<C: DeserializeOwned>(
    file: impl AsRef<Path>,
    text: &str,
) -> Result<Loaded<C>, ConfigError> {
    let file = file.as_ref();
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    parse_in(file, text.as_bytes(), folder, read_environment)
}

/// The whole file, and no more than a byte above the limit.
fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A variable of the environment. An error says that it is not UTF-8.
fn read_environment(name: &str) -> Result<Option<String>, ()> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(()),
    }
}

/// Parses bytes, with the environment that secrets come from.
fn parse_in<C: DeserializeOwned>(
    file: &Path,
    bytes: &[u8],
    folder: PathBuf,
    environment: fn(&str) -> Result<Option<String>, ()>,
) -> Result<Loaded<C>, ConfigError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let cure = "save the file as UTF-8";
            return Err(
                Found::new(Some(at), "here the file is not UTF-8", cure).in_file(file, bytes)
            );
        }
    };
    if let Some(at) = text.find('\0') {
        let cure = "remove the byte: a configuration is text";
        return Err(Found::new(Some(at), "here is a byte of zero", cure).in_file(file, bytes));
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    let fail = |error: &toml::de::Error| {
        let mut place = place_of(tree.get_ref(), error.span());
        if error.message() == "duplicate key" {
            // The tree has the first of the two, so the name comes from the text.
            place.name(error.span().and_then(|span| text.get(span)));
        }
        Found::explained(error, place).in_file(file, bytes)
    };
    if let Some(error) = errors.first() {
        return Err(fail(error));
    }
    let (config, notes) = Context::within(folder, environment, || {
        Deserializer::parse(text).and_then(C::deserialize)
    });
    let config = config.map_err(|error| fail(&error))?;
    // Two secrets may have the same text.
    let places: Vec<Option<Place>> = notes
        .iter()
        .enumerate()
        .map(|(at, note)| {
            let plain = note.plain_text()?;
            let before = notes.iter().take(at);
            let others = before.filter(|it| it.plain_text() == Some(plain)).count();
            text_place(tree.get_ref(), plain, others)
        })
        .collect();
    let warnings = notes.into_iter().zip(places);
    let warnings = warnings.map(|(note, place)| ConfigWarning::new(note, place, file, bytes));
    Ok(Loaded {
        config,
        warnings: warnings.collect(),
    })
}
