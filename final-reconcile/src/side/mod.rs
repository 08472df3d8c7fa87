//! One side of a comparison: a table in a database.
//!
//! Input: a pool and the name of a table. State: a pool of our own to the same database. Output: the table's
//! [description](crate::table), and a [`Reader`] of its rows in canonical form.
//!
//! | part | has |
//! | --- | --- |
//! | [`page`] | how many rows are read at once |
//! | [`here`] | digests of rows that were read into this process |
//! | [`odd`] | UUIDs that are written in a way that no index is asked for |
//! | `parts` | the statements of a server |
//! | [`write`](mod@write) | writing a row into the target |
//! | `server` | reading on PostgreSQL, MySQL and MariaDB: canonical texts and digests are made by the server |
//! | `postgres`, `mysql`, `sqlite` | the catalogs, each beside what only this database has |
//!
//! SQLite has no function for a digest, so its rows are hashed in this process.

mod here;
#[cfg(feature = "mysql")]
mod mysql;
mod odd;
pub(crate) mod page;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod parts;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;
pub(crate) mod write;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

pub(crate) use self::write::{Change, Writer, Writing};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Row, RowHash, here::Cell},
    plan::SidePlan,
    table::SideTable,
};

/// How long a server may take to say why it takes no connection.
const CONNECTING: std::time::Duration = std::time::Duration::from_secs(3);

/// How long a catalog may take to answer.
const CATALOG: std::time::Duration = std::time::Duration::from_secs(60);

/// A table in a database: the source of a job, or a target.
///
/// The name may have a schema before it: `shop.user`. The pool is that of the database; the comparison makes connections
/// of its own, because its statements need settings of the session (UTC, UTF-8) that a caller's must not have.
#[derive(Clone)]
pub struct Side {
    database: Arc<dyn SideDatabase>,
    table: String,
}

impl Side {
    /// A table of PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn postgres(pool: sqlx::PgPool, table: impl Into<String>) -> Self {
        Self::new(postgres::OnPostgres::new(&pool), table)
    }

    /// A table of MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    pub fn mysql(pool: sqlx::MySqlPool, table: impl Into<String>) -> Self {
        Self::new(mysql::OnMySql::new(&pool), table)
    }

    /// A table of SQLite.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(pool: sqlx::SqlitePool, table: impl Into<String>) -> Self {
        Self::new(sqlite::OnSqlite::new(&pool), table)
    }

    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    fn new(database: impl SideDatabase + 'static, table: impl Into<String>) -> Self {
        Self {
            database: Arc::new(database),
            table: table.into(),
        }
    }

    /// The table and its database, without a password.
    pub(crate) fn shown(&self) -> String {
        format!("`{}` in {}", self.table, self.database.place())
    }

    /// Another table of the same database.
    pub(crate) fn beside(&self, table: &str) -> Self {
        Self {
            database: Arc::clone(&self.database),
            table: table.to_owned(),
        }
    }

    /// The table, as the caller has named it.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) async fn describe(&self) -> Reconciled<SideTable> {
        self.database.describe(&self.table).await
    }

    /// What reads rows by this plan.
    pub(crate) fn reader(&self, plan: SidePlan) -> Arc<dyn Reader> {
        self.database.reader(plan)
    }

    pub(crate) fn writer(&self, plan: SidePlan) -> Arc<dyn Writer> {
        self.database.writer(plan)
    }
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Side").field(&self.shown()).finish()
    }
}

/// What stands for the bounds of a chunk in a statement for people.
pub(crate) const WITHIN: &str = "<after the last chunk> AND <up to the next>";

/// One of the databases.
pub(crate) trait SideDatabase: Send + Sync {
    /// Where it is, without a password.
    fn place(&self) -> String;
    /// What a table is like.
    fn describe<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Reconciled<SideTable>>;
    /// What reads the rows of one table.
    fn reader(&self, plan: SidePlan) -> Arc<dyn Reader>;
    /// What writes rows of one table. Only its sessions may write.
    fn writer(&self, plan: SidePlan) -> Arc<dyn Writer>;
}

/// What a catalog says about a table, or why it says nothing.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
async fn described<DB: final_core::database::Driver>(
    pool: &crate::own::OwnPool<DB>,
    side: String,
    table: impl Future<Output = final_core::database::DbResult<Option<SideTable>>>,
) -> Reconciled<SideTable> {
    match pool.in_time(CATALOG, table).await {
        Ok(Some(table)) => Ok(table),
        Ok(None) => Err(ReconcileError::NoTable { side }),
        Err(source) => Err(ReconcileError::Database {
            doing: "describing",
            side,
            source: reason(&pool.get(), source).await,
        }),
    }
}

