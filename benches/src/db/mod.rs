//! The databases, and the work on them as a careful person would write it with sqlx.
//!
//! `by_hand!` is the code that is the same for all three; their files have the SQL.

mod mysql;
mod postgres;
mod sqlite;

use std::{future::Future, time::Duration};

use final_core::OutboxDatabase;
use final_tests::SqliteFile;
use sqlx::{Pool, Transaction};
use uuid::Uuid;

use crate::Result;

/// The service whose outbox is used; so its table is known.
pub(crate) const SERVICE: &str = "bench";

/// A database made for one scenario.
#[derive(Debug)]
pub(crate) struct Place<DB: Db> {
    pub(crate) pool: Pool<DB>,
    /// Where it is, for another connection to it.
    pub(crate) url: String,
    _file: Option<SqliteFile>,
}

/// What the sides do by hand.
pub(crate) trait Db: OutboxDatabase + Sized {
    /// Its name in results.
    const LABEL: &'static str;
    /// How a million records that are acked and kept get into the outbox, in steps.
    const KEEP: &'static str;

    /// A fresh database with the table of orders.
    fn fresh() -> impl Future<Output = Result<Place<Self>>> + Send;
    /// The same place where a commit does not wait for the disk, if that is the user's choice.
    fn relaxed(_: &Place<Self>) -> impl Future<Output = Result<Option<Pool<Self>>>> + Send {
        std::future::ready(Ok(None))
    }
    /// A pool of up to 40 connections.
    fn connect(url: &str) -> impl Future<Output = Result<Pool<Self>>> + Send;
    fn open(pool: &Pool<Self>) -> impl Future<Output = Result<Transaction<'static, Self>>> + Send;
    fn commit(tx: Transaction<'static, Self>) -> impl Future<Output = Result<()>> + Send;
    /// The business row.
    fn insert_order(
        conn: &mut Self::Connection,
        id: u64,
    ) -> impl Future<Output = Result<()>> + Send;
    /// A record as ours is, leased to `owner` for that long, if to anybody.
    fn insert_record(
        conn: &mut Self::Connection,
        id: Uuid,
        topic: &str,
        payload: &[u8],
        lease: Option<(Uuid, Duration)>,
    ) -> impl Future<Output = Result<()>> + Send;
    /// A message as `SqlBroker` has it in its log.
    fn insert_log(
        conn: &mut Self::Connection,
        id: Uuid,
        topic: &str,
        payload: &[u8],
    ) -> impl Future<Output = Result<()>> + Send;
    /// Removes records, in one statement.
    fn remove(pool: &Pool<Self>, ids: &[Uuid]) -> impl Future<Output = Result<()>> + Send;
    /// Runs one statement; how many rows it changed.
    fn execute(pool: &Pool<Self>, sql: &str) -> impl Future<Output = Result<u64>> + Send;
    /// The number a statement gives.
    fn number(pool: &Pool<Self>, sql: &str) -> impl Future<Output = Result<i64>> + Send;

    /// How many records are in the outbox.
    fn count(pool: &Pool<Self>) -> impl Future<Output = Result<i64>> + Send {
        Self::number(pool, "SELECT count(*) FROM final_bench_outbox")
    }

    /// Whether the newest record is still in the outbox: 1 or 0. One step in an index, where counting
    /// reads the whole table, and takes a core from what is measured.
    fn newest(pool: &Pool<Self>) -> impl Future<Output = Result<i64>> + Send {
        let sql = "SELECT count(*) FROM (SELECT message_id FROM final_bench_outbox \
            ORDER BY message_id DESC LIMIT 1) newest";
        Self::number(pool, sql)
    }
}

/// What the three have in common: sqlx's types differ, the words do not.
macro_rules! by_hand {
    ($db:ty) => {
        async fn open(pool: &Pool<Self>) -> Result<Transaction<'static, Self>> {
            Ok(pool.begin_with(BEGIN).await?)
        }

        async fn commit(tx: Transaction<'static, Self>) -> Result<()> {
            Ok(tx.commit().await?)
        }

        async fn insert_order(conn: &mut Self::Connection, id: u64) -> Result<()> {
            sqlx::query(INSERT_ORDER)
                .bind(id as i64)
                .bind("a customer of the shop")
                .bind(4_200_i64)
                .execute(conn)
                .await?;
            Ok(())
        }

        async fn insert_record(
            conn: &mut Self::Connection,
            id: Uuid,
            topic: &str,
            payload: &[u8],
            lease: Option<(Uuid, Duration)>,
        ) -> Result<()> {
            let (owner, lease) = lease.unzip();
            sqlx::query(INSERT_RECORD)
                .bind(id)
                .bind(topic.to_owned())
                .bind(payload.to_vec())
                .bind(lease_number(lease.unwrap_or_default()))
                .bind(owner)
                .execute(conn)
                .await?;
            Ok(())
        }

        async fn insert_log(
            conn: &mut Self::Connection,
            id: Uuid,
            topic: &str,
            payload: &[u8],
        ) -> Result<()> {
            sqlx::query(INSERT_LOG)
                .bind(id)
                .bind(topic.to_owned())
                .bind(payload.to_vec())
                .bind((id.as_u128() % 16) as i64)
                .execute(conn)
                .await?;
            Ok(())
        }

        async fn execute(pool: &Pool<Self>, sql: &str) -> Result<u64> {
            let sql = AssertSqlSafe(sql.to_owned());
            Ok(sqlx::query(sql).execute(pool).await?.rows_affected())
        }

        async fn number(pool: &Pool<Self>, sql: &str) -> Result<i64> {
            let sql = AssertSqlSafe(sql.to_owned());
            Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
        }
    };
}
pub(crate) use by_hand;

/// Microseconds, for the databases that count so.
fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
