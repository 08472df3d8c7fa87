//! What an error of lapin means.
//!
//! Input: an error of lapin. Output: a [`Fault`], which decides about the messages of a channel that has
//! ended, or a `BrokerError` for the user.

use std::io;

use final_core::broker::{BrokerError, BrokerErrorKind};
use lapin::{Error, ErrorKind};

use crate::{code, refusal::Refusal};

/// Why a channel ended, as far as this matters for its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection was lost, or the reason is unknown.
    Lost(String),
    /// The server closed the channel, with a code.
    Channel(u16, String),
    /// The server closed the connection, with a code.
    Connection(u16, String),
    /// lapin could not write a frame and closed the connection.
    Unwritable(String),
}

impl Fault {
    /// Whether this fault has a reason and the other one has none. When a channel ends, its futures fail with
    /// different errors, and only some of them carry the server's reason.
    pub(crate) fn tells_more_than(&self, other: &Self) -> bool {
        matches!(other, Self::Lost(_)) && !matches!(self, Self::Lost(_))
    }

    /// Whether the server closed the channel with this code.
    pub(crate) fn is_channel_code(&self, code: u16) -> bool {
        matches!(self, Self::Channel(have, _) if *have == code)
    }

    /// Whether a message can be the reason. A missing exchange, or a missing permission to write to it, is
    /// not the message's fault.
    pub(crate) fn blames_a_message(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Channel(code::NOT_FOUND | code::ACCESS_REFUSED, _) => false,
            Self::Channel(..) | Self::Connection(..) | Self::Unwritable(_) => true,
        }
    }

    /// What happened, in the server's words if there are any.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Lost(text)
            | Self::Channel(_, text)
            | Self::Connection(_, text)
            | Self::Unwritable(text) => text,
        }
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(reply) => {
                let (code, text) = (reply.get_id(), reply.get_message().to_string());
                if code::is_about_no_message(code) {
                    Self::Lost(text)
                } else if error.is_amqp_soft_error() {
                    Self::Channel(code, text)
                } else {
                    Self::Connection(code, text)
                }
            }
            ErrorKind::SerialisationError(_) => Self::Unwritable(error.to_string()),
            _ => Self::Lost(error.to_string()),
        }
    }
}

/// The server's reply code, if it gave one.
pub(crate) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => Some(reply.get_id()),
        _ => None,
    }
}

/// The error of a call that was not answered in time.
pub(crate) fn timed_out() -> Error {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Whether a call was not answered in time.
pub(crate) fn is_timeout(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::IOError(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Whether the other side ended the connection without giving a reason.
pub(crate) fn is_hang_up(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        ErrorKind::IOError(error) => matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        ),
        _ => false,
    }
}

/// What kind of error this is, while connecting or declaring, and what to do about it.
fn refusal_of(error: &Error) -> Refusal {
    let kind = match error.kind() {
        ErrorKind::ProtocolError(reply) => {
            return Refusal::of(reply.get_id(), reply.get_message().as_str());
        }
        ErrorKind::AuthProviderError(_) => BrokerErrorKind::Refused,
        ErrorKind::IOError(error) if is_about_certificates(error) => BrokerErrorKind::Certificate,
        _ => BrokerErrorKind::Unreachable,
    };
    let advice = match (kind, error.kind()) {
        (BrokerErrorKind::Certificate, _) => {
            "check the host name, `Amqp::ca_certificate` and the client certificate"
        }
        (_, ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_)) => {
            "the other side speaks no AMQP 0-9-1; check the port, which is 5672 unless configured, or \
             5671 for TLS"
        }
        (_, ErrorKind::ChannelsLimitReached) => {
            "RabbitMQ allows too few channels for each connection; raise its `channel_max`"
        }
        _ => "",
    };
    Refusal { kind, advice }
}

/// Whether the broker refused user and password.
pub(crate) fn is_refused_login(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => {
            reply.get_id() == code::ACCESS_REFUSED
                && !reply.get_message().as_str().contains("access to")
        }
        _ => false,
    }
}

/// An error with its advice, for logs.
pub(crate) fn told(error: &Error) -> String {
    format!("{error}{}", refusal_of(error).ending())
}

/// TLS errors come as I/O errors. This crate does not depend on rustls, so kind and text must do.
fn is_about_certificates(error: &io::Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    error.kind() == io::ErrorKind::InvalidData
        || ["certificate", "pkcs12", "tls", "handshake", "server name"]
            .iter()
            .any(|word| text.contains(word))
}

/// An error for the user: what failed, what to do, and lapin's error as the source.
pub(crate) fn broker_error(doing: &str, error: Error) -> BrokerError {
    broker_error_with(doing, error, "")
}

/// The same, with what else is known.
pub(crate) fn broker_error_with(doing: &str, error: Error, hint: &str) -> BrokerError {
    let refusal = refusal_of(&error);
    let text = format!("{doing}: {error}{hint}{}", refusal.ending());
    BrokerError::new(refusal.kind, text).because(error)
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

    use super::*;

    fn fault(kind: impl Into<AMQPErrorKind>) -> Fault {
        let reply = AMQPError::new(kind.into(), "why".into());
        Fault::from(&Error::from(ErrorKind::ProtocolError(reply)))
    }

    #[test]
    fn a_message_is_blamed_for_what_it_can_be_the_reason_of() {
        for (fault, is_blamed) in [
            (fault(AMQPSoftError::PRECONDITIONFAILED), true),
            (fault(AMQPSoftError::NOTFOUND), false),
            (fault(AMQPSoftError::ACCESSREFUSED), false),
            (fault(AMQPHardError::FRAMEERROR), true),
            (fault(AMQPHardError::INTERNALERROR), true),
            (fault(AMQPHardError::CONNECTIONFORCED), false),
            (fault(AMQPHardError::CHANNELERROR), false),
            // A limit of connections or channels.
            (fault(AMQPHardError::NOTALLOWED), false),
            (Fault::from(&timed_out()), false),
        ] {
            assert_eq!(fault.blames_a_message(), is_blamed, "{fault:?}");
        }
    }
}
