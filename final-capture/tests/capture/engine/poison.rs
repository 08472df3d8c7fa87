//! What a target refuses for good is parked, and comes back in order.

use final_capture::{
    position::{ParkedMark, PositionStore, SqlPositions},
    target::{OnPoison, Target},
};
use final_tests::eventually;

use super::kit::*;
use crate::{
    place::{Database, Place},
    script::Script,
};

crate::everywhere!(
    a_refused_change_waits_with_those_behind_it_and_comes_back_in_order,
    a_change_that_is_skipped_lets_those_behind_it_go_on,
    a_change_that_is_refused_again_stays_parked,
    what_is_parked_stays_before_later_changes_also_if_the_position_was_forgotten,
    a_rule_of_the_database_is_a_refusal_as_well,
    poison_can_stop_the_capture_before_it,
    too_many_parked_changes_stop_the_capture,
    a_retry_makes_room_before_the_next_changes_after_too_many_were_parked,
);

/// Messages of ordinary rows are smaller, that of the poisoned one is larger.
pub const SMALL: usize = 2_000;

/// The rows of the poisoned key, in order.
pub const PARKED: [i64; 3] = [1, 2, 4];

/// Six rows. Key 1 has the rows 1, 2 and 4; row 1 is large.
pub fn rows(script: &Script) {
    // A number with so many zeros before it that it is large.
    let large = format!("{:0>5000}", 1);
    script.commit([(0, "0".to_owned()), (1, large), (1, "2".to_owned())]);
    script.commit([
        (2, "3".to_owned()),
        (1, "4".to_owned()),
        (0, "5".to_owned()),
    ]);
}

pub async fn retry<DB: Database>(place: &Place<DB>) {
    let positions = SqlPositions::new(place.pool.clone());
    let marked = positions
        .mark("shop", None, ParkedMark::Retry)
        .await
        .unwrap();
    assert_eq!(marked, 3);
}

async fn numbers<DB: Database>(place: &Place<DB>) -> Vec<i64> {
    let rows = in_log(place).await;
    rows.iter().map(|row| row.text.parse().unwrap()).collect()
}

async fn parked<DB: Database>(place: &Place<DB>) -> Vec<(i64, bool)> {
    let positions = SqlPositions::new(place.pool.clone());
    let parked = positions.parked("shop", false, -1, 100).await.unwrap();
    let has_reason = parked
        .iter()
        .map(|change| (change.id, change.reason.is_some()));
    has_reason.collect()
}

/// A capture that has parked the rows of key 1, and its end.
async fn parks<DB: Database>(place: &Place<DB>, script: &Script) {
    rows(script);
    let small = capture(script, target(place)).max_message_bytes(SMALL);
    let running = small.start().await.unwrap();
    eventually("all but a key", SOON, async || {
        let stats = running.stats();
        (stats.parked == 3 && stats.messages == 6)
            .then_some(())
            .ok_or(format!("{stats:?}"))
    })
    .await;
    assert_eq!(numbers(place).await, [0, 3, 5]);
    let reasons: Vec<bool> = parked(place)
        .await
        .iter()
        .map(|(_, reason)| *reason)
        .collect();
    assert_eq!(reasons, [true, false, false]);
    assert!(running.health().is_ready());
    running.shutdown().await;
}

async fn a_refused_change_waits_with_those_behind_it_and_comes_back_in_order<DB: Database>(
    place: Place<DB>,
) {
    let script = Script::new();
    parks(&place, &script).await;
    let running = capture(&script, target(&place)).start().await.unwrap();
    // Still behind it, also after a restart with a larger limit.
    script.commit([(1, "6".to_owned()), (2, "7".to_owned())]);
    eventually("one more waits", SOON, async || running.stats().parked == 4).await;
    let positions = SqlPositions::new(place.pool.clone());
    let first = parked(&place).await[0].0;
    positions
        .mark("shop", Some(&[first]), ParkedMark::Retry)
        .await
        .unwrap();
    eventually("nothing is parked", SOON, async || {
        running.stats().parked == 0
    })
    .await;
    script.commit([(1, "8".to_owned())]);
    log_has(&place, 9).await;
    assert_eq!(numbers(&place).await, [0, 3, 5, 7, 1, 2, 4, 6, 8]);
    assert!(parked(&place).await.is_empty());
    running.shutdown().await;
}

