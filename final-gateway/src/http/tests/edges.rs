//! Who is not let in, what is not there, what is too large, too slow or too much.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{Request, StatusCode, header},
};
use final_core::Message;
use futures::{StreamExt, stream};

use super::{ask, ask_router, get, login, post, request, rooms::Made, router, small};
use crate::{
    http::{Front, HttpLimits},
    rights::{AuthError, Denied},
};

const TO: &str = "/v1/topics/order.placed/messages";

#[tokio::test]
async fn a_wrong_key_and_a_wrong_secret_look_the_same() {
    let rooms = Made::default();
    let mut answers = Vec::new();
    for who in ["nobody:x", "shop:wrong"] {
        let back = ask(
            &rooms,
            login("POST", TO, who).body(Body::from("1")).unwrap(),
        )
        .await;
        assert_eq!(back.status, StatusCode::UNAUTHORIZED);
        assert_eq!(
            back.header(header::WWW_AUTHENTICATE),
            "Basic realm=\"final-gateway\", charset=\"UTF-8\""
        );
        answers.push(back.body);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(rooms.state().published.is_empty());
}

#[tokio::test]
async fn a_request_without_a_login_hears_how_to_log_in() {
    let rooms = Made::default();
    for value in [
        None,
        Some("Bearer shop"),
        Some("Basic ***"),
        Some("Basic c2hvcA=="),
    ] {
        let mut request = Request::post(TO);
        if let Some(value) = value {
            request = request.header(header::AUTHORIZATION, value);
        }
        let back = ask(&rooms, request.body(Body::from("1")).unwrap()).await;
        assert_eq!((back.status.as_u16(), &*back.code()), (401, "unauthorized"));
        assert!(
            back.message().contains("basic authentication"),
            "{}",
            back.message()
        );
    }
}

#[tokio::test]
async fn logins_fail_with_the_time_to_come_again() {
    for (error, status, code) in [
        (AuthError::Slowed, 429, "too_many_logins"),
        (AuthError::Unknown, 503, "rights_unknown"),
    ] {
        let rooms = Made::default();
        rooms.state().at_login = Some(error);
        let back = post(&rooms, TO, "text/plain", "x").await;
        assert_eq!((back.status.as_u16(), &*back.code()), (status, code));
        assert_eq!(back.header(header::RETRY_AFTER), "5");
    }
}

#[tokio::test]
async fn an_app_without_the_right_hears_which_one_it_needs() {
    for (denied, status, code) in [
        (Denied::Group, 403, "no_right_on_group"),
        (Denied::Topic, 403, "no_right_on_topic"),
        (Denied::Operation, 403, "no_right_to_operation"),
    ] {
        let rooms = Made::default();
        rooms.state().denied = Some(denied);
        for back in [
            post(&rooms, TO, "text/plain", "x").await,
            get(&rooms, "/v1/groups/billing/messages?topic=order.placed").await,
            get(&rooms, "/v1/groups/billing/backlog?topic=order.placed").await,
            get(&rooms, "/v1/groups/billing/dead-letters?topic=order.placed").await,
            post(
                &rooms,
                "/v1/groups/billing/dead-letters/replay?topic=order.placed",
                "",
                r#"{"all":true}"#,
            )
            .await,
        ] {
            assert_eq!((back.status.as_u16(), &*back.code()), (status, code));
            assert!(back.message().contains("\"shop\""), "{}", back.message());
        }
        let state = rooms.state();
        assert!(state.published.is_empty() && state.lot.is_none() && state.replayed.is_none());
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_while_the_body_comes_is_gone() {
    for uri in [
        TO,
        "/databus/pub?group=shop&topic=order.placed",
        "/v1/groups/billing/dead-letters/replay?topic=order.placed",
        "/v1/groups/billing/ack",
    ] {
        let rooms = Made::default();
        let last = rooms.clone();
        let pieces = stream::iter(0..2).map(move |piece| {
            if piece == 1 {
                last.state().denied = Some(Denied::Topic);
                return Ok(Bytes::from("}"));
            }
            let start = match uri.split(['/', '?']).rfind(|part| !part.contains('=')) {
                Some("ack") => "{\"receipts\":[\"order.placed/receipt-0\"]",
                Some("pub") => "{\"records\":[{\"key\":\"k\",\"value\":1}]",
                _ => "{\"all\":true",
            };
            Ok::<_, std::io::Error>(Bytes::from(start))
        });
        let json = "application/json";
        let back = post(&rooms, uri, json, Body::from_stream(pieces)).await;
        assert!([400, 403].contains(&back.status.as_u16()), "{uri} {back:?}");
        let state = rooms.state();
        assert!(
            state.published.is_empty() && state.replayed.is_none(),
            "{uri}"
        );
        assert!(
            state
                .settled
                .iter()
                .all(|(receipts, _)| receipts.is_empty())
        );
    }
}

#[tokio::test]
async fn the_address_of_the_client_goes_with_its_login() {
    let rooms = Made::default();
    let address: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let request = request("POST", TO)
        .extension(ConnectInfo(address))
        .body(Body::from("1"));
    ask(&rooms, request.unwrap()).await;
    assert_eq!(rooms.state().from, Some(address.ip()));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let rooms = Made::default();
    for path in [
        "/",
        "/v1",
        "/v1/topics/a/b/messages",
        "/databus/pub/",
        "/livez",
        "/readyz",
        "/metrics",
    ] {
        let back = get(&rooms, path).await;
        assert_eq!(
            (back.status.as_u16(), &*back.code()),
            (404, "not_found"),
            "{path}"
        );
    }
    for (method, path, allow) in [
        ("GET", TO, "POST"),
        ("OPTIONS", TO, "POST"),
        ("DELETE", "/v1/groups/billing/messages", "GET"),
        ("PUT", "/v1/groups/billing/ack", "POST"),
        ("GET", "/databus/pub", "POST"),
    ] {
        let back = ask(&rooms, request(method, path).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (back.status.as_u16(), &*back.code()),
            (405, "method_not_allowed"),
            "{method} {path}"
        );
        let allowed: Vec<_> = back
            .header(header::ALLOW)
            .split(',')
            .map(str::trim)
            .collect();
        assert!(allowed.contains(&allow), "{method} {path}: {allowed:?}");
    }
}

#[tokio::test]
async fn names_in_paths_are_decoded_and_checked() {
    let rooms = Made::default();
    let back = post(
        &rooms,
        "/v1/topics/caf%C3%A9%20du%20coin/messages",
        "text/plain",
        "x",
    )
    .await;
    assert_eq!(back.status, StatusCode::OK);
    assert_eq!(rooms.state().published[0].topic(), "café du coin");
    let long = format!("/v1/topics/{}/messages", "x".repeat(191));
    for path in [
        "/v1/topics/a%2Fb/messages",
        "/v1/topics/a%00/messages",
        "/v1/topics/amq.topic/messages",
        &long,
    ] {
        assert_eq!(
            post(&rooms, path, "text/plain", "x").await.code(),
            "bad_name",
            "{path}"
        );
    }
    assert_eq!(
        post(&rooms, "/v1/topics/%FF/messages", "text/plain", "x")
            .await
            .code(),
        "bad_path"
    );
    let group = get(&rooms, "/v1/groups/b%2Fc/messages?topic=t").await;
    assert_eq!(group.code(), "bad_name");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let rooms = Made::default();
    let unread = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = request("POST", TO)
        .header(header::CONTENT_LENGTH, 1001)
        .header(header::EXPECT, "100-continue");
    let back = ask(&rooms, request.body(unread).unwrap()).await;
    assert_eq!((back.status.as_u16(), &*back.code()), (413, "too_large"));
}

#[tokio::test]
async fn a_body_of_unknown_length_is_read_up_to_the_limit() {
    let rooms = Made::default();
    let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 100]));
    for (pieces, status) in [(10, 200), (11, 413)] {
        let body = Body::from_stream(stream::iter((0..pieces).map(move |_| piece())));
        let back = post(&rooms, TO, "text/plain", body).await;
        assert_eq!(back.status.as_u16(), status);
    }
    let state = rooms.state();
    assert_eq!(state.published.len(), 1);
    assert_eq!(state.published[0].payload(), &vec![b'x'; 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    let rooms = Made::default();
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from("{"))]);
    let back = post(
        &rooms,
        TO,
        "text/plain",
        Body::from_stream(first.chain(stream::pending())),
    )
    .await;
    assert_eq!((back.status.as_u16(), &*back.code()), (408, "slow_body"));
    assert_eq!(back.header(header::CONNECTION), "close");

    let slow = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from("x")), ()))
    });
    let began = tokio::time::Instant::now();
    let back = post(&rooms, TO, "text/plain", Body::from_stream(slow)).await;
    assert_eq!(back.code(), "slow_body");
    assert!(began.elapsed() < Duration::from_secs(70));
}

