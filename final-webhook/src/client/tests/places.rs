//! How much a caller has in hand at most. All of it is measured by counts.

use futures::future::join_all;

use super::{server::*, *};

#[tokio::test]
async fn a_dead_endpoint_holds_no_place_of_others() {
    let (dead, alive) = (Server::silent().await, Server::answering(OK).await);
    let caller = caller()
        .connections(8)
        .calls_per_endpoint(4)
        .build()
        .unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (caller, endpoint) = (caller.clone(), local(&dead.url()));
        waiting.spawn(async move { caller.call(&endpoint, &call(&number.to_string())).await });
    }
    until(|| dead.requests().len() == 4).await;

    let endpoint = local(&alive.url()).timeout(Duration::from_secs(20));
    let calls: Vec<_> = (0..40).map(|number| call(&number.to_string())).collect();
    let outcomes = join_all(calls.iter().map(|call| caller.call(&endpoint, call))).await;

    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == CallOutcome::Done(200)),
        "{outcomes:?}"
    );
    assert!(alive.connections() <= 4);
    assert_eq!((dead.connections(), dead.open()), (4, 4));
    waiting.shutdown().await;
    until(|| dead.open() == 0).await;
}

#[tokio::test]
async fn calls_that_waited_while_the_circuit_opened_are_paused_and_not_sent() {
    let server = Server::start(|mut visit| async move {
        visit.request().await;
    })
    .await;
    let caller = caller().calls_per_endpoint(1).failures(2).build().unwrap();
    let endpoint = local(&server.url());
    let calls: Vec<_> = (0..20).map(|number| call(&number.to_string())).collect();

    let outcomes = join_all(calls.iter().map(|call| caller.call(&endpoint, call))).await;

    assert_eq!(
        outcomes.iter().filter(|outcome| is_paused(outcome)).count(),
        18
    );
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_call_that_finds_no_place_in_time_is_told_so() {
    let (dead, alive) = (Server::silent().await, Server::answering(OK).await);
    let caller = caller().connections(1).build().unwrap();
    let (calling, endpoint) = (caller.clone(), local(&dead.url()));
    let held = tokio::spawn(async move { calling.call(&endpoint, &call("1")).await });
    until(|| dead.requests().len() == 1).await;

    let limit = Duration::from_millis(50);
    let outcome = caller
        .call(&local(&alive.url()).timeout(limit), &call("2"))
        .await;
    assert_eq!(why(outcome), NotDone::Busy { limit });
    held.abort();
    let outcome = caller.call(&local(&alive.url()), &call("3")).await;
    assert_eq!(outcome, CallOutcome::Done(200));
}

#[tokio::test]
async fn an_idle_connection_makes_place_for_another_endpoint() {
    let (one, other) = (Server::answering(OK).await, Server::answering(OK).await);
    let caller = caller().connections(1).build().unwrap();
    for round in 0..3 {
        for server in [&one, &other] {
            let outcome = caller
                .call(&local(&server.url()), &call(&round.to_string()))
                .await;
            assert_eq!(outcome, CallOutcome::Done(200));
        }
    }
    assert!(caller.stats().connections <= 1);
}

#[tokio::test]
async fn endpoints_that_were_not_called_for_long_are_forgotten() {
    let server = Server::answering(OK).await;
    let caller = caller().endpoints(4).failures(1).build().unwrap();
    let dead = local("http://127.0.0.1:1/");
    caller.call(&dead, &call("k")).await;
    for number in 0..50 {
        let endpoint = local(&format!("http://{}/{number}", server.address));
        assert_eq!(
            caller.call(&endpoint, &call("k")).await,
            CallOutcome::Done(200)
        );
        assert!(caller.stats().endpoints <= 4);
        assert!(caller.stats().connections <= 4);
    }
    // The one with something to remember is still there.
    assert!(is_paused(&caller.call(&dead, &call("k")).await));
}
