//! How a service ended that did not stop as it should.
//!
//! Input: the error of a step. Output: a line for a person, and an exit code.

use std::{any::Any, error::Error as StdError, io, net::SocketAddr};

use final_core::BoxError;

use crate::config::Period;

/// Why a service did not run from its start to an orderly stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The filter of the log cannot be read.
    #[error("the log filter is not valid; write it as \"info\" or \"info,final::relay=debug\"")]
    LogFilter(#[source] BoxError),
    /// Another log has been set up before.
    #[error("the log cannot be set up")]
    Log(#[source] BoxError),
    /// The runtime cannot be started.
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
    /// Signals cannot be listened to.
    #[error("signals cannot be listened to")]
    Signals(#[source] io::Error),
    /// The address for probes and metrics cannot be used.
    #[error("cannot listen on {address}; {}", listen_cure(error))]
    Listen {
        /// The address of `listen`.
        address: SocketAddr,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The service did not start.
    #[error("the service could not be started")]
    Start(#[source] BoxError),
    /// The service died by itself.
    #[error("the service died")]
    Died(#[source] BoxError),
    /// The stop failed.
    #[error("the service did not stop as it should")]
    Stop(#[source] BoxError),
    /// The stop took too long.
    #[error(
        "the service did not stop within {0} and was cut off; a longer `stop_within` gives it more time"
    )]
    TooLate(Period),
    /// A second signal came while the service stopped.
    #[error("the service was cut off by a second {0}")]
    CutOff(&'static str),
}

/// A mistake in the configuration that only the start of a service has found.
///
/// As the error of a start it makes the exit code 2.
///
/// ```
/// use final_cli::service::Mistake;
///
/// let mistake = Mistake::new("service.toml: there is no table users");
/// assert_eq!(mistake.to_string(), "service.toml: there is no table users");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(String);

impl Mistake {
    /// What is wrong and where, without a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl ServiceError {
    /// 2 for a mistake in the configuration, and otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::LogFilter(_) => 2,
            Self::Start(error) if error.is::<Mistake>() => 2,
            Self::Listen { error, .. } if is_no_address(error) => 2,
            _ => 1,
        }
    }

    /// The error with its causes. A cause that the text above it repeats is left out.
    pub fn chain(&self) -> String {
        crate::causes::chain(self)
    }
}

/// Whether the address is not one of this machine.
fn is_no_address(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

fn listen_cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "end the process that has the port, or choose another one",
        io::ErrorKind::AddrNotAvailable => {
            "write an address of this machine, as 127.0.0.1, or 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023, or give the process the right"
        }
        _ => "choose another address",
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a text").to_owned()
}
