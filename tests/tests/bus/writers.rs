//! Many writers of one SQLite file: they begin one after the other, and none is told that it is locked.

use std::{
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use final_core::{Error, Router, SqliteBus};
use final_tests::eventually;
use futures::{FutureExt, future::try_join_all, poll};
use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use crate::{
    database::Database,
    house::{House, SOON},
    transport::Transport,
};

crate::suite!(
    on sqlx::Sqlite, Memory:
    everywhere: [
        many_writers_of_several_buses_and_pools_are_never_refused,
        writers_begin_in_the_order_in_which_they_came,
        a_writer_that_gives_up_leaves_the_line,
        writers_that_wait_leave_the_pool_to_readers,
        the_first_writer_in_line_has_its_connection_before_its_turn,
        a_writer_in_line_has_a_connection_that_the_pools_hooks_have_seen,
        a_publish_beside_an_open_transaction_of_the_same_task_is_told_the_cause,
        a_transaction_that_sqlx_ends_holds_no_writer_up,
        a_transaction_that_was_begun_deferred_writes_beside_the_others,
    ],
);

/// How long SQLite waits for a lock in a test that wants it to be short. A writer that asks SQLite at the wrong
/// moments is refused after that.
const SHORT: Duration = Duration::from_millis(200);

const INSERT: &str = "INSERT INTO orders (total) VALUES (1)";

/// Another pool on the house's file.
async fn pool<T: Transport>(house: &House<Sqlite, T>, most: u32, busy: Duration) -> SqlitePool {
    let options = house.pool.connect_options().as_ref().clone();
    let pool = SqlitePoolOptions::new().max_connections(most);
    let pool = pool.connect_with(options.busy_timeout(busy)).await;
    pool.expect("connected")
}

fn bus<T: Transport>(house: &House<Sqlite, T>, pool: &SqlitePool) -> SqliteBus {
    let bus = house.transport.bus(&house.service, pool.clone());
    bus.with_options(house.options())
}

/// One row and one message in a transaction of the bus.
async fn write(bus: &SqliteBus, topic: &str) -> Result<(), Error> {
    let mut tx = bus.begin().await?;
    Sqlite::run(&mut tx, INSERT).await.expect("inserted");
    let mut txbus = bus.with_tx(tx);
    txbus.publish(topic, &1_i64).await?;
    // The lock is held for a while, also where the disk is quick.
    tokio::time::sleep(Duration::from_millis(2)).await;
    txbus.commit().await
}

async fn many_writers_of_several_buses_and_pools_are_never_refused<T: Transport>(
    house: House<Sqlite, T>,
) {
    const WRITERS: usize = 64;
    const EACH: usize = 6;
    let (small, large) = (pool(&house, 3, SHORT).await, pool(&house, 32, SHORT).await);
    let buses = [bus(&house, &small), bus(&house, &large)];
    let handled = Arc::new(AtomicUsize::new(0));
    for bus in &buses {
        let handled = Arc::clone(&handled);
        let router = Router::new().route(house.topic("placed"), move || {
            handled.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        });
        bus.start(router).await.expect("start");
    }

    let all = (0..WRITERS).map(|n| {
        let (bus, topic) = (buses[n % 2].clone(), house.topic("placed"));
        let work = async move {
            for round in 0..EACH {
                match (n / 2 + round) % 3 {
                    0 => drop(bus.publish(&topic, &2_i64).await?),
                    _ => write(&bus, &topic).await?,
                }
            }
            Ok::<_, Error>(())
        };
        async { tokio::spawn(work).await.expect("joined") }
    });
    try_join_all(all).await.expect("no writer is refused");

    eventually("all handled", SOON, async || {
        handled.load(Ordering::Relaxed) >= WRITERS * EACH
    })
    .await;
    for bus in buses {
        bus.shutdown().await.expect("shutdown");
    }
}

async fn writers_begin_in_the_order_in_which_they_came<T: Transport>(house: House<Sqlite, T>) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    let holder = bus.with_tx(bus.begin().await.expect("begun"));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut writers = Vec::new();
    for n in 0..20 {
        let (bus, order) = (bus.clone(), Arc::clone(&order));
        let mut writer = Box::pin(async move {
            let tx = bus.begin().await.expect("begun");
            order.lock().expect("unpoisoned").push(n);
            bus.with_tx(tx).commit().await.expect("committed");
        });
        // Now it stands in line.
        assert!(poll!(&mut writer).is_pending());
        writers.push(tokio::spawn(writer));
    }
    holder.commit().await.expect("committed");

    try_join_all(writers).await.expect("joined");
    let order = order.lock().expect("unpoisoned").clone();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
}

