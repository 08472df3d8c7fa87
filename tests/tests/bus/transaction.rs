//! A message is sent if, and only if, the caller's transaction commits.

use std::{future::poll_fn, task::Poll};

use final_core::Error;
use final_tests::eventually;

use crate::{
    database::Database,
    house::{House, SOON, TestError},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        a_rolled_back_message_is_never_sent,
        a_handle_moved_out_of_the_closure_commits_nothing,
        with_tx_commits_rolls_back_and_rolls_back_when_dropped,
        a_borrowed_transaction_publishes_when_its_owner_commits,
        messages_flushed_early_are_sent_after_the_commit,
        messages_flushed_early_and_rolled_back_are_never_sent,
        a_dropped_caller_leaves_both_the_row_and_its_message_or_neither,
        one_transaction_can_publish_thousands,
        a_transaction_whose_messages_cannot_be_written_is_rolled_back,
    ],
    with an outbox: [
        a_committed_message_is_handled_and_the_outbox_is_empty_afterwards,
        messages_staged_in_a_transaction_are_written_at_its_end,
    ],
);

async fn a_committed_message_is_handled_and_the_outbox_is_empty_afterwards<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    let tx = bus.begin().await.expect("begin");
    let answer = bus
        .transaction(tx, async |mut txbus| {
            D::run(txbus.conn(), "INSERT INTO orders VALUES (100)").await?;
            txbus.publish(house.topic("placed"), &100_i64).await?;
            Ok::<_, TestError>("the closure's answer")
        })
        .await;

    assert_eq!(answer.expect("committed"), "the closure's answer");
    notes.reach(1).await;
    assert_eq!(notes.numbers(), [100]);
    assert_eq!(house.orders().await, 1);
    house.outbox_is_empty(&bus).await;
    assert_eq!(house.records().await, 0);
    bus.shutdown().await.expect("shutdown");
}

async fn a_rolled_back_message_is_never_sent<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    let tx = bus.begin().await.expect("begin");
    let result = bus
        .transaction(tx, async |mut txbus| {
            D::run(txbus.conn(), "INSERT INTO orders VALUES (1)").await?;
            txbus.publish(house.topic("placed"), &1_i64).await?;
            Err::<(), _>(TestError::OnPurpose)
        })
        .await;
    assert!(matches!(result, Err(TestError::OnPurpose)), "{result:?}");

    house.handles_only(&bus, &notes, 2).await;
    assert_eq!(house.orders().await, 0);
    bus.shutdown().await.expect("shutdown");
}

async fn messages_staged_in_a_transaction_are_written_at_its_end<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    let count = format!("SELECT count(*) FROM {}", house.table());

    let tx = bus.begin().await.expect("begin");
    let mut txbus = bus.with_tx(tx);
    for n in 0..10_i64 {
        txbus.publish("a.topic", &n).await.expect("staged");
    }
    assert_eq!(house.records().await, 0);
    txbus.commit().await.expect("commit");
    assert_eq!(D::number(&house.pool, &count).await, 10);
    bus.shutdown().await.expect("shutdown");
}

async fn a_handle_moved_out_of_the_closure_commits_nothing<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");

    let mut escaped = None;
    let tx = bus.begin().await.expect("begin");
    let result = bus
        .transaction(tx, async |mut txbus| {
            D::run(txbus.conn(), "INSERT INTO orders VALUES (1)").await?;
            escaped = Some(txbus);
            Ok::<_, TestError>(())
        })
        .await;

    assert!(
        matches!(result, Err(TestError::Bus(Error::Escaped))),
        "{result:?}"
    );
    drop(escaped);
    assert_eq!(house.orders().await, 0);
}

async fn with_tx_commits_rolls_back_and_rolls_back_when_dropped<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    for (n, end) in ["rollback", "drop", "commit"].into_iter().enumerate() {
        let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
        D::run(txbus.conn(), &format!("INSERT INTO orders VALUES ({n})"))
            .await
            .expect("insert");
        txbus
            .publish(house.topic("placed"), &(n as i64))
            .await
            .expect("staged");
        match end {
            "rollback" => txbus.rollback().await.expect("rollback"),
            "drop" => drop(txbus),
            _ => txbus.commit().await.expect("commit"),
        }
    }

    notes.reach(1).await;
    house.outbox_is_empty(&bus).await;
    assert_eq!(notes.numbers(), [2]);
    assert_eq!(
        D::number(&house.pool, "SELECT count(*) FROM orders WHERE total = 2").await,
        1
    );
    assert_eq!(house.orders().await, 1);
    bus.shutdown().await.expect("shutdown");
}

