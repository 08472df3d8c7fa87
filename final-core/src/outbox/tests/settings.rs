//! Our own sessions: their settings, whatever the server says, and the lock of migrations.

use std::time::Duration;

use sqlx::{Executor, MySql, PgPool, Postgres};

use super::house::House;
use crate::database::{Driver, begin_session, renewable::PING};

/// A setting, what a server or an account may say, and what our own sessions make of it. A server without a setting
/// has nothing to be set.
const OF_MYSQL: [(&str, &str, &str); 20] = [
    ("autocommit", "0", "1"),
    ("completion_type", "'CHAIN'", "NO_CHAIN"),
    ("tx_isolation", "'SERIALIZABLE'", "READ-COMMITTED"),
    ("tx_read_only", "1", "0"),
    (
        "sql_mode",
        "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
    ),
    ("innodb_snapshot_isolation", "1", "0"),
    ("sql_select_limit", "1", "18446744073709551615"),
    ("sql_safe_updates", "1", "0"),
    ("sql_big_selects", "0", "1"),
    ("sql_auto_is_null", "1", "0"),
    ("wait_timeout", "1", "28800"),
    ("net_read_timeout", "1", "30"),
    ("net_write_timeout", "1", "60"),
    ("foreign_key_checks", "0", "1"),
    ("unique_checks", "0", "1"),
    ("check_constraint_checks", "0", "1"),
    ("max_statement_time", "9", "0.000000"),
    ("in_predicate_conversion_threshold", "2", "0"),
    ("lc_messages", "'de_DE'", "en_US"),
    ("character_set_client", "'latin1'", "utf8mb4"),
];

#[tokio::test]
async fn our_sessions_on_mysql_have_their_settings_whatever_the_server_says() {
    let mut conn = MySql::fresh().await.acquire().await.unwrap().detach();
    let mut known = Vec::new();
    for setting in OF_MYSQL {
        let set = format!("SET SESSION {} = {}", setting.0, setting.1);
        match conn.execute(sqlx::AssertSqlSafe(set)).await {
            Err(error) if has_not(&error) => {}
            set => known.push(set.map(|_| setting).unwrap()),
        }
    }
    assert!(known.len() >= 14, "{known:?}");

    begin_session(&mut conn).await.unwrap();

    for (name, _, expected) in known {
        let is = format!("SELECT CONVERT(@@SESSION.{name} USING utf8mb4)");
        let is: String = sqlx::query_scalar(sqlx::AssertSqlSafe(is))
            .fetch_one(&mut conn)
            .await
            .unwrap();
        let is = match &*is {
            "ON" => "1",
            "OFF" => "0",
            is => is,
        };
        assert_eq!(is, expected, "{name}");
    }
}

/// The server has no variable or function of this name.
fn has_not(error: &sqlx::Error) -> bool {
    let text = error.to_string();
    text.contains("1193") || text.contains("1305")
}

/// MariaDB's 1020: a row was changed since the snapshot. It has ended the transaction as a deadlock does.
#[tokio::test]
async fn a_row_that_changed_since_the_snapshot_counts_as_a_deadlock_and_has_rolled_back() {
    let pool = MySql::fresh().await;
    let mut one = pool.acquire().await.unwrap();
    let mut other = pool.acquire().await.unwrap();
    let rows = "CREATE TABLE rows_of_ours (id INT PRIMARY KEY, n INT) ENGINE = InnoDB; \
        INSERT INTO rows_of_ours VALUES (1, 0), (2, 0); \
        SET SESSION innodb_snapshot_isolation = 1; \
        BEGIN; UPDATE rows_of_ours SET n = 5 WHERE id = 1; SELECT * FROM rows_of_ours";
    match one.execute(rows).await {
        Err(error) if has_not(&error) => return,
        done => done.map(drop).unwrap(),
    }
    let change = "UPDATE rows_of_ours SET n = 1 WHERE id = 2";
    other.execute(change).await.unwrap();

    let error = one.execute(change).await.unwrap_err();

    assert!(error.to_string().contains("1020"), "{error}");
    assert!(MySql::is_deadlock(&error));
    let first = "SELECT CAST(@@in_transaction AS SIGNED), n FROM rows_of_ours WHERE id = 1";
    let after: (i64, i32) = sqlx::query_as(first).fetch_one(&mut *one).await.unwrap();
    assert_eq!(after, (0, 0), "the first change is undone as well");
}

/// During a deployment an earlier release takes only the lock that is named by MD5.
#[tokio::test]
async fn the_lock_of_migrations_keeps_earlier_releases_out() {
    let pool = MySql::fresh().await;

    let lock = MySql::lock_migrations(&pool).await.unwrap();

    for name in ["MD5(DATABASE())", "LEFT(SHA2(DATABASE(), 256), 32)"] {
        let free = format!("SELECT IS_FREE_LOCK(CONCAT('final_migrations_', {name}))");
        let free = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(free));
        match free.fetch_one(&pool).await {
            // Then there is no earlier release either.
            Err(error) if has_not(&error) => {}
            free => assert_eq!(free.unwrap(), 0, "{name}"),
        }
    }
    lock.finish().await.unwrap();
}

/// A setting, what a role may say, and what our own sessions make of it.
const OF_POSTGRES: [(&str, &str, &str); 14] = [
    (
        "default_transaction_isolation",
        "serializable",
        "read committed",
    ),
    ("default_transaction_read_only", "on", "off"),
    ("default_transaction_deferrable", "on", "off"),
    ("statement_timeout", "20s", "0"),
    ("idle_session_timeout", "20s", "0"),
    ("idle_in_transaction_session_timeout", "1s", "75s"),
    ("standard_conforming_strings", "off", "on"),
    ("array_nulls", "off", "on"),
    ("exit_on_error", "on", "off"),
    ("enable_indexscan", "off", "on"),
    ("enable_indexonlyscan", "off", "on"),
    ("enable_nestloop", "off", "on"),
    ("enable_sort", "off", "on"),
    ("default_table_access_method", "heap", "heap"),
];

#[tokio::test]
async fn our_sessions_on_postgres_have_their_settings_whatever_the_role_says() {
    let options = Postgres::fresh().await.connect_options().as_ref().clone();
    let hostile = OF_POSTGRES.map(|(name, hostile, _)| (name, hostile.replace(' ', "\\ ")));
    let caller = PgPool::connect_lazy_with(options.options(hostile));

    let own = Postgres::own_pool(&caller, 1, &[]);

    for (name, _, expected) in OF_POSTGRES {
        let is: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&own)
            .await
            .unwrap();
        assert_eq!(is, expected, "{name}");
    }
}

/// Monitoring failed once after a quiet time: the sign of life of a silent connection had taken a third of the time in
/// which another one had to be made.
#[tokio::test]
async fn a_silent_connection_takes_nothing_of_the_time_for_another_one() {
    const FOR_ANOTHER: Duration = Duration::from_secs(3);
    let (postgres, mysql) = (Postgres::fresh().await, MySql::fresh().await);
    let waits = [
        Postgres::own_pool(&postgres, 1, &[])
            .options()
            .get_acquire_timeout(),
        MySql::own_pool(&mysql, 1, &[])
            .options()
            .get_acquire_timeout(),
    ];
    for wait in waits {
        assert!(wait >= PING + FOR_ANOTHER, "{wait:?}");
    }
}
