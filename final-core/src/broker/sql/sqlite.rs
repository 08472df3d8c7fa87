//! The log in SQLite.

use sqlx::{SqlStr, Sqlite, SqliteConnection, SqlitePool};

use super::{
    database::{LogDatabase, bound, run_and_rows},
    entry::{Entry, entries},
    schema::Types,
    texts::{Inserts, Words},
};
use crate::{
    broker::Staged,
    outbox::{DbResult, Dialect, sqlite},
};

impl LogDatabase for Sqlite {
    const LOG_WORDS: Words = Words {
        numbered: false,
        gapless: true,
        now: "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        int: "INTEGER",
        share: "",
        lock: "",
        skip_locked: "",
        insert: "INSERT",
        nothing: "ON CONFLICT DO NOTHING",
        durable: None,
        notify: None,
        no_wait: None,
        impatient: None,
        many: None,
    };

    /// AUTOINCREMENT, so that a number is not given out again once its row is removed.
    const LOG_TYPES: Types = Types {
        serial: "INTEGER PRIMARY KEY AUTOINCREMENT",
        id: "BLOB",
        name: "TEXT",
        text: "TEXT",
        bytes: "BLOB",
        small: "INTEGER",
        big: "INTEGER",
        moving: "",
        still: "",
        busy: "",
        schema: "main.",
    };

    fn log_pool(pool: &SqlitePool) -> SqlitePool {
        sqlite::own_pool(pool, super::CONNECTIONS)
    }

    fn log_place(pool: &SqlitePool) -> String {
        let options = pool.connect_options();
        if Self::lives_in_pool(pool) {
            // The options belong to the pool and are never moved.
            return format!("memory {:p}", std::sync::Arc::as_ptr(&options));
        }
        let file = options.get_filename();
        let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        file.display().to_string()
    }

    async fn log_schema(_: &mut SqliteConnection) -> DbResult<String> {
        Ok("main.".to_owned())
    }

    async fn log_tells_transactions(_: &mut SqliteConnection) -> DbResult<bool> {
        Ok(false)
    }

    async fn log_shows_early(_: &mut SqliteConnection) -> DbResult<bool> {
        Ok(false)
    }

    run_and_rows!(sqlite::Patience::default());

    async fn log_append(
        conn: &mut SqliteConnection,
        inserts: &Inserts,
        staged: &[&Staged],
        _in_transaction: bool,
    ) -> DbResult<()> {
        for lot in entries(staged) {
            for (statement, rows) in inserts.pieces(false).of(&lot) {
                let mut patience = sqlite::Patience::default();
                while let Err(error) = insert(conn, &statement, inserts.scheduled, rows).await {
                    if !patience.again(&error).await {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    async fn log_listen(_: &SqlitePool, _: impl Fn(&str) + Send + Sync) -> DbResult<()> {
        std::future::pending().await
    }
}

bound!(Sqlite);

async fn insert(
    conn: &mut SqliteConnection,
    statement: &SqlStr,
    scheduled: bool,
    rows: &[Entry<'_>],
) -> DbResult<()> {
    let mut query = sqlx::query(statement.clone());
    for row in rows {
        query = query
            .bind(row.id)
            .bind(row.topic.to_owned())
            .bind(row.key.map(str::to_owned))
            .bind(row.headers.clone())
            .bind(row.payload.to_vec())
            .bind(row.content_type.to_owned())
            .bind(row.durable)
            .bind(row.lane)
            .bind(row.weight)
            .bind(row.expires_in);
        if scheduled {
            query = query.bind(row.due_in);
        }
    }
    query.execute(conn).await.map(drop)
}
