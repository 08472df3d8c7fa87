//! Connections that are used again.

use super::{server::*, *};

#[tokio::test]
async fn calls_in_a_row_share_a_connection() {
    let server = Server::answering(OK).await;
    let caller = caller().build().unwrap();
    for number in 0..10 {
        let outcome = caller
            .call(&local(&server.url()), &call(&number.to_string()))
            .await;
        assert_eq!(outcome, CallOutcome::Done(200));
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 10));
}

#[tokio::test]
async fn a_connection_that_the_endpoint_closes_is_replaced() {
    let server = Server::start(|mut visit| async move {
        visit.request().await;
        visit.write(OK).await;
    })
    .await;
    let caller = caller().build().unwrap();
    for number in 0..5 {
        let outcome = caller
            .call(&local(&server.url()), &call(&number.to_string()))
            .await;
        assert_eq!(outcome, CallOutcome::Done(200));
    }
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn an_answer_that_ends_the_connection_leaves_none_behind() {
    let server =
        Server::answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
    let caller = caller().build().unwrap();

    caller.call(&local(&server.url()), &call("k")).await;
    assert_eq!(caller.stats().connections, 0);
}

#[tokio::test]
async fn a_used_connection_that_ends_in_place_of_an_answer_is_replaced_within_the_call() {
    let server = Server::start(|mut visit| async move {
        while visit.request().await.is_some() {
            visit.write(OK).await;
            if visit.number == 1 {
                // It closes at the moment when the next request arrives.
                visit.request().await;
                return;
            }
        }
    })
    .await;
    let caller = caller().build().unwrap();
    let endpoint = local(&server.url());

    assert_eq!(
        caller.call(&endpoint, &call("1")).await,
        CallOutcome::Done(200)
    );
    assert_eq!(
        caller.call(&endpoint, &call("2")).await,
        CallOutcome::Done(200)
    );
    let requests = server.requests();
    let keys: Vec<_> = requests
        .iter()
        .map(|request| request.header("idempotency-key").unwrap())
        .collect();
    assert_eq!(keys, ["1", "2", "2"]);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_are_not_taken_for_the_next_answer() {
    let server = Server::start(|mut visit| async move {
        while let Some(request) = visit.request().await {
            let answer = if request.header("idempotency-key") == Some("1") {
                format!("{OK}HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
            } else {
                OK.to_owned()
            };
            visit.write(answer).await;
        }
    })
    .await;
    let caller = caller().build().unwrap();
    let endpoint = local(&server.url());
    for key in ["1", "2"] {
        assert_eq!(
            caller.call(&endpoint, &call(key)).await,
            CallOutcome::Done(200)
        );
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_no_connection() {
    let server = Server::silent().await;
    let caller = caller().build().unwrap();
    let (calling, endpoint) = (caller.clone(), local(&server.url()));
    let task = tokio::spawn(async move { calling.call(&endpoint, &call("k")).await });
    until(|| server.requests().len() == 1).await;

    task.abort();
    assert!(task.await.is_err());
    assert_eq!(caller.stats().connections, 0);
    until(|| server.open() == 0).await;
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_at_a_call_to_another_endpoint() {
    let (old, new) = (Server::answering(OK).await, Server::answering(OK).await);
    let clock = Standing::new();
    let caller = caller().clock(clock.clone()).build().unwrap();
    caller.call(&local(&old.url()), &call("1")).await;
    clock.advance(Duration::from_secs(29));
    caller.call(&local(&new.url()), &call("2")).await;
    assert_eq!((old.open(), caller.stats().connections), (1, 2));

    clock.advance(Duration::from_secs(2));
    caller.call(&local(&new.url()), &call("3")).await;
    until(|| old.open() == 0).await;
    assert_eq!((new.connections(), caller.stats().connections), (1, 1));
}