async fn a_borrowed_transaction_publishes_when_its_owner_commits<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house
        .start_noting(house.options().scan_interval(SOON * 10), &["placed"])
        .await;

    let mut tx = bus.begin().await.expect("begin");
    bus.publish_in(&mut *tx, house.topic("placed"), &1_i64)
        .key("k")
        .await
        .expect("publish_in");
    drop(tx);
    let mut tx = bus.begin().await.expect("begin");
    bus.publish_in(&mut *tx, house.topic("placed"), &2_i64)
        .await
        .expect("publish_in");
    tx.commit().await.expect("commit");
    bus.wake();

    notes.reach(1).await;
    assert_eq!(notes.numbers(), [2]);
    bus.shutdown().await.expect("shutdown");
}

async fn messages_flushed_early_are_sent_after_the_commit<D: Database, T: Transport>(
    house: House<D, T>,
) {
    // Neither the scan interval nor the end of a lease brings them in time.
    let options = house.options().scan_interval(SOON * 10).lease(SOON * 10);
    let (bus, notes) = house.start_connected(options, &["placed"]).await;

    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    txbus
        .publish(house.topic("placed"), &1_i64)
        .await
        .expect("staged");
    txbus.flush().await.expect("flush");
    txbus
        .publish(house.topic("placed"), &2_i64)
        .await
        .expect("staged");
    txbus.commit().await.expect("commit");

    notes.reach(2).await;
    house.outbox_is_empty(&bus).await;
    let mut numbers = notes.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    bus.shutdown().await.expect("shutdown");
}

async fn messages_flushed_early_and_rolled_back_are_never_sent<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    txbus
        .publish(house.topic("placed"), &1_i64)
        .await
        .expect("staged");
    txbus.flush().await.expect("flush");
    txbus.rollback().await.expect("rollback");

    house.handles_only(&bus, &notes, 2).await;
    bus.shutdown().await.expect("shutdown");
}

/// Drops the whole request after so many polls, so that every await is hit.
async fn a_dropped_caller_leaves_both_the_row_and_its_message_or_neither<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    // No scan may send a message whose hand-over was dropped.
    let options = house.options().scan_interval(SOON * 10).lease(SOON * 10);
    let (bus, notes) = house.start_connected(options, &["placed"]).await;

    let mut completed = 0;
    for n in 0..120_i64 {
        let topic = house.topic("placed");
        let request_bus = bus.clone();
        let mut request = Box::pin(async move {
            let tx = request_bus.begin().await?;
            request_bus
                .transaction(tx, async |mut txbus| {
                    D::run(txbus.conn(), &format!("INSERT INTO orders VALUES ({n})")).await?;
                    txbus.publish(topic, &n).await?;
                    Ok::<_, TestError>(())
                })
                .await
        });
        let mut polls = 0;
        let result = poll_fn(|cx| {
            polls += 1;
            if polls > n % 12 {
                Poll::Ready(None)
            } else {
                request.as_mut().poll(cx).map(Some)
            }
        })
        .await;
        completed += usize::from(matches!(result, Some(Ok(()))));
        drop(request);
    }

    // A write of a dropped request may still be under way, so this waits until the counts agree.
    eventually("as many messages as rows", SOON, async || {
        notes.len() as i64 == house.orders().await && notes.len() >= completed
    })
    .await;
    house.outbox_is_empty(&bus).await;
    tokio::time::timeout(SOON, async {
        let mut numbers = notes.numbers();
        numbers.sort_unstable();
        for number in numbers {
            let sql = format!("SELECT count(*) FROM orders WHERE total = {number}");
            assert_eq!(D::number(&house.pool, &sql).await, 1, "message {number}");
        }
    })
    .await
    .expect("a poisoned connection blocks");
    bus.shutdown().await.expect("shutdown");
}

async fn one_transaction_can_publish_thousands<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    let tx = bus.begin().await.expect("begin");
    bus.transaction(tx, async |mut txbus| {
        for n in 0..2_500_i64 {
            txbus.publish(house.topic("placed"), &n).await?;
        }
        Ok::<_, TestError>(())
    })
    .await
    .expect("commit");

    notes.reach(2_500).await;
    house.outbox_is_empty(&bus).await;
    let mut numbers = notes.numbers();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..2_500), "each exactly once");
    bus.shutdown().await.expect("shutdown");
}

/// After the error, only PostgreSQL itself refuses to commit the transaction.
async fn a_transaction_whose_messages_cannot_be_written_is_rolled_back<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let bus = house.bus();
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    D::run(txbus.conn(), "INSERT INTO orders VALUES (1)")
        .await
        .expect("insert");
    let publish = txbus.publish(house.topic("placed"), &1_i64);
    publish.await.expect("staged");

    let result = txbus.commit().await;

    assert!(
        matches!(result, Err(Error::MissingTable { .. })),
        "{result:?}"
    );
    assert_eq!(house.orders().await, 0);
    bus.shutdown().await.expect("shutdown");
}
