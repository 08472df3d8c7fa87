//! Where changes come from. Each source turns its server's stream into the same [`Event`]s.
//!
//! Input: a server, a [`Position`], a [`Selection`]. State: the open stream. Output: events in the order of the
//! commits.
//!
//! ```text
//!   Begin ─▶ (Row | Truncate | Columns)* ─▶ Commit ─▶ Begin …
//!                        Quiet, only between two transactions
//! ```
//!
//! A source never skips an event that it cannot read: it ends with [`SourceError::Unreadable`], and the position stays
//! before that event.

#[cfg(feature = "from-mysql")]
pub mod mysql;
#[cfg(feature = "from-postgres")]
pub mod postgres;

use std::sync::Arc;

use final_core::{BoxError, admin::doctor::Finding};
use futures::future::BoxFuture;

use crate::{
    position::{Position, SourceIdentity, SourcePoint},
    select::Selection,
    table::Table,
    value::Row,
};

/// What a source reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A transaction begins.
    Begin(Transaction),
    /// A row was changed.
    Row(RowChange),
    /// Tables were emptied by one statement.
    Truncate {
        /// The tables, those that are not wanted included.
        tables: Vec<Arc<Table>>,
        /// Which event of its transaction it is, see [`RowChange::index`].
        index: u64,
    },
    /// The columns of a table are not those of its last change.
    Columns(Arc<Table>),
    /// The transaction is complete. Everything up to this point has been read.
    Commit(SourcePoint),
    /// Outside of a transaction: there is nothing for us before this point.
    Quiet(SourcePoint),
}

/// A committed transaction of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// What tells it from all other transactions of this source, the same each time it is read.
    pub id: Arc<str>,
    /// When it was committed, by the source's clock: microseconds since 1970 in UTC. MariaDB tells only seconds.
    pub at: i64,
    /// The point after which the transaction begins: everything up to it is of earlier transactions.
    pub after: SourcePoint,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOp {
    /// It was inserted.
    Insert,
    /// It was changed.
    Update,
    /// It was deleted.
    Delete,
}

/// The change of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// The table at that moment.
    pub table: Arc<Table>,
    /// What happened.
    pub op: RowOp,
    /// The row before, as far as the source sent it. None for an INSERT, and for an UPDATE where the source sent none:
    /// the key is then unchanged.
    pub before: Option<Row>,
    /// The row after. None for a DELETE.
    pub after: Option<Row>,
    /// Which change of its transaction it is, counted from 0 over everything that the server sends of it. The same
    /// each time the transaction is read.
    pub index: u64,
}

/// A database whose changes can be read.
pub trait Source: Send + Sync + 'static {
    /// Says what is wrong with the server's settings, rights and tables, each with the statement that mends it.
    /// Changes nothing.
    fn check<'a>(
        &'a self,
        wanted: &'a Selection,
    ) -> BoxFuture<'a, Result<Vec<Finding>, SourceError>>;

    /// Makes what the source needs (slot, publication), and opens the stream after that position. Without a position
    /// it begins with the next transaction from now on.
    ///
    /// # Errors
    ///
    /// [`SourceError::Gap`] if the position is no longer there, or is not of this server; [`SourceError::Refused`] if
    /// a setting would lose changes.
    fn open<'a>(
        &'a self,
        wanted: &'a Selection,
        from: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<OpenedSource, SourceError>>;

    /// What two captures of these identities would take from each other, as `the slot final_capture`. By default they
    /// take nothing: a log can have several readers.
    fn shared(&self, _ours: &SourceIdentity, _theirs: &SourceIdentity) -> Option<String> {
        None
    }

    /// The source without its password, for logs.
    fn place(&self) -> String;
}