/// Why a pool has no connection. It tries again for as long as it may, and then says only that its time was over.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
async fn reason<DB: sqlx::Database>(pool: &sqlx::Pool<DB>, error: sqlx::Error) -> sqlx::Error {
    use sqlx::Connection as _;
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    let options = pool.connect_options();
    let connected = DB::Connection::connect_with(&options);
    match tokio::time::timeout(CONNECTING, connected).await {
        Ok(Err(why)) => why,
        _ => error,
    }
}

/// Which rows are meant: those whose key comes after the one and not after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) after: Option<Row>,
    pub(crate) until: Option<Row>,
    /// Only rows whose hashed key begins with one of these, where the keys of both sides have no common order.
    pub(crate) buckets: Option<Vec<String>>,
}

impl Chunk {
    /// Goes on behind the last row of a page.
    ///
    /// # Errors
    ///
    /// Fails if the key does not move, because the walk would never end.
    pub(crate) fn go_on(&mut self, last: Option<&Found>, shown: &str) -> Reconciled<()> {
        let last = last.map(|found| &found.key);
        moved(self.after.as_ref(), last, shown)?;
        self.after = last.cloned();
        Ok(())
    }
}

/// Checks that the next key is not the last one.
///
/// # Errors
///
/// Fails if it is.
pub(crate) fn moved(after: Option<&Row>, next: Option<&Row>, shown: &str) -> Reconciled<()> {
    match next.is_some() && after == next {
        false => Ok(()),
        true => Err(ReconcileError::Row {
            side: shown.to_owned(),
            problem: "its key comes again behind itself, so the server does not find keys as they are written; take \
                      another key"
                .into(),
        }),
    }
}

/// How many chunks a statement makes digests of. What a statement costs on the wire, whatever it asks, is shared by them.
pub(crate) const CHUNKS: usize = 2;

/// The bytes of rows that are read at once.
const MOST_TEXT: usize = 8 * 1024 * 1024;

/// Chunks one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stretch {
    /// The first chunk begins behind this key; or with the first row.
    pub(crate) after: Option<Row>,
    /// Each chunk ends with its key; or with the last row.
    pub(crate) ends: Vec<Option<Row>>,
}

impl Stretch {
    /// Chunks that end with these keys. If there are fewer than a statement has room for, the table ends behind them.
    pub(crate) fn new(after: Option<Row>, ends: Vec<Row>) -> Self {
        let mut ends: Vec<Option<Row>> = ends.into_iter().map(Some).collect();
        if ends.len() < CHUNKS {
            ends.push(None);
        }
        Self { after, ends }
    }

    /// The chunks.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let begins = std::iter::once(&self.after).chain(&self.ends);
        begins.zip(&self.ends).map(|(after, until)| Chunk {
            after: after.clone(),
            until: until.clone(),
            buckets: None,
        })
    }

    /// The key behind which the table goes on. None at its end.
    pub(crate) fn end(&self) -> Option<&Row> {
        self.ends.last()?.as_ref()
    }
}

/// The digests of a stretch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digests {
    pub(crate) digests: Vec<Digest>,
    /// Where the next chunks end, if this was asked for.
    pub(crate) next: Vec<Row>,
}

/// The digest of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: Vec<u8>,
    /// Whether not all of the chunk is in it, so that it proves nothing.
    pub(crate) is_cut: bool,
}

impl Digest {
    /// Whether both sides are proved equal.
    pub(crate) fn proves(&self, other: &Self) -> bool {
        !self.is_cut && !other.is_cut && self.rows == other.rows && self.hash == other.hash
    }

    /// Whether the server could not take so many bytes, so that it could do so with fewer rows.
    pub(crate) fn is_too_large(&self, most_rows: u64) -> bool {
        self.is_cut && self.rows <= most_rows
    }
}

/// The digest of one bucket of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// The first digits of the hash of the keys in it.
    pub(crate) name: String,
    pub(crate) rows: u64,
    /// Two sums over the hashes of its rows.
    pub(crate) sums: String,
}

/// A row that was found: its key, and the row or only its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The fields of the key, encoded.
    pub(crate) key: Row,
    pub(crate) hash: RowHash,
    /// All fields, where they were asked for.
    pub(crate) row: Option<Row>,
    /// How many bytes were read for it.
    pub(crate) bytes: u64,
}

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
    /// [`CHUNKS`] if the table ends before.
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
