//! Into the log: each change exactly once.

use final_capture::{
    CaptureState, StopReason,
    position::{
        Position, PositionError, PositionStore, SourceIdentity, SourcePoint, SqlPositions, Standing,
    },
};
use final_tests::eventually;
use uuid::Uuid;

use super::kit::*;
use crate::{
    place::{Database, Place},
    script::{Script, TRUNCATE},
};

crate::everywhere!(
    every_change_comes_once_and_in_order_of_its_key,
    a_capture_goes_on_where_it_was_after_a_restart,
    a_large_transaction_that_is_interrupted_goes_on_in_its_middle,
    a_truncate_of_an_interrupted_transaction_comes_once_and_in_its_place,
    a_second_reader_stands_by_and_takes_over,
    a_reader_that_was_deposed_saves_nothing,
    a_reader_learns_of_another_epoch_although_it_has_nothing_to_save,
    readers_that_stand_by_are_in_nobodys_way,
    a_position_that_cannot_be_read_is_told_where_operators_look,
    a_quiet_source_keeps_the_time_of_its_last_commit,
    an_event_that_cannot_be_read_stops_the_capture_before_it,
    a_gap_stops_the_capture_and_tells_what_is_there,
    another_transaction_in_place_of_the_interrupted_one_stops_the_capture,
    a_source_that_was_away_goes_on,
);

async fn every_change_comes_once_and_in_order_of_its_key<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    script.commit_many(20, 50, 7);
    script.commit([]);
    // Rows are counted where they are read, and after a lease that was lost they are read again.
    let lease = std::time::Duration::from_secs(60);
    let running = capture(&script, target(&place)).lease(lease);
    let running = running.start().await.unwrap();

    each_once(&log_has(&place, 1_000).await, 1_000);
    script.commit_many(3, 1, 7);
    let rows = log_has(&place, 1_003).await;
    each_once(&rows, 1_003);
    let ids: std::collections::HashSet<&str> = rows.iter().map(|row| &*row.id).collect();
    assert_eq!(ids.len(), rows.len());
    // The source hears of what is saved.
    eventually("the source was told", SOON, async || {
        let saved = script.saved();
        (saved == Some(24)).then_some(()).ok_or(saved)
    })
    .await;
    assert_eq!(position(&place).await, ("lsn:0/F0".to_owned(), None));

    let stats = running.stats();
    assert_eq!(
        (stats.rows, stats.messages, stats.in_hand),
        (1_003, 1_003, 0)
    );
    assert!(stats.lag.is_some() && stats.oldest_unsent.is_none());
    assert!(running.health().is_ready(), "{:?}", running.health());
    assert!(
        running
            .metrics()
            .contains("final_capture_rows_total{capture=\"shop\"} 1003")
    );
    running.shutdown().await;
    assert_eq!(script.readers(), 0);
}

async fn a_capture_goes_on_where_it_was_after_a_restart<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    script.commit_many(5, 3, 4);
    for round in 1..4 {
        let running = capture(&script, target(&place)).start().await.unwrap();
        each_once(&log_has(&place, round * 15).await, round * 15);
        running.shutdown().await;
        script.commit_many(5, 3, 4);
    }
    let opened = script.opened();
    assert_eq!(opened[1].as_deref(), Some("lsn:0/32"), "{opened:?}");
}

async fn a_large_transaction_that_is_interrupted_goes_on_in_its_middle<DB: Database>(
    place: Place<DB>,
) {
    const ROWS: usize = 20_000;
    let script = Script::new();
    script.commit_many(1, ROWS, 1_000);
    let mut starts = 0;
    loop {
        let running = capture(&script, target(&place)).start().await.unwrap();
        starts += 1;
        let before = count(&place).await;
        eventually("another lot is written", SOON, async || {
            let now = count(&place).await;
            now > before || now == ROWS
        })
        .await;
        if count(&place).await == ROWS {
            running.shutdown().await;
            break;
        }
        // Without a shutdown: what is under way is cut off.
        drop(running);
        let (point, changes) = position(&place).await;
        assert!(
            point == "lsn:0/0" || changes.is_none(),
            "{point} {changes:?}"
        );
    }
    each_once(&in_log(&place).await, ROWS);
    let opened = script.opened();
    let in_part = opened
        .iter()
        .flatten()
        .filter(|from| from.contains("changes of t0"));
    assert!(in_part.count() > 0, "{starts} starts: {opened:?}");
}

async fn a_truncate_of_an_interrupted_transaction_comes_once_and_in_its_place<DB: Database>(
    place: Place<DB>,
) {
    let script = Script::new();
    script.commit(["0", TRUNCATE, "2", "3"].map(|text| (7, text.to_owned())));
    // The row before the TRUNCATE is done, or the TRUNCATE as well. It has no row, and so no text.
    for (done, expected) in [(1, &["", "2", "3"][..]), (2, &["2", "3"])] {
        is_done_in_part(&place, done).await;
        let running = capture(&script, target(&place)).start().await.unwrap();
        let rows = log_has(&place, expected.len()).await;
        let texts: Vec<&str> = rows.iter().map(|row| &*row.text).collect();
        assert_eq!(texts, expected);
        running.shutdown().await;
        place.sql("DELETE FROM final_captures").await;
        place.sql("DELETE FROM final_log").await;
    }
}

