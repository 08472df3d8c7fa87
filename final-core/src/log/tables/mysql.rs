//! The log in MySQL and MariaDB.

use sqlx::{MySql, MySqlConnection, MySqlPool, mysql::MySqlArguments, query::Query};

use super::{
    database::{LogDatabase, NoPatience, bound, run_and_rows},
    entry::{Entry, entries},
    schema::Types,
    texts::{Alone, Inserts, Kind, Words},
};
use crate::{
    broker::Staged,
    database::{DbResult, inserts::all_written},
    outbox::mysql,
};

/// Beyond what every connection of ours is told: nothing waits for long. MariaDB alone ends a transaction that stands still, which a paused process would leave.
const SESSION: [&str; 2] = [
    "SET SESSION innodb_lock_wait_timeout = 5 /*!80000 , SESSION information_schema_stats_expiry = 0 */",
    "/*M!100300 SET SESSION idle_transaction_timeout = 10 */",
];

impl LogDatabase for MySql {
    const LOG_WORDS: Words = Words {
        numbered: false,
        gapless: false,
        now: "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00.000000', UTC_TIMESTAMP(6))",
        int: "SIGNED",
        share: "LOCK IN SHARE MODE",
        lock: "FOR UPDATE",
        skip_locked: "FOR UPDATE SKIP LOCKED",
        insert: "INSERT IGNORE",
        nothing: "",
        durable: None,
        notify: None,
        no_wait: Some("FOR UPDATE NOWAIT"),
        only: Some("ORDER BY seq LIMIT ?"),
        strict: None,
        impatient: None,
        alone: Alone::Lane(mysql::alone),
        many: None,
        last_number,
        raise_number: None,
    };

    const LOG_TYPES: Types = Types {
        serial: "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
        id: "BINARY(16)",
        name: "VARCHAR(255)",
        text: "MEDIUMTEXT",
        bytes: "LONGBLOB",
        small: "SMALLINT",
        big: "BIGINT",
        moving: OPTIONS,
        still: OPTIONS,
        busy: OPTIONS,
        inline_index: true,
        schema: "",
    };

    fn log_pool(pool: &MySqlPool) -> MySqlPool {
        mysql::own_pool(pool, crate::log::CONNECTIONS, &SESSION)
    }

    fn log_place(pool: &MySqlPool) -> String {
        let options = pool.connect_options();
        let host = options.get_socket().map_or_else(
            || options.get_host().to_owned(),
            |socket| socket.display().to_string(),
        );
        let database = options.get_database().unwrap_or_default();
        format!("{host}:{}/{database}", options.get_port())
    }

    async fn log_schema(conn: &mut MySqlConnection) -> DbResult<String> {
        let database = mysql::current_database(conn).await?;
        Ok(format!("{}.", mysql::quoted(&database)))
    }

    async fn log_tells_transactions(conn: &mut MySqlConnection) -> DbResult<bool> {
        let version: String = sqlx::query_scalar("SELECT VERSION()")
            .fetch_one(conn)
            .await?;
        Ok(mysql::is_mariadb(&version))
    }

    /// InnoDB shows a commit before it has flushed its log. A binary log that is flushed comes before
    /// both, and brings back what it has.
    async fn log_shows_early(conn: &mut MySqlConnection) -> DbResult<bool> {
        let in_order = "SELECT CAST(@@log_bin = 1 AND @@sync_binlog = 1 AS SIGNED)";
        let in_order: i64 = sqlx::query_scalar(in_order).fetch_one(conn).await?;
        Ok(in_order == 0)
    }

    run_and_rows!(NoPatience);

    async fn log_append(
        conn: &mut MySqlConnection,
        inserts: &Inserts,
        staged: &[&Staged],
    ) -> DbResult<()> {
        for lot in entries(staged) {
            let kind = inserts.kind(&lot);
            for (statement, rows) in inserts.pieces(kind).of(&lot) {
                let query = rows
                    .iter()
                    .fold(sqlx::query(statement), |query, row| bind(query, row, kind));
                let written = query.execute(&mut *conn).await?.rows_affected();
                all_written(written, rows.len())?;
            }
        }
        Ok(())
    }

    async fn log_append_alone(
        conn: &mut MySqlConnection,
        inserts: &Inserts,
        staged: &Staged,
    ) -> DbResult<bool> {
        if !inserts.tells_transactions {
            return Ok(false);
        }
        let row = Entry::from(staged);
        let (kind, statement) = inserts.alone(&row);
        match bind(sqlx::query(statement), &row, kind).execute(conn).await {
            Ok(done) => all_written(done.rows_affected(), 1).map(|()| true),
            Err(error) if mysql::is_not_alone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn log_listen(_: &MySqlPool, _: impl Fn(&str) + Send + Sync) -> DbResult<()> {
        std::future::pending().await
    }
}

/// As the server counts now, and not as it remembers from a day ago, which is MySQL 8's default.
fn last_number(table: &str) -> String {
    let name = table.rsplit('.').next().unwrap_or(table);
    format!(
        "(SELECT CAST(COALESCE(AUTO_INCREMENT, 1) AS SIGNED) - 1 FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{name}')"
    )
}

const OPTIONS: &str =
    " ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

bound!(MySql);

type Insert<'q> = Query<'q, MySql, MySqlArguments>;

fn bind<'q>(query: Insert<'q>, row: &'q Entry<'_>, kind: Kind) -> Insert<'q> {
    let query = query.bind(row.id).bind(row.topic);
    if kind == Kind::Plain {
        return query.bind(row.payload).bind(row.lane).bind(row.weight);
    }
    let query = query
        .bind(row.key)
        .bind(row.headers.as_deref())
        .bind(row.payload)
        .bind(row.content_type)
        .bind(row.durable)
        .bind(row.lane)
        .bind(row.weight)
        .bind(row.expires_in);
    match kind {
        Kind::Scheduled => query.bind(row.due_in),
        Kind::Plain | Kind::Any => query,
    }
}
