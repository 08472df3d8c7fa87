//! Bad input gets a clear error before anything is written.

use final_core::{Bus, Error, MemoryBroker, Options, Router, SqliteBus};

async fn bus_named(service: &str) -> SqliteBus {
    let pool = sqlx::SqlitePool::connect("sqlite::memory:")
        .await
        .expect("SQLite in memory");
    Bus::new(service, pool, MemoryBroker::new())
}

async fn bus() -> SqliteBus {
    let bus = bus_named("shop").await;
    bus.migrate().await.expect("migrate");
    bus
}

#[tokio::test]
async fn a_bad_service_name_is_the_error_of_start_and_of_every_publish() {
    let long = "a".repeat(41);
    for name in [
        "",
        "Shop",
        "1shop",
        "shop.orders",
        "shop\"; DROP TABLE x",
        "größe",
        "a_dlx",
        &long,
    ] {
        let bus = bus_named(name).await;
        let start = bus.start(Router::new()).await;
        assert!(
            matches!(start, Err(Error::InvalidServiceName { .. })),
            "{name}: {start:?}"
        );
        let publish = bus.publish("a.topic", &1).await;
        assert!(
            matches!(publish, Err(Error::InvalidServiceName { .. })),
            "{name}: {publish:?}"
        );
    }
}

#[tokio::test]
async fn a_bad_topic_is_refused() {
    let bus = bus().await;
    let long = "t".repeat(256);
    for topic in ["", "  ", "a\nb", "a\0b", "amq.topic", &long] {
        let result = bus.publish(topic, &1).await;
        assert!(
            matches!(result, Err(Error::InvalidTopic { .. })),
            "{topic:?}: {result:?}"
        );
    }
    bus.publish("t".repeat(255), &1)
        .await
        .expect("255 bytes are allowed");
    bus.publish("größe.✓", &1).await.expect("UTF-8 is allowed");
}

#[tokio::test]
async fn bad_headers_are_refused() {
    let bus = bus().await;
    let long = "h".repeat(256);
    for name in ["", "CC", "bcc", "x-final-key", "X-Death", "a\rb", &long] {
        let result = bus.publish("a.topic", &1).header(name, "value").await;
        assert!(
            matches!(result, Err(Error::InvalidHeader { .. })),
            "{name:?}: {result:?}"
        );
    }
    for name in ["x-request-id", "X-B3-TraceId", "x-tenant", "x-finally"] {
        let result = bus.publish("a.topic", &1).header(name, "value").await;
        assert!(result.is_ok(), "{name:?}: {result:?}");
    }
    let result = bus
        .publish("a.topic", &1)
        .header("large", "v".repeat(64 * 1024))
        .await;
    assert!(
        matches!(result, Err(Error::InvalidHeader { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_before_the_insert() {
    let bus = bus()
        .await
        .with_options(Options::default().max_message_bytes(1_000));
    let result = bus.publish_bytes("a.topic", vec![0; 1_001]).await;

    assert!(
        matches!(
            result,
            Err(Error::MessageTooLarge {
                size: 1_001,
                limit: 1_000,
                ..
            })
        ),
        "{result:?}"
    );
    assert_eq!(bus.stats().await.expect("stats").pending, 0);
}

#[tokio::test]
async fn a_ttl_beyond_the_brokers_range_is_refused() {
    let bus = bus().await;
    for ttl in [
        std::time::Duration::ZERO,
        std::time::Duration::from_millis(1 << 32),
    ] {
        let result = bus.publish("a.topic", &1).ttl(ttl).await;
        assert!(
            matches!(result, Err(Error::InvalidPolicy { .. })),
            "{ttl:?}: {result:?}"
        );
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_stored_is_refused() {
    let bus = bus().await;
    for key in ["a\0b".to_owned(), "k".repeat(1_025)] {
        let result = bus.publish("a.topic", &1).key(key).await;
        assert!(
            matches!(result, Err(Error::InvalidPolicy { .. })),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn all_wrong_options_are_told_together() {
    let bus = bus()
        .await
        .with_options(Options::default().concurrency(0).scan_batch(0));
    let error = bus
        .start(Router::new())
        .await
        .expect_err("refused")
        .to_string();

    assert!(
        error.contains("concurrency") && error.contains("scan_batch"),
        "{error}"
    );
}

#[tokio::test]
async fn a_topic_twice_and_a_wildcard_are_errors_of_start() {
    let bus = bus().await;
    let twice = Router::new()
        .route("a", async || {})
        .route("a", async || {});
    let error = bus.start(twice).await.expect_err("refused");
    assert!(matches!(error, Error::InvalidRouter(_)), "{error:?}");

    let wildcard = Router::new().route("order.*", async || {});
    let error = bus.start(wildcard).await.expect_err("refused").to_string();
    assert!(error.contains("wildcards are not supported"), "{error}");
}

#[tokio::test]
async fn two_services_of_one_table_are_told_apart_at_start() {
    let file = final_tests::sqlite_file().expect("a file");
    let pool = sqlx::SqlitePool::connect(&file.url())
        .await
        .expect("SQLite");
    let first: SqliteBus = Bus::new("my-shop", pool.clone(), MemoryBroker::new());
    first.migrate().await.expect("migrate");

    let second: SqliteBus = Bus::new("my_shop", pool, MemoryBroker::new());
    let error = second
        .start(Router::new())
        .await
        .expect_err("the table is another service's");
    assert!(error.to_string().contains("my-shop"), "{error}");
}

#[tokio::test]
async fn no_password_is_in_any_text_about_an_unreachable_database() {
    let url = "postgres://user:s3cret-pw@127.0.0.1:1/none";
    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(std::time::Duration::from_millis(500))
        .connect_lazy(url)
        .expect("a lazy pool");
    let bus = Bus::new("shop", pool, MemoryBroker::new());
    let error = bus
        .start(Router::new())
        .await
        .expect_err("nobody listens there");

    let text = format!(
        "{error} {error:?} {bus:?} {:?}",
        std::error::Error::source(&error)
    );
    assert!(!text.contains("s3cret"), "{text}");
}
