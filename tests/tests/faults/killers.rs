//! Handlers that kill their process, with a delivery limit at the broker.

use std::path::Path;

use final_tests::chaos::{KillerPlan, run_killers};

/// The seed has two messages that always kill their process, among some hundred others.
const SEED: u64 = 27;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_messages_that_kill_their_process_are_given_up() {
    holds(KillerPlan::short(SEED)).await;
}

/// A classic queue has no delivery limit, so nobody but the bus can stop such a message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_kill_their_process_are_given_up_on_a_classic_queue_too() {
    let plan = KillerPlan::short(SEED);
    holds(KillerPlan {
        is_classic: true,
        ..plan
    })
    .await;
}

async fn holds(plan: KillerPlan) {
    let worker = Path::new(env!("CARGO_BIN_EXE_worker"));
    let verdict = run_killers(&plan, worker).await.expect("a run");
    println!("{verdict}");
    assert_eq!(verdict.problems(), [] as [&str; 0]);
}
