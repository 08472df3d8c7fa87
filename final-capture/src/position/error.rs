//! Why a position could not be read or saved.

use std::path::PathBuf;

/// Why a position could not be read or saved. It never means that there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PositionError {
    /// The database failed.
    #[error("the database failed while {doing}")]
    Database {
        /// What was done.
        doing: &'static str,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// The file failed.
    #[error("{} failed while {doing}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What was done.
        doing: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// What is stored is no position. The text says where it is, and what to do.
    #[error("{0}")]
    Unreadable(String),
    /// Another reader has taken over. Nothing was saved.
    #[error("another reader has taken over; nothing was saved")]
    Deposed,
    /// This place cannot keep refused messages.
    #[error(
        "the file of the position cannot keep messages that the target refuses; keep the position in a database, or \
         mend the message"
    )]
    CannotPark,
    /// A refused message is larger than what the database takes.
    #[error(transparent)]
    TooLargeToPark(#[from] TooLargeToPark),
}

/// A refused message is larger than a statement that the database takes.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the target refuses a message, and it cannot be parked either: it has {bytes} bytes, and the database of the position takes \
     statements of {packet}; raise max_allowed_packet there, or leave columns out of the messages"
)]
pub struct TooLargeToPark {
    bytes: usize,
    packet: usize,
}

impl TooLargeToPark {
    /// Beside the message a statement has the names and the head of a packet.
    const REST: usize = 4096;

    /// Whether so many bytes fit into a statement of the database.
    pub(crate) fn check(bytes: usize, packet: Option<usize>) -> Result<(), Self> {
        match packet {
            Some(packet) if bytes.saturating_add(Self::REST) > packet => {
                Err(Self { bytes, packet })
            }
            _ => Ok(()),
        }
    }

    /// Finds it in an error of the driver, which carries it out of a transaction.
    pub(crate) fn of(error: &sqlx::Error) -> Option<&Self> {
        match error {
            sqlx::Error::Configuration(inner) => inner.downcast_ref(),
            _ => None,
        }
    }
}

impl PositionError {
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}
