//! One call, and what came of it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};

use crate::{AddressKind, EndpointError, client::endpoint::set_header};

/// What is sent to an endpoint.
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) body: Bytes,
    pub(crate) content_type: HeaderValue,
    pub(crate) idempotency_key: HeaderValue,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Call {
    /// A call with this body.
    ///
    /// A repeat has the same `idempotency_key`, so that the receiver knows it: derive it from what is told, for example
    /// the id of a message, and not from the attempt.
    ///
    /// # Errors
    ///
    /// The content type cannot be a header, or the key has not 1 to 255 visible ASCII characters.
    pub fn new(
        body: impl Into<Bytes>,
        content_type: &str,
        idempotency_key: &str,
    ) -> Result<Self, EndpointError> {
        let visible = idempotency_key.bytes().all(|sign| sign.is_ascii_graphic());
        if !visible || !(1..=255).contains(&idempotency_key.len()) {
            return Err(EndpointError::IdempotencyKey);
        }
        let unfit = |_| EndpointError::Header {
            name: "Content-Type".to_owned(),
            problem: "has a value with a control character",
        };
        Ok(Self {
            body: body.into(),
            content_type: content_type.parse().map_err(unfit)?,
            idempotency_key: idempotency_key
                .parse()
                .map_err(|_| EndpointError::IdempotencyKey)?,
            headers: Vec::new(),
        })
    }

    /// Sends this header with the call, in place of the endpoint's own header of the same name.
    ///
    /// # Errors
    ///
    /// The header cannot be sent, or is one that a call has by itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, EndpointError> {
        set_header(&mut self.headers, name, value)?;
        Ok(self)
    }

    /// What tells messages apart for a circuit.
    pub(crate) fn message(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.idempotency_key.hash(&mut hasher);
        hasher.finish()
    }
}

/// What came of a call, and when the endpoint may be called again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The endpoint has answered with this status from 200 to 299, to the end of its answer.
    Done(u16),
    /// The endpoint has answered 410: it wants neither this call again nor any other. The caller does not remember it; who
    /// calls decides what is done then.
    Gone,
    /// The call is not done. The endpoint may have received it all the same.
    Retry {
        /// How long the endpoint asks to be left alone: an hour at most. The pause of the caller's own may be longer.
        after: Option<Duration>,
        /// Why it is not done.
        why: NotDone,
    },
    /// Nothing was sent, because the endpoint has failed too often, or has asked for a rest.
    Paused {
        /// When this call may be let through. While one call tries the endpoint, all others are still paused.
        until: Instant,
    },
}

/// Why a call is not done. The text fits on one line, and has no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotDone {
    /// The endpoint has answered with a status that does not mean done.
    #[error("the endpoint answered {status}{}", after_colon(.said))]
    Status {
        /// The status.
        status: u16,
        /// The beginning of the answer's body: 1 KiB at most, without control characters.
        said: String,
    },
    /// The endpoint has answered with a redirect, which is never followed.
    #[error(
        "the endpoint answered {status}, a redirect to {to}; redirects are not followed, so correct the URL"
    )]
    Redirect {
        /// The status.
        status: u16,
        /// Scheme, host and port of the new place.
        to: String,
    },
    /// The time limit of the endpoint is over.
    #[error("the call was not over after {limit:?}; it ended {step}")]
    Late {
        /// The limit.
        limit: Duration,
        /// What was being done.
        step: Step,
    },
    /// The host has no address.
    #[error("the name {host} has no address: {error}")]
    Unresolved {
        /// The host.
        host: String,
        /// What the resolver says.
        error: String,
    },
    /// The host has no address that may be called.
    #[error(
        "{host} is at {address}, {kind}, which is not called unless the endpoint allows it: by `allow_private` or \
         `allow_network`, or by `private = true` in a file"
    )]
    Forbidden {
        /// The host.
        host: String,
        /// One of its addresses.
        address: std::net::IpAddr,
        /// What kind of address it is.
        kind: AddressKind,
    },
    /// No connection could be made.
    #[error("no connection to {address}: {error}")]
    Unreachable {
        /// The address that was tried last.
        address: std::net::SocketAddr,
        /// What the system says.
        error: String,
    },
    /// The endpoint could not prove who it is.
    #[error("no secure connection: {error}")]
    Tls {
        /// What is wrong.
        error: String,
    },
    /// The connection ended before the answer, or the answer is no HTTP.
    #[error("no complete answer: {error}")]
    Broken {
        /// What is wrong.
        error: String,
    },
    /// As many calls as may be are under way, and none has ended in time.
    #[error("as many calls as allowed are under way, and none has ended within {limit:?}")]
    Busy {
        /// How long the call has waited.
        limit: Duration,
    },
}

/// How far a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Looking for the addresses of the host.
    Resolving,
    /// Making a connection.
    Connecting,
    /// Sending, and waiting for the head of the answer.
    Waiting,
    /// Reading the body of the answer.
    Reading,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolving => "while the name was looked up",
            Self::Connecting => "while a connection was made",
            Self::Waiting => "while the answer was waited for",
            Self::Reading => "while the answer was read",
        })
    }
}

fn after_colon(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_that_cannot_be_sent_is_refused() {
        let longest = "k".repeat(255);
        for key in [
            "repair-7",
            "0198f2c4-…".split('-').next().unwrap(),
            &longest,
        ] {
            assert!(Call::new("", "text/plain", key).is_ok(), "{key}");
        }
        let long = "k".repeat(256);
        for key in ["", " ", "a b", "a\r\nb", "é", &long] {
            assert!(Call::new("", "text/plain", key).is_err(), "{key}");
        }
        assert!(Call::new("", "text/plain\n", "k").is_err());
    }
}