async fn a_change_that_is_skipped_lets_those_behind_it_go_on<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    parks(&place, &script).await;
    let first = parked(&place).await[0].0;
    let positions = SqlPositions::new(place.pool.clone());
    positions
        .mark("shop", Some(&[first]), ParkedMark::Skip)
        .await
        .unwrap();
    let running = capture(&script, target(&place)).start().await.unwrap();
    log_has(&place, 5).await;
    assert_eq!(numbers(&place).await, [0, 3, 5, 2, 4]);
    eventually("nothing is parked", SOON, async || {
        running.stats().parked == 0
    })
    .await;
    running.shutdown().await;
}

async fn a_change_that_is_refused_again_stays_parked<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    parks(&place, &script).await;
    retry(&place).await;
    let small = capture(&script, target(&place)).max_message_bytes(SMALL);
    let running = small.start().await.unwrap();
    let positions = SqlPositions::new(place.pool.clone());
    eventually("the marks are gone", SOON, async || {
        positions
            .parked("shop", true, -1, 100)
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    script.commit([(3, "6".to_owned())]);
    log_has(&place, 4).await;
    assert_eq!(numbers(&place).await, [0, 3, 5, 6]);
    assert_eq!(parked(&place).await.len(), 3);
    running.shutdown().await;
}

async fn what_is_parked_stays_before_later_changes_also_if_the_position_was_forgotten<
    DB: Database,
>(
    place: Place<DB>,
) {
    let script = Script::new();
    parks(&place, &script).await;
    let before = parked(&place).await;
    place.sql("DELETE FROM final_captures").await;
    // From the beginning once more: all of the key waits behind what is there.
    let running = capture(&script, target(&place)).start().await.unwrap();
    eventually("the key waits", SOON, async || {
        let stats = running.stats();
        (stats.parked == 6 && stats.messages == 6)
            .then_some(())
            .ok_or(format!("{stats:?}"))
    })
    .await;
    let after = parked(&place).await;
    assert_eq!(after[..3], before, "the new ones have higher numbers");
    let positions = SqlPositions::new(place.pool.clone());
    let mark = positions.mark("shop", None, ParkedMark::Retry).await;
    assert_eq!(mark.unwrap(), 6);
    log_has(&place, 12).await;
    assert_eq!(numbers(&place).await[6..], [1, 2, 4, 1, 2, 4]);
    running.shutdown().await;
}

async fn a_rule_of_the_database_is_a_refusal_as_well<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    capture(&script, target(&place)).migrate().await.unwrap();
    let rule = match std::any::type_name::<DB>().contains("sqlite") {
        true => {
            "CREATE TRIGGER no_key BEFORE INSERT ON final_log WHEN NEW.message_key = 'shop.holes/3' \
             BEGIN SELECT RAISE(ABORT, 'no key 3'); END"
        }
        false => {
            "ALTER TABLE final_log ADD CONSTRAINT no_key CHECK (message_key <> 'shop.holes/3')"
        }
    };
    place.sql(rule).await;
    // In the midst of many.
    script.commit_many(10, 20, 7);
    let running = capture(&script, target(&place)).start().await.unwrap();
    eventually("key 3 is parked", SOON, async || {
        let stats = running.stats();
        (stats.messages == 200)
            .then_some(())
            .ok_or(format!("{stats:?}"))
    })
    .await;
    let expected: Vec<i64> = (0..200).filter(|row| row % 7 != 3).collect();
    let mut came = numbers(&place).await;
    came.sort_unstable();
    assert_eq!(came, expected);
    assert_eq!(parked(&place).await.len(), 200 - expected.len());
    let drop = match std::any::type_name::<DB>() {
        name if name.contains("sqlite") => "DROP TRIGGER no_key",
        _ => "ALTER TABLE final_log DROP CONSTRAINT no_key",
    };
    place.sql(drop).await;
    let positions = SqlPositions::new(place.pool.clone());
    positions
        .mark("shop", None, ParkedMark::Retry)
        .await
        .unwrap();
    each_once(&log_has(&place, 200).await, 200);
    running.shutdown().await;
}

