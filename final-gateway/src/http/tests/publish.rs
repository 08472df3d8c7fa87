//! `POST /v1/topics/{topic}/messages`.

use std::{fmt::Write as _, time::Duration};

use axum::{
    body::Body,
    http::{StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Back, ask, post, request, rooms::Made};
use crate::{publish::PublishError, rights::Denied};

const TO: &str = "/v1/topics/order.placed/messages";

/// Statuses and codes of a batch.
fn fates(back: &Back) -> Vec<(u64, String)> {
    let json = back.json();
    let results = json["results"].as_array().unwrap();
    let one = |result: &Value| {
        let code = result["error"]["code"].as_str().unwrap_or("").to_owned();
        (result["status"].as_u64().unwrap(), code)
    };
    results.iter().map(one).collect()
}

#[tokio::test]
async fn json_is_published_byte_for_byte_and_answered_with_its_id_and_place() {
    let rooms = Made::default();
    let body = "{\"b\": 1.10,\n \"a\":12345678901234567890123, \"a\":2}\n";

    let back = post(&rooms, TO, "application/json; charset=UTF-8", body).await;

    assert_eq!(back.status, StatusCode::OK);
    let state = rooms.state();
    let message = &state.published[0];
    assert_eq!(message.payload(), body);
    assert_eq!(message.content_type(), "application/json");
    assert_eq!(message.topic(), "order.placed");
    let id = message.id().to_string();
    assert_eq!(back.json(), json!({"id": id, "partition": 3, "seq": 1}));
    assert_eq!(state.connections, 0);
}

#[tokio::test]
async fn a_body_whose_type_curl_made_up_is_json_if_it_can_be() {
    let rooms = Made::default();
    const FORM: &str = "application/x-www-form-urlencoded";
    for body in ["{\"id\":1}", "a=1&b=2"] {
        let back = post(&rooms, TO, FORM, body).await;
        assert_eq!(back.status, StatusCode::OK);
        let untyped = request("POST", TO).body(Body::from(body)).unwrap();
        assert_eq!(ask(&rooms, untyped).await.status, StatusCode::OK);
    }
    let state = rooms.state();
    let types: Vec<_> = state
        .published
        .iter()
        .map(|message| message.content_type())
        .collect();
    let expected = [
        "application/json",
        "application/json",
        FORM,
        "application/octet-stream",
    ];
    assert_eq!(types, expected);
}

#[tokio::test]
async fn any_bytes_keep_their_content_type_and_none_is_lost() {
    let rooms = Made::default();
    let bytes: Vec<u8> = (0..=255).collect();

    let back = post(&rooms, TO, "application/vnd.acme+cbor; v=2", bytes.clone()).await;

    assert_eq!(back.status, StatusCode::OK);
    let state = rooms.state();
    assert_eq!(state.published[0].payload(), &bytes);
    assert_eq!(
        state.published[0].content_type(),
        "application/vnd.acme+cbor; v=2"
    );
}

#[tokio::test]
async fn headers_of_the_request_become_key_id_and_headers_of_the_message() {
    let rooms = Made::default();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let id = "0192f1c0-0000-7000-8000-000000000001";
    let request = request("POST", TO)
        .header("X-Key", "kunde-ü".as_bytes())
        .header("X-Id", id)
        .header("X-Header-Tenant", "acme")
        .header("X-Header-List", "a")
        .header("X-Header-List", "b")
        .header("Traceparent", trace)
        .body(Body::from("1"))
        .unwrap();

    let back = ask(&rooms, request).await;

    assert_eq!(back.json()["id"], id);
    let state = rooms.state();
    let message = &state.published[0];
    assert_eq!(message.key(), Some("kunde-ü"));
    let headers: Vec<_> = message.headers().iter().collect();
    let expected = [("list", "a, b"), ("tenant", "acme"), ("traceparent", trace)];
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn the_same_id_as_text_is_the_same_message_of_its_topic_only() {
    let rooms = Made::default();
    let mut ids = Vec::new();
    for (topic, id) in [("a", "17"), ("a", "17"), ("b", "17"), ("a", "18")] {
        let request = request("POST", &format!("/v1/topics/{topic}/messages")).header("X-Id", id);
        let back = ask(&rooms, request.body(Body::from("1")).unwrap()).await;
        ids.push(back.json()["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[3]);
    for id in [" ", "00000000-0000-0000-0000-000000000000"] {
        let request = request("POST", TO)
            .header("X-Id", id)
            .body(Body::from("1"))
            .unwrap();
        assert_eq!(ask(&rooms, request).await.code(), "bad_id");
    }
}

#[tokio::test]
async fn a_uuid_is_the_same_id_on_every_topic() {
    let rooms = Made::default();
    let id = "0192f1c0-0000-7000-8000-000000000001";
    for topic in ["a", "b"] {
        let request = request("POST", &format!("/v1/topics/{topic}/messages")).header("X-Id", id);
        let back = ask(&rooms, request.body(Body::from("1")).unwrap()).await;
        assert_eq!(back.json()["id"], id);
    }
}

#[tokio::test]
async fn lines_are_published_in_their_order_each_with_what_it_says() {
    let rooms = Made::default();
    let body = concat!(
        "{\"payload\":{\"n\":1.50},\"key\":\"k\",\"headers\":{\"h\":\"1\"},\"id\":\"17\"}\r\n",
        "\n",
        "{\"payload_base64\":\"/wD+\"}\n",
        "{\"payload\":null}\n",
        "{\"payload_base64\":\"/wA\",\"content_type\":\"image/png\"}",
    );

    let back = post(&rooms, TO, "application/x-ndjson", body).await;

    assert_eq!(back.status, StatusCode::OK, "{back:?}");
    let results = back.json()["results"].as_array().unwrap().clone();
    let state = rooms.state();
    for (at, (result, message)) in results.iter().zip(&state.published).enumerate() {
        let id = message.id().to_string();
        let expected = json!({"status": 200, "id": id, "partition": 3, "seq": at + 1});
        assert_eq!(result, &expected);
    }
    let [first, second, third, fourth] = state.published.as_slice() else {
        panic!("{:?}", state.published);
    };
    assert_eq!(first.payload(), "{\"n\":1.50}");
    assert_eq!(
        (first.key(), first.headers().get("h")),
        (Some("k"), Some("1"))
    );
    assert_eq!(second.payload(), &[0xff, 0, 0xfe][..]);
    assert_eq!(second.content_type(), "application/octet-stream");
    assert_eq!(
        (third.payload().as_ref(), third.key()),
        (&b"null"[..], None)
    );
    assert_eq!(fourth.content_type(), "image/png");
    assert_eq!(state.spent, [4]);
}

#[tokio::test]
async fn each_line_has_a_status_of_its_own_and_a_bad_one_stops_no_later_one() {
    let rooms = Made::default();
    let refused = PublishError::Refused("a trigger said no".to_owned());
    rooms.state().at_submit = [None, Some(refused)].into();
    let large = "x".repeat(1001);
    let mut body = String::from("{\"payload\":1}\n");
    for line in [
        "{\"payload\":2}",
        "{broken",
        "{\"payload\":1,\"payload_base64\":\"\"}",
        "{\"payload\":1,\"delay\":5}",
        "{\"payload\":1,\"payload\":2}",
        "{\"payload\":1,\"headers\":{\"a\":\"1\",\"a\":\"2\"}}",
        "{\"payload\":1,\"key\":7}",
        "{\"payload_base64\":\"*\"}",
        "{\"payload\":\"\\ud800\"}",
        "[1]",
        "{\"payload\":1,\"content_type\":\"a\\nb\"}",
    ] {
        writeln!(body, "{line}").unwrap();
    }
    writeln!(body, "{{\"payload\":\"{large}\"}}").unwrap();
    body.push_str("{\"payload\":3}");

    let back = post(&rooms, TO, "application/x-ndjson", body).await;

    assert_eq!(back.status, StatusCode::MULTI_STATUS);
    let fates = fates(&back);
    let codes: Vec<_> = fates
        .iter()
        .map(|(status, code)| (*status, code.as_str()))
        .collect();
    let bad = (400, "bad_record");
    let expected = [
        (200, ""),
        (422, "refused"),
        bad,
        bad,
        bad,
        bad,
        bad,
        bad,
        bad,
        bad,
        bad,
        (400, "bad_content_type"),
        (413, "too_large"),
        (200, ""),
    ];
    assert_eq!(codes, expected);
    let json = back.json();
    let message = json["results"][2]["error"]["message"].as_str().unwrap();
    assert_eq!(message, "line 3, column 2: key must be a string");
    let state = rooms.state();
    assert_eq!(state.published.len(), 2);
    assert_eq!(state.published[1].payload(), "3");
}

#[tokio::test]
async fn no_later_line_overtakes_one_for_which_there_was_no_room() {
    let rooms = Made::default();
    rooms.state().at_submit = [None, Some(PublishError::Busy)].into();
    let body = "{\"payload\":1}\n{\"payload\":2}\n{\"payload\":3}\n";

    let back = post(&rooms, TO, "application/x-ndjson", body).await;

    assert_eq!(back.status, StatusCode::MULTI_STATUS);
    let busy = || (503, "busy".to_owned());
    assert_eq!(fates(&back), [(200, String::new()), busy(), busy()]);
    assert_eq!(back.header(header::RETRY_AFTER), "1");
    assert_eq!(rooms.state().published.len(), 1);
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_has_the_status_of_its_lines() {
    let rooms = Made::default();
    let away = || Some(PublishError::Away("no route".to_owned()));
    rooms.state().at_commit = [away(), away()].into();

    let back = post(
        &rooms,
        TO,
        "application/x-ndjson",
        "{\"payload\":1}\n{\"payload\":2}",
    )
    .await;

    assert_eq!(back.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(back.header(header::RETRY_AFTER), "5");
    assert_eq!(fates(&back).len(), 2);
}

#[tokio::test]
async fn a_batch_has_one_record_at_least_and_a_thousand_at_most() {
    let rooms = Made::default();
    let back = post(&rooms, TO, "application/x-ndjson", " \n\n").await;
    assert_eq!((back.status.as_u16(), &*back.code()), (400, "no_records"));

    let limits = crate::http::HttpLimits::default();
    let router = crate::http::Front::over(rooms.shared(), limits).router();
    let lines = |count| "{\"payload\":1}\n".repeat(count);
    for (count, status) in [(1000, 200), (1001, 413)] {
        let request = request("POST", TO).header(header::CONTENT_TYPE, "application/x-ndjson");
        let request = request.body(Body::from(lines(count))).unwrap();
        let back = super::ask_router(router.clone(), request).await;
        assert_eq!(back.status.as_u16(), status);
    }
    assert_eq!(rooms.state().published.len(), 1000);
}

#[tokio::test]
async fn what_the_database_says_has_a_status_and_a_time_to_come_again() {
    let away = PublishError::Away("gone".to_owned());
    let refused = PublishError::Refused("too long a key".to_owned());
    for (error, status, code, retry) in [
        (refused, 422, "refused", None),
        (away, 503, "away", Some("5")),
        (PublishError::Busy, 503, "busy", Some("1")),
        (PublishError::Stopping, 503, "stopping", Some("5")),
        (PublishError::Unknown, 504, "commit_unknown", Some("5")),
    ] {
        let rooms = Made::default();
        rooms.state().at_commit = [Some(error)].into();
        let back = post(&rooms, TO, "application/json", "1").await;
        assert_eq!((back.status.as_u16(), &*back.code()), (status, code));
        let found = back.headers.get(header::RETRY_AFTER);
        assert_eq!(found.map(|value| value.to_str().unwrap()), retry, "{code}");
    }
}

#[tokio::test]
async fn an_app_over_its_limit_hears_when_there_is_room_again_and_nothing_is_published() {
    let rooms = Made::default();
    rooms.state().at_spend = Some(Denied::Rate(Duration::from_millis(1200)));
    let back = post(&rooms, TO, "application/json", "1").await;
    assert_eq!(
        (back.status.as_u16(), &*back.code()),
        (429, "too_many_messages")
    );
    assert_eq!(back.header(header::RETRY_AFTER), "2");
    assert!(rooms.state().published.is_empty());
}

#[tokio::test]
async fn places_are_asked_for_unless_the_client_wants_none() {
    let rooms = Made::default();
    let back = post(
        &rooms,
        &format!("{TO}?place=false&group=billing"),
        "text/plain",
        "x",
    )
    .await;
    let id = rooms.state().published[0].id().to_string();
    assert_eq!(back.json(), json!({"id": id}));
    assert_eq!(rooms.state().places, 0);
}

#[tokio::test]
async fn json_that_is_none_is_refused_with_the_place_of_the_mistake() {
    let rooms = Made::default();
    let deep = "[".repeat(500);
    for (body, place) in [
        ("{\"a\":\n  nul}", "line 2, column 6"),
        ("", "line 1, column 0"),
        ("{} {}", "line 1, column 4"),
        (&deep, "line 1, column 101"),
        ("1e999", "line 1"),
    ] {
        let back = post(&rooms, TO, "application/json", body.to_owned()).await;
        assert_eq!((back.status.as_u16(), &*back.code()), (400, "bad_json"));
        assert!(back.message().contains(place), "{}", back.message());
    }
    assert!(rooms.state().published.is_empty());
}

#[tokio::test]
async fn a_payload_in_base64_is_read_within_the_limit_of_a_message() {
    let rooms = Made::default();
    for (size, status) in [(1000, 200), (1001, 413)] {
        let line = format!(
            "{{\"payload_base64\":{:?}}}",
            STANDARD.encode(vec![0; size])
        );
        let back = post(&rooms, TO, "application/x-ndjson", line).await;
        assert_eq!(back.status.as_u16(), status);
    }
}
