//! The sessions of the server do not commit each statement. Everything that the bus publishes and settles is
//! committed all the same.

use final_amqp::Amqp;
use final_core::{Bus, MySqlBus, SqlBroker};
use final_tests::{MariaDb, eventually, servers::Setup};
use sqlx::{MySqlPool, mysql::MySqlPoolOptions};

use crate::shop::{SOON, Tally, log, options, service};

/// `init_connect` is not run for users with all privileges.
const USER: &str = "CREATE DATABASE shop; CREATE USER shop; GRANT ALL ON shop.* TO shop";

struct House {
    server: MariaDb,
    pool: MySqlPool,
    root: MySqlPool,
}

async fn house(settings: &[&str]) -> House {
    log();
    let setup = Setup {
        args: settings.iter().map(|&setting| setting.into()).collect(),
        ..Setup::default()
    };
    let server = MariaDb::start_with(setup).await.expect("MariaDB");
    let root = server.url();
    let of_shop = root.replace("root@", "shop@").replace("/mysql", "/shop");
    let root = MySqlPoolOptions::new()
        .after_connect(|conn, _| {
            Box::pin(async {
                let session = "SET autocommit = 1, completion_type = 0";
                sqlx::raw_sql(session).execute(conn).await.map(drop)
            })
        })
        .connect(&root)
        .await
        .expect("connected");
    let made = sqlx::raw_sql(USER).execute(&root).await;
    made.expect("a user");
    House {
        pool: MySqlPool::connect(&of_shop).await.expect("connected"),
        root,
        server,
    }
}

/// Publishes alone and in transactions; everything is handled, and nothing is left.
async fn works(house: &House, bus: MySqlBus, table: &str) {
    let topic = "placed";
    bus.migrate().await.expect("migrate");
    let count = format!("SELECT count(*) FROM shop.{table}");
    let written = async || {
        let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count.clone()));
        count.fetch_one(&house.root).await.expect("a count")
    };
    for n in 0..5_i64 {
        bus.publish(topic, &n).await.expect("published");
        assert_eq!(written().await, n + 1, "committed when it says Ok");
    }
    let tally = Tally::default();
    bus.start(tally.router(topic)).await.expect("start");
    for n in 5..10_i64 {
        let tx = bus.begin().await.expect("begin");
        let result = bus.transaction(tx, async |mut txbus| {
            txbus.publish(topic, &n).await?;
            Ok::<_, final_core::Error>(())
        });
        result.await.expect("committed");
        let publish = bus.publish(topic, &(n + 5));
        publish.await.expect("published");
    }
    tally.has_all(0..15).await;
    eventually("nothing left", SOON, async || {
        written().await == 0 || table == "final_log"
    })
    .await;
    bus.shutdown().await.expect("shutdown");
    assert_eq!(tally.repeats(), 0);
}

async fn both(settings: &[&str]) {
    let house = house(settings).await;
    let rabbit = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let service = service();
    let amqp = Amqp::new(rabbit.url()).expect("a good URL");
    let outbox = Bus::new(&service, house.pool.clone(), amqp).with_options(options());
    let table = format!("final_{}_outbox", service.replace('-', "_"));
    works(&house, outbox, &table).await;
    let log = SqlBroker::new(house.pool.clone());
    let log = Bus::new(&service, house.pool.clone(), log).with_options(options());
    works(&house, log, "final_log").await;
    drop(house.server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_its_own_is_committed_without_autocommit() {
    both(&["--autocommit=0"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_its_own_is_committed_where_each_session_begins_in_a_transaction() {
    both(&["--init-connect=BEGIN", "--completion-type=CHAIN"]).await;
}