async fn a_second_reader_stands_by_and_takes_over<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    script.commit_many(1, 3, 4);
    let first = capture(&script, target(&place)).start().await.unwrap();
    reaches(&first, "streaming").await;
    let second = capture(&script, target(&place)).start().await.unwrap();
    // Long enough for a lease to be over that nobody renews.
    tokio::time::sleep(LEASE * 2).await;
    assert_eq!(second.state().borrow().to_string(), "standby");
    assert!(second.health().is_ready());

    first.shutdown().await;
    reaches(&second, "streaming").await;
    script.commit_many(1, 3, 4);
    each_once(&log_has(&place, 6).await, 6);
    // Without a shutdown the lease has to end.
    let third = capture(&script, target(&place)).start().await.unwrap();
    drop(second);
    reaches(&third, "streaming").await;
    script.commit_many(1, 3, 4);
    each_once(&log_has(&place, 9).await, 9);
    assert_eq!(third.stats().epoch, 3);
    third.shutdown().await;
}

async fn a_reader_that_was_deposed_saves_nothing<DB: Database>(place: Place<DB>) {
    let positions = SqlPositions::new(place.pool.clone());
    positions.migrate().await.unwrap();
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let lease = std::time::Duration::from_millis(200);
    let first = positions.take("shop", one, lease).await.unwrap().unwrap();
    assert_eq!((first.position, first.number), (None, 0));
    let standing = |number, lsn| Standing {
        position: Position {
            identity: SourceIdentity("script:1".into()),
            point: SourcePoint::Lsn(lsn),
            partial: None,
        },
        at: None,
        number,
    };
    positions
        .save(&first.term, &standing(1, 10), &[])
        .await
        .unwrap();
    // The answer was lost, so it is saved a second time.
    positions
        .save(&first.term, &standing(1, 10), &[])
        .await
        .unwrap();

    let second = eventually("the lease is over", SOON, async || {
        positions.take("shop", two, lease * 100).await.unwrap()
    })
    .await;
    assert_eq!(second.term.epoch, first.term.epoch + 1);
    let late = positions.save(&first.term, &standing(2, 20), &[]).await;
    assert!(matches!(late, Err(PositionError::Deposed)), "{late:?}");
    assert_eq!(positions.take("shop", one, lease).await.unwrap(), None);
    let now = positions
        .take("shop", two, lease * 100)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(now.position, Some(standing(1, 10).position));
}

async fn a_reader_learns_of_another_epoch_although_it_has_nothing_to_save<DB: Database>(
    place: Place<DB>,
) {
    let script = Script::new();
    let running = capture(&script, target(&place)).start().await.unwrap();
    reaches(&running, "streaming").await;
    let before = running.stats().epoch;
    place
        .sql("UPDATE final_captures SET epoch = epoch + 7")
        .await;
    eventually("a new term", SOON, async || {
        let now = running.stats().epoch;
        (now >= before + 7).then_some(()).ok_or(now)
    })
    .await;
    script.commit_many(1, 3, 4);
    each_once(&log_has(&place, 3).await, 3);
    running.shutdown().await;
}

async fn readers_that_stand_by_are_in_nobodys_way<DB: Database>(place: Place<DB>) {
    let lease = std::time::Duration::from_secs(60);
    let store = || async {
        let positions = SqlPositions::new(place.another_pool().await);
        positions.migrate().await.unwrap();
        positions
    };
    let reader = store().await;
    let owner = Uuid::now_v7();
    let term = reader.take("shop", owner, lease).await.unwrap();
    let term = term.unwrap().term;
    let look = async |positions: SqlPositions<DB>| {
        let other = Uuid::now_v7();
        for _ in 0..100 {
            let taken = positions.take("shop", other, lease).await;
            assert_eq!(taken.unwrap(), None);
        }
    };
    let read = async {
        for number in 1..100 {
            let standing = Standing {
                position: Position {
                    identity: SourceIdentity("script:1".into()),
                    point: SourcePoint::Lsn(10),
                    partial: None,
                },
                at: None,
                number,
            };
            reader.save(&term, &standing, &[]).await.unwrap();
            let renewed = reader.take("shop", owner, lease).await;
            assert!(renewed.unwrap().is_some());
        }
    };
    let (one, two) = (store().await, store().await);
    tokio::join!(read, look(one), look(two));
}

