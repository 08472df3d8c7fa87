//! MariaDB with settings that nobody should have, all at once.

use final_core::Error;
use final_tests::{MariaDb, Proxy, servers::Setup};
use sqlx::{AssertSqlSafe, MySql, MySqlPool, mysql::MySqlPoolOptions};
use tokio::sync::OnceCell;

use super::{answers_after_a_quiet_time, refuses, walks};
use crate::{
    database::Database,
    house::House,
    transport::{Log, Rabbit, Transport},
};

/// In one server, since each costs seconds.
const HOSTILE: &[&str] = &[
    "--autocommit=0",
    "--completion-type=CHAIN",
    "--init-connect=SET NAMES latin1",
    "--transaction-isolation=SERIALIZABLE",
    "--sql-mode=ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,IGNORE_SPACE,HIGH_NOT_PRECEDENCE,NO_ZERO_DATE,\
     NO_ZERO_IN_DATE,ONLY_FULL_GROUP_BY,NO_UNSIGNED_SUBTRACTION,NO_AUTO_VALUE_ON_ZERO,PAD_CHAR_TO_FULL_LENGTH,\
     TIME_ROUND_FRACTIONAL,SIMULTANEOUS_ASSIGNMENT,REAL_AS_FLOAT,NO_ENGINE_SUBSTITUTION",
    "--log-bin=binlog",
    "--server-id=1",
    "--binlog-format=MIXED",
    "--binlog-row-image=MINIMAL",
    "--innodb-snapshot-isolation=ON",
    "--innodb-rollback-on-timeout=ON",
    "--innodb-strict-mode=OFF",
    "--innodb-force-primary-key=ON",
    "--innodb-autoinc-lock-mode=0",
    "--auto-increment-increment=3",
    "--auto-increment-offset=2",
    "--default-storage-engine=MyISAM",
    "--max-allowed-packet=64K",
    "--net-buffer-length=1K",
    "--wait-timeout=2",
    "--interactive-timeout=2",
    "--character-set-server=latin2",
    "--collation-server=latin2_czech_cs",
    "--lower-case-table-names=1",
    "--default-time-zone=-11:00",
    "--lc-messages=de_DE",
    "--explicit-defaults-for-timestamp=OFF",
    "--big-tables=ON",
    "--group-concat-max-len=4",
    "--max-recursive-iterations=1",
    "--max-sort-length=64",
    "--div-precision-increment=0",
    "--in-predicate-conversion-threshold=2",
    "--eq-range-index-dive-limit=1",
    "--use-stat-tables=NEVER",
    "--join-cache-level=8",
    "--query-cache-type=ON",
    "--query-cache-size=1M",
    "--low-priority-updates=ON",
    "--old-mode=NO_DUP_KEY_WARNINGS_WITH_IGNORE",
    "--sql-safe-updates=ON",
];

/// More settings, made once the server runs.
const GLOBALS: &str = "SET GLOBAL unique_checks = 0, GLOBAL foreign_key_checks = 0, GLOBAL sql_big_selects = 0, \
    GLOBAL sql_auto_is_null = 1, GLOBAL sql_buffer_result = 1, GLOBAL sql_warnings = 1, GLOBAL sql_notes = 0, \
    GLOBAL check_constraint_checks = 0, GLOBAL max_join_size = 1, GLOBAL sql_select_limit = 1, GLOBAL sql_quote_show_create = 0";

async fn hostile() -> &'static MariaDb {
    static SERVER: OnceCell<MariaDb> = OnceCell::const_new();
    let start = async || {
        let setup = Setup {
            args: HOSTILE.iter().map(|&setting| setting.into()).collect(),
            ..Setup::default()
        };
        let server = MariaDb::start_with(setup).await.expect("MariaDB");
        let root = MySqlPool::connect(&server.url()).await.expect("connected");
        let made = sqlx::raw_sql(GLOBALS).execute(&root).await;
        made.expect("set");
        server
    };
    SERVER.get_or_init(start).await
}

