//! One node, and clients that come and go.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use final_core::broker::DeadLetterFilter;
use final_gateway::groups::{GroupError, Pulled, ReceiptError};
use futures::future::join_all;

use super::{ack, lot, node, number, pair, publish, pull_all, receipts, subscribe};
use crate::{
    engine::{SOON, Stand},
    place::{Database, Place},
};

crate::on_each_engine!(
    what_a_connection_did_not_commit_comes_to_the_next_one_and_nothing_else,
    what_was_settled_does_not_come_again_after_a_restart_of_the_node_and_the_rest_does,
    a_message_that_fails_each_time_is_dead_with_the_last_reason,
    no_more_is_in_hand_than_may_be_and_the_rest_comes_afterwards,
    what_is_pulled_comes_again_after_its_deadline,
    a_message_given_back_with_a_delay_comes_after_it_with_its_attempts,
);

crate::everywhere!(
    offsets_of_connections_that_begin_at_once_never_meet,
    messages_of_one_key_come_one_after_the_other_with_key_order,
);

async fn what_a_connection_did_not_commit_comes_to_the_next_one_and_nothing_else<DB: Database>(
    stand: Stand<DB>,
) {
    let running = stand.gateway().start().await.expect("start");
    let groups = node(&stand, "one", |_| {}).await;
    let mut first = subscribe(&groups).await;
    publish(&running, 0..50).await;
    let mut taken = Vec::new();
    while taken.len() < 50 {
        taken.extend(first.take(lot(50 - taken.len())).await.expect("messages"));
    }
    // Everything of the partition of the 20th message up to it.
    let (partition, offset) = (taken[20].partition, taken[20].offset);
    first.commit(partition.into(), offset).expect("given");
    let is_done = |taken: &final_gateway::groups::Taken| {
        taken.partition == partition && taken.offset <= offset
    };
    let open: BTreeSet<usize> = taken
        .iter()
        .filter(|taken| !is_done(taken))
        .map(|taken| number(&taken.message))
        .collect();
    drop(first);

    let mut second = subscribe(&groups).await;
    let mut again = Vec::new();
    while again.len() < open.len() {
        again.extend(second.take(lot(50)).await.expect("messages"));
    }
    let numbers: BTreeSet<usize> = again.iter().map(|taken| number(&taken.message)).collect();
    assert_eq!(numbers, open);
    assert!(again.iter().all(|taken| taken.attempt == 2));
    assert!(
        again
            .iter()
            .all(|again| taken.iter().all(|taken| taken.offset < again.offset))
    );
    assert!(second.take(lot(50)).await.expect("an answer").is_empty());
    if stand.is_log() {
        assert!(again.iter().all(|taken| taken.seq.is_some()));
        assert!(
            again.iter().any(|taken| taken.partition > 0),
            "keys have lanes"
        );
    }
    drop(second);
    groups.shutdown().await;
    running.shutdown().await;
}

async fn what_was_settled_does_not_come_again_after_a_restart_of_the_node_and_the_rest_does<
    DB: Database,
>(
    stand: Stand<DB>,
) {
    let running = stand.gateway().start().await.expect("start");
    let groups = node(&stand, "one", |_| {}).await;
    drop(subscribe(&groups).await);
    // Acks with holes between them: more at once than a quorum queue takes before it keeps some back.
    publish(&running, 0..80).await;
    let pulled = pull_all(&groups, 80, SOON).await;
    let has_hole = |pulled: &Pulled| number(&pulled.message) % 8 == 7;
    let (rest, acked): (Vec<_>, Vec<_>) = pulled.into_iter().partition(has_hole);
    ack(&groups, &acked).await;
    groups.shutdown().await;

    let groups = node(&stand, "one", |_| {}).await;
    let gone = groups.ack("billing", &receipts(&rest)).await;
    assert_eq!(gone, vec![Err(ReceiptError::Gone); 10]);
    let again = pull_all(&groups, 10, SOON).await;
    let numbers = |all: &[Pulled]| -> BTreeSet<usize> {
        all.iter().map(|pulled| number(&pulled.message)).collect()
    };
    assert_eq!(numbers(&again), numbers(&rest));
    ack(&groups, &again).await;
    let none = groups
        .pull(&[pair()], lot(10), SOON)
        .await
        .expect("an answer");
    assert!(none.is_empty());
    groups.shutdown().await;
    running.shutdown().await;
}

