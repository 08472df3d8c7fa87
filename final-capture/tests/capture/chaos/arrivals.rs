//! What comes: rows of the log read by SQL, and deliveries as a service takes them.
//!
//! Input: a log or a broker. State: how far the log was read. Output: notes in the books.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use final_core::broker::{Broker, Opened, Settlement, Setup};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, MySqlPool, PgPool};
use uuid::Uuid;

use super::{
    books::{Books, Change, Key, Table},
    source::body,
};

/// The topics of both tables.
pub const TOPICS: [&str; 2] = ["cdc.shop.goods", "cdc.shop.flats"];
const SECONDS: Duration = Duration::from_secs(10);
/// So many rows of the log at a time.
const PAGE: i64 = 5_000;

/// So many rows that were read may stay.
const MOST_KEPT: i64 = 300_000;

/// What the books need of a message.
#[derive(Deserialize)]
struct Told {
    op: String,
    table: String,
    key: Option<RowKey>,
    before: Option<Row>,
    after: Option<Row>,
}

#[derive(Deserialize)]
struct RowKey {
    id: i64,
}

#[derive(Deserialize)]
struct Row {
    id: i64,
    version: Option<i64>,
    body: Option<String>,
}

impl Row {
    /// A row as somebody has written it.
    fn check(&self, id: i64) -> Result<(), String> {
        if self.id != id {
            return Err(format!("a row {} under the key {id}", self.id));
        }
        match (self.version, &self.body) {
            (Some(version), Some(text)) if *text == body(version) => Ok(()),
            // The key alone, of the row before.
            (None, None) => Ok(()),
            other => Err(format!("the row {id} has {other:?}")),
        }
    }

    fn version(&self) -> Result<i64, String> {
        self.version
            .ok_or_else(|| format!("the row {} has no version", self.id))
    }
}

/// Reads a message.
fn read(payload: &[u8]) -> Result<(Key, Change), String> {
    let told: Told = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    let table = match told.table.as_str() {
        "goods" => Table::Goods,
        "flats" => Table::Flats,
        other => return Err(format!("{other} is not captured")),
    };
    if told.op == "truncate" {
        return Ok((Key { table, row: None }, Change::Truncate));
    }
    let id = told.key.ok_or("no key")?.id;
    for row in told.before.iter().chain(&told.after) {
        row.check(id)?;
    }
    let after = told.after.as_ref();
    let change = match (told.op.as_str(), after) {
        ("insert", Some(row)) => Change::Insert(row.version()?),
        ("update", Some(row)) => Change::Update(row.version()?),
        ("delete", None) => Change::Delete,
        (op, _) => return Err(format!("{op} with the wrong rows")),
    };
    let row = Some(id);
    Ok((Key { table, row }, change))
}

fn note(books: &Books, id: Uuid, payload: &[u8]) {
    match read(payload) {
        Ok((key, change)) => books.came(id, key, change),
        Err(why) => {
            let text = String::from_utf8_lossy(payload);
            books.nonsense(format!("{why}: {text}"));
        }
    }
}

/// A log in a database, read by SQL.
#[derive(Debug)]
pub struct Log {
    pool: Pool,
    last: AtomicI64,
    /// So many rows were read and are still there.
    kept: AtomicI64,
}

#[derive(Debug)]
enum Pool {
    Postgres(PgPool),
    MariaDb(MySqlPool),
}

/// Runs the same words on either database.
macro_rules! on_pool {
    ($self:expr, $pool:ident => $body:expr) => {
        match &$self.pool {
            Pool::Postgres($pool) => $body,
            Pool::MariaDb($pool) => $body,
        }
    };
}

impl Log {
    pub fn new(url: &str) -> Result<Self, sqlx::Error> {
        let pool = match url.starts_with("postgres") {
            true => Pool::Postgres(PgPool::connect_lazy(url)?),
            false => Pool::MariaDb(MySqlPool::connect_lazy(url)?),
        };
        Ok(Self {
            pool,
            last: AtomicI64::new(0),
            kept: AtomicI64::new(0),
        })
    }

