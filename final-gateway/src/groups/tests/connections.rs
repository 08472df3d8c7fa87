//! Connections: what they have in hand, and what they settle.

use std::time::Duration;

use tokio::time::Instant;

use super::kit::{Kit, lot, pair, taken_texts};
use crate::groups::{CommitError, GroupError};

#[tokio::test(start_paused = true)]
async fn what_a_connection_did_not_commit_comes_to_the_next_one_in_the_same_order() {
    let kit = Kit::new().await;
    let mut first = kit.hold(&pair()).await;
    kit.publish("t", ["a", "b", "c", "d"]);
    let taken = first.take(lot(3)).await.unwrap();
    assert_eq!(taken_texts(&taken), ["a", "b", "c"]);
    first.commit(0, taken[0].offset).unwrap();
    drop(first);

    let mut second = kit.hold(&pair()).await;
    let taken = second.take(lot(10)).await.unwrap();
    assert_eq!(taken_texts(&taken), ["b", "c", "d"]);
    let attempts: Vec<u32> = taken.iter().map(|taken| taken.attempt).collect();
    assert_eq!(attempts, [2, 2, 1]);
    second.commit(0, taken[2].offset).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(kit.broker.queue_len(&pair().broker_group()), 0);
}

#[tokio::test(start_paused = true)]
async fn offsets_rise_from_one_connection_to_the_next() {
    let kit = Kit::new().await;
    let mut last = 0;
    for _ in 0..3 {
        let mut holder = kit.hold(&pair()).await;
        kit.publish("t", ["a"]);
        let taken = holder.take(lot(1)).await.unwrap();
        assert!(taken[0].offset > last, "{last} {taken:?}");
        last = taken[0].offset;
        holder.commit(0, last).unwrap();
    }
}

