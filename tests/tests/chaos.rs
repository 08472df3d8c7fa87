//! Every fault once, alone, and mixtures of them after that: about six minutes with RabbitMQ, and two
//! on the database's log.
//!
//! `FINAL_CHAOS_SEED` plays a schedule again; without it each run has its own.

#![allow(clippy::expect_used, reason = "a test says what it expects")]

use std::path::Path;

use final_tests::chaos::{Plan, run};
use tokio::sync::Mutex;

/// The runs come one after the other: each has its own servers and needs the machine.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_invented_or_stuck_whatever_dies() {
    holds(Plan::short(seed())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_invented_or_stuck_on_the_log_whatever_dies() {
    holds(Plan::short_on_log(seed())).await;
}

fn seed() -> u64 {
    let seed = std::env::var("FINAL_CHAOS_SEED").ok();
    seed.map_or_else(
        || fastrand::u64(..1_000_000),
        |seed| seed.parse().expect("FINAL_CHAOS_SEED is a number"),
    )
}

async fn holds(plan: Plan) {
    let _turn = TURN.lock().await;
    let worker = Path::new(env!("CARGO_BIN_EXE_worker"));
    let report = run(&plan, worker).await.expect("a run");
    println!("{report}");
    assert_eq!(report.problems(), [] as [&str; 0], "seed {}", plan.seed);
}
