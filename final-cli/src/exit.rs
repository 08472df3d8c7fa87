//! How the program ends.
//!
//! Input: what a command has found or done, or its error. Output: an exit code that a script can rely on, and a
//! line for a person. No line contains a password.

use std::{error::Error as StdError, fmt, io, process::ExitCode};

use final_core::{admin::AdminError, broker::BrokerErrorKind};

use crate::{causes::chain, redact::without_passwords};

/// How a command ended that has not failed. The numbers are a written surface (docs/cli.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done,
    /// A check found something.
    Found,
    /// No row matches the filter.
    NothingMatched,
    /// The question before a change was not answered with yes, or there was nobody to ask.
    NotConfirmed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Found => 3,
            Exit::NothingMatched => 4,
            Exit::NotConfirmed => 5,
        })
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line, a file of the program's or an argument is wrong. Nothing was done.
    Usage(String),
    /// The database, the broker or the machine failed.
    Failed(String),
    /// There is nothing yet that the command could be about.
    Nothing(String),
    /// The reader of the output went away (`| head`), which is no error.
    Closed,
}

impl Failure {
    /// A mistake of the command line.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// An error with its causes: while doing what, and the texts of the whole chain.
    pub(crate) fn doing(doing: impl fmt::Display, error: &(dyn StdError + 'static)) -> Self {
        Self::Failed(format!("{doing}: {}", chain(error)))
    }

    /// The exit code, and the line for a person.
    pub(crate) fn end(&self) -> (ExitCode, Option<String>) {
        match self {
            Self::Usage(text) => (ExitCode::from(2), Some(without_passwords(text))),
            Self::Failed(text) => (ExitCode::from(1), Some(without_passwords(text))),
            Self::Nothing(text) => (
                ExitCode::from(Exit::NothingMatched),
                Some(without_passwords(text)),
            ),
            Self::Closed => (ExitCode::SUCCESS, None),
        }
    }
}

impl From<final_core::Error> for Failure {
    fn from(error: final_core::Error) -> Self {
        match error {
            final_core::Error::InvalidServiceName { .. }
            | final_core::Error::InvalidTopic { .. }
            | final_core::Error::InvalidHeader { .. }
            | final_core::Error::InvalidPolicy { .. } => Self::Usage(chain(&error)),
            final_core::Error::Broker(error) if error.kind() == BrokerErrorKind::Invalid => {
                Self::Usage(chain(&error))
            }
            final_core::Error::MissingTable { table } => Self::Failed(format!(
                "the table {table} does not exist; the service makes it when it starts, and so does `final migrate`"
            )),
            error => Self::Failed(chain(&error)),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Bus(error) => error.into(),
            AdminError::UnknownService { .. }
            | AdminError::InvalidFilter(_)
            | AdminError::UnknownOperation(_) => Self::Usage(chain(&error)),
            error => Self::Failed(chain(&error)),
        }
    }
}

/// An error while writing to the standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("the output cannot be written: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_who_left_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let (code, line) = failure.end();
        assert_eq!((code, line), (ExitCode::SUCCESS, None));
    }

    #[test]
    fn no_line_has_a_password() {
        let text = "cannot open postgres://ops:secret@db/shop";
        for failure in [Failure::usage(text), Failure::Failed(text.into())] {
            let (_, line) = failure.end();
            assert_eq!(
                line.as_deref(),
                Some("cannot open postgres://ops:***@db/shop")
            );
        }
    }
}