/// A database of its own on the server, and an account that is not exempt from `init_connect`.
async fn pool(options: MySqlPoolOptions) -> MySqlPool {
    let server = hostile().await;
    let name = final_tests::unique("shop");
    let root = MySqlPool::connect(&server.url()).await.expect("connected");
    let user = format!(
        "CREATE DATABASE {name}; CREATE USER {name}; GRANT ALL ON {name}.* TO {name}; COMMIT"
    );
    let made = sqlx::raw_sql(AssertSqlSafe(user)).execute(&root).await;
    made.expect("a user");
    let url = server.url().replace("root@", &format!("{name}@"));
    let url = url.replace("/mysql", &format!("/{name}"));
    options.connect(&url).await.expect("connected")
}

async fn house<T: Transport>() -> House<MySql, T> {
    House::on(pool(MySqlPoolOptions::new()).await).await
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
async fn a_message_larger_than_a_packet_is_refused_by_the_settings_name_and_holds_up_no_other() {
    too_large(&house::<Rabbit>().await).await;
    too_large(&house::<Log>().await).await;
}

async fn too_large<T: Transport>(house: &House<MySql, T>) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let topic = house.topic("placed");

    let large = vec![7; 70_000];
    let alone = bus.publish_bytes(&topic, large.clone()).await;
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    let staged = txbus.publish_bytes(&topic, large).await;
    staged.expect("staged");
    let together = txbus.commit().await.map(drop);

    for refused in [alone.map(drop), together] {
        let error = refused.expect_err("refused");
        let Error::Database { source, .. } = &error else {
            panic!("{error:?}");
        };
        let named = source.to_string().contains("max_allowed_packet is 65536");
        assert!(named, "{error:?}");
    }
    // Together they are larger than a packet.
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    for _ in 0..20 {
        let staged = txbus.publish_bytes(&topic, vec![7; 20_000]).await;
        staged.expect("staged");
    }
    txbus.commit().await.expect("committed");
    notes.reach(20).await;
    house.outbox_is_empty(&bus).await;
    assert_eq!(notes.len(), 20);
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_without_transactions_are_refused_by_name() {
    let outbox = house::<Rabbit>().await;
    let log = house::<Log>().await;
    outbox.bus().migrate().await.expect("migrate");
    log.bus().migrate().await.expect("migrate");
    for (house, table) in [
        (&outbox.pool, outbox.table()),
        (&log.pool, "final_log".into()),
    ] {
        MySql::run_on(house, &format!("ALTER TABLE {table} ENGINE = Aria")).await;
    }

    refuses(&outbox, &outbox.table()).await;
    refuses(&log, "final_log").await;
}

/// A session of the caller's that reads and writes texts in another charset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_stored_as_they_are_whatever_the_callers_charset() {
    for charset in ["latin1", "ascii", "utf8mb3"] {
        let options = MySqlPoolOptions::new().after_connect(move |conn, _| {
            let names = format!("SET NAMES {charset}, autocommit = 1");
            Box::pin(async move { MySql::raw(conn, &names).await })
        });
        let pool = pool(options).await;
        told_as_published(&House::<MySql, Log>::on(pool.clone()).await).await;
        told_as_published(&House::<MySql, Rabbit>::on(pool).await).await;
    }
}

async fn told_as_published<T: Transport>(house: &House<MySql, T>) {
    let (bus, notes) = house.start_noting(house.options(), &["plâcé ✓"]).await;
    let (topic, key) = (house.topic("plâcé ✓"), "clé ✓ 🦀");
    let publish = bus.publish(&topic, &1_i64).key(key);
    publish.header("tenant", key).await.expect("published");
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    let staged = txbus.publish(&topic, &2_i64).key(key);
    staged.header("tenant", key).await.expect("staged");
    txbus.commit().await.expect("committed");

    notes.reach(2).await;
    for message in notes.all() {
        assert_eq!(message.topic(), topic);
        assert_eq!(message.key(), Some(key));
        assert_eq!(message.headers().get("tenant"), Some(key));
    }
    bus.shutdown().await.expect("shutdown");
}

