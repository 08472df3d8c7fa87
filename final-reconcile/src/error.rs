//! What can go wrong before or while two tables are compared.
//!
//! Each error names the database and the table, and says what to do. None has a value of a row or a password.

/// Why two tables could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// The database failed.
    #[error("{doing} {side} failed")]
    Database {
        /// What was done.
        doing: &'static str,
        /// The table and its database.
        side: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The tables of the state cannot be used.
    #[error("the tables final_reconcile_… in {side} cannot be used: {problem}")]
    State {
        /// The database.
        side: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// There is no such table.
    #[error(
        "there is no table {side}: look at its name and its schema, and at the rights of the user"
    )]
    NoTable {
        /// The table and its database.
        side: String,
    },
    /// A table has no such column.
    #[error("{side} has no column `{column}`{hint}")]
    NoColumn {
        /// The table and its database.
        side: String,
        /// The column.
        column: String,
        /// Why it was wanted, and what to do.
        hint: String,
    },
    /// Rows cannot be told apart by the key.
    #[error("{side} cannot be compared by the key ({key}): {why}; {cure}")]
    Key {
        /// The table and its database.
        side: String,
        /// The columns of the key.
        key: String,
        /// What is missing.
        why: String,
        /// What to do.
        cure: String,
    },
    /// Two columns have no common form.
    #[error(transparent)]
    NoForm(Box<NoForm>),
    /// The target cannot be written, and the job repairs by SQL.
    #[error("{side} cannot be repaired by SQL: {problem}")]
    Unwritable {
        /// The table and its database.
        side: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A row of the target could not be written.
    #[error("writing a row of {side} failed: {problem}")]
    Write {
        /// The table and its database.
        side: String,
        /// What is wrong, without values.
        problem: String,
    },
    /// The heartbeat of a mirror cannot be read.
    #[error("the heartbeat in {side} cannot be used: {problem}")]
    Heartbeat {
        /// The table and its database.
        side: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The job says something that cannot be meant.
    #[error("job `{job}`: {problem}")]
    Job {
        /// The job's name.
        job: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Endpoints cannot be called.
    #[error("endpoints cannot be called")]
    Caller {
        /// Why.
        #[from]
        source: final_webhook::CallerError,
    },
    /// A row could not be read as the statement gives it.
    #[error("a row of {side} has an unexpected form: {problem}")]
    Row {
        /// The table and its database.
        side: String,
        /// What is wrong.
        problem: String,
    },
}

/// Two columns that cannot be compared.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{source_column}` ({source_type}) of {source_side} and `{target_column}` ({target_type}) of {target_side} have no \
     common form: {cure}"
)]
#[non_exhaustive]
pub struct NoForm {
    /// The source.
    pub source_side: String,
    /// Its column.
    pub source_column: String,
    /// The column's type.
    pub source_type: String,
    /// The target.
    pub target_side: String,
    /// Its column.
    pub target_column: String,
    /// The column's type.
    pub target_type: String,
    /// What to do.
    pub cure: String,
}

/// An error with its causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A result of this crate.
pub(crate) type Reconciled<T> = Result<T, ReconcileError>;
