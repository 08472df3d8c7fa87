//! MariaDB, or MySQL where that is installed in its place, with settings that nobody should have, all at once.

use final_core::Error;
use final_tests::{MariaDb, Proxy, servers::Setup};
use sqlx::{AssertSqlSafe, MySql, MySqlPool, mysql::MySqlPoolOptions};

use super::{answers_after_a_quiet_time, hostile::hostile, refuses, walks};
use crate::{
    database::{Database, is_mariadb},
    house::House,
    transport::{Log, Rabbit, Transport},
};

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
    // MySQL has no Aria.
    let engine = match is_mariadb(&outbox.pool).await {
        true => "Aria",
        false => "MyISAM",
    };
    for (house, table) in [
        (&outbox.pool, outbox.table()),
        (&log.pool, "final_log".into()),
    ] {
        MySql::run_on(house, &format!("ALTER TABLE {table} ENGINE = {engine}")).await;
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

/// An operator mends one setting after the other, as each is named. MySQL can only be started anew without its list of
/// disabled engines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_which_no_bus_can_work_is_refused_by_the_settings_name() {
    let is_mysql = MariaDb::is_mysql().expect("a server");
    let mut settings = vec![
        "--log-bin=binlog",
        "--binlog-format=STATEMENT",
        "--max-allowed-packet=32K",
    ];
    let mut mends = vec![
        ("binlog_format is STATEMENT", "binlog_format = MIXED"),
        ("max_allowed_packet is 32768", "max_allowed_packet = 65536"),
    ];
    if is_mysql {
        // The service's own tables have the other engine.
        let other = "--default-storage-engine=MyISAM";
        let server = with(&["--disabled-storage-engines=InnoDB", other]).await;
        let pool = MySqlPool::connect(&server.url()).await.expect("connected");
        let outbox = House::<MySql, Rabbit>::on(pool.clone()).await;
        refuses(&outbox, "disabled_storage_engines").await;
        refuses(
            &House::<MySql, Log>::on(pool).await,
            "disabled_storage_engines",
        )
        .await;
    } else {
        settings.push("--enforce-storage-engine=MyISAM");
        mends.push(("enforce_storage_engine", "enforce_storage_engine = NULL"));
    }
    let server = with(&settings).await;
    let pool = MySqlPool::connect(&server.url()).await.expect("connected");
    for (named, mended) in mends {
        let outbox = House::<MySql, Rabbit>::on(pool.clone()).await;
        refuses(&outbox, named).await;
        refuses(&House::<MySql, Log>::on(pool.clone()).await, named).await;
        MySql::run_on(&pool, &format!("SET GLOBAL {mended}")).await;
    }
    walks(&House::<MySql, Rabbit>::on(pool.clone()).await).await;
    walks(&House::<MySql, Log>::on(pool).await).await;
}

/// A server of its own with these settings.
async fn with(settings: &[&str]) -> MariaDb {
    let setup = Setup {
        args: settings.iter().map(|&setting| setting.into()).collect(),
        ..Setup::default()
    };
    MariaDb::start_with(setup).await.expect("MariaDB")
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

/// Sessions that MariaDB and MySQL both know.
const SESSIONS: &[&str] = &[
    "sql_mode = ''",
    "unique_checks = 0, foreign_key_checks = 0",
    "sql_select_limit = 0, sql_safe_updates = 1, sql_big_selects = 0",
    "optimizer_switch = 'index_condition_pushdown=off,derived_merge=off,semijoin=off,materialization=off'",
];

const SESSIONS_OF_MARIADB: &[&str] = &[
    "sql_mode = 'ORACLE,EMPTY_STRING_IS_NULL'",
    "sql_mode = 'MSSQL,NO_BACKSLASH_ESCAPES'",
    "check_constraint_checks = 0, sql_select_limit = 0, sql_safe_updates = 1, sql_big_selects = 0",
    "innodb_snapshot_isolation = 1, tx_isolation = 'SERIALIZABLE'",
];

/// MySQL has none of the modes of other databases, checks all constraints, and has no snapshot isolation to set.
const SESSIONS_OF_MYSQL: &[&str] = &[
    "sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES'",
    "transaction_isolation = 'SERIALIZABLE'",
];

/// Settings of the caller's sessions alone, which the bus leaves as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_may_have_its_sessions_as_it_likes() {
    let own = match MariaDb::is_mysql().expect("a server") {
        true => SESSIONS_OF_MYSQL,
        false => SESSIONS_OF_MARIADB,
    };
    for session in SESSIONS.iter().chain(own) {
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

/// A closure that goes on after a deadlock, in a session that checks nothing. On MySQL, which cannot tell, the messages
/// are published alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_over_publishes_nothing_whatever_its_session_checks() {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let options = MySqlPoolOptions::new().after_connect(|conn, _| {
        let checks_nothing = "SET SESSION sql_mode = '' /*M! , check_constraint_checks = 0 */";
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

    let tells = is_mariadb(&house.pool).await;
    let result = txbus.commit().await;

    match result {
        Err(Error::NotInTransaction) if tells => {}
        Ok(()) if !tells => {}
        other => panic!("{other:?}"),
    }
    let written = format!("SELECT count(*) FROM {}", T::table(&house.service));
    let alone = if tells { 0 } else { 3 };
    assert_eq!(MySql::number(&house.pool, &written).await, alone);
}
