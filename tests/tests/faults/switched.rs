//! A switch-over: the old server takes no writes any longer and keeps its connections, and new connections reach
//! another server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use final_core::{Bus, OutboxDatabase, SqlBroker};
use final_tests::{MariaDb, Postgres, Proxy, always, eventually, unique};
use sqlx::{AssertSqlSafe, MySqlPool, PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions};

use crate::{
    pair::{CONNECTIONS, Pair},
    shop::{SOON, log},
};

/// Connections of the service's own pool.
const CALLERS: u32 = 2;

/// Two servers and the way to them.
struct Servers<DB: sqlx::Database> {
    /// Leads to the old server, until that one refuses connections.
    way: Proxy,
    way_to_old: Proxy,
    /// The database through `way`, and straight on the new server.
    url: String,
    new: sqlx::Pool<DB>,
    /// An administrator of the old server.
    admin: sqlx::Pool<DB>,
    user: String,
}

macro_rules! switch_over {
    ($name:ident, $servers:expr, $pool:ty) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            log();
            let (servers, _old) = $servers.await;
            // What a replica would have: the tables, and the subscriptions of a group.
            let mut before = Pair::new(&servers.new);
            before.start().await;
            before.works().await;
            before.shut_down().await;
            let caller = <$pool>::new()
                .max_connections(CALLERS)
                .connect(&servers.url)
                .await
                .expect("connected");
            let failures = Arc::new(AtomicUsize::new(0));
            let hook = Arc::clone(&failures);
            let with_log = SqlBroker::new(caller.clone())
                .lease(Duration::from_secs(1))
                .on_read_error(move |_| {
                    hook.fetch_add(1, Ordering::Relaxed);
                });
            let mut pair = Pair::with_log(&caller, with_log);
            pair.start().await;
            pair.works().await;
            let both = [caller.acquire().await, caller.acquire().await];
            drop(both.map(|conn| conn.expect("a connection")));

            servers.make_read_only(true).await;
            eventually("it is told", SOON, async || {
                pair.outbox.stats().await.is_ok_and(|stats| stats.read_only)
            })
            .await;
            if servers.refuses_ours() {
                eventually("the hook", SOON, async || {
                    failures.load(Ordering::Relaxed) > 2
                })
                .await;
            }
            let most = i64::from(CONNECTIONS + CALLERS);
            always("few connections", Duration::from_secs(3), async || {
                servers.sessions().await <= most
            })
            .await;

            servers.way_to_old.refuse();
            // Written by another process. Nothing of this bus is written on the old server for it.
            let mut ahead = Pair::new(&servers.new);
            ahead.begin_at(&pair);
            ahead.publish().await;
            pair.is_done_after(&ahead).await;
            eventually("only the caller's sessions", SOON, async || {
                let sessions = servers.sessions().await;
                (sessions <= i64::from(CALLERS))
                    .then_some(())
                    .ok_or(sessions)
            })
            .await;

            // Each refusal closes one connection of the caller's pool.
            let mut refusals = 0;
            for bus in [&pair.outbox, &pair.log] {
                refusals += refused(bus).await;
            }
            assert_eq!(refusals, CALLERS);
            pair.works().await;
            assert!(!pair.outbox.stats().await.expect("stats").read_only);
            pair.shut_down().await;
        }
    };
}

switch_over!(
    a_bus_leaves_a_mariadb_that_has_become_read_only,
    mariadb(),
    MySqlPoolOptions
);
switch_over!(
    a_bus_leaves_a_postgresql_that_has_become_read_only,
    postgres(),
    PgPoolOptions
);

/// Publishes until it is not refused. Returns how often it was.
async fn refused<DB: OutboxDatabase>(bus: &Bus<DB>) -> u32 {
    let mut refusals = 0;
    while bus.publish("placed", &0_i64).await.is_err() {
        refusals += 1;
        assert!(refusals <= CALLERS, "each connection is refused once");
    }
    refusals
}

async fn mariadb() -> (Servers<sqlx::MySql>, MariaDb) {
    let old = MariaDb::start().await.expect("MariaDB");
    let admin = MySqlPool::connect(&old.url()).await.expect("connected");
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let there = MySqlPool::connect(&url).await.expect("connected");
    let (user, database) = (unique("u"), url.rsplit('/').next().expect("a name"));
    // A user with all privileges can write in spite of `read_only`.
    for (server, create) in [(&admin, true), (&there, false)] {
        if create {
            run(server, format!("CREATE DATABASE {database}")).await;
        }
        run(server, format!("CREATE USER {user} IDENTIFIED BY ''")).await;
        run(server, format!("GRANT ALL ON {database}.* TO {user}")).await;
    }
    let (way_to_old, way) = ways(&old.url(), &url).await;
    let url = url.replace("root@", &format!("{user}@"));
    let servers = Servers {
        url: way.url(&url),
        new: MySqlPool::connect(&url).await.expect("connected"),
        way,
        way_to_old,
        admin,
        user,
    };
    (servers, old)
}

async fn run(server: &MySqlPool, sql: String) {
    let done = sqlx::query(AssertSqlSafe(sql.clone()));
    done.execute(server).await.expect(&sql);
}

async fn postgres() -> (Servers<sqlx::Postgres>, Postgres) {
    let old = Postgres::start().await.expect("PostgreSQL");
    let admin = PgPool::connect(&old.url()).await.expect("connected");
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let name = url.rsplit('/').next().expect("a name");
    let create = format!("CREATE DATABASE {name}");
    let created = sqlx::query(AssertSqlSafe(create)).execute(&admin).await;
    created.expect("a database");
    let (way_to_old, way) = ways(&old.url(), &url).await;
    let servers = Servers {
        url: way.url(&url),
        new: PgPool::connect(&url).await.expect("connected"),
        way,
        way_to_old,
        user: name.to_owned(),
        admin,
    };
    (servers, old)
}

async fn ways(old: &str, new: &str) -> (Proxy, Proxy) {
    let way_to_old = Proxy::to(old).await.expect("a proxy");
    let servers = [&*way_to_old.url(old), new];
    let way = Proxy::to_first_of(&servers).await.expect("a proxy");
    (way_to_old, way)
}

impl Servers<sqlx::MySql> {
    async fn make_read_only(&self, read_only: bool) {
        run(&self.admin, format!("SET GLOBAL read_only = {read_only}")).await;
    }

    fn refuses_ours(&self) -> bool {
        true
    }

    async fn sessions(&self) -> i64 {
        assert!(self.way.open() > 0);
        let count = "SELECT count(*) FROM information_schema.processlist WHERE user = ?";
        let count = sqlx::query_scalar(count).bind(&self.user);
        count.fetch_one(&self.admin).await.expect("a count")
    }
}

impl Servers<sqlx::Postgres> {
    async fn make_read_only(&self, read_only: bool) {
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}");
        let set = sqlx::query(AssertSqlSafe(set)).execute(&self.admin).await;
        set.expect("set");
        let load = sqlx::query("SELECT pg_reload_conf()");
        load.execute(&self.admin).await.expect("loaded");
    }

    /// Our sessions say READ WRITE, whatever the default is.
    fn refuses_ours(&self) -> bool {
        false
    }

    async fn sessions(&self) -> i64 {
        assert!(self.way.open() > 0);
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        let count = sqlx::query_scalar(count).bind(&self.user);
        count.fetch_one(&self.admin).await.expect("a count")
    }
}
