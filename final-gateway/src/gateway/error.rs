//! Why a gateway cannot start.

use final_core::broker::BrokerError;

use crate::{groups::GroupError, listen::ListenError};

/// Why a gateway cannot start or make its tables. The text says what to do; the cause is in
/// [`source`](std::error::Error::source). No text has a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The gateway's name cannot be used.
    #[error(
        "the name {name:?} of the gateway cannot be used; use 1 to 40 characters `a-z`, `0-9`, `_` or `-`, starting \
         with a letter"
    )]
    Name {
        /// The name as it was given.
        name: String,
    },
    /// The database or the outbox could not be used.
    #[error(transparent)]
    Bus(#[from] final_core::Error),
    /// The broker refuses.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The tables of groups could not be made or read.
    #[error(transparent)]
    Groups(#[from] GroupError),
    /// The tables of rights could not be made.
    #[error("the tables of rights could not be made")]
    Rights(#[source] sqlx::Error),
    /// An address cannot be listened at.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Checks the name of a gateway: it is the name of its outbox, as that of a service.
pub(super) fn check_name(name: &str) -> Result<(), GatewayError> {
    let of_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let is_usable = name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(of_name);
    match is_usable {
        true => Ok(()),
        false => Err(GatewayError::Name {
            name: name.chars().take(64).collect(),
        }),
    }
}
