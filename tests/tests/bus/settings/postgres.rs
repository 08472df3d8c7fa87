//! PostgreSQL with settings that nobody should have, all at once.

use final_tests::{Postgres, Proxy, servers::Setup};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

use super::{answers_after_a_quiet_time, walks};
use crate::{
    database::Database,
    house::House,
    transport::{Log, Rabbit, Transport},
};

/// In one server, since each costs seconds.
const HOSTILE: &[&str] = &[
    "default_transaction_isolation=serializable",
    "default_transaction_deferrable=on",
    "statement_timeout=20s",
    "idle_in_transaction_session_timeout=3s",
    "idle_session_timeout=1500ms",
    "standard_conforming_strings=off",
    "escape_string_warning=on",
    "bytea_output=escape",
    "DateStyle=SQL, DMY",
    "TimeZone=America/Caracas",
    "IntervalStyle=sql_standard",
    "extra_float_digits=-15",
    "synchronous_commit=off",
    "row_security=off",
    "plan_cache_mode=force_generic_plan",
    "session_replication_role=replica",
    "transform_null_equals=on",
    "array_nulls=off",
    "quote_all_identifiers=on",
    "exit_on_error=on",
    "check_function_bodies=off",
    "client_min_messages=error",
    "enable_indexscan=off",
    "enable_indexonlyscan=off",
    "enable_bitmapscan=off",
    "enable_nestloop=off",
    "enable_hashjoin=off",
    "enable_mergejoin=off",
    "enable_sort=off",
    "enable_material=off",
    "jit_above_cost=0",
    "from_collapse_limit=1",
    "join_collapse_limit=1",
    "work_mem=64kB",
    "search_path=other, public, pg_catalog",
];

/// A database of its own on the server, whose texts have no charset.
async fn house<T: Transport>() -> House<sqlx::Postgres, T> {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    let start = async || {
        let settings = HOSTILE.iter().flat_map(|setting| ["-c", setting]);
        let setup = Setup {
            args: settings.map(str::to_owned).collect(),
            ..Setup::default()
        };
        Postgres::start_with(setup).await.expect("PostgreSQL")
    };
    let server = SERVER.get_or_init(start).await;
    // The service gets along with its server.
    let writes = || {
        PgPoolOptions::new().after_connect(|conn, _| {
            Box::pin(async {
                let writes = "SET default_transaction_read_only = off";
                sqlx::Postgres::raw(conn, writes).await
            })
        })
    };
    let root: PgPool = writes().connect(&server.url()).await.expect("connected");
    let name = final_tests::unique("shop");
    let database = format!(
        "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    );
    let made = sqlx::raw_sql(AssertSqlSafe(database)).execute(&root).await;
    made.expect("a database");
    let options = root.connect_options().as_ref().clone().database(&name);
    let pool = writes().connect_with(options).await.expect("connected");
    sqlx::Postgres::run_on(&pool, "CREATE SCHEMA other").await;
    let version = sqlx::query_scalar("SELECT current_setting('server_version_num')::int");
    let version: i32 = version.fetch_one(&pool).await.expect("a version");
    let parallel = match version {
        ..160_000 => "force_parallel_mode",
        _ => "debug_parallel_query",
    };
    let parallel = format!("ALTER DATABASE {name} SET {parallel} = on");
    sqlx::Postgres::run_on(&pool, &parallel).await;
    // Where the server's own configuration says it, the server counts as read-only.
    let reads = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    sqlx::Postgres::run_on(&pool, &reads).await;
    House::on(pool).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_works_with_all_hostile_settings_at_once() {
    walks(&house::<Rabbit>().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_works_with_all_hostile_settings_at_once() {
    walks(&house::<Log>().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitoring_is_right_after_a_quiet_time() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&url).await.expect("a proxy");
    let pool = PgPool::connect(&proxy.url(&url)).await.expect("connected");
    answers_after_a_quiet_time(pool, &proxy).await;
}
