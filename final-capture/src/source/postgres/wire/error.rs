//! Why a session with the server failed.

use std::{fmt, io, time::Duration};

use pgwire_replication::protocol::messages::ErrorFields;

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum SessionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server ended the connection without a word.
    #[error("the server closed the connection")]
    Closed,
    #[error("the server was silent for {0:?}")]
    Silent(Duration),
    /// The server said no.
    #[error("{0}")]
    Server(Box<ServerError>),
    #[error("{0}")]
    Protocol(String),
    #[error("the login failed: {0}")]
    Login(String),
    #[error("TLS with the server failed: {0}")]
    Tls(String),
    #[error("the server sent a message of {bytes} bytes, and {most} is the limit")]
    TooLarge { bytes: usize, most: usize },
}

/// What the server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct ServerError {
    /// The SQLSTATE.
    pub(in super::super) code: String,
    pub(in super::super) message: String,
    pub(in super::super) detail: Option<String>,
    pub(in super::super) hint: Option<String>,
}

impl ServerError {
    /// Reads an ErrorResponse or a NoticeResponse.
    pub(in super::super) fn parse(body: &[u8]) -> Self {
        let fields = ErrorFields::parse(body);
        Self {
            code: fields.code.unwrap_or_default(),
            message: fields
                .message
                .unwrap_or_else(|| "an error without a text".to_owned()),
            detail: fields.detail,
            hint: fields.hint,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        for more in [&self.detail, &self.hint].into_iter().flatten() {
            write!(f, "; {more}")?;
        }
        Ok(())
    }
}