async fn a_writer_that_gives_up_leaves_the_line<T: Transport>(house: House<Sqlite, T>) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    for _ in 0..10 {
        let holder = bus.with_tx(bus.begin().await.expect("begun"));
        for _ in 0..10 {
            assert!(bus.begin().now_or_never().is_none(), "the lock is taken");
            let alone = std::future::IntoFuture::into_future(bus.publish(house.topic("t"), &1_i64));
            assert!(alone.now_or_never().is_none(), "the lock is taken");
        }
        holder.commit().await.expect("committed");
        write(&bus, &house.topic("t"))
            .await
            .expect("the next writer");
    }
    let rows = Sqlite::number(&house.pool, "SELECT COUNT(*) FROM orders").await;
    assert_eq!(rows, 10);
}

async fn writers_that_wait_leave_the_pool_to_readers<T: Transport>(house: House<Sqlite, T>) {
    let pool = pool(&house, 2, Duration::from_secs(5)).await;
    let bus = bus(&house, &pool);
    bus.migrate().await.expect("migrate");
    let holder = bus.with_tx(bus.begin().await.expect("begun"));
    let ended = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for _ in 0..8 {
        let (own, ended, topic) = (bus.clone(), Arc::clone(&ended), house.topic("placed"));
        let mut writer = Box::pin(async move {
            let written = write(&own, &topic).await;
            ended.fetch_add(1, Ordering::SeqCst);
            written
        });
        assert!(poll!(&mut writer).is_pending());
        writers.push(tokio::spawn(writer));
    }

    // Without a line a writer has the second connection until it is refused.
    for _ in 0..10 {
        Sqlite::number(&pool, "SELECT COUNT(*) FROM orders").await;
    }
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    holder.commit().await.expect("committed");
    for writer in writers {
        writer.await.expect("joined").expect("written");
    }
}

/// Only the first, and only while half of the pool is free.
async fn the_first_writer_in_line_has_its_connection_before_its_turn<T: Transport>(
    house: House<Sqlite, T>,
) {
    let pool = pool(&house, 8, Duration::from_secs(5)).await;
    let bus = bus(&house, &pool);
    bus.migrate().await.expect("migrate");
    // The pool changes the two numbers one after the other, so for a moment more are idle than there are.
    let busy = || (pool.size() as usize).checked_sub(pool.num_idle());
    eventually("all are back", SOON, async || busy() == Some(0)).await;
    for readers in [0, 2, 3] {
        let mut held = Vec::new();
        for _ in 0..readers {
            held.push(pool.acquire().await.expect("a connection"));
        }
        let holder = bus.with_tx(bus.begin().await.expect("begun"));
        let mut writers = Vec::new();
        for n in 0..6 {
            let (bus, topic) = (bus.clone(), house.topic("placed"));
            let mut writer = Box::pin(async move {
                match n % 2 {
                    0 => write(&bus, &topic).await,
                    _ => bus.publish(&topic, &2_i64).await.map(drop),
                }
            });
            assert!(poll!(&mut writer).is_pending());
            writers.push(tokio::spawn(writer));
        }
        // With three readers and the holder, half of the pool is in use.
        let ahead = usize::from(readers < 3);
        let all = readers + 1 + ahead;
        eventually("one is ahead", SOON, async || busy() == Some(all)).await;
        for _ in 0..10 {
            Sqlite::number(&pool, "SELECT COUNT(*) FROM orders").await;
        }
        eventually("no other is ahead", SOON, async || busy() == Some(all)).await;

        holder.commit().await.expect("committed");
        for writer in writers {
            writer.await.expect("joined").expect("written");
        }
        drop(held);
        eventually("all are back", SOON, async || busy() == Some(0)).await;
    }
}

async fn a_writer_in_line_has_a_connection_that_the_pools_hooks_have_seen<T: Transport>(
    house: House<Sqlite, T>,
) {
    let seen = Arc::new(AtomicUsize::new(0));
    let (new, again) = (Arc::clone(&seen), Arc::clone(&seen));
    let options = SqlitePoolOptions::new()
        .max_connections(8)
        .after_connect(move |_, _| {
            new.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(Ok(())))
        })
        .before_acquire(move |_, _| {
            again.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(Ok(true)))
        });
    let file = house.pool.connect_options().as_ref().clone();
    let pool = options.connect_with(file).await.expect("connected");
    let bus = bus(&house, &pool);
    bus.migrate().await.expect("migrate");
    let before = seen.load(Ordering::SeqCst);
    let writers = (0..8).map(async |_| {
        for _ in 0..5 {
            write(&bus, &house.topic("placed")).await?;
        }
        Ok::<_, Error>(())
    });
    try_join_all(writers).await.expect("no writer is refused");
    assert!(seen.load(Ordering::SeqCst) - before >= 40);
}

