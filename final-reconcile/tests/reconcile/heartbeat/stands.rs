//! A mirror that stands still, or whose heartbeat proves nothing: nothing counts, and that is told.

use final_reconcile::JobStatus;

use super::*;

async fn stage(place: &Place, from: Db, to: Db) -> Mirror<'_> {
    filled(place, from, to).await;
    let mirror = Mirror::new(place, from, to, Duration::ZERO).await;
    mirror.stands(true);
    place.run(to, "UPDATE b SET v = -1 WHERE id = 5").await;
    mirror
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_waits_no_longer_than_it_may_for_a_mirror_that_stands_still() {
    let place = Place::fresh().await;
    for (from, to) in [
        (Db::Postgres, Db::Maria),
        (Db::Maria, Db::Sqlite),
        (Db::Sqlite, Db::Postgres),
    ] {
        let mirror = stage(&place, from, to).await;
        // The source goes on, so nobody can say which of both rows is right.
        place.run(from, "UPDATE a SET v = 7 WHERE id = 9").await;
        let limit = Duration::from_secs(2);
        let begun = Instant::now();
        let job = job(&place, from, to, Some(heartbeat().limit(limit)));
        let comparison = job.compare().await.unwrap().remove(0);
        assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 15);
        let counts = (
            comparison.differences(),
            comparison.unsettled,
            comparison.not_passed,
        );
        assert_eq!(counts, (0, 2, 2), "{comparison:?}");
        assert!(!comparison.is_equal());
        let shown = comparison.to_string();
        assert!(
            shown.contains("2 not judged; the mirror of `b` in"),
            "{shown}"
        );
        assert!(
            shown.contains("stands at 20") && shown.contains(" s behind the source"),
            "{shown}"
        );
        drop(mirror);
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_judges_where_settle_is_longer_than_the_limit() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    let mirror = stage(&place, from, to).await;
    mirror.stands(false);
    let (settle, limit) = (Duration::from_secs(4), Duration::from_secs(3));
    let comparing = async {
        let job = job(&place, from, to, Some(heartbeat().limit(limit))).settle(settle);
        let compared = job.compare().await;
        mirror.end();
        compared.unwrap().remove(0)
    };
    let (comparison, ()) = tokio::join!(comparing, mirror.run());
    let counts = (comparison.differences(), comparison.not_passed);
    assert_eq!(counts, (1, 0), "{comparison:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_is_ahead_of_the_sources_clock_proves_nothing() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    let _mirror = stage(&place, from, to).await;
    // As a program does it that writes the time of a zone.
    let ahead = "UPDATE mirror_heartbeat SET at = utc_timestamp(6) + INTERVAL 1 HOUR";
    place.run(to, ahead).await;
    let job = job(
        &place,
        from,
        to,
        Some(heartbeat().limit(Duration::from_millis(500))),
    );
    let comparison = job.compare().await.unwrap().remove(0);
    assert_eq!((comparison.differences(), comparison.not_passed), (0, 1));
    let why = comparison.mirror.unwrap();
    assert!(
        why.contains("ahead of the source's clock") && why.contains("in UTC"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_was_ahead_of_the_clock_does_not_become_true_by_waiting() {
    let place = Place::fresh().await;
    let (from, to, state) = (Db::Postgres, Db::Maria, Db::Sqlite);
    let mirror = stage(&place, from, to).await;
    let ahead = "UPDATE mirror_heartbeat SET at = utc_timestamp(6) + INTERVAL 6 SECOND";
    place.run(to, ahead).await;
    let wanted = job(&place, from, to, Some(heartbeat())).sweep(Sweep::daily_at(3, 0));
    let reconciler = migrated(&place, state, wanted).await;
    let running = reconciler.start().unwrap();
    let is_ahead = |job: &JobStatus| {
        job.trouble
            .as_ref()
            .is_some_and(|why| why.contains("ahead"))
    };
    status(&reconciler, "that it is ahead is told", is_ahead).await;
    let lag = "final_reconcile_mirror_lag_seconds{";
    eventually("the clock has passed it", SOON, async || {
        let passed = "SELECT at < utc_timestamp(6) - INTERVAL 3 SECOND AS v FROM mirror_heartbeat";
        let passed = place.numbers(to, passed).await;
        (passed == [1]).then_some(()).ok_or(passed)
    })
    .await;
    assert!(!running.metrics().contains(lag));

    mirror.stands(false);
    let goes_on = async {
        eventually("it is trusted again", SOON, async || {
            let metrics = running.metrics();
            metrics.contains(lag).then_some(()).ok_or(metrics)
        })
        .await;
        mirror.end();
    };
    tokio::join!(goes_on, mirror.run());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_stands_still_is_a_trouble_and_what_differs_is_found_once_it_goes_on() {
    let place = Place::fresh().await;
    let (from, to, state) = (Db::Postgres, Db::Maria, Db::Sqlite);
    let mirror = stage(&place, from, to).await;
    let (repairs, alerts) = (
        Receiver::start(|_, _| 200).await,
        Receiver::start(|_, _| 200).await,
    );
    let wanted = job(
        &place,
        from,
        to,
        Some(heartbeat().limit(Duration::from_secs(1))),
    )
    .sweep(Sweep::every(Duration::from_secs(1)))
    .repair(repair(&repairs))
    .alert(alerts.endpoint());
    let reconciler = migrated(&place, state, wanted).await;
    let running = reconciler.start().unwrap();
    let testing = async {
        let job = status(&reconciler, "a trouble", |job| job.trouble.is_some()).await;
        let trouble = job.trouble.unwrap();
        assert!(
            trouble.contains("look: the mirror of `b` in") && trouble.contains("stands at 20"),
            "{trouble}"
        );
        assert!(job.mirror_at.is_some());
        let health = running.health();
        assert!(
            health.not_ready.iter().any(|why| why.contains("stands at")),
            "{health:?}"
        );
        status(&reconciler, "the row waits", |job| job.suspects == 1).await;
        let told = eventually("an alert", SOON, async || {
            alerts.came().first().cloned().ok_or("none")
        })
        .await;
        assert_eq!(
            (&told.body["kind"], &told.body["over"]),
            (&"scan".into(), &false.into())
        );
        let basis = told.body["judged_by"].as_str().unwrap();
        assert!(
            basis.starts_with("the heartbeat in `mirror_heartbeat`"),
            "{basis}"
        );
        assert_eq!(repairs.came().len(), 0);

        mirror.stands(false);
        only_called(&repairs, &reconciler, &["5"]).await;
        status(&reconciler, "no trouble", |job| job.trouble.is_none()).await;
        mirror.end();
    };
    tokio::join!(testing, mirror.run());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_of_a_mirror_whose_heartbeat_is_gone_or_that_no_process_looks_at() {
    let place = Place::fresh().await;
    let (from, to, state) = (Db::Postgres, Db::Maria, Db::Sqlite);
    let _mirror = stage(&place, from, to).await;
    let wanted =
        |heartbeat| job(&place, from, to, heartbeat).sweep(Sweep::every(Duration::from_secs(1)));
    let reconciler = migrated(&place, state, wanted(Some(heartbeat()))).await;
    let lag = "final_reconcile_mirror_lag_seconds{";
    for is_dropped in [true, false] {
        let running = reconciler.start().unwrap();
        status(&reconciler, "the stand", |job| job.mirror_at.is_some()).await;
        if is_dropped {
            assert!(running.metrics().contains(lag));
            place.run(to, "DROP TABLE mirror_heartbeat").await;
            status(&reconciler, "no stand", |job| {
                job.mirror_at.is_none() && job.is_running
            })
            .await;
            assert!(!running.metrics().contains(lag));
            place.run(to, mirror::table(to)).await;
            let row = "INSERT INTO mirror_heartbeat VALUES (1, '2024-02-29 10:00:00')";
            place.run(to, row).await;
        }
        running.shutdown().await;
        status(&reconciler, "no process", |job| job.mirror_at.is_none()).await;
    }
    let without = migrated(&place, state, wanted(None)).await;
    let running = without.start().unwrap();
    let stored = "SELECT mirror AS v FROM final_reconcile_jobs WHERE mirror IS NOT NULL";
    eventually("nothing is stored of a mirror", SOON, async || {
        let stored = place.texts(state, stored).await;
        stored.is_empty().then_some(()).ok_or(stored)
    })
    .await;
    running.shutdown().await;
}
