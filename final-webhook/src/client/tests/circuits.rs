//! When an endpoint is left alone.

use super::{server::*, *};

const OOPS: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";

/// Answers 500 until it is told to answer 200.
async fn switched() -> (Server, Arc<Mutex<bool>>) {
    let well = Arc::new(Mutex::new(false));
    let switch = well.clone();
    let server = Server::start(move |mut visit| {
        let well = well.clone();
        async move {
            while visit.request().await.is_some() {
                let answer = if *well.lock().unwrap() { OK } else { OOPS };
                visit.write(answer).await;
            }
        }
    })
    .await;
    (server, switch)
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_and_tried_by_one_call() {
    let (server, well) = switched().await;
    let clock = Standing::new();
    let caller = caller().failures(3).clock(clock.clone()).build().unwrap();
    let endpoint = local(&server.url());

    for key in ["1", "2", "3"] {
        assert_eq!(caller.paused_until(&endpoint), None);
        assert!(!is_paused(&caller.call(&endpoint, &call(key)).await));
    }
    let until = caller.paused_until(&endpoint).unwrap();
    assert!((10..=15).contains(&(until - clock.now()).as_secs()));
    assert_eq!(
        caller.call(&endpoint, &call("4")).await,
        CallOutcome::Paused { until }
    );
    assert_eq!(server.requests().len(), 3);

    // One try, which fails: a longer pause.
    clock.advance(until - clock.now());
    assert!(!is_paused(&caller.call(&endpoint, &call("5")).await));
    let until = caller.paused_until(&endpoint).unwrap();
    assert!((20..=30).contains(&(until - clock.now()).as_secs()));

    *well.lock().unwrap() = true;
    clock.advance(until - clock.now());
    for key in ["6", "7"] {
        assert_eq!(
            caller.call(&endpoint, &call(key)).await,
            CallOutcome::Done(200)
        );
    }
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn while_one_call_tries_the_endpoint_no_other_one_reaches_it() {
    let server = Server::start(|mut visit| async move {
        while visit.request().await.is_some() {
            if visit.number == 1 {
                visit.write(OOPS).await;
                return;
            }
        }
    })
    .await;
    let clock = Standing::new();
    let caller = caller().failures(1).clock(clock.clone()).build().unwrap();
    let endpoint = local(&server.url());
    caller.call(&endpoint, &call("1")).await;
    clock.advance(Duration::from_secs(15));

    let (trying, tried) = (caller.clone(), endpoint.clone());
    let task = tokio::spawn(async move { trying.call(&tried, &call("2")).await });
    until(|| server.requests().len() == 2).await;
    for _ in 0..20 {
        assert!(is_paused(&caller.call(&endpoint, &call("3")).await));
    }
    assert_eq!(server.connections(), 2);

    // The call that tries is dropped, so another one may try.
    task.abort();
    assert!(task.await.is_err());
    assert_eq!(caller.paused_until(&endpoint), None);
}

#[tokio::test]
async fn an_endpoint_that_wants_rest_gets_it_from_every_call() {
    let server =
        Server::answering("HTTP/1.1 429 Slow\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n")
            .await;
    let clock = Standing::new();
    let caller = caller().clock(clock.clone()).build().unwrap();
    let endpoint = local(&server.url());

    let first = caller.call(&endpoint, &call("1")).await;
    assert!(
        matches!(first, CallOutcome::Retry { after: Some(after), .. } if after.as_secs() == 120)
    );
    let until = clock.now() + Duration::from_secs(120);
    assert_eq!(
        caller.call(&endpoint, &call("2")).await,
        CallOutcome::Paused { until }
    );
    assert_eq!(server.requests().len(), 1);
    clock.advance(Duration::from_secs(120));
    assert!(!is_paused(&caller.call(&endpoint, &call("3")).await));
}

#[tokio::test]
async fn a_message_that_the_endpoint_does_not_want_stops_no_other_one() {
    let server = Server::start(|mut visit| async move {
        while let Some(request) = visit.request().await {
            let answer = match request.header("idempotency-key") {
                Some("bad") => "HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n",
                Some("crash") => OOPS,
                _ => OK,
            };
            visit.write(answer).await;
        }
    })
    .await;
    let caller = caller().failures(2).build().unwrap();
    let endpoint = local(&server.url());

    for key in ["bad", "crash"] {
        for _ in 0..10 {
            assert!(!is_paused(&caller.call(&endpoint, &call(key)).await));
        }
    }
    assert_eq!(
        caller.call(&endpoint, &call("good")).await,
        CallOutcome::Done(200)
    );
}

#[tokio::test]
async fn messages_that_break_the_endpoint_do_not_keep_it_from_the_others() {
    let server = Server::start(|mut visit| async move {
        while let Some(request) = visit.request().await {
            let breaks = request
                .header("idempotency-key")
                .unwrap()
                .starts_with("bad");
            visit.write(if breaks { OOPS } else { OK }).await;
        }
    })
    .await;
    let clock = Standing::new();
    let caller = caller().failures(3).clock(clock.clone()).build().unwrap();
    let endpoint = local(&server.url());
    let bad = ["bad-1", "bad-2", "bad-3"];
    for _ in 0..3 {
        for key in bad {
            caller.call(&endpoint, &call(key)).await;
        }
        // All come back as the pause ends, the bad ones first.
        clock.advance(caller.paused_until(&endpoint).unwrap() - clock.now());
        for key in bad {
            assert!(is_paused(&caller.call(&endpoint, &call(key)).await));
        }
        assert_eq!(
            caller.call(&endpoint, &call("good")).await,
            CallOutcome::Done(200)
        );
    }
}

#[tokio::test]
async fn what_is_forbidden_here_is_no_failure_of_the_endpoint() {
    let caller = caller().failures(1).build().unwrap();
    let endpoint = Endpoint::new("http://127.0.0.1:1/").unwrap();
    for _ in 0..3 {
        let outcome = caller.call(&endpoint, &call("k")).await;
        assert!(matches!(why(outcome), NotDone::Forbidden { .. }));
    }
}

#[tokio::test]
async fn a_dead_endpoint_pauses_alone() {
    let (alive, dead) = (Server::answering(OK).await, Server::answering(OOPS).await);
    let caller = caller().failures(1).build().unwrap();
    let (alive, dead) = (local(&alive.url()), local(&dead.url()));

    caller.call(&dead, &call("1")).await;
    assert!(is_paused(&caller.call(&dead, &call("2")).await));
    assert_eq!(
        caller.call(&alive, &call("3")).await,
        CallOutcome::Done(200)
    );
    // Another path of the same host is another endpoint.
    let other = Endpoint::new(&format!(
        "http://{}/other",
        dead.destination.authority.to_str().unwrap()
    ));
    let other = other.unwrap().allow_private(true);
    assert!(!is_paused(&caller.call(&other, &call("4")).await));
}
