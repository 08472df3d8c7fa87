//! Pulls: receipts, deadlines, attempts.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::kit::{Kit, MINUTE, lot, pair, pulled_texts, receipts, taken_texts};
use crate::{groups::ReceiptError, names::Pair};

#[tokio::test(start_paused = true)]
async fn what_is_acked_is_settled_and_its_receipt_is_used_up() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a", "b"]);
    let pulled = kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&pulled), ["a", "b"]);
    kit.ack("g", &pulled).await;

    let again = kit.groups.ack("g", &receipts(&pulled)).await;
    assert_eq!(again, vec![Err(ReceiptError::Gone); 2]);
    assert_eq!(kit.broker.queue_len(&pair().broker_group()), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acked_comes_again_after_its_deadline_and_the_old_receipt_settles_nothing() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a"]);
    let first = kit.pull(&pair()).await;
    sleep(MINUTE - Duration::from_secs(2)).await;
    assert!(kit.pull(&pair()).await.is_empty(), "before the deadline");
    sleep(Duration::from_secs(2)).await;

    let second = kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&second), ["a"]);
    assert_eq!(second[0].attempt, 2);
    let late = kit.groups.ack("g", &receipts(&first)).await;
    assert_eq!(late, [Err(ReceiptError::Gone)]);
    kit.ack("g", &second).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_client_gets_a_message_at_its_deadline_without_asking_again() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    kit.publish("t", ["a"]);
    kit.pull(&pair()).await;
    let (begun, mut long) = (Instant::now(), lot(1));
    long.wait = 10 * MINUTE;

    let taken = holder.take(long).await.unwrap();
    assert_eq!(taken_texts(&taken), ["a"]);
    let waited = begun.elapsed();
    assert!(
        waited >= MINUTE && waited < MINUTE + Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_extended_message_stays_in_hand_for_longer() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a"]);
    let pulled = kit.pull(&pair()).await;
    sleep(MINUTE / 2).await;
    let extended = kit
        .groups
        .extend("g", &receipts(&pulled), 10 * MINUTE)
        .await;
    assert_eq!(extended, [Ok(())]);
    sleep(9 * MINUTE).await;
    kit.ack("g", &pulled).await;

    let extended = kit.groups.extend("g", &receipts(&pulled), MINUTE).await;
    assert_eq!(extended, [Err(ReceiptError::Gone)]);
}

#[tokio::test(start_paused = true)]
async fn no_message_is_in_hand_for_longer_than_the_longest_visibility_however_often_it_is_extended()
{
    let kit = Kit::with(|options| options.most_visibility = 15 * MINUTE).await;
    let _here = kit.hold(&pair()).await;
    kit.publish("t", ["extended"]);
    let extended = receipts(&kit.pull(&pair()).await);
    kit.publish("t", ["long"]);
    let pairs = [pair()];
    let pulled = kit.groups.pull(&pairs, lot(1), 60 * MINUTE).await.unwrap();
    assert_eq!(pulled_texts(&pulled), ["long"]);
    for _ in 0..28 {
        sleep(MINUTE / 2).await;
        let result = kit.groups.extend("g", &extended, 10 * MINUTE).await;
        assert_eq!(result, [Ok(())]);
    }

    sleep(2 * MINUTE).await;
    let again = kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&again), ["extended", "long"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_given_back_with_a_delay_comes_after_it_and_others_come_before() {
    let kit = Kit::new().await;
    let _here = kit.hold(&pair()).await;
    kit.publish("t", ["a", "b"]);
    let pulled = kit.pull(&pair()).await;
    let first = &receipts(&pulled)[..1];
    let nacked = kit.groups.nack("g", first, MINUTE, Some("busy")).await;
    assert_eq!(nacked, [Ok(())]);
    kit.ack("g", &pulled[1..]).await;
    kit.publish("t", ["c"]);
    let others = kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&others), ["c"]);
    kit.ack("g", &others).await;

    sleep(MINUTE - Duration::from_secs(2)).await;
    assert!(
        kit.pull(&pair()).await.is_empty(),
        "before the delay is over"
    );
    sleep(Duration::from_secs(1)).await;
    let again = kit.pull(&pair()).await;
    assert_eq!(
        (pulled_texts(&again), again[0].attempt),
        (vec!["a".to_owned()], 2)
    );
}