async fn poison_can_stop_the_capture_before_it<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    rows(&script);
    let small = capture(&script, target(&place))
        .max_message_bytes(SMALL)
        .on_poison(OnPoison::Stop);
    let running = small.start().await.unwrap();
    reaches(&running, "stopped (poison)").await;
    assert_eq!(numbers(&place).await, [0]);
    assert_eq!(position(&place).await, ("lsn:0/0".to_owned(), Some(1)));
    running.shutdown().await;

    let running = capture(&script, target(&place)).start().await.unwrap();
    log_has(&place, 6).await;
    assert_eq!(numbers(&place).await, [0, 1, 2, 3, 4, 5]);
    running.shutdown().await;
}

async fn too_many_parked_changes_stop_the_capture<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    rows(&script);
    let small = capture(&script, target(&place))
        .max_message_bytes(SMALL)
        .most_parked(2);
    let running = small.start().await.unwrap();
    reaches(&running, "stopped (too many parked)").await;
    assert!(parked(&place).await.len() <= 2);
    running.shutdown().await;
}

/// Three changes of key 1 are parked, and no more may be. Then more of it come.
pub async fn stops_full(script: &Script, target: Target) {
    rows(script);
    let small = capture(script, target)
        .max_message_bytes(SMALL)
        .most_parked(MOST);
    let running = small.start().await.unwrap();
    eventually("the key is parked", SOON, async || {
        let parked = running.stats().parked;
        (parked == MOST).then_some(()).ok_or(parked)
    })
    .await;
    script.commit((6..20).map(|row| (1, row.to_string())));
    reaches(&running, "stopped (too many parked)").await;
    running.shutdown().await;
}

/// How many messages may be parked then.
pub const MOST: u64 = 3;

async fn a_retry_makes_room_before_the_next_changes_after_too_many_were_parked<DB: Database>(
    place: Place<DB>,
) {
    let script = Script::new();
    stops_full(&script, target(&place)).await;
    let positions = SqlPositions::new(place.pool.clone());
    let mark = positions.mark("shop", None, ParkedMark::Retry).await;
    assert_eq!(mark.unwrap(), MOST);
    let running = capture(&script, target(&place)).most_parked(MOST);
    let running = running.start().await.unwrap();
    each_once(&log_has(&place, 20).await, 20);
    assert!(running.health().is_ready(), "{:?}", running.health());
    running.shutdown().await;
}

/// MariaDB takes statements of 1 MiB here, and the row is larger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_that_no_statement_can_hold_stops_the_capture_and_names_the_cure() {
    let setup = final_tests::servers::Setup {
        args: vec!["--max-allowed-packet=1M".to_owned()],
        ..Default::default()
    };
    let server = final_tests::servers::MariaDb::start_with(setup)
        .await
        .unwrap();
    let first = sqlx::MySql::connect(&server.url()).await;
    sqlx::MySql::sql(&first, "CREATE DATABASE bus").await;
    let url = server.url().replace("/mysql", "/bus");
    let place = Place::<sqlx::MySql>::of(url.clone(), sqlx::MySql::connect(&url).await);
    let script = Script::new();
    script.commit([(1, "0".repeat(2_000_000) + "1")]);

    let running = capture(&script, target(&place)).start().await.unwrap();

    reaches(&running, "stopped (target)").await;
    let why = running.health().not_ready.concat();
    assert!(why.contains("raise max_allowed_packet"), "{why}");
    running.shutdown().await;
}
