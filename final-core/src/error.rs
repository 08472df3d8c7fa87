//! The errors of a bus. Each text says what happened, where, and what to do about it.

use crate::{
    MessageId,
    broker::BrokerError,
    database::{
        advice::with_advice,
        refused::{refuses, refuses_login, refuses_values},
    },
};

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the bus could not do what it was asked.
///
/// The text is about this level only; the cause is in [`source`](std::error::Error::source). No text
/// contains a password, a URL with one, or a payload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service name cannot be used for tables and queues.
    #[error(
        "service name {name:?} is not usable: {reason}; use 1 to 40 characters `a-z`, `0-9`, `_` or `-`, \
         starting with a letter"
    )]
    InvalidServiceName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The topic cannot be used.
    #[error("topic {topic:?} is not usable: {reason}")]
    InvalidTopic {
        /// The topic as given, shortened if it is very long.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A header cannot be sent.
    #[error("header {name:?} cannot be sent: {reason}")]
    InvalidHeader {
        /// The header's name, shortened if it is very long.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A key, time to live, delay or other policy of a message cannot be used.
    #[error("message for topic {topic:?} cannot be published: {reason}")]
    InvalidPolicy {
        /// The topic of the message.
        topic: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The payload is larger than `Options::max_message_bytes`.
    #[error(
        "message for topic {topic:?} has {size} bytes, the limit is {limit}; send a reference to the \
         data instead, or raise `Options::max_message_bytes`"
    )]
    MessageTooLarge {
        /// The topic of the message.
        topic: String,
        /// Size of the payload in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The payload could not be serialized.
    #[error("could not encode the payload for topic {topic:?}")]
    Encode {
        /// The topic of the message.
        topic: String,
        /// The serializer's error.
        source: BoxError,
    },
    /// Options contradict each other or are out of range.
    #[error("invalid options: {0}")]
    InvalidOptions(String),
    /// The router cannot be started.
    #[error("invalid router: {0}")]
    InvalidRouter(String),
    /// The database failed, or refused.
    #[error("the database failed while {doing}")]
    Database {
        /// What the bus was doing.
        doing: &'static str,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// COMMIT was sent and not answered, so it is not known whether it took place.
    ///
    /// The bus looks the records up when the database answers again. Records that are visible were
    /// committed, and are sent; others are not.
    #[error(
        "the database did not answer COMMIT, so the transaction with {} message(s) may or may not have \
         taken place; read your own row back before you repeat it",
        ids.len()
    )]
    CommitUnknown {
        /// The messages of the transaction.
        ids: Vec<MessageId>,
    },
    /// The `TxBus` was moved out of the closure, so the bus has no transaction to commit.
    #[error(
        "the TxBus was moved out of the closure of `transaction`; nothing was committed; \
         use `with_tx` to own the handle"
    )]
    Escaped,
    /// The statement would have run outside a transaction.
    #[error(
        "the transaction was already over (a deadlock rolls it back, for example) and the closure went on; \
         the messages were not written; return such errors from the closure"
    )]
    NotInTransaction,
    /// The pool's connection had a transaction open, and the message could not be written besides it.
    #[error(
        "the connection from the pool has a transaction open that was not begun by `Bus::begin` or \
         `Pool::begin` but by a statement or a hook of the pool; the message was not written; end such a \
         transaction before its connection goes back to the pool"
    )]
    OpenTransaction,
    /// The outbox table is not there.
    #[error("the outbox table {table} does not exist; call `Bus::migrate` or `Bus::start` first")]
    MissingTable {
        /// The table's name.
        table: String,
    },
    /// The table that should be the outbox belongs to another service or system.
    #[error("table {table} cannot be used as the outbox: {reason}")]
    ForeignTable {
        /// The table's name.
        table: String,
        /// Which service or system it belongs to, and what to do.
        reason: String,
    },
    /// `purge_on_startup` was refused, because another instance is at work.
    #[error("purge on startup refused: {0}")]
    PurgeRefused(String),
    /// The broker refused, or could not be reached where that is needed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The bus is not running: `start` was not called, or did not succeed.
    #[error("the bus is not running: call `start` first")]
    NotStarted,
    /// `start` was called on a running bus.
    #[error("the bus is already running; `start` takes one router for the life of the bus")]
    AlreadyStarted,
    /// A message published with `confirm(false)` could not be handed to the broker.
    #[error(
        "the message was not sent: the broker is away, or too many messages wait for it; publish with \
         confirm to let it wait in the outbox"
    )]
    NotSent,
    /// The bus is shutting down, or has shut down.
    #[error("the bus has been shut down")]
    ShutDown,
    /// A handler, a layer or a hook of the bus called `shutdown`, which would wait for that very call.
    #[error(
        "`shutdown` was called inside one of the bus's own handlers, layers or hooks, which it would wait for; \
         nothing was stopped; spawn a task for it (`tokio::spawn`), do not wait for that task, and return"
    )]
    InsideHandler,
    /// Something did not end in time.
    #[error("{what} did not finish within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: std::time::Duration,
    },
}

impl Error {
    /// Whether the message is refused for what it is, while others may be taken: by a check of the bus, or by a type,
    /// a size, a constraint or a trigger of the database. Of messages that were written together, it may be any one.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::InvalidTopic { .. }
            | Self::InvalidHeader { .. }
            | Self::InvalidPolicy { .. }
            | Self::MessageTooLarge { .. }
            | Self::Encode { .. } => true,
            Self::Database { source, .. } => refuses_values(source),
            _ => false,
        }
    }

    /// Whether the database was away, stopped or too busy, so that it may answer the same later. False for what it
    /// refuses: a login, a missing privilege, a missing table.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        let Self::Database { source, .. } = self else {
            return false;
        };
        match source {
            sqlx::Error::Database(error) => !refuses(source) && !refuses_login(error.as_ref()),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            _ => false,
        }
    }

    /// Makes a database error that tells what the bus was doing.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database {
            doing,
            source: with_advice(source),
        }
    }
}

pub(crate) type AnyError = dyn std::error::Error + 'static;

/// An error and its causes, outermost first. At most 32, because an error could name itself as its cause.
pub(crate) fn chain(error: &AnyError) -> impl Iterator<Item = &AnyError> {
    std::iter::successors(Some(error), |error| error.source()).take(32)
}

/// The texts of an error and its causes, until they are longer than `enough` bytes.
pub(crate) fn with_causes(error: &AnyError, enough: usize) -> String {
    let mut text = String::new();
    for error in chain(error) {
        let level = error.to_string();
        // Many errors repeat their cause in their own text.
        if text.contains(&level) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&level);
        if text.len() > enough {
            break;
        }
    }
    if text.is_empty() {
        text.push_str("an error without a text");
    }
    text
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_database_refuses_is_no_outage() {
        let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
        let missing = sqlx::query("SELECT * FROM missing").execute(&pool).await;
        let missing = Error::database("looking")(missing.unwrap_err());
        assert!(!missing.is_outage(), "{missing}");
        assert!(!Error::NotStarted.is_outage());

        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for away in [sqlx::Error::PoolTimedOut, sqlx::Error::Io(reset)] {
            assert!(Error::database("looking")(away).is_outage());
        }
    }
}