#[tokio::test(start_paused = true)]
async fn delays_of_many_messages_leave_room_for_others() {
    let kit = Kit::with(|options| options.in_hand = 4).await;
    let _here = kit.hold(&pair()).await;
    kit.publish("t", ["a", "b", "c", "d", "e"]);
    let pulled = kit.pull(&pair()).await;
    assert_eq!(pulled.len(), 4, "no more may be in hand");
    for (n, receipt) in (1..).zip(receipts(&pulled)) {
        let delay = MINUTE * n;
        let nacked = kit.groups.nack("g", &[receipt], delay, None).await;
        assert_eq!(nacked, [Ok(())]);
    }

    // Two may wait, so the two that are due first are due at once.
    let again = kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&again), ["a", "b"]);
    kit.ack("g", &again).await;
    let rest = kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&rest), ["e"]);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_a_message_is_dead_with_the_last_reason_and_can_be_replayed() {
    let kit = Kit::with(|options| options.max_deliveries = 3).await;
    let _here = kit.hold(&pair()).await;
    kit.publish("t", ["a"]);
    for reason in ["first", "second", "out of stock"] {
        let pulled = kit.pull(&pair()).await;
        let reason = Some(reason);
        let receipts = receipts(&pulled);
        let nacked = kit
            .groups
            .nack("g", &receipts, Duration::ZERO, reason)
            .await;
        assert_eq!(nacked, [Ok(())]);
    }
    assert!(kit.pull(&pair()).await.is_empty());
    let expected = [("a".to_owned(), "out of stock".to_owned(), 3)];
    assert_eq!(kit.dead(&pair()), expected);

    let all = final_core::broker::DeadLetterFilter::all();
    let letters = kit.groups.dead_letters(&pair(), &all).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(kit.groups.replay(&pair(), &all).await, Ok(1));
    let again = kit.pull(&pair()).await;
    assert_eq!(
        (pulled_texts(&again), again[0].attempt),
        (vec!["a".to_owned()], 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pull_ends_at_its_wait_and_only_the_first_of_a_group_has_a_second_more() {
    let kit = Kit::new().await;
    let (begun, mut short) = (Instant::now(), lot(1));
    short.wait = Duration::ZERO;
    for _ in 0..2 {
        let pulled = kit.groups.pull(&[pair()], short, MINUTE).await.unwrap();
        assert!(pulled.is_empty());
    }
    let waited = begun.elapsed();
    assert!(
        waited >= Duration::from_secs(1) && waited < Duration::from_millis(1_100),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pull_of_several_topics_takes_what_is_there_and_no_topic_holds_up_another() {
    let kit = Kit::new().await;
    let pairs = ["quiet", "t", "u"].map(|topic| Pair::new("g", topic).unwrap());
    for pair in &pairs {
        drop(kit.hold(pair).await);
    }
    kit.publish("t", ["a"]);
    kit.publish("u", ["b"]);
    let begun = Instant::now();
    let pulled = kit.groups.pull(&pairs, lot(10), MINUTE).await.unwrap();

    let mut texts = pulled_texts(&pulled);
    texts.sort();
    assert_eq!(texts, ["a", "b"]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    kit.ack("g", &pulled).await;
    let none = kit.groups.pull(&[], lot(10), MINUTE).await;
    assert!(none.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_gathers_ends_with_the_first_message_that_does_not_fit() {
    let kit = Kit::new().await;
    let pairs = ["t", "quiet"].map(|topic| Pair::new("g", topic).unwrap());
    for pair in &pairs {
        drop(kit.hold(pair).await);
    }
    kit.publish("t", ["aaa", "bbb", "c"]);
    let mut small = lot(10);
    (small.bytes, small.gather) = (4, Duration::from_millis(100));

    for expected in [vec!["aaa"], vec!["bbb", "c"]] {
        let pulled = kit.groups.pull(&pairs, small, MINUTE).await.unwrap();
        assert_eq!(pulled_texts(&pulled), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_fit_and_comes_while_a_pull_gathers_ends_the_pull() {
    let kit = Kit::new().await;
    let pairs = ["t", "quiet"].map(|topic| Pair::new("g", topic).unwrap());
    for pair in &pairs {
        drop(kit.hold(pair).await);
    }
    kit.publish("t", ["aaa"]);
    let mut small = lot(10);
    (small.bytes, small.gather) = (4, MINUTE);
    let later = async {
        sleep(Duration::from_secs(1)).await;
        kit.publish("t", ["bbb"]);
    };
    let begun = Instant::now();
    let (pulled, ()) = tokio::join!(kit.groups.pull(&pairs, small, MINUTE), later);

    assert_eq!(pulled_texts(&pulled.unwrap()), ["aaa"]);
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert_eq!(pulled_texts(&kit.pull(&pairs[0]).await), ["bbb"]);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_is_dropped_has_taken_nothing() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a"]);
    let mut slow = lot(10);
    slow.gather = Duration::from_secs(10);
    let pairs = [pair()];
    let pull = kit.groups.pull(&pairs, slow, MINUTE);
    tokio::time::timeout(Duration::from_secs(5), pull)
        .await
        .expect_err("it gathers");

    let pulled = kit.pull(&pair()).await;
    assert_eq!(
        (pulled_texts(&pulled), pulled[0].attempt),
        (vec!["a".to_owned()], 1)
    );
}

/// As while something behind the client is broken. Then all of them are handled soon, and not one after the other.
#[tokio::test(start_paused = true)]
async fn messages_that_clients_give_back_still_come_together() {
    let kit = Kit::new().await;
    let _here = kit.hold(&pair()).await;
    kit.publish("t", ["a", "b", "c"]);
    for _ in 0..4 {
        let pulled = kit.pull(&pair()).await;
        assert_eq!(pulled_texts(&pulled), ["a", "b", "c"]);
        let receipts = receipts(&pulled);
        let nacked = kit.groups.nack("g", &receipts, Duration::ZERO, None).await;
        assert!(nacked.iter().all(Result::is_ok));
    }
}

#[tokio::test(start_paused = true)]
async fn what_clients_do_is_counted() {
    let kit = Kit::with(|options| options.max_deliveries = 2).await;
    let _here = kit.hold(&pair()).await;
    kit.publish("t", ["a", "b", "c"]);
    let pulled = kit.pull(&pair()).await;
    assert_eq!(kit.groups.stats().in_hand, 3);
    kit.ack("g", &pulled[..1]).await;
    let mut receipt = receipts(&pulled[1..2]);
    for _ in 0..2 {
        let nacked = kit.groups.nack("g", &receipt, Duration::ZERO, None).await;
        assert_eq!(nacked, [Ok(())]);
        receipt = receipts(&kit.pull(&pair()).await);
    }

    let stats = kit.groups.stats();
    assert_eq!((stats.open, stats.in_hand), (1, 1));
    let counts = (
        stats.given_out,
        stats.settled,
        stats.came_back,
        stats.dead_lettered,
    );
    assert_eq!(counts, (4, 1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_another_group_is_foreign_and_tells_its_pair() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a"]);
    let pulled = kit.pull(&pair()).await;
    let receipts = receipts(&pulled);

    for texts in [&receipts[..], &["x".to_owned()], &[String::new()]] {
        let acked = kit.groups.ack("h", texts).await;
        assert_eq!(acked, [Err(ReceiptError::Foreign)]);
    }
    assert_eq!(kit.groups.pair_of(&receipts[0]), Ok(pair()));
    assert_eq!(kit.groups.pair_of("x"), Err(ReceiptError::Foreign));
    kit.ack("g", &pulled).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_for_which_the_broker_has_waited_long_goes_back_to_it_before_it_is_given_out() {
    let kit = Kit::with(|options| {
        options.fresh = 5 * MINUTE;
        (options.linger, options.unclaimed) = (60 * MINUTE, 60 * MINUTE);
    })
    .await;
    let _here = kit.hold(&pair()).await;
    kit.publish("t", ["old"]);
    let pairs = [pair()];
    let pulled = kit.groups.pull(&pairs, lot(1), 6 * MINUTE).await.unwrap();
    assert_eq!(pulled_texts(&pulled), ["old"]);
    sleep(5 * MINUTE).await;
    kit.publish("t", ["new"]);

    // It comes back, goes to the broker, and is behind the one that came meanwhile.
    sleep(2 * MINUTE).await;
    let mut again = Vec::new();
    while again.len() < 2 {
        again.extend(kit.pull(&pair()).await);
    }
    assert_eq!(pulled_texts(&again), ["new", "old"]);
    assert_eq!(again[1].attempt, 2);
}
