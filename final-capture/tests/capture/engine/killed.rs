//! A reader in a process of its own, which dies at each step and is frozen.

use final_core::failpoint::{Failpoint, arm};
use final_tests::{
    WorkDir, eventually,
    process::{Launch, Process},
};

use super::kit::*;
use crate::{
    place::{Database, Place},
    script::Script,
};

crate::everywhere!(
    a_reader_that_dies_at_any_step_repeats_nothing,
    a_frozen_reader_is_replaced_and_writes_nothing_afterwards,
);

/// The database of the other process, and where it dies.
const URL: &str = "FINAL_TEST_CAPTURE_DATABASE";
const DIES: &str = "FINAL_TEST_CAPTURE_DIES";

const ROWS: usize = 700;

/// The same rows in each process, read by and by, so that there are many lots.
fn script() -> Script {
    let script = Script::new();
    script.commit_many(20, 30, 13);
    script.commit_many(100, 1, 13);
    script.slow(17);
    script
}

/// The other process is this test. On its own it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let (Ok(url), Ok(dies)) = (std::env::var(URL), std::env::var(DIES)) else {
        return;
    };
    match url.split(':').next().unwrap_or_default() {
        "postgres" => live::<sqlx::Postgres>(&url, &dies).await,
        "sqlite" => live::<sqlx::Sqlite>(&url, &dies).await,
        _ => live::<sqlx::MySql>(&url, &dies).await,
    }
}

async fn live<DB: Database>(url: &str, dies: &str) {
    let place = Place::<DB>::of(url.to_owned(), DB::connect(url).await);
    let at = match dies {
        "read" => Some(Failpoint::AfterChangeRead),
        "written" => Some(Failpoint::AfterChanges),
        "saved" => Some(Failpoint::AfterChangesSaved),
        _ => None,
    };
    if let Some(at) = at {
        // As kill -9: nothing is said goodbye to.
        arm(at, 4, || std::process::abort());
    }
    let script = script();
    let running = capture(&script, target(&place)).start().await.unwrap();
    let mut state = running.state();
    loop {
        println!("{}", *state.borrow_and_update());
        state.changed().await.unwrap();
    }
}

fn launch<DB: Database>(place: &Place<DB>, dies: &str, dir: &WorkDir) -> Process {
    let launch = Launch::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "engine::killed::the_other_process",
            "--nocapture",
        ])
        .env(URL, &place.url)
        .env(DIES, dies);
    launch
        .spawn("reader", &dir.path().join(dies))
        .expect("it starts")
}

async fn a_reader_that_dies_at_any_step_repeats_nothing<DB: Database>(place: Place<DB>) {
    let dir = WorkDir::new("reader").unwrap();
    capture(&script(), target(&place)).migrate().await.unwrap();
    for dies in ["read", "written", "saved", "written"] {
        let process = launch(&place, dies, &dir);
        eventually("it dies", SOON, async || !process.is_alive()).await;
    }
    // What is left.
    let running = capture(&script(), target(&place)).start().await.unwrap();
    each_once(&log_has(&place, ROWS).await, ROWS);
    assert_eq!(count(&place).await, ROWS);
    running.shutdown().await;
}

async fn a_frozen_reader_is_replaced_and_writes_nothing_afterwards<DB: Database>(place: Place<DB>) {
    if std::any::type_name::<DB>().contains("sqlite") {
        // A frozen process may hold the lock of the whole file, which no other process can end.
        return;
    }
    let dir = WorkDir::new("reader").unwrap();
    capture(&script(), target(&place)).migrate().await.unwrap();
    let process = launch(&place, "never", &dir);
    log_has(&place, 100).await;
    process.pause();

    let running = capture(&script(), target(&place)).start().await.unwrap();
    log_has(&place, ROWS).await;
    process.resume();
    eventually("it stands by", SOON, async || {
        let log = process.log();
        log.lines()
            .last()
            .is_some_and(|line| line == "standby")
            .then_some(())
            .ok_or(log)
    })
    .await;
    each_once(&in_log(&place).await, ROWS);
    process.kill9();
    running.shutdown().await;
}
