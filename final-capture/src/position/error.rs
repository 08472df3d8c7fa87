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
}

impl PositionError {
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}