async fn a_message_that_fails_each_time_is_dead_with_the_last_reason<DB: Database>(
    stand: Stand<DB>,
) {
    let running = stand.gateway().start().await.expect("start");
    let groups = node(&stand, "one", |options| options.max_deliveries = 3).await;
    drop(subscribe(&groups).await);
    publish(&running, [7]).await;
    for attempt in 1..=3 {
        let pulled = pull_all(&groups, 1, SOON).await;
        assert_eq!(pulled[0].attempt, attempt);
        let reason = format!("failure {attempt}");
        let nacked = groups
            .nack("billing", &receipts(&pulled), Duration::ZERO, Some(&reason))
            .await;
        assert_eq!(nacked, [Ok(())]);
    }
    let none = groups
        .pull(&[pair()], lot(10), SOON)
        .await
        .expect("an answer");
    assert!(none.is_empty());

    let all = DeadLetterFilter::all();
    if !stand.is_log() {
        let told = groups.dead_letters(&pair(), &all).await;
        assert_eq!(told.map(drop), Err(GroupError::CannotTell));
        assert_eq!(
            groups.replay(&pair(), &all).await,
            Err(GroupError::CannotTell)
        );
        return running.shutdown().await;
    }
    let letters = final_tests::eventually("a dead letter", SOON, async || {
        let letters = groups.dead_letters(&pair(), &all).await.expect("letters");
        (!letters.is_empty()).then_some(letters)
    });
    let letters = letters.await;
    assert_eq!(
        (letters[0].reason.as_str(), letters[0].attempts),
        ("failure 3", 3)
    );
    assert_eq!(
        groups
            .backlog(&pair())
            .await
            .expect("a backlog")
            .dead_letters,
        1
    );
    assert_eq!(groups.replay(&pair(), &all).await, Ok(1));
    let again = pull_all(&groups, 1, SOON).await;
    assert_eq!((number(&again[0].message), again[0].attempt), (7, 1));
    ack(&groups, &again).await;
    groups.shutdown().await;
    running.shutdown().await;
}

async fn no_more_is_in_hand_than_may_be_and_the_rest_comes_afterwards<DB: Database>(
    stand: Stand<DB>,
) {
    let running = stand.gateway().start().await.expect("start");
    let groups = node(&stand, "one", |options| options.in_hand = 200).await;
    drop(subscribe(&groups).await);
    publish(&running, 0..500).await;
    let mut seen = HashSet::new();
    let mut pulled = pull_all(&groups, 200, SOON).await;
    let more = groups
        .pull(&[pair()], lot(500), SOON)
        .await
        .expect("an answer");
    assert!(more.is_empty(), "{} more", more.len());
    while seen.len() < 500 {
        seen.extend(pulled.iter().map(|pulled| number(&pulled.message)));
        ack(&groups, &pulled).await;
        pulled = groups
            .pull(&[pair()], lot(500), SOON)
            .await
            .expect("an answer");
        assert!(pulled.len() <= 200);
    }
    assert_eq!(seen.len(), 500);
    groups.shutdown().await;
    running.shutdown().await;
}

async fn what_is_pulled_comes_again_after_its_deadline<DB: Database>(stand: Stand<DB>) {
    let running = stand.gateway().start().await.expect("start");
    let groups = node(&stand, "one", |_| {}).await;
    drop(subscribe(&groups).await);
    publish(&running, [1]).await;
    let first = pull_all(&groups, 1, Duration::from_secs(1)).await;
    let second = pull_all(&groups, 1, SOON).await;

    assert_eq!(second[0].message.id(), first[0].message.id());
    assert_eq!(second[0].attempt, 2);
    let late = groups.ack("billing", &receipts(&first)).await;
    assert_eq!(late, [Err(ReceiptError::Gone)]);
    ack(&groups, &second).await;
    groups.shutdown().await;
    running.shutdown().await;
}

