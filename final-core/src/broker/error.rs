//! Why a broker cannot be used.
//!
//! Input: what went wrong, and a kind. Output: [`BrokerError`], which says what to do, and by its kind whether
//! it passes.

use crate::BoxError;

/// What kind of trouble it is, as far as a caller acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerErrorKind {
    /// The broker does not answer, or it refuses for a reason that passes: a node that is down, a limit that is
    /// reached. The bus tries again.
    Unreachable,
    /// Login, virtual host or permission refused, until somebody changes the configuration.
    Refused,
    /// The certificate is not trusted, or TLS is set up wrongly.
    Certificate,
    /// A queue or an exchange of that name exists with other arguments.
    Mismatch,
    /// The address or an option cannot be used.
    Invalid,
    /// Other consumers or instances are using what was asked for.
    InUse,
}

/// Why a broker cannot be used, and what to do about it. Never contains a password.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct BrokerError {
    kind: BrokerErrorKind,
    text: String,
    source: Option<BoxError>,
}

impl BrokerError {
    /// Makes an error; `text` says what happened and what to do.
    pub fn new(kind: BrokerErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }

    /// Adds the cause.
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> BrokerErrorKind {
        self.kind
    }
}