/// An operator mends one setting after the other, as each is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_which_no_bus_can_work_is_refused_by_the_settings_name() {
    let settings = [
        "--log-bin=binlog",
        "--binlog-format=STATEMENT",
        "--max-allowed-packet=32K",
        "--enforce-storage-engine=MyISAM",
    ];
    let setup = Setup {
        args: settings.map(str::to_owned).into(),
        ..Setup::default()
    };
    let server = MariaDb::start_with(setup).await.expect("MariaDB");
    let pool = MySqlPool::connect(&server.url()).await.expect("connected");
    for (named, mended) in [
        ("binlog_format is STATEMENT", "binlog_format = MIXED"),
        ("max_allowed_packet is 32768", "max_allowed_packet = 65536"),
        ("enforce_storage_engine", "enforce_storage_engine = NULL"),
    ] {
        let outbox = House::<MySql, Rabbit>::on(pool.clone()).await;
        refuses(&outbox, named).await;
        refuses(&House::<MySql, Log>::on(pool.clone()).await, named).await;
        MySql::run_on(&pool, &format!("SET GLOBAL {mended}")).await;
    }
    walks(&House::<MySql, Rabbit>::on(pool.clone()).await).await;
    walks(&House::<MySql, Log>::on(pool).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitoring_is_right_after_a_quiet_time() {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let proxy = Proxy::to(&url).await.expect("a proxy");
    let pool = MySqlPool::connect(&proxy.url(&url))
        .await
        .expect("connected");
    answers_after_a_quiet_time(pool, &proxy).await;
}

/// Settings of the caller's sessions alone, which the bus leaves as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_may_have_its_sessions_as_it_likes() {
    for session in [
        "sql_mode = 'ORACLE,EMPTY_STRING_IS_NULL'",
        "sql_mode = 'MSSQL,NO_BACKSLASH_ESCAPES'",
        "sql_mode = ''",
        "unique_checks = 0, foreign_key_checks = 0",
        "check_constraint_checks = 0, sql_select_limit = 0, sql_safe_updates = 1, sql_big_selects = 0",
        "innodb_snapshot_isolation = 1, tx_isolation = 'SERIALIZABLE'",
        "optimizer_switch = 'index_condition_pushdown=off,derived_merge=off,semijoin=off,materialization=off'",
    ] {
        let url = final_tests::mysql_database().await.expect("MariaDB");
        let options = MySqlPoolOptions::new().after_connect(move |conn, _| {
            let set = format!("SET SESSION {session}");
            Box::pin(async move { MySql::raw(conn, &set).await })
        });
        let pool = options.connect(&url).await.expect("connected");
        walks(&House::<MySql, Rabbit>::on(pool.clone()).await).await;
        walks(&House::<MySql, Log>::on(pool).await).await;
    }
}

/// A closure that goes on after a deadlock, in a session that checks nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_over_publishes_nothing_whatever_its_session_checks() {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let options = MySqlPoolOptions::new().after_connect(|conn, _| {
        let checks_nothing = "SET SESSION check_constraint_checks = 0, sql_mode = ''";
        Box::pin(MySql::raw(conn, checks_nothing))
    });
    let pool = options.connect(&url).await.expect("connected");
    is_told(&House::<MySql, Rabbit>::on(pool.clone()).await).await;
    is_told(&House::<MySql, Log>::on(pool).await).await;
}

async fn is_told<T: Transport>(house: &House<MySql, T>) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    let over = MySql::raw(txbus.conn(), "ROLLBACK").await;
    over.expect("a deadlock does the same");
    for n in 0..3_i64 {
        let staged = txbus.publish(house.topic("placed"), &n).await;
        staged.expect("staged");
    }

    let result = txbus.commit().await;

    assert!(matches!(result, Err(Error::NotInTransaction)), "{result:?}");
    let written = format!("SELECT count(*) FROM {}", T::table(&house.service));
    assert_eq!(MySql::number(&house.pool, &written).await, 0);
}