async fn a_publish_beside_an_open_transaction_of_the_same_task_is_told_the_cause<T: Transport>(
    house: House<Sqlite, T>,
) {
    let pool = pool(&house, 4, SHORT).await;
    let bus = bus(&house, &pool);
    bus.migrate().await.expect("migrate");
    let mut tx = bus.begin().await.expect("begun");
    Sqlite::run(&mut tx, INSERT).await.expect("inserted");
    let mut txbus = bus.with_tx(tx);
    txbus
        .publish(house.topic("placed"), &1_i64)
        .await
        .expect("staged");

    let alone = tokio::time::timeout(
        SOON,
        std::future::IntoFuture::into_future(bus.publish(house.topic("placed"), &2_i64)),
    );
    let alone = alone
        .await
        .expect("a bounded wait")
        .expect_err("the lock is taken");
    assert!(alone.to_string().contains("TxBus::publish"), "{alone}");
    let second = tokio::time::timeout(SOON, bus.begin());
    let second = second
        .await
        .expect("a bounded wait")
        .expect_err("the lock is taken");
    assert!(second.to_string().contains("TxBus::publish"), "{second}");

    txbus.commit().await.expect("the transaction is as it was");
    write(&bus, &house.topic("placed"))
        .await
        .expect("the next writer");
}

async fn a_transaction_that_sqlx_ends_holds_no_writer_up<T: Transport>(house: House<Sqlite, T>) {
    let pool = pool(&house, 4, Duration::from_secs(5)).await;
    let bus = bus(&house, &pool);
    bus.migrate().await.expect("migrate");
    let writers = (0..12).map(|n| {
        let bus = bus.clone();
        let topic = house.topic("placed");
        async move {
            for round in 0..5 {
                let mut tx = bus.begin().await?;
                Sqlite::run(&mut tx, INSERT).await.expect("inserted");
                match (n + round) % 4 {
                    0 => tx.commit().await.expect("committed"),
                    1 => tx.rollback().await.expect("rolled back"),
                    2 => drop(tx),
                    _ => {
                        bus.publish_in(&mut tx, &topic, &1_i64).await?;
                        tx.commit().await.expect("committed");
                        bus.wake();
                    }
                }
            }
            Ok::<_, Error>(())
        }
    });
    try_join_all(writers).await.expect("no writer is refused");
    let rows = Sqlite::number(&pool, "SELECT COUNT(*) FROM orders").await;
    assert_eq!(rows, 30);
}

/// It reads first, so another writer may not write in between. Here it is the only one that does both.
async fn a_transaction_that_was_begun_deferred_writes_beside_the_others<T: Transport>(
    house: House<Sqlite, T>,
) {
    let pool = pool(&house, 16, Duration::from_secs(30)).await;
    let bus = bus(&house, &pool);
    bus.migrate().await.expect("migrate");
    let writers = (0..8).map(|n| {
        let (bus, pool, topic) = (bus.clone(), pool.clone(), house.topic("placed"));
        async move {
            for _ in 0..5 {
                if n % 4 > 0 {
                    write(&bus, &topic).await?;
                    continue;
                }
                let tx = pool.begin().await.expect("begun");
                let written = bus.transaction(tx, async |mut txbus| {
                    Sqlite::run(txbus.conn(), INSERT)
                        .await
                        .map_err(|_| Error::NotStarted)?;
                    txbus.publish(&topic, &1_i64).await.map(drop)
                });
                written.await?;
            }
            Ok::<_, Error>(())
        }
    });
    try_join_all(writers).await.expect("no writer is refused");
    let rows = Sqlite::number(&pool, "SELECT COUNT(*) FROM orders").await;
    assert_eq!(rows, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_a_shared_database_in_memory_are_never_refused() {
    let options = SqliteConnectOptions::from_str("sqlite::memory:").expect("options");
    let pool = SqlitePoolOptions::new().max_connections(4);
    let pool = pool
        .connect_with(options.shared_cache(true))
        .await
        .expect("opened");
    Sqlite::run_on(&pool, "CREATE TABLE orders (total INTEGER NOT NULL)").await;
    let bus = SqliteBus::new("shop", pool.clone(), final_core::MemoryBroker::new());
    bus.start(Router::new()).await.expect("start");
    let writers = (0..32).map(|_| {
        let bus = bus.clone();
        let work = async move {
            for _ in 0..5 {
                write(&bus, "placed").await?;
            }
            Ok::<_, Error>(())
        };
        async { tokio::spawn(work).await.expect("joined") }
    });
    try_join_all(writers).await.expect("no writer is refused");
    let rows = Sqlite::number(&pool, "SELECT COUNT(*) FROM orders").await;
    assert_eq!(rows, 160);
}
