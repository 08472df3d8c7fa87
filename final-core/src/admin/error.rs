//! The errors of an operator's questions and changes. Each text says what happened, and what to do about it.

use std::time::Duration;

use crate::Error;

/// Why a question of an operator has no answer, or a change was not made.
///
/// The text is about this level only; the cause is in [`source`](std::error::Error::source). No text contains a
/// password, a URL with one, or a payload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The database has no outbox, no group of the log and no dead letters of such a service.
    #[error("this database knows no service {name:?}; it knows: {known}")]
    UnknownService {
        /// The name as given.
        name: String,
        /// The names of the services that there are, separated by commas; `none` if there are none.
        known: String,
    },
    /// The filter cannot be used for this.
    #[error("the filter cannot be used: {0}")]
    InvalidFilter(&'static str),
    /// There is no operation of that number.
    #[error("there is no operation {0}; `operations` lists those that there are")]
    UnknownOperation(i64),
    /// Another program carries the operation out.
    #[error(
        "another program carries out operation {id} now; stop the operation first, or wait: if that program is \
         gone, its lease ends in {left:?}"
    )]
    OperationInHand {
        /// The number of the operation.
        id: i64,
        /// How long the lease of the other program lasts, unless it is renewed.
        left: Duration,
    },
    /// The operation has ended, so there is nothing to carry out or to stop.
    #[error("operation {0} has ended; make a new plan for what is left")]
    OperationEnded(i64),
    /// This program stood still for longer than its lease, and another one has taken the operation over.
    #[error(
        "operation {0} was taken over by another program, because this one stood still for too long"
    )]
    OperationLost(i64),
    /// Other sessions had some of the rows locked, so these are not done.
    #[error(
        "operation {id} is done but for {rows} rows that other sessions have locked; carry it out again when these \
         have ended their transactions"
    )]
    RowsLocked {
        /// The number of the operation.
        id: i64,
        /// How many rows are not done.
        rows: u64,
    },
    /// The bus's own part of the database failed or refused.
    #[error(transparent)]
    Bus(#[from] Error),
}
