//! What is asked of a table, whatever its database.

use futures::future::BoxFuture;

use super::{
    chunk::{Chunk, Found, Stretch},
    digest::{Bucket, Digests},
};
use crate::{
    error::Reconciled,
    form::{Row, here::Cell},
};

/// What stands for the bounds of a chunk in a statement for people.
pub(crate) const WITHIN: &str = "<after the last chunk> AND <up to the next>";

/// The clock of a database, as `2024-02-29 10:00:00.500000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) utc: String,
    /// In the zone that sessions of the server have if they do not choose one.
    pub(crate) local: String,
}

/// Whether a page gives the rows or their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Rows,
    Hashes,
}

/// Reads the rows of one table in canonical form.
///
/// All futures are safe to drop.
pub(crate) trait Reader: Send + Sync {
    /// The table, for people.
    fn shown(&self) -> &str;
    /// Where the next chunks end behind a key, in the order of the index, if each has so many rows. Fewer than
    /// [`CHUNKS`](super::chunk::CHUNKS) if the table ends before.
    fn ends<'a>(&'a self, after: Option<&'a Row>, rows: u64)
    -> BoxFuture<'a, Reconciled<Vec<Row>>>;
    /// The digests of chunks, each over at most so many rows and one more; and the ends of the next chunks, if these are
    /// to have so many rows.
    fn digests<'a>(
        &'a self,
        stretch: &'a Stretch,
        most: u64,
        next: Option<u64>,
    ) -> BoxFuture<'a, Reconciled<Digests>>;
    /// The rows of a chunk in canonical form, in the order of the index and one behind the other. None if they are more than
    /// so many, or too large to be read at once.
    fn texts<'a>(
        &'a self,
        chunk: &'a Chunk,
        most: u64,
    ) -> BoxFuture<'a, Reconciled<Option<Vec<u8>>>>;
    /// The digests of all buckets.
    fn buckets(&self) -> BoxFuture<'_, Reconciled<Vec<Bucket>>>;
    /// A page of a chunk, in the order of the index.
    fn page<'a>(
        &'a self,
        chunk: &'a Chunk,
        most: u64,
        of: Of,
    ) -> BoxFuture<'a, Reconciled<Vec<Found>>>;
    /// The rows with these keys. A key that the columns cannot hold has none.
    fn rows<'a>(&'a self, keys: &'a [Row]) -> BoxFuture<'a, Reconciled<Vec<Found>>>;
    /// The key of a row that has the last value of the first column. Rows without one do not count.
    fn last_key(&self) -> BoxFuture<'_, Reconciled<Option<Row>>>;
    /// The clock of the database.
    fn clock(&self) -> BoxFuture<'_, Reconciled<Clock>>;
    /// The whole values of the row with this key, as the target takes them. They are as many as there are columns. None if
    /// there is no such row, however its key is written.
    fn values<'a>(&'a self, key: &'a Row) -> BoxFuture<'a, Reconciled<Option<Vec<Cell>>>>;
    /// Whether a row has no key.
    fn has_null_key(&self) -> BoxFuture<'_, Reconciled<bool>>;
    /// Whether a UUID of the key has another place in the index than its digits say.
    fn has_misplaced_key(&self) -> BoxFuture<'_, Reconciled<bool>>;
    /// The statements, with their names.
    fn statements(&self) -> Vec<(&'static str, String)>;
}
