//! What the crew promises.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use tokio::sync::{Notify, oneshot};

use super::*;

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn panicking_task_starts_again_after_a_pause() {
    let crew = Crew::new();
    let starts = Arc::new(AtomicU32::new(0));
    let began = Instant::now();
    crew.hire("shaky", {
        let starts = Arc::clone(&starts);
        move || {
            let start = starts.fetch_add(1, SeqCst);
            async move { assert!(start == 3, "start {start} goes wrong") }
        }
    });

    assert!(crew.join(LONG).await.is_empty());
    assert_eq!(starts.load(SeqCst), 4);
    // 100, 200 and 400 ms, each at least halved by jitter at the most.
    assert!(began.elapsed() >= Duration::from_millis(350));
}

#[tokio::test(start_paused = true)]
async fn panic_while_the_future_is_made_counts_as_well() {
    let crew = Crew::new();
    let starts = Arc::new(AtomicU32::new(0));
    crew.hire("shaky", {
        let starts = Arc::clone(&starts);
        move || {
            assert!(starts.fetch_add(1, SeqCst) > 0, "the first cannot be made");
            async {}
        }
    });

    assert!(crew.join(LONG).await.is_empty());
    assert_eq!(starts.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn restarts_back_off_up_to_their_cap() {
    let crew = Crew::new();
    let starts = Arc::new(AtomicU32::new(0));
    crew.hire("hopeless", {
        let starts = Arc::clone(&starts);
        move || {
            starts.fetch_add(1, SeqCst);
            async { panic!("always") }
        }
    });

    tokio::time::sleep(LONG).await;

    // An hour of pauses of 15 to 30 s is 120 to 240 starts; without a cap there would be 15.
    let starts = starts.load(SeqCst);
    assert!((120..260).contains(&starts), "{starts} starts");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_ended_or_panics_again_and_again_does_not_work() {
    let crew = Crew::new();
    crew.hire("idle", || async {});
    crew.hire("busy", std::future::pending);
    crew.hire("hopeless", || async { panic!("always") });
    crew.hire("shaky", {
        let starts = AtomicU32::new(0);
        move || {
            let start = starts.fetch_add(1, SeqCst);
            async move {
                assert!(start >= MANY_PANICS, "start {start} goes wrong");
                std::future::pending().await
            }
        }
    });

    tokio::time::sleep(HEALTHY).await;
    let not_working = crew.not_working(&[]);
    assert_eq!(not_working[0], "the task \"idle\" has ended");
    assert!(
        not_working[1].starts_with("the task \"hopeless\" has panicked"),
        "{not_working:?}"
    );
    // Whether that was the last time is not known yet.
    assert_eq!(
        not_working[2],
        "the task \"shaky\" has panicked 5 times in a row"
    );
    assert_eq!(not_working.len(), 3);

    tokio::time::sleep(HEALTHY * 2).await;
    let not_working = crew.not_working(&["idle"]);
    assert_eq!(not_working.len(), 1, "{not_working:?}");
    assert!(
        not_working[0].starts_with("the task \"hopeless\" has panicked"),
        "{not_working:?}"
    );
    assert!(crew.panics().get() > u64::from(MANY_PANICS));
}

#[tokio::test(start_paused = true)]
async fn task_that_was_well_for_long_starts_again_soon() {
    let crew = Crew::new();
    let starts = Arc::new(AtomicU32::new(0));
    crew.hire("daily", {
        let starts = Arc::clone(&starts);
        move || {
            starts.fetch_add(1, SeqCst);
            async {
                tokio::time::sleep(HEALTHY).await;
                panic!("after a while")
            }
        }
    });

    tokio::time::sleep(HEALTHY * 50).await;

    assert!(starts.load(SeqCst) >= 49);
}

#[tokio::test(start_paused = true)]
async fn stopped_task_is_not_started_again() {
    let crew = Crew::new();
    let starts = Arc::new(AtomicU32::new(0));
    let stop = crew.stop_token().clone();
    crew.hire("shaky", {
        let starts = Arc::clone(&starts);
        move || {
            starts.fetch_add(1, SeqCst);
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                panic!("on the way out")
            }
        }
    });
    tokio::task::yield_now().await;

    crew.stop();

    assert!(crew.join(LONG).await.is_empty());
    assert_eq!(starts.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn task_that_hangs_is_named_and_aborted() {
    let crew = Crew::new();
    let (held, mut gone) = oneshot::channel::<()>();
    crew.hire("punctual", || async {});
    crew.track("stuck", async move {
        let _held = held;
        std::future::pending::<()>().await;
    });

    assert_eq!(crew.join(LONG).await, ["stuck".into()]);
    assert!(
        gone.try_recv()
            .is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
    );
}

#[tokio::test]
async fn one_off_task_ends_though_its_caller_gave_up() {
    let crew = Crew::new();
    let (go, ended) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let handle = crew.track("commit", {
        let (go, ended) = (Arc::clone(&go), Arc::clone(&ended));
        async move {
            go.notified().await;
            ended.store(true, SeqCst);
        }
    });

    drop(handle);
    go.notify_one();

    assert!(crew.join(LONG).await.is_empty());
    assert!(ended.load(SeqCst));
}

#[tokio::test]
async fn panic_of_a_one_off_task_reaches_its_handle() {
    let crew = Crew::new();
    let handle = crew.track("commit", async { panic!("over") });

    let error = handle.await.map(|(): ()| ()).unwrap_err();

    assert_eq!(panic_text(error.into_panic().as_ref()), "over");
}

#[tokio::test]
async fn dropped_crew_tells_its_tasks_to_stop() {
    let crew = Crew::new();
    let stop = crew.stop_token().clone();
    let handle = crew.track("relay", async move { stop.cancelled().await });

    drop(crew);

    handle.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn hands_are_aborted_with_their_owner() {
    let mut hands = Hands::new("hand");
    let (held, gone) = oneshot::channel::<()>();
    hands.spawn(async move {
        let _held = held;
        std::future::pending::<()>().await;
    });

    drop(hands);

    assert!(gone.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn aborting_says_how_many_hands_were_at_work() {
    let mut hands = Hands::new("hand");
    hands.spawn(async {});
    hands.spawn(async { panic!("one less") });
    tokio::task::yield_now().await;
    hands.spawn(std::future::pending());

    assert_eq!(hands.abort().await, 1);
}
