//! The slot is still the one that the position belongs to, or there is a gap.

use std::time::Duration;

use final_capture::{
    position::{Position, SourceIdentity, SourcePoint},
    source::{Gap, Source, SourceError},
};
use final_tests::{eventually, proxy::Proxy};

use super::shop::{LIMIT, Shop, Stream, server};

async fn holes() -> Shop {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    shop
}

async fn gap(shop: &Shop, from: &Position) -> Gap {
    match shop.try_open(Some(from)).await {
        Err(SourceError::Gap(gap)) => {
            assert_eq!(gap.position, *from);
            *gap
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_slot_that_was_dropped_is_a_gap_with_nothing_left() {
    let shop = holes().await;
    let position = shop.open(None).await.close().await;
    let slot = &shop.slot;
    shop.run(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    let gap = gap(&shop, &position).await;
    assert_eq!(
        (gap.oldest, gap.why),
        (None, format!("the slot {slot} is gone"))
    );
}

#[tokio::test]
async fn a_slot_that_was_made_again_is_a_gap_that_names_the_oldest_point() {
    let shop = holes().await;
    let position = shop.open(None).await.close().await;
    let slot = &shop.slot;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    shop.run(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    shop.run(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ))
    .await;
    let gap = gap(&shop, &position).await;
    assert_eq!(gap.oldest, Some(shop.slot_point().await));
    assert!(gap.why.contains("made again"), "{}", gap.why);
}

#[tokio::test]
async fn a_publication_that_was_made_again_is_a_gap() {
    let shop = holes().await;
    let position = shop.open(None).await.close().await;
    shop.run(&format!("DROP PUBLICATION {}", shop.slot)).await;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    let gap = gap(&shop, &position).await;
    assert!(
        gap.why.contains("publication was made again"),
        "{}",
        gap.why
    );
}

#[tokio::test]
async fn a_position_of_another_server_database_or_slot_is_a_gap() {
    let shop = holes().await;
    let position = shop.open(None).await.close().await;
    let parts: Vec<_> = position.identity.0.split(':').map(str::to_owned).collect();
    for (part, word) in [(1, "server"), (3, "database"), (4, "slot")] {
        let mut parts = parts.clone();
        parts[part].push('1');
        let foreign = Position {
            identity: SourceIdentity(parts.join(":").into()),
            ..position.clone()
        };
        let gap = gap(&shop, &foreign).await;
        assert!(gap.why.contains(&format!("another {word}")), "{}", gap.why);
    }
    // An operator's own point belongs to no server.
    let own = Position {
        identity: SourceIdentity("".into()),
        ..position
    };
    shop.open(Some(&own)).await.close().await;
}

#[tokio::test]
async fn a_position_beyond_the_end_of_the_log_is_a_gap() {
    let shop = holes().await;
    let position = shop.open(None).await.close().await;
    let before = shop.slot_point().await;
    let beyond = Position {
        point: "lsn:FFFF/0".parse().unwrap(),
        ..position
    };
    let own = Position {
        identity: SourceIdentity("".into()),
        ..beyond.clone()
    };
    for from in [beyond, own] {
        let gap = gap(&shop, &from).await;
        assert!(gap.why.contains("set back"), "{}", gap.why);
    }
    assert_eq!(shop.slot_point().await, before, "the slot has not moved");
}

#[tokio::test]
async fn a_slot_that_lost_its_log_is_a_gap() {
    let server = server(&[
        "max_slot_wal_keep_size=1MB",
        "max_wal_size=32MB",
        "min_wal_size=32MB",
    ])
    .await;
    let shop = Shop::at(&server.url()).await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    let position = shop.open(None).await.close().await;
    let slot = shop.slot.clone();
    eventually("the slot is lost", LIMIT, async || {
        shop.run("INSERT INTO shop.holes SELECT coalesce(max(id), 0) + 1 FROM shop.holes")
            .await;
        shop.run("SELECT pg_switch_wal()").await;
        shop.run("CHECKPOINT").await;
        let status: Option<String> =
            sqlx::query_scalar("SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1")
                .bind(&slot)
                .fetch_one(&shop.pool)
                .await
                .unwrap();
        match status.as_deref() {
            Some("lost") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let gap = gap(&shop, &position).await;
    assert!(gap.why.contains("max_slot_wal_keep_size"), "{}", gap.why);
    let findings = shop.source().check(&shop.wanted).await.unwrap();
    assert!(
        findings.iter().any(|it| it.name == "source_slot_lost"),
        "{findings:?}"
    );
    // Without a position no gap can be told, and trying again would not help.
    let refused = shop.try_open(None).await;
    assert!(
        matches!(&refused, Err(SourceError::Refused(findings)) if findings[0].name == "source_slot_lost"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn after_a_promotion_the_stream_goes_on_if_the_new_history_has_the_position() {
    let server = server(&[]).await;
    let shop = Shop::at(&server.url()).await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    let position = shop.open(None).await.close().await;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    shop.pool.close().await;
    // The same files begin as a standby and are promoted: a new history with the slot in it.
    server.stop().await.unwrap();
    std::fs::write(server.dir().join("data/standby.signal"), "").unwrap();
    server.start_again().await.unwrap();
    let again = Shop {
        pool: sqlx::PgPool::connect(&shop.url).await.unwrap(),
        url: shop.url.clone(),
        slot: shop.slot.clone(),
        wanted: shop.wanted.clone(),
    };
    let error = again.try_open(Some(&position)).await.unwrap_err();
    assert!(
        matches!(error, SourceError::Away(_)),
        "a standby may be promoted soon: {error}"
    );
    again.run("SELECT pg_promote()").await;
    again.run("INSERT INTO shop.holes VALUES (2)").await;
    let mut stream = again.open(Some(&position)).await;
    let read = stream.transactions(2).await;
    assert_eq!(read.len(), 2);
    let now = stream.close().await;
    assert_ne!(
        now.identity, position.identity,
        "the history is part of the identity"
    );
    // A position that the new history never had.
    let SourcePoint::Lsn(point) = now.point else {
        panic!("{now:?}");
    };
    let ahead = Position {
        point: SourcePoint::Lsn(point + (1 << 30)),
        ..position
    };
    let gap = gap(&again, &ahead).await;
    assert!(gap.why.contains("was promoted"), "{}", gap.why);
}

#[tokio::test]
async fn a_second_reader_is_told_that_the_slot_is_busy() {
    let shop = holes().await;
    let stream = shop.open(None).await;
    let error = shop.try_open(Some(&stream.position())).await.unwrap_err();
    assert!(matches!(error, SourceError::Busy(_)), "{error}");
    stream.close().await;
}

#[tokio::test]
async fn a_frozen_reader_loses_the_slot() {
    let shop = holes().await;
    let proxy = Proxy::to(&shop.url).await.unwrap();
    let opened = shop
        .source_at(&proxy.url(&shop.url))
        .open(&shop.wanted, None)
        .await;
    let frozen = Stream::of(opened.unwrap());
    proxy.stall();
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    let mut stream = shop.open(Some(&frozen.position())).await;
    assert_eq!(stream.transaction().await.rows().len(), 1);
    stream.close().await;
}

#[tokio::test]
async fn a_reader_without_a_position_begins_where_its_slot_is() {
    let shop = holes().await;
    shop.open(None).await.close().await;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    let mut stream = shop.open(None).await;
    assert_eq!(stream.transaction().await.rows().len(), 1);
    stream.close().await;
}

#[tokio::test]
async fn a_slot_that_the_operator_made_before_the_publication_can_be_read() {
    let shop = holes().await;
    let slot = &shop.slot;
    shop.run(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ))
    .await;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    let mut stream = shop.open(None).await;
    shop.run("INSERT INTO shop.holes VALUES (2)").await;
    assert_eq!(stream.transaction().await.rows().len(), 1);
    stream.close().await;
}

#[tokio::test]
async fn a_slot_of_another_kind_is_refused() {
    let shop = holes().await;
    let slot = &shop.slot;
    shop.run(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')"
    ))
    .await;
    let error = shop.try_open(None).await.unwrap_err().to_string();
    assert!(error.contains("source_slot_foreign"), "{error}");
    assert!(
        error.contains(&format!("pg_drop_replication_slot('{slot}')")),
        "{error}"
    );
}

#[tokio::test]
async fn only_what_is_saved_is_confirmed() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    let begin = stream.point.clone();
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    let first = stream.transaction().await;
    stream.reader.saved(&first.point);
    eventually("the first transaction is confirmed", LIMIT, async || {
        let confirmed = shop.slot_point().await;
        (confirmed == first.point).then_some(()).ok_or(confirmed)
    })
    .await;
    shop.run("INSERT INTO shop.holes VALUES (2)").await;
    stream.transaction().await;
    // An older point takes nothing back, and the end of the stream confirms nothing by itself.
    stream.reader.saved(&begin);
    stream.close().await;
    assert_eq!(shop.slot_point().await, first.point);
}

#[tokio::test]
async fn the_last_saved_point_is_confirmed_at_the_end() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    let read = stream.transaction().await;
    stream.saved();
    stream.close().await;
    assert_eq!(shop.slot_point().await, read.point);
}

/// The bytes between what is confirmed and the end of the log.
async fn unconfirmed(shop: &Shop) -> i64 {
    sqlx::query_scalar(
        "SELECT (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1",
    )
    .bind(&shop.slot)
    .fetch_one(&shop.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn an_idle_table_does_not_pin_the_log_while_others_write() {
    let shop = holes().await;
    let elsewhere = Shop::at(&format!(
        "{}/postgres",
        shop.url.rsplit_once('/').unwrap().0
    ))
    .await;
    for writer in [&shop, &elsewhere] {
        writer.run("CREATE TABLE noise (text text)").await;
    }
    let mut stream = shop.open(None).await;
    for writer in [&shop, &elsewhere] {
        writer
            .run("INSERT INTO noise SELECT repeat(i::text, 100) FROM generate_series(1, 50000) i")
            .await;
        let before = unconfirmed(&shop).await;
        assert!(before > 4 << 20, "{before}");
        let deadline = tokio::time::Instant::now() + LIMIT;
        while unconfirmed(&shop).await > 1 << 20 {
            assert!(tokio::time::Instant::now() < deadline, "the log is pinned");
            let read = tokio::time::timeout(Duration::from_millis(200), stream.some());
            if let Ok(events) = read.await {
                let events = events.unwrap();
                let is_quiet = |it| matches!(it, &final_capture::source::Event::Quiet(_));
                assert!(events.iter().all(is_quiet), "{events:?}");
                stream.saved();
            }
        }
    }
    stream.close().await;
}

#[tokio::test]
async fn the_lag_tells_what_the_server_keeps_and_what_is_not_read() {
    let shop = holes().await;
    let opened = shop
        .source()
        .look_each(Duration::from_millis(100))
        .open(&shop.wanted, None)
        .await;
    let stream = Stream::of(opened.unwrap());
    shop.run("INSERT INTO shop.holes SELECT generate_series(1, 20000)")
        .await;
    eventually("the lag is known", LIMIT, async || {
        let lag = stream.reader.lag();
        let retained = lag.retained_bytes.unwrap_or_default();
        (retained > 1 << 20 && lag.unread_bytes.is_some())
            .then_some(())
            .ok_or(lag)
    })
    .await;
    stream.close().await;
}

#[tokio::test]
async fn where_nothing_comes_while_the_log_grows_a_sign_of_life_is_written() {
    let shop = holes().await;
    let other = format!("{}_other", shop.slot);
    shop.run(&format!(
        "SELECT pg_create_logical_replication_slot('{other}', 'test_decoding')"
    ))
    .await;
    let source = shop.source().look_each(Duration::from_millis(50));
    let stream = Stream::of(source.open(&shop.wanted, None).await.unwrap());
    shop.run("ALTER TABLE shop.holes ADD COLUMN content text")
        .await;
    // More than is taken at once, and nobody reads.
    shop.run("INSERT INTO shop.holes SELECT i, repeat('x', 2000) FROM generate_series(1, 30000) i")
        .await;
    eventually("a sign of life", LIMIT, async || {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_logical_slot_get_changes($1, NULL, NULL)
             WHERE data LIKE 'message:%prefix: final_capture%'",
        )
        .bind(&other)
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        (count > 0).then_some(()).ok_or(count)
    })
    .await;
    stream.close().await;
}

#[tokio::test]
async fn a_reader_of_another_role_is_left_alone() {
    let shop = holes().await;
    let proxy = Proxy::to(&shop.url).await.unwrap();
    let opened = shop
        .source_at(&proxy.url(&shop.url))
        .open(&shop.wanted, None)
        .await;
    let frozen = Stream::of(opened.unwrap());
    proxy.stall();
    let role = format!("{}_role", shop.slot);
    shop.run(&format!("CREATE ROLE {role} LOGIN REPLICATION"))
        .await;
    let url = shop.url.replace("postgres@", &format!("{role}@"));
    let opened = shop
        .source_at(&url)
        .open(&shop.wanted, Some(&frozen.position()))
        .await;
    let error = opened.unwrap_err();
    assert!(matches!(error, SourceError::Busy(_)), "{error}");
}

#[tokio::test]
async fn a_slot_for_standbys_is_made_or_its_release_is_told() {
    let shop = holes().await;
    let opened = shop.source().failover(true).open(&shop.wanted, None).await;
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    if version >= 170_000 {
        opened.unwrap().reader.close().await;
        let sql = "SELECT failover FROM pg_replication_slots WHERE slot_name = $1";
        let failover: bool = sqlx::query_scalar(sql)
            .bind(&shop.slot)
            .fetch_one(&shop.pool)
            .await
            .unwrap();
        assert!(failover);
    } else {
        let error = opened.unwrap_err();
        assert!(matches!(error, SourceError::Config(_)), "{error:?}");
        assert!(error.to_string().contains("PostgreSQL 17"), "{error}");
    }
}
