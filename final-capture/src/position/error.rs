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
    /// A refused message is larger than a statement that the database takes.
    #[error(
        "the target refuses a message, and it cannot be parked either: it has {bytes} bytes, and the database of the position \
         takes statements of {packet}; raise max_allowed_packet there, or leave columns out of the messages"
    )]
    TooLargeToPark {
        /// How many bytes the message has.
        bytes: usize,
        /// How many bytes a statement may have.
        packet: usize,
    },
}

/// Beside the message a statement has the names and the head of a packet.
const REST: usize = 4096;

impl PositionError {
    /// Whether a refused message of so many bytes fits into a statement of the database. The error passes the transaction as
    /// one of the driver; [`carried`](Self::carried) takes it out.
    pub(crate) fn check_parked(bytes: usize, packet: Option<usize>) -> Result<(), sqlx::Error> {
        match packet {
            Some(packet) if bytes.saturating_add(REST) > packet => {
                let error = Self::TooLargeToPark { bytes, packet };
                Err(sqlx::Error::Configuration(Box::new(error)))
            }
            _ => Ok(()),
        }
    }

    /// The error that one of the driver carries, or the driver's own.
    pub(crate) fn carried(error: sqlx::Error) -> Result<Self, sqlx::Error> {
        match error {
            sqlx::Error::Configuration(inner) => match inner.downcast() {
                Ok(error) => Ok(*error),
                Err(inner) => Err(sqlx::Error::Configuration(inner)),
            },
            error => Err(error),
        }
    }

    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}
