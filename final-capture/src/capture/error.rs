//! Why a capture cannot start.

use final_core::broker::BrokerError;

use crate::{position::PositionError, source::SourceError};

/// Why a capture cannot start or make its tables. The text says what to do; the cause is in
/// [`source`](std::error::Error::source). No text has a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The capture's name cannot be used.
    #[error(
        "the name {name:?} of the capture cannot be used; use 1 to 40 characters `a-z`, `0-9`, `_` or `-`, starting \
         with a letter"
    )]
    Name {
        /// The name as it was given.
        name: String,
    },
    /// Something of the configuration is missing or wrong.
    #[error("{0}")]
    Config(String),
    /// The source could not be examined.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The position could not be read or saved.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The log could not be used.
    #[error(transparent)]
    Log(#[from] final_core::Error),
    /// The broker refuses.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Checks the name of a capture: it names rows and the service of a broker's connection.
pub(super) fn check_name(name: &str) -> Result<(), CaptureError> {
    let of_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let is_usable = name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(of_name);
    match is_usable {
        true => Ok(()),
        false => Err(CaptureError::Name {
            name: name.chars().take(64).collect(),
        }),
    }
}