#[tokio::test]
async fn a_body_that_breaks_off_publishes_nothing() {
    let rooms = Made::default();
    let pieces = [Ok(Bytes::from("half")), Err(std::io::Error::other("reset"))];
    let back = post(
        &rooms,
        TO,
        "text/plain",
        Body::from_stream(stream::iter(pieces)),
    )
    .await;
    assert_eq!(back.code(), "broken_body");
    assert!(rooms.state().published.is_empty());
}

#[tokio::test]
async fn all_bodies_together_have_a_bound_and_give_it_back() {
    let rooms = Made::default();
    let limits = HttpLimits {
        memory: 3000,
        ..small()
    };
    let router = Front::over(rooms.shared(), limits).router();
    let body = || Body::from(vec![b'x'; 800]);
    let one = || request("POST", TO).header(header::CONTENT_TYPE, "text/plain");

    let stalled = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![0; 800]))]);
    let stalled = Body::from_stream(stalled.chain(stream::pending()));
    let holding = tokio::spawn(ask_router(router.clone(), one().body(stalled).unwrap()));
    let back = loop {
        let back = ask_router(router.clone(), one().body(body()).unwrap()).await;
        if back.status != StatusCode::OK {
            break back;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((back.status.as_u16(), &*back.code()), (503, "busy"));

    holding.abort();
    let _ = holding.await;
    let back = ask_router(router, one().body(body()).unwrap()).await;
    assert_eq!(back.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_answered_by_busy_was_not_done_and_what_was_done_is_answered() {
    let receipts = r#"{"receipts":["t/receipt-0","t/receipt-1","t/receipt-2"]}"#;
    let mut seen = [[0; 2]; 7];
    for memory in (0..4000).step_by(50) {
        for (at, (method, uri, body)) in [
            (
                "POST",
                TO,
                "{\"payload\":1}\n{\"payload\":2}\n{\"payload\":3}\n",
            ),
            (
                "POST",
                "/databus/pub?group=shop&topic=t",
                "{\"records\":[{\"value\":1}]}",
            ),
            ("POST", "/v1/groups/billing/ack", receipts),
            ("POST", "/v1/groups/billing/nack", receipts),
            ("POST", "/v1/groups/billing/extend", receipts),
            (
                "POST",
                "/v1/groups/billing/dead-letters/replay?topic=t",
                "{\"all\":true}",
            ),
            ("GET", "/v1/groups/billing/messages?topic=t", ""),
        ]
        .into_iter()
        .enumerate()
        {
            let rooms = Made::default();
            rooms.offer([Message::new("t", vec![0; 500])]);
            let limits = HttpLimits { memory, ..small() };
            let router = Front::over(rooms.shared(), limits).router();
            let request = request(method, uri).header(header::CONTENT_TYPE, "application/x-ndjson");
            let back = ask_router(router, request.body(Body::from(body)).unwrap()).await;

            let state = rooms.state();
            let done = !state.published.is_empty()
                || !state.settled.is_empty()
                || state.replayed.is_some()
                || state.pulls.is_empty();
            let expected = if done { 200 } else { 503 };
            assert_eq!(back.status.as_u16(), expected, "{uri} {memory} {back:?}");
            seen[at][usize::from(done)] += 1;
        }
    }
    assert!(
        seen.as_flattened().iter().all(|count| *count > 0),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_pull_that_waits_takes_no_memory_from_publishers() {
    let rooms = Made::default();
    let limits = HttpLimits {
        memory: 100_000,
        ..small()
    };
    let router = Front::over(rooms.shared(), limits).router();
    let mut pulls = Vec::new();
    for _ in 0..20 {
        rooms.state().lot = None;
        let request = request("GET", "/v1/groups/billing/messages?topic=t&wait=60s");
        let request = request.body(Body::empty()).unwrap();
        let pull = tokio::spawn(ask_router(router.clone(), request));
        while rooms.state().lot.is_none() {
            assert!(!pull.is_finished(), "a pull is refused");
            tokio::task::yield_now().await;
        }
        pulls.push(pull);
        let bytes = rooms.state().lot.as_ref().map(|(_, lot, _)| lot.bytes);
        assert_eq!(bytes, Some(16 * 1024));
    }
    let one = request("POST", TO).header(header::CONTENT_TYPE, "text/plain");
    let back = ask_router(router, one.body(Body::from("x")).unwrap()).await;
    assert_eq!(back.status, StatusCode::OK);
    pulls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_packed_body_and_another_charset_are_not_taken() {
    let rooms = Made::default();
    let packed = request("POST", TO).header(header::CONTENT_ENCODING, "gzip");
    let back = ask(&rooms, packed.body(Body::from("x")).unwrap()).await;
    assert_eq!(
        (back.status.as_u16(), &*back.code()),
        (415, "content_encoding")
    );
    let back = post(&rooms, TO, "application/json; charset=latin1", "1").await;
    assert_eq!((back.status.as_u16(), &*back.code()), (415, "charset"));
}

#[tokio::test]
async fn an_app_has_as_many_requests_at_once_as_connections() {
    let rooms = Made::default();
    let response = {
        use tower::ServiceExt;
        router(&rooms)
            .oneshot(request("POST", TO).body(Body::from("1")).unwrap())
            .await
            .unwrap()
    };
    assert_eq!(rooms.state().connections, 1, "the answer is not sent yet");
    drop(response);
    assert_eq!(rooms.state().connections, 0);

    let denied = super::super::problem::Problem::denied(
        Denied::Connections(2),
        "shop",
        crate::rights::Operation::Publish,
        None,
        "",
    );
    assert_eq!(denied.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_panic_ends_its_own_request_only() {
    let rooms = Made::default();
    rooms.state().panics = true;
    let back = post(&rooms, TO, "text/plain", "x").await;
    assert_eq!((back.status.as_u16(), &*back.code()), (500, "internal"));
}

#[tokio::test]
async fn no_answer_is_kept_by_a_cache_or_guessed_at_by_a_browser() {
    let rooms = Made::default();
    for back in [
        get(&rooms, "/openapi.json").await,
        get(&rooms, "/nothing").await,
    ] {
        assert_eq!(back.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(back.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert!(
            !back
                .headers
                .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
        );
    }
}