async fn a_message_given_back_with_a_delay_comes_after_it_with_its_attempts<DB: Database>(
    stand: Stand<DB>,
) {
    const DELAY: Duration = Duration::from_secs(6);
    let running = stand.gateway().start().await.expect("start");
    let groups = node(&stand, "one", |options| options.max_deliveries = 2).await;
    drop(subscribe(&groups).await);
    publish(&running, [1]).await;
    let first = pull_all(&groups, 1, SOON).await;
    let nacked = groups.nack("billing", &receipts(&first), DELAY, None).await;
    assert_eq!(nacked, [Ok(())]);
    let begun = std::time::Instant::now();
    let scheduled = "SELECT COUNT(*) FROM final_log_scheduled";
    if stand.is_log() {
        final_tests::eventually("it waits in the database", SOON, async || {
            stand.place.number(scheduled).await == 1
        })
        .await;
    }
    let again = pull_all(&groups, 1, SOON).await;
    let waited = begun.elapsed();
    assert!(waited > DELAY - Duration::from_secs(1), "{waited:?}");
    assert_eq!(
        (again[0].message.id(), again[0].attempt),
        (first[0].message.id(), 2)
    );

    let reason = Some("the last attempt");
    let nacked = groups
        .nack("billing", &receipts(&again), DELAY, reason)
        .await;
    assert_eq!(nacked, [Ok(())]);
    if stand.is_log() {
        let dead = "SELECT COUNT(*) FROM final_log_dead WHERE reason = 'the last attempt'";
        final_tests::eventually("it is dead", SOON, async || {
            stand.place.number(dead).await == 1
        })
        .await;
    }
    groups.shutdown().await;
    running.shutdown().await;
}

async fn offsets_of_connections_that_begin_at_once_never_meet<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let (one, two) = tokio::join!(node(&stand, "one", |_| {}), node(&stand, "two", |_| {}));
    let pair = pair();
    let holders = join_all((0..10).flat_map(|_| [one.hold(&pair), two.hold(&pair)])).await;
    assert!(holders.iter().all(Result::is_ok), "{holders:?}");

    let sql = "SELECT epoch FROM final_gateway_epochs WHERE group_name = 'billing/order'";
    assert_eq!(stand.place.number(sql).await, 20);
    let debug = format!("{holders:?}");
    for epoch in 1..=20 {
        assert_eq!(
            debug.matches(&format!("({epoch}, 0)")).count(),
            1,
            "{debug}"
        );
    }
    drop(holders);
    tokio::join!(one.shutdown(), two.shutdown());
}

async fn messages_of_one_key_come_one_after_the_other_with_key_order<DB: Database>(
    place: Place<DB>,
) {
    let stand = Stand::on(place);
    let running = stand.gateway().start().await.expect("start");
    let log = stand.sql_broker().key_order(true);
    let pool = stand.place.another_pool().await;
    let groups =
        final_gateway::groups::Groups::over_log(pool, log, "one", Default::default()).await;
    let groups = groups.expect("a node");
    drop(subscribe(&groups).await);
    publish(&running, 0..70).await;
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let (mut count, mut turn) = (0, 0);
    while count < 70 {
        let pulled = groups
            .pull(&[pair()], lot(100), SOON)
            .await
            .expect("messages");
        let keys: HashSet<&str> = pulled.iter().filter_map(|p| p.message.key()).collect();
        assert_eq!(keys.len(), pulled.len(), "of each key one at a time");
        for pulled in &pulled {
            turn += 1;
            // Some are given back first: they must come again before the next of their key.
            if turn % 3 == 0 && pulled.attempt == 1 {
                let receipt = std::slice::from_ref(&pulled.receipt);
                let nacked = groups.nack("billing", receipt, Duration::ZERO, None).await;
                assert_eq!(nacked, [Ok(())]);
                continue;
            }
            let key = pulled.message.key().expect("a key").to_owned();
            let number = number(&pulled.message);
            let before = last.insert(key, number);
            assert!(
                before.is_none_or(|before| before + 7 == number),
                "{before:?} {number}"
            );
            ack(&groups, std::slice::from_ref(pulled)).await;
            count += 1;
        }
    }
    groups.shutdown().await;
    running.shutdown().await;
}
