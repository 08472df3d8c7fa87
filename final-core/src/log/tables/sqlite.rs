//! The log in SQLite.

use sqlx::{Sqlite, SqliteConnection, SqlitePool, query::Query, sqlite::SqliteArguments};

use super::{
    database::{LogDatabase, bound, run_and_rows},
    entry::{Entry, entries},
    schema::Types,
    texts::{Alone, Inserts, Kind, Words},
};
use crate::{
    broker::Staged,
    database::{DbResult, inserts::all_written},
    outbox::{Dialect, sqlite},
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
        only: None,
        strict: None,
        impatient: None,
        alone: Alone::Never,
        many: None,
        last_number,
        raise_number: None,
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
        inline_index: false,
        schema: "main.",
    };

    fn log_pool(pool: &SqlitePool) -> SqlitePool {
        sqlite::own_pool(pool, crate::log::CONNECTIONS)
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
    ) -> DbResult<()> {
        for lot in entries(staged) {
            let kind = inserts.kind(&lot);
            for (statement, rows) in inserts.pieces(kind).of(&lot) {
                let mut patience = sqlite::Patience::default();
                let insert = || {
                    rows.iter()
                        .fold(sqlx::query(statement.clone()), |query, row| {
                            bind(query, row, kind)
                        })
                };
                let written = loop {
                    match insert().execute(&mut *conn).await {
                        Err(error) if patience.again(&error).await => {}
                        done => break done?.rows_affected(),
                    }
                };
                all_written(written, rows.len())?;
            }
        }
        Ok(())
    }

    /// SQL has no word for an open transaction here.
    async fn log_append_alone(_: &mut SqliteConnection, _: &Inserts, _: &Staged) -> DbResult<bool> {
        Ok(false)
    }

    async fn log_listen(_: &SqlitePool, _: impl Fn(&str) + Send + Sync) -> DbResult<()> {
        std::future::pending().await
    }
}

bound!(Sqlite);

fn last_number(table: &str) -> String {
    let name = table.rsplit('.').next().unwrap_or(table);
    format!("COALESCE((SELECT seq FROM main.sqlite_sequence WHERE name = '{name}'), 0)")
}

type Insert = Query<'static, Sqlite, SqliteArguments>;

fn bind(query: Insert, row: &Entry<'_>, kind: Kind) -> Insert {
    let query = query.bind(row.id).bind(row.topic.to_owned());
    if kind == Kind::Plain {
        return query
            .bind(row.payload.to_vec())
            .bind(row.lane)
            .bind(row.weight);
    }
    let query = query
        .bind(row.key.map(str::to_owned))
        .bind(row.headers.clone())
        .bind(row.payload.to_vec())
        .bind(row.content_type.to_owned())
        .bind(row.durable)
        .bind(row.lane)
        .bind(row.weight)
        .bind(row.expires_in);
    match kind {
        Kind::Scheduled => query.bind(row.due_in),
        Kind::Plain | Kind::Any => query,
    }
}