/// A source that is chosen at run time is a source as well.
impl<S: Source + ?Sized> Source for Box<S> {
    fn check<'a>(
        &'a self,
        wanted: &'a Selection,
    ) -> BoxFuture<'a, Result<Vec<Finding>, SourceError>> {
        self.as_ref().check(wanted)
    }

    fn open<'a>(
        &'a self,
        wanted: &'a Selection,
        from: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<OpenedSource, SourceError>> {
        self.as_ref().open(wanted, from)
    }

    fn shared(&self, ours: &SourceIdentity, theirs: &SourceIdentity) -> Option<String> {
        self.as_ref().shared(ours, theirs)
    }

    fn place(&self) -> String {
        self.as_ref().place()
    }
}

/// A stream that was opened.
pub struct OpenedSource {
    /// The stream.
    pub reader: Box<dyn Reader>,
    /// Which server it is.
    pub identity: SourceIdentity,
    /// The point after which the stream begins.
    pub point: SourcePoint,
}

impl std::fmt::Debug for OpenedSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedSource")
            .field("identity", &self.identity)
            .field("point", &self.point)
            .finish_non_exhaustive()
    }
}

/// An open stream.
pub trait Reader: Send {
    /// Waits for an event, and appends it and those that are there already, up to about `most` bytes.
    ///
    /// After an error nothing more may be read. Events that were appended before the error count.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what was appended counts, and the rest comes with the next call.
    fn read<'a>(
        &'a mut self,
        events: &'a mut Vec<Event>,
        most: usize,
    ) -> BoxFuture<'a, Result<(), SourceError>>;

    /// Everything up to this point is saved, so the server may forget it.
    fn saved(&mut self, point: &SourcePoint);

    /// How far the stream is behind, as far as the last messages of the server told.
    fn lag(&self) -> SourceLag;

    /// Ends the stream in good order, within a few seconds. Dropping it does as well, less politely.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// How far a stream is behind its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceLag {
    /// How many bytes the server keeps for us, if it tells.
    pub retained_bytes: Option<u64>,
    /// How many bytes lie between what was read and the server's newest, if it tells.
    pub unread_bytes: Option<u64>,
}

/// A position that is no longer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where the capture stands.
    pub position: Position,
    /// The oldest point that is still there, if the server tells.
    pub oldest: Option<SourcePoint>,
    /// What happened: purged, the slot is gone, another server.
    pub why: String,
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The server cannot be reached, or the connection broke. Trying again may help.
    #[error("the source cannot be reached: {0}")]
    Away(#[source] BoxError),
    /// Another reader has the stream. Trying again helps once it has ended.
    #[error("another reader has the stream: {0}")]
    Busy(String),
    /// Changes between the position and what is still there are lost to us.
    #[error("changes after {} are no longer at the source: {}; {}", .0.position, .0.why, GapAdvice(.0))]
    Gap(Box<Gap>),
    /// An event that cannot be read. Trying again does not help; the position stays before it.
    #[error("an event after {after} cannot be read: {what}")]
    Unreadable {
        /// The last complete point before it.
        after: SourcePoint,
        /// What it is, and what to do.
        what: String,
    },
    /// Settings, rights or tables would lose changes. Each finding has the statement that mends it.
    #[error("the source cannot be captured: {}", Findings(.0))]
    Refused(Vec<Finding>),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
}

struct GapAdvice<'a>(&'a Gap);

impl std::fmt::Display for GapAdvice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0.oldest {
            // The position before the first transaction has none in it.
            Some(SourcePoint::Gtid(none)) if none.is_empty() => {
                f.write_str("the log is there from its first transaction on, `gtid:`")?;
            }
            Some(oldest) => write!(f, "the oldest that is there is {oldest}")?,
            None => f.write_str("nothing of it is there")?,
        }
        f.write_str(
            ". Copy by hand what is lost, take the stored position away, and start anew: docs/capture.md, `gap`",
        )
    }
}

struct Findings<'a>(&'a [Finding]);

impl std::fmt::Display for Findings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, finding) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{finding}")?;
        }
        Ok(())
    }
}
