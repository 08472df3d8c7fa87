//! Pull, ack, nack, extend, backlog, dead letters, replay.

use std::time::Duration;

use axum::{
    body::Body,
    http::{StatusCode, header},
};
use final_core::{Message, MessageId};
use serde_json::json;

use super::{ask, get, post, request, rooms::Made};
use crate::{
    groups::{GroupError, ReceiptError},
    http::rooms::{Longest, Order},
    rights::Denied,
};

const FROM: &str = "/v1/groups/billing/messages?topic=order.placed";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_pull_shows_messages_as_they_were_published() {
    let rooms = Made::default();
    let id = MessageId::from_text("17");
    let payload = "{\"b\":1.10, \"a\":12345678901234567890123,\"a\":2}";
    let plain = Message::identified(id, "order.placed", payload)
        .with_content_type("application/json")
        .with_key("k")
        .with_header("tenant", "acme");
    let bytes =
        Message::identified(id, "order.placed", vec![0, 255]).with_content_type("image/png");
    rooms.offer([plain, bytes]);

    let back = get(&rooms, FROM).await;

    assert_eq!(back.status, StatusCode::OK);
    assert!(
        back.text().contains(&format!("\"payload\":{payload},")),
        "{}",
        back.text()
    );
    let mut json = back.json();
    assert!(json["messages"][0]["payload"].take().is_object());
    let expected = json!({"messages": [
        {
            "receipt": "order.placed/receipt-0", "id": id.to_string(), "topic": "order.placed", "key": "k",
            "headers": {"tenant": "acme"}, "content_type": "application/json", "payload": null,
            "attempt": 2, "partition": 3, "seq": 40,
        },
        {
            "receipt": "order.placed/receipt-1", "id": id.to_string(), "topic": "order.placed", "key": null,
            "headers": {}, "content_type": "image/png", "payload_base64": "AP8=",
            "attempt": 2, "partition": 3, "seq": 41,
        },
    ]});
    assert_eq!(json, expected);
    assert_eq!(rooms.state().spent, [0, 2]);
    assert_eq!(rooms.state().connections, 0);
}

#[tokio::test]
async fn json_that_would_break_the_whole_answer_comes_in_base64() {
    let rooms = Made::default();
    let json = |payload: String| Message::new("t", payload).with_content_type("application/json");
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let broken = ["{", "\"\\ud800\"", "1e999", "{}]}", &deep];
    rooms.offer(broken.map(|text| json(text.to_owned())));

    let back = get(&rooms, "/v1/groups/billing/messages?topic=t").await;

    let messages = back.json()["messages"].as_array().unwrap().clone();
    assert_eq!(messages.len(), broken.len());
    for message in messages {
        assert!(message.get("payload").is_none());
        assert!(message["payload_base64"].is_string());
    }
}

#[tokio::test]
async fn a_pull_says_how_many_how_long_and_for_how_long() {
    let rooms = Made::default();
    rooms.offer([]);
    let uri = "/v1/groups/billing/messages?topic=a&topic=b%20c&topic=a&max=7&max_bytes=1000&wait=500ms&visibility=2m";
    let back = get(&rooms, uri).await;
    assert_eq!(back.json(), json!({"messages": []}));
    let (pairs, lot, visibility) = rooms.state().lot.take().unwrap();
    let pairs: Vec<_> = pairs.iter().map(ToString::to_string).collect();
    assert_eq!(pairs, ["billing/a", "billing/b c"]);
    assert_eq!((lot.messages, lot.bytes), (7, 1000));
    assert_eq!(
        (lot.wait, visibility),
        (Duration::from_millis(500), seconds(120))
    );

    rooms.offer([]);
    rooms.state().batch = Some(50);
    get(&rooms, FROM).await;
    let (_, lot, visibility) = rooms.state().lot.take().unwrap();
    assert_eq!(
        (lot.messages, lot.bytes, visibility),
        (50, 1 << 20, seconds(30))
    );
}

