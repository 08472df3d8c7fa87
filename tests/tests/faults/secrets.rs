//! No log, error or Debug output contains a password, whatever happens.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{Bus, Error, HandlerError, MemoryBroker, OutboxDatabase, Payload, Router};
use final_tests::{MariaDb, Postgres, Proxy, eventually};
use sqlx::{
    Connection, Executor, MySqlConnection, PgConnection, Pool, mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
};

use crate::{
    overheard::{self, Secret},
    shop::{SOON, log, options, service},
};

/// A password: a recognisable text, surrounded by characters that a URL has to encode.
struct Password(String);

impl Password {
    fn new() -> Self {
        Self(final_tests::unique("s3cr3t").replace('_', "Z"))
    }

    fn secret(&self) -> Secret {
        Secret::new(&self.0)
    }

    fn raw(&self) -> String {
        format!("/@:{} %+#?ö", self.0)
    }

    fn encoded(&self) -> String {
        format!("%2F%40%3A{}%20%25%2B%23%3F%C3%B6", self.0)
    }
}

/// Every text that can be printed of the error.
fn shown(error: &impl std::error::Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    text
}

async fn refused<DB: OutboxDatabase>(bus: Bus<DB>) -> String {
    let started = tokio::time::timeout(SOON, bus.start(Router::new())).await;
    let error = started.expect("start does not hang").expect_err("refused");
    format!("{} {bus:?}", shown(&error))
}