async fn a_position_that_cannot_be_read_is_told_where_operators_look<DB: Database>(
    place: Place<DB>,
) {
    let script = Script::new();
    script.commit_many(1, 3, 4);
    let running = capture(&script, target(&place)).start().await.unwrap();
    log_has(&place, 3).await;
    running.shutdown().await;
    place
        .sql("UPDATE final_captures SET position = 'lsn:over/there'")
        .await;

    let running = capture(&script, target(&place)).start().await.unwrap();
    reaches(&running, "stopped (position)").await;
    let known = SqlPositions::new(place.pool.clone()).known().await.unwrap();
    assert_eq!((&*known[0].state, known[0].is_read), ("stopped", false));
    let reason = known[0].reason.clone().unwrap();
    assert!(reason.contains("lsn:over/there"), "{reason}");
    running.shutdown().await;

    place
        .sql("UPDATE final_captures SET position = 'lsn:0/A'")
        .await;
    script.commit_many(1, 3, 4);
    let running = capture(&script, target(&place)).start().await.unwrap();
    each_once(&log_has(&place, 6).await, 6);
    running.shutdown().await;
}

async fn a_quiet_source_keeps_the_time_of_its_last_commit<DB: Database>(place: Place<DB>) {
    let positions = SqlPositions::new(place.pool.clone());
    positions.migrate().await.unwrap();
    let lease = std::time::Duration::from_secs(60);
    let taken = positions.take("shop", Uuid::now_v7(), lease).await.unwrap();
    let term = taken.unwrap().term;
    for (number, at) in [(1, None), (2, Some(1_000_000)), (3, None)] {
        let standing = Standing {
            position: Position {
                identity: SourceIdentity("script:1".into()),
                point: SourcePoint::Lsn(number * 10),
                partial: None,
            },
            at,
            number: number as i64,
        };
        positions.save(&term, &standing, &[]).await.unwrap();
        let known = positions.known().await.unwrap();
        assert_eq!(known[0].since_commit.is_some(), number > 1, "{number}");
    }
}

async fn an_event_that_cannot_be_read_stops_the_capture_before_it<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    script.commit_many(3, 2, 4);
    script.unreadable_at(2);
    let running = capture(&script, target(&place)).start().await.unwrap();
    reaches(&running, "stopped (unreadable)").await;
    each_once(&in_log(&place).await, 4);
    assert_eq!(position(&place).await, ("lsn:0/14".to_owned(), None));
    let reasons = running.health().not_ready.concat();
    assert!(reasons.contains("unknown type"), "{reasons}");
    eventually("the table tells it as well", SOON, async || {
        let state = place.texts("SELECT state FROM final_captures").await;
        (state == ["stopped"]).then_some(()).ok_or(state)
    })
    .await;
    running.shutdown().await;
}

async fn a_gap_stops_the_capture_and_tells_what_is_there<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    script.commit_many(3, 2, 4);
    let running = capture(&script, target(&place)).start().await.unwrap();
    log_has(&place, 6).await;
    running.shutdown().await;
    script.commit_many(3, 2, 4);
    script.purge_before(5);

    let running = capture(&script, target(&place)).start().await.unwrap();
    reaches(&running, "stopped (gap)").await;
    match &*running.state().borrow() {
        CaptureState::Stopped(StopReason::Gap(gap)) => {
            assert_eq!(gap.oldest, Some(SourcePoint::Lsn(50)));
        }
        other => panic!("{other}"),
    };
    assert_eq!(count(&place).await, 6);
    assert_eq!(position(&place).await.0, "lsn:0/1E");
    running.shutdown().await;
}

async fn another_transaction_in_place_of_the_interrupted_one_stops_the_capture<DB: Database>(
    place: Place<DB>,
) {
    let script = Script::new();
    script.commit_many(1, 40_000, 1_000);
    let running = capture(&script, target(&place)).start().await.unwrap();
    eventually("a part is written", SOON, async || {
        position(&place).await.1.is_some()
    })
    .await;
    running.shutdown().await;
    if position(&place).await.1.is_none() {
        // The whole of it was written before the end.
        return;
    }
    script.rewrite_history();
    let before = count(&place).await;
    let running = capture(&script, target(&place)).start().await.unwrap();
    reaches(&running, "stopped (partial)").await;
    assert_eq!(count(&place).await, before);
    running.shutdown().await;
}

async fn a_source_that_was_away_goes_on<DB: Database>(place: Place<DB>) {
    let script = Script::new();
    script.set_away(true);
    let running = capture(&script, target(&place)).start().await.unwrap();
    eventually("it was tried", SOON, async || script.opened().len() > 1).await;
    assert!(!running.health().is_ready());
    script.commit_many(3, 2, 4);
    script.set_away(false);
    each_once(&log_has(&place, 6).await, 6);
    script.set_away(true);
    script.commit_many(3, 2, 4);
    script.set_away(false);
    each_once(&log_has(&place, 12).await, 12);
    assert!(running.stats().reconnects > 0);
    running.shutdown().await;
}