#[tokio::test]
async fn a_pull_outside_its_limits_is_refused_by_the_name_of_the_parameter() {
    let rooms = Made::default();
    for (query, names) in [
        ("", "topic"),
        ("topic=", "topic"),
        ("topic=a*", "topic"),
        ("topic=a&max=0", "max"),
        ("topic=a&max=1001", "max"),
        ("topic=a&max=x", "max"),
        ("topic=a&max=1&max=2", "max"),
        ("topic=a&wait=61s", "wait"),
        ("topic=a&wait=-1", "wait"),
        ("topic=a&visibility=0", "visibility"),
        ("topic=a&visibility=13h", "visibility"),
        ("topic=a&max_bytes=999999999", "max_bytes"),
        ("topic=a&wiat=3s", "wiat"),
    ] {
        let back = get(&rooms, &format!("/v1/groups/billing/messages?{query}")).await;
        assert_eq!(back.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(
            back.message().contains(names),
            "{query}: {}",
            back.message()
        );
    }
    let topics: Vec<_> = (0..17).map(|topic| format!("topic=t{topic}")).collect();
    let back = get(
        &rooms,
        &format!("/v1/groups/billing/messages?{}", topics.join("&")),
    )
    .await;
    assert_eq!(back.code(), "bad_parameter");
    assert!(rooms.state().lot.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pull_ends_although_the_group_never_answers() {
    let rooms = Made::default();
    let back = get(&rooms, &format!("{FROM}&wait=60s")).await;
    assert_eq!(back.json(), json!({"messages": []}));
}

#[tokio::test]
async fn a_pull_that_waits_hears_that_the_rights_of_its_app_have_changed() {
    let rooms = Made::default();
    let uri = format!("{FROM}&wait=60s");
    let waiting = get(&rooms, &uri);
    let revoke = async {
        while rooms.state().lot.is_none() {
            tokio::task::yield_now().await;
        }
        rooms.state().revoked.cancel();
    };
    let (back, ()) = tokio::join!(waiting, revoke);
    assert_eq!((back.status.as_u16(), &*back.code()), (401, "unauthorized"));
}

#[tokio::test]
async fn what_the_group_says_has_a_status() {
    for (error, status, code) in [
        (
            GroupError::Refused("taken".to_owned()),
            409,
            "group_refused",
        ),
        (GroupError::Away("gone".to_owned()), 503, "away"),
        (GroupError::CannotTell, 501, "cannot_tell"),
        (GroupError::TooMany(64), 503, "too_many_groups"),
        (
            GroupError::TooManyOfApp {
                app: "shop".to_owned(),
                most: 16,
            },
            429,
            "too_many_groups",
        ),
        (GroupError::Stopping, 503, "stopping"),
    ] {
        let rooms = Made::default();
        rooms.state().pulls.push_back(Err(error));
        let back = get(&rooms, FROM).await;
        assert_eq!((back.status.as_u16(), &*back.code()), (status, code));
        assert_eq!(
            [429, 503].contains(&status),
            back.headers.contains_key(header::RETRY_AFTER)
        );
    }
}

#[tokio::test]
async fn an_app_in_debt_pulls_nothing() {
    let rooms = Made::default();
    rooms.state().at_spend = Some(Denied::Rate(seconds(3)));
    let back = get(&rooms, FROM).await;
    assert_eq!(
        (back.status.as_u16(), back.header(header::RETRY_AFTER)),
        (429, "3")
    );
    assert!(rooms.state().lot.is_none());
}

#[tokio::test]
async fn head_takes_no_messages() {
    let rooms = Made::default();
    rooms.offer([Message::new("order.placed", "1")]);
    let back = ask(&rooms, request("HEAD", FROM).body(Body::empty()).unwrap()).await;
    assert_eq!(back.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(back.header(header::ALLOW), "GET");
    assert_eq!(rooms.state().pulls.len(), 1);
}

#[tokio::test]
async fn receipts_are_settled_each_with_its_result() {
    let rooms = Made::default();
    let other = ReceiptError::OtherNode("b".to_owned());
    let receipts = [("t/receipt-1", ReceiptError::Gone), ("t/receipt-2", other)];
    rooms.state().receipts = receipts
        .map(|(receipt, error)| (receipt.to_owned(), error))
        .into();
    let body = r#"{"receipts":["t/receipt-0","t/receipt-1","t/receipt-2","forged","secret/receipt-3","t/receipt-4"]}"#;

    let back = post(&rooms, "/v1/groups/billing/ack", "application/json", body).await;

    assert_eq!(back.status, StatusCode::MULTI_STATUS);
    let json = back.json();
    let results = json["results"].as_array().unwrap();
    let statuses: Vec<_> = results
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [200, 410, 421, 400, 403, 200]);
    let codes: Vec<_> = results
        .iter()
        .map(|result| result["error"]["code"].as_str())
        .collect();
    let expected = [
        None,
        Some("gone"),
        Some("other_node"),
        Some("foreign_receipt"),
        Some("no_right_on_topic"),
        None,
    ];
    assert_eq!(codes, expected);
    let asked = ["t/receipt-0", "t/receipt-1", "t/receipt-2", "t/receipt-4"].map(str::to_owned);
    assert_eq!(rooms.state().settled, [(asked.to_vec(), Order::Ack)]);
}

#[tokio::test]
async fn receipts_of_another_group_are_foreign() {
    let rooms = Made::default();
    let body = r#"{"receipts":["t/receipt-0"]}"#;
    let back = post(&rooms, "/v1/groups/shipping/ack", "application/json", body).await;
    assert_eq!(back.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        back.json()["results"][0]["error"]["code"],
        "foreign_receipt"
    );
}

#[tokio::test]
async fn a_nack_has_a_delay_and_a_reason_and_an_extension_a_time() {
    let rooms = Made::default();
    let orders = [
        (
            "nack",
            r#"{"receipts":["t/receipt-0"],"delay":"10s","reason":"no stock"}"#,
        ),
        ("nack", r#"{"receipts":["t/receipt-0"]}"#),
        (
            "extend",
            r#"{"receipts":["t/receipt-0"],"visibility":"5m"}"#,
        ),
        ("extend", r#"{"receipts":["t/receipt-0"]}"#),
    ];
    for (what, body) in orders {
        let back = post(
            &rooms,
            &format!("/v1/groups/billing/{what}"),
            "application/json",
            body,
        )
        .await;
        assert_eq!(back.json(), json!({"results": [{"status": 200}]}), "{body}");
    }
    let reason = Some("no stock".to_owned());
    let nack = |delay, reason| Order::Nack {
        delay: seconds(delay),
        reason,
    };
    let expected = [
        nack(10, reason),
        nack(0, None),
        Order::Extend(seconds(300)),
        Order::Extend(seconds(30)),
    ];
    let state = rooms.state();
    let orders: Vec<_> = state
        .settled
        .iter()
        .map(|(_, order)| order.clone())
        .collect();
    assert_eq!(orders, expected);
}

#[tokio::test]
async fn a_request_about_receipts_that_is_wrong_settles_nothing() {
    let rooms = Made::default();
    let many = json!({"receipts": vec!["r"; 1001]}).to_string();
    let limits = crate::http::HttpLimits::default();
    let router = crate::http::Front::over(rooms.shared(), limits).router();
    for (what, body, code) in [
        ("ack", "", "bad_json"),
        ("ack", "{}", "bad_json"),
        ("ack", r#"{"receipts":"r"}"#, "bad_json"),
        ("ack", r#"{"receipts":[1]}"#, "bad_json"),
        ("ack", r#"{"receipts":["r"],"delay":"1s"}"#, "bad_json"),
        ("ack", r#"{"receipts":["r"],"receipts":[]}"#, "bad_json"),
        ("ack", r#"{"receipts":[]}"#, "no_receipts"),
        ("ack", &many, "too_large"),
        ("nack", r#"{"receipts":["r"],"delay":"25h"}"#, "bad_field"),
        ("nack", r#"{"receipts":["r"],"delay":10}"#, "bad_json"),
        (
            "nack",
            &json!({"receipts": ["r"], "reason": "x".repeat(1025)}).to_string(),
            "bad_field",
        ),
        (
            "extend",
            r#"{"receipts":["r"],"visibility":"0"}"#,
            "bad_field",
        ),
    ] {
        let request = request("POST", &format!("/v1/groups/billing/{what}"));
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let back = super::ask_router(router.clone(), request).await;
        assert_eq!(back.code(), code, "{body:.60}");
    }
    assert!(rooms.state().settled.is_empty());
}

#[tokio::test]
async fn a_backlog_says_what_waits() {
    let rooms = Made::default();
    let back = get(&rooms, "/v1/groups/billing/backlog?topic=order.placed").await;
    let expected = json!({
        "group": "billing", "topic": "order.placed", "waiting": 12, "oldest_seconds": 2.5, "dead_letters": 1,
    });
    assert_eq!(back.json(), expected);
}

#[tokio::test]
async fn dead_letters_come_in_pages_with_the_reason() {
    let rooms = Made::default();
    for number in 0..40 {
        let message = Message::new("t", number.to_string()).with_content_type("application/json");
        let key = if number % 2 == 0 { "even" } else { "odd" };
        rooms.bury(message.with_key(key), "no stock");
    }
    let mut found = Vec::new();
    let mut uri = "/v1/groups/billing/dead-letters?topic=t&limit=15&key=even".to_owned();
    loop {
        let page = get(&rooms, &uri).await.json();
        for letter in page["dead_letters"].as_array().unwrap() {
            assert_eq!(letter["reason"], "no stock");
            assert_eq!(
                (letter["attempts"].as_u64(), letter["age_seconds"].as_f64()),
                (Some(5), Some(7.0))
            );
            found.push(letter["payload"].as_u64().unwrap());
        }
        match page["next"].as_str() {
            Some(next) => {
                uri = format!(
                    "/v1/groups/billing/dead-letters?topic=t&limit=15&key=even&after={next}"
                )
            }
            None => break,
        }
    }
    assert_eq!(found, (0..40).step_by(2).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_of_dead_letters_is_bounded_in_bytes() {
    let rooms = Made::default();
    for _ in 0..64 {
        rooms.bury(Message::new("t", vec![0; 100_000]), "large");
    }
    let page = get(&rooms, "/v1/groups/billing/dead-letters?topic=t&limit=64")
        .await
        .json();
    assert_eq!(page["dead_letters"].as_array().unwrap().len(), 16);
    assert_eq!(page["next"], "o16");
}

#[tokio::test]
async fn a_dead_letter_that_is_no_message_says_why() {
    let rooms = Made::default();
    rooms.bury(Message::new("t", "x"), "broken");
    rooms.spoil(0);
    let page = get(&rooms, "/v1/groups/billing/dead-letters?topic=t")
        .await
        .json();
    assert_eq!(page["dead_letters"][0]["unreadable"], "headers are no JSON");
    assert_eq!(page["dead_letters"][0]["topic"], "t");
}

#[tokio::test]
async fn a_replay_needs_a_filter_or_all() {
    let rooms = Made::default();
    rooms.bury(Message::new("t", "1").with_key("a"), "timed out");
    rooms.bury(Message::new("t", "2").with_key("b"), "no stock");
    let id = rooms.state().letters[1].id.to_string();
    let replay = "/v1/groups/billing/dead-letters/replay?topic=t";
    for (body, replayed) in [
        (r#"{"all":true}"#.to_owned(), 2),
        (r#"{"reason":"timed"}"#.to_owned(), 1),
        (r#"{"key":"c"}"#.to_owned(), 0),
        (json!({"ids": [id]}).to_string(), 1),
        (r#"{"older_than":"5s"}"#.to_owned(), 2),
        (r#"{"older_than":"1h"}"#.to_owned(), 0),
    ] {
        let back = post(&rooms, replay, "application/json", body.clone()).await;
        assert_eq!(back.json(), json!({"replayed": replayed}), "{body}");
    }
    rooms.state().replayed = None;
    for body in [
        "{}",
        r#"{"all":false}"#,
        r#"{"all":true,"key":"a"}"#,
        r#"{"ids":[]}"#,
        r#"{"ids":["17"]}"#,
        r#"{"reasn":"x"}"#,
        r#"{"limit":5}"#,
    ] {
        let back = post(&rooms, replay, "application/json", body).await;
        assert_eq!(back.status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert!(rooms.state().replayed.is_none());
}

#[tokio::test]
async fn a_time_that_the_engine_does_not_have_is_refused_with_the_one_that_it_has() {
    let rooms = Made::default();
    rooms.state().longest = Some(Longest {
        visibility: Duration::from_secs(20),
        delay: Duration::from_secs(90),
    });
    let back = get(&rooms, "/v1/groups/billing/messages?topic=a&visibility=21s").await;
    assert_eq!(back.status, StatusCode::BAD_REQUEST);
    assert!(back.message().contains("to 20 s"), "{}", back.message());
    for (order, body, limit) in [
        (
            "extend",
            r#"{"receipts":["t/r"],"visibility":"21s"}"#,
            "to 20 s",
        ),
        ("nack", r#"{"receipts":["t/r"],"delay":"91s"}"#, "to 90 s"),
    ] {
        let back = post(
            &rooms,
            &format!("/v1/groups/billing/{order}"),
            "application/json",
            body,
        )
        .await;
        assert_eq!(back.status, StatusCode::BAD_REQUEST);
        assert!(back.message().contains(limit), "{}", back.message());
    }
    assert!(rooms.state().settled.is_empty() && rooms.state().lot.is_none());

    // Without a time it is as long as the engine has, at most.
    rooms.offer([]);
    get(&rooms, "/v1/groups/billing/messages?topic=a").await;
    let lot = rooms.state().lot.clone().unwrap();
    assert_eq!(lot.2, Duration::from_secs(20));
    let back = get(&rooms, "/openapi.json").await;
    for text in ["1s to 20s", "90s at most"] {
        assert!(back.text().contains(text), "{text}");
    }
    assert!(!back.text().contains("{most"));
}
