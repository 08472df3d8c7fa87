//! Brings the tables of a crate to a version.
//!
//! Input: the [`Tables`] of the crate. State: the row of `final_migrations` with the version that the tables
//! have. Output: tables of the version; tables of a later one stay as they are.
//!
//! ```text
//!   lock ─▶ the version that is written down ─┬─ older, or none ─▶ all statements ─▶ write the version ─▶ finish
//!                                             └─ the same, or later ─────────────────────────────────────▶ finish
//! ```

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Pool, SqlSafeStr, SqlStr};

use super::{DbResult, Dialect, Driver, MIGRATIONS, Templates, Value, read, says};

/// The tables of a crate, and how they come to be.
///
/// Migrations only ever expand, because during a deployment the previous release still writes to the tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// What the version is written down for: the name of one of the tables, unique in the schema.
    pub name: &'a str,
    /// The version that the statements bring the tables to.
    pub version: u32,
    /// All statements of all versions, in order; each may find its work done.
    pub statements: &'a [String],
}

/// Brings tables to their version, under the lock of the schema, so that several instances can start at once.
/// Tables of this or a later version stay as they are.
///
/// On PostgreSQL and SQLite all of it is one transaction. On MySQL each statement commits by itself, and the
/// version is written last.
///
/// # Errors
///
/// Fails if the database does, or if another instance has held the lock for a minute.
pub async fn migrate<DB: Driver>(pool: &Pool<DB>, tables: &Tables<'_>) -> DbResult<()> {
    let mut lock = DB::lock_migrations(pool).await?;
    let conn = lock.conn();
    let name = [tables.name.into()];
    let templates = Templates::new(DB::DIALECT, [("versions", versions(DB::DIALECT))]);
    if !DB::columns(conn, MIGRATIONS).await?.is_empty() {
        let version =
            templates.sql("SELECT CAST(version AS {int}) FROM {versions} WHERE table_name = ?");
        let found: Vec<i64> = read::<DB, _>(conn, &version, &name).await?;
        if found
            .first()
            .is_some_and(|found| *found >= i64::from(tables.version))
        {
            return lock.finish().await;
        }
    }
    let create = [create_versions(DB::DIALECT)];
    for statement in create.iter().chain(tables.statements) {
        let made = DB::run_sql(conn, &sql(statement), &[]).await;
        made.map_err(name_setting)?;
    }
    let forget = templates.sql("DELETE FROM {versions} WHERE table_name = ?");
    DB::run_sql(conn, &forget, &name).await?;
    let write_down = match DB::DIALECT {
        Dialect::MySql => {
            "INSERT INTO {versions} (table_name, service, version, applied_at) \
             VALUES (?, '', ?, UTC_TIMESTAMP(6))"
        }
        Dialect::Postgres | Dialect::Sqlite => {
            "INSERT INTO {versions} (table_name, service, version) VALUES (?, '', ?)"
        }
    };
    let [name] = name;
    let values = [name, tables.version.into()];
    DB::run_sql(conn, &templates.sql(write_down), &values).await?;
    lock.finish().await
}

/// Makes sure that those of these tables that are there take part in transactions. On MySQL a server may be told to
/// make each table with another engine, such as MyISAM, which keeps what is rolled back.
///
/// # Errors
///
/// Fails if the database does, or if a table does not.
pub(crate) async fn are_transactional<DB: Driver>(
    conn: &mut DB::Connection,
    tables: &[&str],
) -> DbResult<()> {
    let others = not_transactional::<DB>(conn, tables).await?;
    let Some((table, engine)) = others.first() else {
        return Ok(());
    };
    let text = format!(
        "the table {table} has the engine {engine}, which keeps what is rolled back; \
         run `ALTER TABLE {table} ENGINE = InnoDB`"
    );
    Err(sqlx::Error::Configuration(text.into()))
}

/// Those of these tables that take part in no transaction, each with its engine. Only MySQL has such engines.
///
/// # Errors
///
/// Fails if the database does.
pub(crate) async fn not_transactional<DB: Driver>(
    conn: &mut DB::Connection,
    tables: &[&str],
) -> DbResult<Vec<(String, String)>> {
    if DB::DIALECT != Dialect::MySql || tables.is_empty() {
        return Ok(Vec::new());
    }
    let others = format!(
        "SELECT CONVERT(table_name USING utf8mb4) AS name, CONVERT(engine USING utf8mb4) AS engine \
         FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND engine <> 'InnoDB' AND table_name IN ({})",
        vec!["?"; tables.len()].join(", ")
    );
    let values: Vec<Value<'_>> = tables.iter().map(|name| Value::from(*name)).collect();
    read::<DB, _>(conn, &sql(&others), &values).await
}

/// Names the setting that forbids every write, or that forbids tables of InnoDB. A SQLite file in WAL that cannot be
/// written cannot be read either.
pub(crate) fn name_setting(error: sqlx::Error) -> sqlx::Error {
    const NO_INNODB: [&str; 3] = [
        "storage engine 'InnoDB'",
        "Storage engine InnoDB is disabled",
        "NO_ENGINE_SUBSTITUTION",
    ];
    let text = if says(&error, "attempt to write a readonly database") {
        "the SQLite database can only be read: `mode=ro`, `read_only` or `immutable` is set, or its file may not be \
         written; a bus has to write"
            .to_owned()
    } else if NO_INNODB.iter().any(|text| says(&error, text)) {
        format!(
            "the server makes no tables of InnoDB ({error}); \
             see its settings enforce_storage_engine and disabled_storage_engines"
        )
    } else {
        return error;
    };
    sqlx::Error::Configuration(text.into())
}

fn versions(dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => format!("main.{MIGRATIONS}"),
        Dialect::Postgres | Dialect::MySql => MIGRATIONS.to_owned(),
    }
}

fn sql(text: &str) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

/// Makes the table in which every service of a schema writes down the versions of its tables.
pub(crate) fn create_versions(dialect: Dialect) -> String {
    let columns = match dialect {
        Dialect::Postgres => {
            "table_name text PRIMARY KEY,\n  \
             service text NOT NULL,\n  \
             version integer NOT NULL,\n  \
             applied_at timestamptz NOT NULL DEFAULT clock_timestamp()\n)"
        }
        Dialect::MySql => {
            "table_name VARCHAR(64) NOT NULL PRIMARY KEY,\n  \
             service VARCHAR(64) NOT NULL,\n  \
             version INT NOT NULL,\n  \
             applied_at DATETIME(6) NOT NULL\n\
             ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        }
        Dialect::Sqlite => {
            "table_name TEXT NOT NULL PRIMARY KEY,\n  \
             service TEXT NOT NULL,\n  \
             version INTEGER NOT NULL,\n  \
             applied_at INTEGER NOT NULL DEFAULT (unixepoch() * 1000)\n)"
        }
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {} (\n  {columns}",
        versions(dialect)
    )
}
