//! databus's tables.
//!
//! Its README and its code do not name them the same: `app_tb` and `auth_tb`, or `app` and `auth`. Whichever are there
//! are read. An app has the columns `id`, `app_key` and `app_secret`; a right has `app_id`, `group_name` (or `group`),
//! `operation` and `topic`. `deleted_at` and `batch` are read where they are there. A row is deleted if `deleted_at` is
//! neither NULL nor 0.

use std::collections::HashMap;

use final_core::database::{DbResult, Dialect, Driver, Templates, columns, read};
use sqlx::Pool;

use super::{DatabusApp, DatabusRight};

/// The names of the tables, those of apps first.
const TABLES: [(&str, &str); 2] = [("app_tb", "auth_tb"), ("app", "auth")];

columns! {
    struct AppOfDatabus {
        id: i64,
        app_key: String,
        app_secret: String,
        deleted_at: Option<String>,
    }
}

columns! {
    struct RightOfDatabus {
        id: i64,
        app_id: i64,
        group_name: String,
        topic: String,
        operation: i64,
        batch: i64,
        deleted_at: Option<String>,
    }
}

/// Reads the tables of both names in the schema of the pool. Empty if there are none.
///
/// # Errors
///
/// Fails if the database does, or if a table has other columns.
pub async fn read_tables<DB: Driver>(pool: &Pool<DB>) -> DbResult<Vec<DatabusApp>> {
    let mut conn = pool.acquire().await?;
    let server = DB::server(&mut conn).await?;
    let mut all = Vec::new();
    for (apps, rights) in TABLES {
        let of_apps = DB::columns(&mut conn, apps).await?;
        let of_rights = DB::columns(&mut conn, rights).await?;
        if of_apps.is_empty() || of_rights.is_empty() {
            continue;
        }
        let tables = [
            (
                "apps",
                format!("{}{}", server.schema, DB::DIALECT.quoted(apps)),
            ),
            (
                "rights",
                format!("{}{}", server.schema, DB::DIALECT.quoted(rights)),
            ),
            ("text", text::<DB>().to_owned()),
        ];
        let templates = Templates::new(DB::DIALECT, tables);
        let deleted = deleted(&of_apps);
        let sql = format!(
            "SELECT CAST(id AS {{int}}) AS id, app_key, app_secret, {deleted} AS deleted_at FROM {{apps}} ORDER BY id"
        );
        let found = read::<DB, AppOfDatabus>(&mut conn, &templates.sql(&sql), &[]).await?;
        let group = match of_rights.iter().any(|column| column == "group_name") {
            true => "group_name".to_owned(),
            false => DB::DIALECT.quoted("group"),
        };
        let batch = match of_rights.iter().any(|column| column == "batch") {
            true => "CAST(batch AS {int})",
            false => "0",
        };
        let deleted = self::deleted(&of_rights);
        let sql = format!(
            "SELECT CAST(id AS {{int}}) AS id, CAST(app_id AS {{int}}) AS app_id, {group} AS group_name, topic, \
                 CAST(operation AS {{int}}) AS operation, CAST({batch} AS {{int}}) AS batch, {deleted} AS deleted_at \
             FROM {{rights}} ORDER BY id"
        );
        let rows = read::<DB, RightOfDatabus>(&mut conn, &templates.sql(&sql), &[]).await?;
        all.extend(join(apps, rights, found, rows));
    }
    Ok(all)
}

/// Apps with their rights. Rights of no app belong to one without a key, which nothing is taken over from.
fn join(
    apps: &str,
    rights: &str,
    found: Vec<AppOfDatabus>,
    rows: Vec<RightOfDatabus>,
) -> Vec<DatabusApp> {
    let mut of_app: HashMap<i64, Vec<DatabusRight>> = HashMap::new();
    for row in rows {
        of_app.entry(row.app_id).or_default().push(DatabusRight {
            group: row.group_name,
            topic: row.topic,
            operation: row.operation,
            batch: row.batch,
            is_deleted: is_deleted(row.deleted_at.as_deref()),
        });
    }
    let mut all: Vec<DatabusApp> = found
        .into_iter()
        .map(|app| DatabusApp {
            place: format!("{apps}, id {}", app.id),
            key: app.app_key,
            secret: app.app_secret,
            is_deleted: is_deleted(app.deleted_at.as_deref()),
            rights: of_app.remove(&app.id).unwrap_or_default(),
        })
        .collect();
    let mut lost: Vec<i64> = of_app.into_keys().collect();
    lost.sort_unstable();
    all.extend(lost.into_iter().map(|id| DatabusApp {
        place: format!("{rights}, app_id {id}, which {apps} does not have"),
        key: String::new(),
        secret: String::new(),
        is_deleted: false,
        rights: Vec::new(),
    }));
    all
}

fn text<DB: Driver>() -> &'static str {
    match DB::DIALECT {
        Dialect::Postgres => "text",
        Dialect::MySql => "CHAR",
        Dialect::Sqlite => "TEXT",
    }
}

fn deleted(columns: &[String]) -> &'static str {
    match columns.iter().any(|column| column == "deleted_at") {
        true => "CAST(deleted_at AS {text})",
        false => "CAST(NULL AS {text})",
    }
}

/// A number or a time, as a text.
pub(super) fn is_deleted(at: Option<&str>) -> bool {
    at.is_some_and(|at| !matches!(at.trim(), "" | "0") && !at.starts_with("0000-00-00"))
}
