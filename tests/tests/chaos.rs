//! Every fault once, alone, and mixtures of them after that: about ten minutes.
//!
//! `FINAL_CHAOS_SEED` plays a schedule again; without it each run has its own.

#![allow(clippy::expect_used, reason = "a test says what it expects")]

use std::path::Path;

use final_tests::chaos::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_invented_or_stuck_whatever_dies() {
    let seed = std::env::var("FINAL_CHAOS_SEED").ok();
    let seed = seed.map_or_else(
        || fastrand::u64(..1_000_000),
        |seed| seed.parse().expect("FINAL_CHAOS_SEED is a number"),
    );
    let worker = Path::new(env!("CARGO_BIN_EXE_worker"));
    let report = run(&Plan::short(seed), worker).await.expect("a run");
    println!("{report}");
    assert_eq!(report.problems(), [] as [&str; 0], "seed {seed}");
}
