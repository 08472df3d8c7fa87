//! An operator's walks: three troubles at once, and dead letters of RabbitMQ, found and mended with nothing but `final`.
//! docs/operating.md has the same walks; `FINAL_TEST_SHOW=1` prints what the page shows.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use final_core::{HandlerError, Message, Options, PgBus, Router};
use final_tests::{Proxy, eventually};
use serde_json::Value;

use crate::{database::Place, program::Ran, tail::SOON};

type Postgres = Place<sqlx::Postgres>;

fn options() -> Options {
    Options::default()
        .scan_interval(Duration::from_millis(500))
        .retry_count(0)
        .shutdown_timeout(SOON)
}

/// Starts a service that counts what it handles. Broken, it handles nothing.
async fn start(bus: &PgBus, topic: &str, broken: bool) -> Arc<AtomicU64> {
    let handled = Arc::<AtomicU64>::default();
    let count = Arc::clone(&handled);
    let router = Router::new().route(topic, move |message: Message| {
        let count = Arc::clone(&count);
        async move {
            if broken {
                let key = message.key().unwrap_or("nobody").to_owned();
                return Err(HandlerError::permanent(format!(
                    "customer {key} has no address"
                )));
            }
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    });
    bus.start(router).await.expect("start");
    handled
}

/// A command, and what it says to a person.
async fn show(at: &Postgres, command: &str, code: i32) -> Ran {
    let ran = at.run(command.split(' ')).await.ends_with(code);
    if std::env::var_os("FINAL_TEST_SHOW").is_some() {
        eprintln!("$ final {command}\n{}", ran.all());
    }
    ran
}

async fn not_moving(at: &Postgres) -> BTreeSet<(String, String)> {
    let services = at.run(["status", "--json"]).await.ends_with(0).json();
    let names = |service: &Value| {
        let name = service["service"].as_str().unwrap_or_default().to_owned();
        let stuck = service["not_moving"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        stuck.into_iter().map(move |stuck| {
            (
                name.clone(),
                stuck["name"].as_str().unwrap_or_default().to_owned(),
            )
        })
    };
    services.iter().flat_map(names).collect()
}

/// Waits until nothing is pending, unroutable, failed or dead in any service.
async fn nothing_waits(at: &Postgres) {
    eventually("nothing waits", SOON, async || {
        let services = at.run(["status", "--json"]).await.ends_with(0).json();
        let zero = |count: &Value| count["number"] == 0;
        services.iter().all(|service| {
            let outbox = &service["outbox"];
            let none_waits = ["pending", "unroutable", "failed"]
                .iter()
                .all(|name| zero(&outbox[name]));
            none_waits
                && service["dead"]
                    .as_array()
                    .is_some_and(|dead| dead.iter().all(|dead| zero(&dead["count"])))
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_three_troubles_and_mends_them_with_final_alone() {
    let at = Postgres::fresh().await;
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
    let shop = at
        .amqp_bus("shop", &proxy.url(vhost.url()))
        .with_options(options());
    shop.start(Router::new()).await.expect("start");
    let mail = at.log_bus("mail").with_options(options());
    start(&mail, "invoice.due", true).await;
    let stock = at.amqp_bus("stock", vhost.url()).with_options(options());
    let stocked = start(&stock, "order.placed", false).await;

    // A handler has a bug, a queue is missing, and at last the broker of one service is away.
    for key in ["ann", "bob", "eve"] {
        mail.publish("invoice.due", key)
            .key(key)
            .await
            .expect("published");
    }
    let cancelled = shop
        .publish("order.cancelled", &7_i64)
        .key("ann")
        .await
        .expect("published");
    shop.publish("order.cancelled", &8_i64)
        .key("bob")
        .await
        .expect("published");
    eventually("letters and unroutable records", SOON, async || {
        let dead = at.number("SELECT count(*) FROM final_log_dead").await;
        let unroutable = at
            .number("SELECT count(*) FROM final_shop_outbox WHERE status = 1")
            .await;
        let rest = at.number("SELECT count(*) FROM final_shop_outbox").await - unroutable;
        (dead, unroutable, rest) == (3, 2, 0)
    })
    .await;
    proxy.down();
    eventually("a lost broker", SOON, async || {
        shop.stats().await.is_ok_and(|stats| !stats.connected)
    })
    .await;
    for key in ["ann", "bob", "eve", "joe"] {
        shop.publish("order.placed", key)
            .key(key)
            .await
            .expect("published");
    }
    at.sql("UPDATE final_shop_outbox SET due_at = due_at - interval '5 minutes'")
        .await;

    // What does not move, and why.
    let wanted = [
        ("mail", "dead_letters"),
        ("shop", "due"),
        ("shop", "parked"),
    ];
    let wanted: BTreeSet<_> = wanted
        .map(|(service, name)| (service.to_owned(), name.to_owned()))
        .into();
    eventually("the three troubles", SOON, async || {
        match not_moving(&at).await {
            found if found == wanted => Ok(()),
            other => Err(other),
        }
    })
    .await;
    show(&at, "status --check", 3).await;
    let list = show(&at, "outbox list --service shop", 0).await;
    assert!(
        list.out.contains("unroutable") && list.out.contains("order.cancelled"),
        "{list:#?}"
    );
    let trail = show(&at, &format!("trail {cancelled}"), 0).await;
    assert!(trail.out.contains("order.cancelled"), "{trail:#?}");
    let letters = show(&at, "dead list --service mail", 0).await;
    assert!(
        letters.out.contains("customer bob has no address"),
        "{letters:#?}"
    );

    // The broker comes back, a service subscribes the topic, and the handler is mended. The first two need no command.
    proxy.up().expect("the port is still ours");
    let audit = at.amqp_bus("audit", vhost.url()).with_options(options());
    let audited = start(&audit, "order.cancelled", false).await;
    mail.shutdown().await.expect("shutdown");
    let mail = at.log_bus("mail").with_options(options());
    let mailed = start(&mail, "invoice.due", false).await;
    let handled = |count: &AtomicU64| count.load(Ordering::Relaxed);
    eventually("records that were waiting are handled", SOON, async || {
        (handled(&audited), handled(&stocked)) == (2, 4)
    })
    .await;
    show(&at, "dead replay --service mail --reason address", 5).await;
    show(&at, "dead replay --service mail --reason address --yes", 0).await;
    eventually("all letters are handled", SOON, async || {
        handled(&mailed) == 3
    })
    .await;

    eventually("everything moves", SOON, async || {
        match not_moving(&at).await {
            none if none.is_empty() => Ok(()),
            some => Err(some),
        }
    })
    .await;
    nothing_waits(&at).await;
    show(&at, "status --check", 0).await;
    show(&at, "operations list", 0).await;
    for bus in [shop, stock, mail, audit] {
        bus.shutdown().await.expect("shutdown");
    }
}

/// The same with letters that were collected out of RabbitMQ. Another service has handled the messages, and does not
/// get them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_dead_letters_of_rabbitmq_and_puts_them_back_with_final_alone() {
    let at = Postgres::fresh().await;
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let collecting = || options().collect_dead_letters(true);
    let service = |name: &str| at.amqp_bus(name, vhost.url()).with_options(collecting());
    let (stock, billing) = (service("stock"), service("billing"));
    start(&stock, "order.placed", true).await;
    let billed = start(&billing, "order.placed", false).await;
    let handled = |count: &AtomicU64| count.load(Ordering::Relaxed);
    for key in ["ann", "bob", "eve"] {
        let placed = billing.publish("order.placed", key).key(key);
        placed.await.expect("published");
    }
    eventually("letters of one service", SOON, async || {
        let dead = at.number("SELECT count(*) FROM final_stock_dead").await;
        (dead, handled(&billed)) == (3, 3)
    })
    .await;

    let wanted = BTreeSet::from([("stock".to_owned(), "dead_letters".to_owned())]);
    eventually(
        "the letters as the only trouble",
        SOON,
        async || match not_moving(&at).await {
            found if found == wanted => Ok(()),
            other => Err(other),
        },
    )
    .await;
    show(&at, "status --check", 3).await;
    let list = show(&at, "dead list --service stock", 0).await;
    assert_eq!(list.out.matches("  broker  ").count(), 3, "{list:#?}");
    let letters = at.run(["dead", "list", "-s", "stock", "--key", "bob", "--json"]);
    let letters = letters.await.ends_with(0).json();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let bob = letters[0]["message_id"].as_str().expect("an id").to_owned();
    let letter = show(&at, &format!("dead show {bob} --service stock"), 0).await;
    assert!(
        letter.out.contains("customer bob has no address"),
        "{letter:#?}"
    );
    let trail = show(&at, &format!("trail {bob}"), 0).await;
    assert!(
        trail.out.contains("Dead letter of stock (broker)"),
        "{trail:#?}"
    );

    // The handler is mended. One letter is not worth it.
    stock.shutdown().await.expect("shutdown");
    let stock = service("stock");
    let stocked = start(&stock, "order.placed", false).await;
    show(&at, "dead discard --service stock --key eve --yes", 0).await;
    show(&at, "dead replay --service stock --all --yes", 0).await;
    eventually("the letters are handled", SOON, async || {
        handled(&stocked) == 2
    })
    .await;

    nothing_waits(&at).await;
    show(&at, "status --check", 0).await;
    show(&at, "operations list", 0).await;
    assert_eq!((handled(&stocked), handled(&billed)), (2, 3));
    for bus in [stock, billing] {
        bus.shutdown().await.expect("shutdown");
    }
}