/// Uses a bus in all ways. Returns all texts that it showed.
async fn a_day<DB: OutboxDatabase>(pool: Pool<DB>, proxy: &Proxy, url: &str) -> Vec<String> {
    let service = service();
    let topic = format!("{service}.placed");
    let amqp = Amqp::new(url).expect("a good URL");
    let mut shown = vec![format!("{amqp:?} {amqp:#?}")];
    let bus = Bus::new(&service, pool, amqp).with_options(options());
    let router = Router::new().route(&topic, async |Payload(n): Payload<i64>| {
        if n < 0 {
            return Err(HandlerError::permanent("a number below zero"));
        }
        Ok(())
    });
    shown.push(format!("{router:?} {bus:?} {:?}", options()));
    bus.start(router).await.expect("start");
    let handled = async |count| {
        let what = format!("{count} handled");
        eventually(&what, SOON, async || {
            bus.stats().await.expect("stats").handled >= count
        })
        .await;
    };
    let tx = bus.begin().await.expect("a transaction");
    let mut txbus = bus.with_tx(tx);
    shown.push(format!("{txbus:?}"));
    shown.push(format!("{:?}", txbus.publish(&topic, &1_i64)));
    txbus.publish(&topic, &1_i64).await.expect("published");
    txbus.commit().await.expect("committed");
    shown.push(format!("{:?}", bus.publish(&topic, &2_i64)));
    bus.publish(&topic, &-1_i64).await.expect("published");
    eventually("a link that takes it", SOON, async || {
        bus.publish(&topic, &3_i64).confirm(false).await
    })
    .await;
    handled(2).await;

    proxy.down();
    bus.publish(&topic, &4_i64).await.expect("published");
    eventually("the outage is noticed", SOON, async || {
        !bus.stats().await.expect("stats").connected
    })
    .await;
    proxy.up().expect("the port is still ours");
    handled(3).await;
    let stats = bus.stats().await.expect("stats");
    let failed = bus.failed(10).await.expect("failed");
    shown.push(format!("{stats:?} {failed:?} {:?}", bus.migration_sql()));
    bus.shutdown().await.expect("shutdown");
    shown.push(format!("{bus:?}"));
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_password_is_logged_or_shown_in_a_whole_life() {
    log();
    let canary = Secret::new("aCanaryThatSings");
    overheard::listen(std::slice::from_ref(&canary));
    tracing::trace!(url = ?"amqp://user:aCanaryThatSings@host", "to show that anything is heard");
    assert_eq!(overheard::stop().0.len(), 1);

    let [pg, my, mq, wrong, key] = std::array::from_fn(|_| Password::new());
    let secrets = [&pg, &my, &mq, &wrong, &key].map(Password::secret);
    let postgres = Postgres::start().await.expect("PostgreSQL");
    let mut root = PgConnection::connect(&postgres.url()).await.expect("root");
    // By default the server lets every user in without a password.
    std::fs::write(
        postgres.dir().join("data/pg_hba.conf"),
        "host all postgres all trust\nhost all all all scram-sha-256\n",
    )
    .expect("a file of ours");
    let create = format!("CREATE ROLE shop LOGIN PASSWORD '{}'", pg.raw());
    for sql in [
        &*create,
        "GRANT ALL ON SCHEMA public TO shop",
        "SELECT pg_reload_conf()",
    ] {
        root.execute(sqlx::AssertSqlSafe(sql))
            .await
            .expect("root may");
    }
    let mariadb = MariaDb::start().await.expect("MariaDB");
    let mut root = MySqlConnection::connect(&mariadb.url())
        .await
        .expect("root");
    let create = format!("CREATE USER shop@'%' IDENTIFIED BY '{}'", my.raw());
    for sql in [
        &*create,
        "CREATE DATABASE shop",
        "GRANT ALL ON shop.* TO shop@'%'",
    ] {
        root.execute(sqlx::AssertSqlSafe(sql))
            .await
            .expect("root may");
    }
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let (api, user) = (vhost.api().expect("its API"), final_tests::unique("shop"));
    api.add_user(&user, &mq.raw()).await.expect("a user");
    let all = [".*"; 3];
    api.set_permissions(&user, vhost.name(), all)
        .await
        .expect("its rights");
    let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
    let at = vhost.url().find('@').expect("a URL with a login");
    let login = |user: &str, password: &Password| {
        let url = format!("amqp://{user}:{}{}", password.encoded(), &vhost.url()[at..]);
        proxy.url(&url)
    };
    let good = login(&user, &mq);
    let pg_url = |password: &Password| {
        let url = format!("postgres://shop:{}@", password.encoded());
        postgres.url().replace("postgres://postgres@", &url)
    };
    let my_url = |password: &Password| {
        let url = mariadb.url().replace("/mysql", "/shop");
        url.replace("root@", &format!("shop:{}@", password.encoded()))
    };
    let soon = Duration::from_secs(5);
    let pg_pool = PgPoolOptions::new()
        .acquire_timeout(soon)
        .max_connections(3);
    let my_pool = MySqlPoolOptions::new()
        .acquire_timeout(soon)
        .max_connections(3);

    overheard::listen(&secrets);
    let pool = pg_pool
        .clone()
        .connect(&pg_url(&pg))
        .await
        .expect("connected");
    let mut said = a_day(pool.clone(), &proxy, &good).await;
    let other = my_pool
        .clone()
        .connect(&my_url(&my))
        .await
        .expect("connected");
    said.extend(a_day(other, &proxy, &good).await);

    let purging = || options().purge_on_startup(true);
    let slash = good.rfind('/').expect("a virtual host");
    let nowhere = format!("amqp://{user}:{}@127.0.0.1:1/%2f", mq.encoded());
    for url in [
        login(&user, &wrong),
        login(&wrong.0, &mq),
        format!("{}/no-such-vhost", &good[..slash]),
        nowhere.clone(),
        good.replace("amqp://", "amqps://"),
    ] {
        let amqp = Amqp::new(&url).expect("a good URL");
        for amqp in [
            amqp.clone(),
            amqp.clone()
                .client_pkcs12(b"no archive".to_vec(), key.raw()),
            amqp.ca_certificate(key.raw())
                .client_certificate(key.raw(), key.raw()),
        ] {
            said.push(format!("{amqp:?}"));
            // Where the broker is away, `start` fails only because of the purge.
            let bus = Bus::new(service(), pool.clone(), amqp).with_options(purging());
            said.push(refused(bus).await);
        }
    }
    for url in [
        format!("amqp://{user}:{}@host:port/", mq.encoded()),
        format!("amqp://{user}:{}/%2f", mq.raw()),
        format!("{}://host", mq.raw()),
        mq.raw(),
    ] {
        if let Err(error) = Amqp::new(&url) {
            said.push(shown(&error));
        }
    }
    let lazy = pg_pool
        .clone()
        .connect_lazy(&pg_url(&wrong))
        .expect("a pool");
    said.push(refused(Bus::new("shop", lazy, MemoryBroker::new())).await);
    let lazy = my_pool.connect_lazy(&my_url(&wrong)).expect("a pool");
    said.push(refused(Bus::new("shop", lazy, MemoryBroker::new())).await);
    let away = pg_url(&pg).replace(
        &postgres.url()[postgres.url().rfind(':').expect("a port")..],
        ":1/none",
    );
    let lazy = pg_pool.connect_lazy(&away).expect("a pool");
    let bus = Bus::new("shop", lazy, MemoryBroker::new());
    let error: Error = bus.publish("placed", &1).await.expect_err("nobody there");
    said.push(shown(&error));
    let (leaks, targets) = overheard::stop();
    api.delete_user(&user).await.expect("removed");

    assert_eq!(leaks, [] as [&str; 0]);
    for text in &said {
        assert!(!secrets.iter().any(|secret| secret.is_in(text)), "{text}");
    }
    for ours in ["final::amqp", "final::bus", "sqlx"] {
        assert!(
            targets.iter().any(|target| target.starts_with(ours)),
            "{ours}: {targets:?}"
        );
    }
}
