//! Why a stream has ended, from what the server or the network said.
//!
//! Input: an error of the client library. Output: an [`Ended`], which tells whether trying again may help, whether
//! changes are gone, or whether an event cannot be read.

use std::time::Duration;

use final_core::BoxError;
use mysql_async::{DriverError, Error};

/// Why a stream has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The connection broke, or the server does not let us in.
    Away(BoxError),
    /// Another reader took the stream over.
    Busy(String),
    /// What comes after the position is no longer there.
    Gone(String),
    /// An event cannot be read.
    Unreadable(String),
}

/// The server's number for all errors of a stream. Their texts tell them apart.
const FATAL_READING: u16 = 1236;

/// MariaDB's number for a stream that another reader with the same id has ended.
const SAME_ID: u16 = 4052;

/// Parts of the texts of [`FATAL_READING`], in lower case, of servers 10.11 to 12.
const GONE: &[&str] = &[
    "could not find first log file",
    "could not find gtid state",
    "which is not in the master's binlog",
    "could not find the requested gtid",
    "is missing the gtid",
    "has diverged",
    "impossible position",
    "past the end of file",
    "beyond the end",
    "position > file size",
    "truncated in the middle of event",
    "bogus data in log event",
    "failed to read gtid",
];
const BUSY: &[&str] = &["same server_uuid", "same server_id", "same server id"];

impl Ended {
    /// Of an error.
    pub(super) fn of(error: Error) -> Self {
        match error {
            Error::Server(server) if server.code == SAME_ID => Self::Busy(server.message),
            Error::Server(server) if server.code == FATAL_READING => {
                let text = server.message.to_lowercase();
                let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
                if has(BUSY) {
                    Self::Busy(server.message)
                } else if has(GONE) {
                    Self::Gone(server.message)
                } else {
                    Self::Unreadable(format!("the server says: {}", server.message))
                }
            }
            Error::Driver(DriverError::PacketTooLarge) => Self::too_large(),
            // What was parsed of an event did not fit.
            Error::Driver(DriverError::UnexpectedPacket { payload }) => Self::Unreadable(format!(
                "the server sent a packet of {} bytes that is no event",
                payload.len()
            )),
            Error::Io(mysql_async::IoError::Io(io))
                if io
                    .get_ref()
                    .is_some_and(|inner| format!("{inner:?}") == "PacketTooLarge") =>
            {
                Self::too_large()
            }
            Error::Io(mysql_async::IoError::Io(io)) if is_of_parsing(&io.to_string()) => {
                Self::Unreadable(format!("its bytes do not fit: {io}"))
            }
            other => Self::Away(Box::new(other)),
        }
    }

    fn too_large() -> Self {
        Self::Unreadable("it is larger than the limit. Raise `max_event` of the source".to_owned())
    }

    /// Nothing came, although the server promised a sign of life.
    pub(super) fn silent(limit: Duration) -> Self {
        Self::Away(format!("the source has sent no whole event for {limit:?}").into())
    }
}

/// Whether the client library could not parse an event. It tells that as an error of the network.
fn is_of_parsing(text: &str) -> bool {
    text.contains("bytes remaining on stream") || text.contains("can't parse")
}