    /// Reads what is new, until it is over. A database that is away is asked again.
    pub async fn follow(self: Arc<Self>, books: Arc<Books>, over: Arc<AtomicBool>) {
        while !over.load(Ordering::Relaxed) {
            match self.page(&books).await {
                Ok(PAGE) => {}
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn page(&self, books: &Books) -> Result<i64, sqlx::Error> {
        let last = self.last.load(Ordering::Relaxed);
        let sql = format!(
            "SELECT seq, message_id, payload FROM final_log WHERE seq > {last} AND topic <> '' ORDER BY seq LIMIT {PAGE}"
        );
        let rows: Vec<(i64, Uuid, Vec<u8>)> = on_pool!(self, pool => {
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?
        });
        for (seq, id, payload) in &rows {
            note(books, *id, payload);
            self.last.store(*seq, Ordering::Relaxed);
        }
        let count = rows.len() as i64;
        self.kept.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    /// How many rows are there that were not read: some appeared below those that were.
    pub async fn unread(&self) -> Result<i64, sqlx::Error> {
        let last = self.last.load(Ordering::Relaxed);
        let sql = format!("SELECT COUNT(*) FROM final_log WHERE seq <= {last} AND topic <> ''");
        let there: i64 = on_pool!(self, pool => {
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?
        });
        Ok(there - self.kept.load(Ordering::Relaxed))
    }

    /// Whether so much was read that it is time to remove it.
    pub fn is_full(&self) -> bool {
        self.kept.load(Ordering::Relaxed) > MOST_KEPT
    }

    /// Removes what was read, so that a long run does not fill the disk. Nothing is in hand meanwhile.
    pub async fn clear(&self) -> Result<(), sqlx::Error> {
        let last = self.last.load(Ordering::Relaxed);
        let sql = format!("DELETE FROM final_log WHERE seq <= {last} AND topic <> ''");
        on_pool!(self, pool => {
            sqlx::query(AssertSqlSafe(sql)).execute(pool).await?;
        });
        self.kept.store(0, Ordering::Relaxed);
        Ok(())
    }
}

/// Subscribes both topics as a service does. What is published from then on waits for it.
pub async fn subscribe(broker: impl Broker) -> Opened {
    let opened = broker.open(Setup::new("books", TOPICS)).await;
    opened.expect("a link")
}

/// Takes deliveries as a service does, until it is over.
pub async fn consume(opened: Opened, books: Arc<Books>, over: Arc<AtomicBool>) {
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let mut batch = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let wait = Duration::from_millis(100);
        let came = tokio::time::timeout(wait, deliveries.recv_many(&mut batch, 500)).await;
        if came == Ok(0) {
            break;
        }
        for delivery in batch.drain(..) {
            match delivery.message() {
                Ok(message) => match Uuid::parse_str(&message.id().to_string()) {
                    Ok(id) => note(&books, id, message.payload()),
                    Err(error) => books.nonsense(format!("an id: {error}")),
                },
                Err(why) => books.nonsense(why.to_owned()),
            }
            delivery.settle(Settlement::Ack);
        }
    }
    link.stop_consuming(SECONDS).await;
    link.finish_consuming(SECONDS).await;
    link.close(SECONDS).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(op: &str, rows: &str) -> String {
        format!(
            r#"{{"op":"{op}","schema":"shop","table":"goods","key":{{"id":7}},{rows},"at":"x"}}"#
        )
    }

    #[test]
    fn a_change_is_read() {
        let row = format!(r#"{{"id":7,"version":3,"body":"{}"}}"#, body(3));
        let key = Key {
            table: Table::Goods,
            row: Some(7),
        };
        let insert = text("insert", &format!(r#""before":null,"after":{row}"#));
        assert_eq!(read(insert.as_bytes()), Ok((key, Change::Insert(3))));
        let delete = text("delete", r#""before":{"id":7},"after":null"#);
        assert_eq!(read(delete.as_bytes()), Ok((key, Change::Delete)));
    }

    #[test]
    fn values_under_wrong_names_are_seen() {
        let row = format!(r#"{{"id":7,"version":4,"body":"{}"}}"#, body(3));
        let insert = text("insert", &format!(r#""before":null,"after":{row}"#));
        assert!(read(insert.as_bytes()).is_err());
        let row = format!(r#"{{"id":8,"version":3,"body":"{}"}}"#, body(3));
        let insert = text("insert", &format!(r#""before":null,"after":{row}"#));
        assert!(read(insert.as_bytes()).is_err());
    }
}
