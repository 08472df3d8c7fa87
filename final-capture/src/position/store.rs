//! What a place for positions must do.
//!
//! Input: the name of a capture and the process that wants to read. State: for each capture its position, and the
//! reader that has it. Output: a [`Term`] for one reader at a time; positions are saved under it and under no other.
//!
//! ```text
//!   free ─ take ─▶ mine ─ take, save (renew) ─▶ mine ─ release ─▶ free
//!                    └ not renewed for a lease ─▶ taken by another: what the old reader saves is refused
//! ```

use std::{path::PathBuf, sync::Arc, time::Duration};

use final_core::{Message, OutboxDatabase, database::Driver};
use futures::future::BoxFuture;
use sqlx::Pool;
use uuid::Uuid;

use super::{
    FilePositions, ParkedChange, ParkedHead, Position, PositionError, SourceIdentity, SqlPositions,
};

/// A reader's right to read, until another one takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The capture's name.
    pub name: Arc<str>,
    /// The process.
    pub owner: Uuid,
    /// Counts up with each change of the reader.
    pub epoch: i64,
}

/// A term that was taken or renewed, and where the capture stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenTerm {
    /// The right to read.
    pub term: Term,
    /// Where the capture stands, if it was ever saved.
    pub position: Option<Position>,
    /// The number of the last save.
    pub number: i64,
}

/// A position to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The position.
    pub position: Position,
    /// When the last transaction that is done was committed, by the source's clock: microseconds since 1970.
    pub at: Option<i64>,
    /// One more than the number of the save before. If the answer to a save was lost, the number tells whether it
    /// took place.
    pub number: i64,
}

/// A place where positions are kept.
///
/// An error is an error: it never stands for "no position", because a capture without a position begins with what is
/// written from now on.
pub trait PositionStore: Send + Sync + 'static {
    /// Where it is, without a password, for logs.
    fn place(&self) -> String;

    /// Makes what it needs.
    ///
    /// # Errors
    ///
    /// Fails if the place does.
    fn migrate(&self) -> BoxFuture<'_, Result<(), PositionError>>;

    /// Takes the right to read, or renews it where this owner has it. `None` while another reader has it.
    ///
    /// # Errors
    ///
    /// Fails if the place does, or if what it has is no position.
    fn take<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Option<TakenTerm>, PositionError>>;

    /// Saves a position, and refused messages with it: both or nothing. A save with a number that was saved already is
    /// done.
    ///
    /// # Errors
    ///
    /// [`PositionError::Deposed`] if another reader has taken over.
    fn save<'a>(
        &'a self,
        term: &'a Term,
        standing: &'a Standing,
        parked: &'a [ParkedChange],
    ) -> BoxFuture<'a, Result<(), PositionError>>;

    /// Gives the right back, if it is still this term's.
    ///
    /// # Errors
    ///
    /// Fails if the place does. The right then runs out by itself.
    fn release<'a>(&'a self, term: &'a Term) -> BoxFuture<'a, Result<(), PositionError>>;

    /// Writes down how the capture is, for operators. Does nothing by default.
    ///
    /// # Errors
    ///
    /// Fails if the place does.
    fn note<'a>(
        &'a self,
        _term: &'a Term,
        _state: &'a str,
        _reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The other captures whose positions are here, by their names, and what each reads. None by default.
    ///
    /// # Errors
    ///
    /// Fails if the place does.
    fn others<'a>(
        &'a self,
        _name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, SourceIdentity)>, PositionError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Whether refused messages can be kept. By default they cannot, and a refused message stops the capture.
    fn can_park(&self) -> bool {
        false
    }

    /// Refused messages of a capture with a higher number than `after`, in order, `most` at most; only those that an
    /// operator has marked, if `marked`. Without their payloads, whose size nothing bounds.
    ///
    /// # Errors
    ///
    /// Fails if the place does.
    fn parked<'a>(
        &'a self,
        _name: &'a str,
        _marked: bool,
        _after: i64,
        _most: u32,
    ) -> BoxFuture<'a, Result<Vec<ParkedHead>, PositionError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// The message of a refused change. `None` if it has none, or is gone.
    ///
    /// # Errors
    ///
    /// Fails if the place does.
    fn parked_message<'a>(
        &'a self,
        _name: &'a str,
        _id: i64,
    ) -> BoxFuture<'a, Result<Option<Message>, PositionError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Removes refused messages that were put back or skipped.
    ///
    /// # Errors
    ///
    /// [`PositionError::Deposed`] if another reader has taken over.
    fn unpark<'a>(
        &'a self,
        _term: &'a Term,
        _ids: &'a [i64],
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Marks those of these refused messages to be tried again that have no mark: an operator has marked another one of
    /// their key. So what is begun with a key is carried on by the next reader.
    ///
    /// # Errors
    ///
    /// [`PositionError::Deposed`] if another reader has taken over.
    fn mark_rest<'a>(
        &'a self,
        _term: &'a Term,
        _ids: &'a [i64],
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Takes an operator's mark from refused messages, because the target has refused one again.
    ///
    /// # Errors
    ///
    /// [`PositionError::Deposed`] if another reader has taken over.
    fn unmark<'a>(
        &'a self,
        _term: &'a Term,
        _ids: &'a [i64],
        _reason: &'a str,
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Where a capture keeps its position.
#[derive(Clone)]
pub struct Positions(pub(crate) Arc<dyn PositionStore>);

impl Positions {
    /// A table in the database of that pool.
    pub fn database<DB: OutboxDatabase + Driver>(pool: Pool<DB>) -> Self {
        Self(Arc::new(SqlPositions::new(pool)))
    }

    /// A file, for a capture that only one machine runs. It cannot keep messages that the target refuses: one of these
    /// stops the capture.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(FilePositions::new(path)))
    }

    /// Another place.
    pub fn custom(store: impl PositionStore) -> Self {
        Self(Arc::new(store))
    }
}

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Positions").field(&self.0.place()).finish()
    }
}