/// The message that was given out late has a higher offset, although it was published earlier.
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_back_after_a_later_one_was_committed_is_neither_lost_nor_settled() {
    let kit = Kit::new().await;
    let (mut one, mut two) = (kit.hold(&pair()).await, kit.hold(&pair()).await);
    kit.publish("t", ["early", "late"]);
    let early = one.take(lot(1)).await.unwrap();
    let late = two.take(lot(1)).await.unwrap();
    two.commit(0, late[0].offset).unwrap();
    drop(one);

    let again = two.take(lot(1)).await.unwrap();
    assert_eq!(taken_texts(&again), ["early"]);
    assert!(again[0].offset > late[0].offset);
    two.commit(0, early[0].offset)
        .expect("an earlier connection's: void");
    two.commit(0, again[0].offset).unwrap();
    assert!(two.take(lot(1)).await.unwrap().is_empty());
    assert_eq!(kit.broker.queue_len(&pair().broker_group()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_what_was_never_given_out_is_an_error_and_settles_nothing() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    kit.publish("t", ["a"]);
    let offset = holder.take(lot(1)).await.unwrap()[0].offset;

    for wrong in [-1, offset + 1, i64::MAX] {
        assert_eq!(holder.commit(0, wrong), Err(CommitError::Offset(wrong)));
    }
    for wrong in [-1, 3, 16] {
        assert_eq!(
            holder.commit(wrong, offset),
            Err(CommitError::Partition(wrong))
        );
    }
    assert_eq!(kit.broker.queue_len(&pair().broker_group()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_skipped_message_is_settled_and_the_earlier_ones_are_not() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    kit.publish("t", ["a", "other colour", "c"]);
    let taken = holder.take(lot(3)).await.unwrap();
    holder.skip(&taken[1]);
    holder.skip(&taken[1]);
    drop(holder);

    let again = kit.hold(&pair()).await.take(lot(3)).await.unwrap();
    assert_eq!(taken_texts(&again), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_commits_leaves_room_to_others_and_loses_what_it_has_in_the_end() {
    let kit = Kit::with(|options| options.in_hand = 8).await;
    let (mut greedy, mut other) = (kit.hold(&pair()).await, kit.hold(&pair()).await);
    kit.publish("t", (0..8).map(|n| n.to_string()));
    let mut first = greedy.take(lot(100)).await.unwrap();
    first.extend(greedy.take(lot(100)).await.unwrap());
    assert_eq!(taken_texts(&first), ["0", "1", "2", "3"]);

    let taken = other.take(lot(100)).await.unwrap();
    assert_eq!(taken_texts(&taken), ["4", "5"]);
    other.commit(0, taken[1].offset).unwrap();

    tokio::time::sleep(Duration::from_secs(615)).await;
    let again = greedy.take(lot(100)).await.unwrap();
    assert_eq!(taken_texts(&again), ["0", "1", "2", "3"]);
    assert!(again.iter().all(|taken| taken.attempt == 2));
    greedy.commit(0, first[3].offset).unwrap();
    assert_eq!(kit.broker.queue_len(&pair().broker_group()), 6);
}

#[tokio::test(start_paused = true)]
async fn a_take_that_is_dropped_has_taken_nothing() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    kit.publish("t", ["a"]);
    let mut slow = lot(10);
    slow.gather = Duration::from_secs(10);
    tokio::time::timeout(Duration::from_secs(5), holder.take(slow))
        .await
        .expect_err("it gathers");

    let taken = holder.take(lot(10)).await.unwrap();
    assert_eq!(taken_texts(&taken), ["a"]);
    assert_eq!(taken[0].attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn a_take_gathers_what_comes_soon_after_the_first_message() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    let mut slow = lot(10);
    slow.gather = Duration::from_millis(100);
    let later = async {
        for payload in ["a", "b", "c"] {
            tokio::time::sleep(Duration::from_millis(60)).await;
            kit.publish("t", [payload]);
        }
    };
    let (taken, ()) = tokio::join!(holder.take(slow), later);
    assert_eq!(taken_texts(&taken.unwrap()), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_nothing_holds_up_nobody() {
    let kit = Kit::new().await;
    let _idle = kit.hold(&pair()).await;
    let mut busy = kit.hold(&pair()).await;
    kit.publish("t", ["a"]);

    let taken = busy.take(lot(10)).await.unwrap();
    assert_eq!(taken_texts(&taken), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn clients_that_wait_get_messages_in_turn() {
    let kit = Kit::new().await;
    let (mut one, mut two) = (kit.hold(&pair()).await, kit.hold(&pair()).await);
    let mut gathering = lot(10);
    gathering.gather = Duration::from_millis(500);
    let publish = async {
        for payload in ["a", "b", "c", "d"] {
            tokio::time::sleep(Duration::from_millis(100)).await;
            kit.publish("t", [payload]);
        }
    };
    let (first, second, ()) = tokio::join!(one.take(gathering), two.take(gathering), publish);

    assert_eq!(taken_texts(&first.unwrap()), ["a", "c"]);
    assert_eq!(taken_texts(&second.unwrap()), ["b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_no_more_bytes_than_asked_for_but_one_message_at_least() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    kit.publish("t", ["aaaaaaaaaa", "b", "ccc"]);
    let mut small = lot(10);
    small.bytes = 4;

    let answers = [
        holder.take(small).await.unwrap(),
        holder.take(small).await.unwrap(),
    ];
    assert_eq!(taken_texts(&answers[0]), ["aaaaaaaaaa"]);
    assert_eq!(taken_texts(&answers[1]), ["b", "ccc"]);
}

#[tokio::test(start_paused = true)]
async fn a_take_that_gathers_ends_with_the_first_message_that_does_not_fit() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    kit.publish("t", ["aaa", "bbb", "c"]);
    let mut small = lot(10);
    (small.bytes, small.gather) = (4, Duration::from_millis(100));
    let begun = Instant::now();

    let mut answers = Vec::new();
    for _ in 0..2 {
        let taken = holder.take(small).await.unwrap();
        answers.push(taken_texts(&taken));
    }
    assert_eq!(answers, [vec!["aaa"], vec!["bbb", "c"]]);
    assert!(begun.elapsed() <= Duration::from_millis(100), "one gathers");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_goes_alone_ends_the_answer_of_the_one_before_it() {
    let kit = Kit::new().await;
    let mut other = kit.hold(&pair()).await;
    kit.publish("t", ["a", "poison"]);
    let first = other.take(lot(1)).await.unwrap();
    for _ in 0..2 {
        let mut dies = kit.hold(&pair()).await;
        let taken = dies.take(lot(1)).await.unwrap();
        assert_eq!(taken_texts(&taken), ["poison"]);
    }
    assert_eq!(taken_texts(&first), ["a"]);
    drop(other);

    let mut holder = kit.hold(&pair()).await;
    let mut gathering = lot(10);
    gathering.gather = Duration::from_millis(100);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let taken = holder.take(gathering).await.unwrap();
        answers.push(taken_texts(&taken));
    }
    assert_eq!(answers, [["a"], ["poison"]]);
}

#[tokio::test(start_paused = true)]
async fn what_two_connections_died_with_is_given_out_alone_so_that_only_the_poison_dies() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a", "poison", "c"]);
    let mut handled = Vec::new();
    for _ in 0..20 {
        let mut holder = kit.hold(&pair()).await;
        let taken = holder.take(lot(10)).await.unwrap();
        if !taken_texts(&taken).contains(&"poison".to_owned()) {
            for taken in &taken {
                handled.extend(taken_texts(std::slice::from_ref(taken)));
                holder.commit(0, taken.offset).unwrap();
            }
        }
    }

    assert_eq!(handled, ["a", "c"]);
    let reason = "its connection ended before it was committed";
    let expected = [("poison".to_owned(), reason.to_owned(), 5)];
    assert_eq!(kit.dead(&pair()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_told_once_the_wait_is_over_and_all_comes_again() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    kit.publish("t", ["a"]);
    let old = holder.take(lot(1)).await.unwrap();
    kit.broker.set_available(false);
    let answer = holder.take(lot(1)).await;
    assert!(matches!(answer, Err(GroupError::Away(_))), "{answer:?}");

    kit.broker.set_available(true);
    holder.commit(0, old[0].offset).expect("void at the broker");
    let again = holder.take(lot(1)).await.unwrap();
    assert_eq!(taken_texts(&again), ["a"]);
    holder.commit(0, again[0].offset).unwrap();
    assert_eq!(kit.broker.queue_len(&pair().broker_group()), 0);
}
