//! The business's own SQL.

use final_core::OutboxDatabase;

/// The tables. They are made before the first worker starts.
pub(crate) const TABLES: [&str; 3] = [
    "CREATE TABLE sales (id BIGINT PRIMARY KEY, messages BIGINT NOT NULL)",
    "CREATE TABLE stock (id INT PRIMARY KEY, sold BIGINT NOT NULL)",
    "INSERT INTO stock VALUES (0, 0), (1, 0), (2, 0), (3, 0)",
];

/// A database that can store the sales.
pub(super) trait Shop: OutboxDatabase {
    /// Whether a transaction that has written keeps all others from writing. One that is longer than a lease then
    /// keeps the lease from being renewed, and messages are repeated.
    const HAS_ONE_WRITER: bool = false;

    /// Writes a sale.
    fn insert_sale(
        conn: &mut Self::Connection,
        sale: i64,
        messages: u8,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Takes two things from the stock. Two transactions that take the same things in opposite order
    /// deadlock.
    fn take_from_stock(
        conn: &mut Self::Connection,
        what: i32,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Makes the running transaction serializable where the database still allows that.
    fn be_serializable(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

macro_rules! shop {
    ($database:ty, $insert:literal, $take:literal, $serializable:literal $(, $one:literal)?) => {
        impl Shop for $database {
            $(const HAS_ONE_WRITER: bool = $one;)?

            async fn insert_sale(
                conn: &mut Self::Connection,
                sale: i64,
                messages: u8,
            ) -> Result<(), sqlx::Error> {
                let insert = sqlx::query($insert).bind(sale).bind(i64::from(messages));
                insert.execute(conn).await.map(drop)
            }

            async fn take_from_stock(
                conn: &mut Self::Connection,
                what: i32,
            ) -> Result<(), sqlx::Error> {
                sqlx::query($take).bind(what).execute(conn).await.map(drop)
            }

            async fn be_serializable(conn: &mut Self::Connection) -> Result<(), sqlx::Error> {
                sqlx::query($serializable).execute(conn).await.map(drop)
            }
        }
    };
}

shop!(
    sqlx::Postgres,
    "INSERT INTO sales VALUES ($1, $2)",
    "UPDATE stock SET sold = sold + 1 WHERE id = $1",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"
);
shop!(
    sqlx::MySql,
    "INSERT INTO sales VALUES (?, ?)",
    "UPDATE stock SET sold = sold + 1 WHERE id = ?",
    // MariaDB takes the isolation level only before a transaction begins. A locking read has the same effect.
    "SELECT sold FROM stock LOCK IN SHARE MODE"
);
shop!(
    sqlx::Sqlite,
    "INSERT INTO sales VALUES (?, ?)",
    "UPDATE stock SET sold = sold + 1 WHERE id = ?",
    // Every transaction of SQLite is serializable.
    "SELECT sold FROM stock",
    true
);
