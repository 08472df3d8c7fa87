//! `POST /databus/pub`, byte for byte.

use axum::{
    body::Body,
    http::{StatusCode, header},
};

use super::{Back, ask, get, login, post, rooms::Made};
use crate::{publish::PublishError, rights::Denied};

const TO: &str = "/databus/pub?topic=test&group=shop&color=purple";

async fn publish(rooms: &Made, body: &str) -> Back {
    post(rooms, TO, "application/json", body.to_owned()).await
}

#[tokio::test]
async fn records_are_published_and_answered_as_databus_does() {
    let rooms = Made::default();
    let back = publish(
        &rooms,
        r#"{"records":[{"key":"k","value":{"foo": 1.0}},{"key":"","value":"x"}]}"#,
    )
    .await;
    assert_eq!(back.status, StatusCode::OK);
    assert_eq!(back.header(header::CONTENT_TYPE), "application/json");
    let expected = r#"{"offsets":[{"partition":3,"offset":1,"error_code":0},{"partition":3,"offset":2,"error_code":0}]}"#;
    assert_eq!(back.text(), expected);
    let state = rooms.state();
    let [first, second] = state.published.as_slice() else {
        panic!()
    };
    assert_eq!(
        (first.payload().as_ref(), first.key()),
        (&br#"{"foo": 1.0}"#[..], Some("k"))
    );
    assert_eq!(
        (second.payload().as_ref(), second.key()),
        (&br#""x""#[..], None)
    );
    assert_eq!(first.headers().get("color"), Some("purple"));
    assert_eq!(first.content_type(), "application/json");
}

#[tokio::test]
async fn fields_are_read_as_go_reads_them() {
    let rooms = Made::default();
    let back = publish(
        &rooms,
        r#"{"Records":[{"Key":null,"Value":null,"more":1}],"more":[]}"#,
    )
    .await;
    assert_eq!(
        back.text(),
        r#"{"offsets":[{"partition":3,"offset":1,"error_code":0}]}"#
    );
    assert_eq!(rooms.state().published[0].payload(), "null");
    for nothing in ["{}", "null", r#"{"records":null}"#, r#"{"records":[]}"#] {
        assert_eq!(publish(&rooms, nothing).await.text(), r#"{"offsets":null}"#);
    }
}

#[tokio::test]
async fn each_record_has_its_error_code_and_a_bad_one_stops_no_later_one() {
    let rooms = Made::default();
    let away = PublishError::Away("gone".to_owned());
    let refused = PublishError::Refused("no".to_owned());
    rooms.state().at_commit = [None, Some(away), Some(refused), None].into();
    let large = "x".repeat(1000);
    let body = format!(
        r#"{{"records":[{{"value":1}},{{"value":2}},{{"value":3}},null,{{"key":"k"}},{{"value":"{large}"}},{{"value":4}}]}}"#
    );
    let back = publish(&rooms, &body).await;
    assert_eq!(back.status, StatusCode::OK);
    let json = back.json();
    let codes = json["offsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["error_code"].as_u64().unwrap());
    assert_eq!(codes.collect::<Vec<_>>(), [0, 2, 1, 1, 1, 1, 0]);
}

#[tokio::test]
async fn what_is_wrong_is_a_line_of_text() {
    let rooms = Made::default();
    let line = |back: Back, expected: &str| {
        assert_eq!(back.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            back.header(header::CONTENT_TYPE),
            "text/plain; charset=utf-8"
        );
        assert_eq!(back.text(), format!("{expected}\n"));
    };
    line(
        publish(&rooms, "{").await,
        "line 1, column 1: EOF while parsing an object",
    );
    for (who, expected) in [("nobody:x", "error key"), ("shop:wrong", "error secret")] {
        let request = login("POST", TO, who).body(Body::from("{}")).unwrap();
        line(ask(&rooms, request).await, expected);
    }
    let anonymous = axum::http::Request::post(TO)
        .body(Body::from("{}"))
        .unwrap();
    line(ask(&rooms, anonymous).await, "error key");
    for (uri, expected) in [
        ("/databus/pub?topic=test", "error group"),
        ("/databus/pub?group=shop", "error topic"),
        ("/databus/pub?group=shop&topic=a*", "error topic"),
        (
            "/databus/pub?group=shop&topic=a&color=~eu",
            "the colour \"~eu\" cannot be used: it has a character outside `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`",
        ),
    ] {
        line(post(&rooms, uri, "application/json", "{}").await, expected);
    }
    for (denied, expected) in [
        (Denied::Group, "error group"),
        (Denied::Topic, "error topic"),
        (Denied::Operation, "no publish permission"),
    ] {
        rooms.state().denied = Some(denied);
        line(publish(&rooms, "{}").await, expected);
    }
    assert!(rooms.state().published.is_empty());
}

#[tokio::test]
async fn over_the_limit_of_messages_every_record_may_come_again() {
    let rooms = Made::default();
    rooms.state().at_spend = Some(Denied::Rate(std::time::Duration::from_secs(1)));
    let back = publish(&rooms, r#"{"records":[{"value":1}]}"#).await;
    assert_eq!(
        back.text(),
        r#"{"offsets":[{"partition":0,"offset":0,"error_code":2}]}"#
    );
    assert!(rooms.state().published.is_empty());
}

#[tokio::test]
async fn the_addresses_of_a_group_are_told_to_an_app_that_consumes_in_it() {
    let rooms = Made::default();
    rooms.state().addresses = ["192.0.2.1:5000", "[2001:db8::1]:6000"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    let ask_for =
        async |group| get(&rooms, &format!("/databus/consumer/addrs?group={group}")).await;
    assert_eq!(
        ask_for("billing").await.text(),
        r#"{"code":0,"message":"0","ttl":1,"data":["192.0.2.1:5000","[2001:db8::1]:6000"]}"#
    );
    assert_eq!(
        ask_for("empty").await.text(),
        r#"{"code":0,"message":"0","ttl":1,"data":[]}"#
    );
    for group in ["forbidden", "", "a~b"] {
        let back = ask_for(group).await;
        assert_eq!((back.status.as_u16(), back.text()), (400, "error group\n"));
    }
    let stranger = login("GET", "/databus/consumer/addrs?group=billing", "shop:wrong");
    let back = ask(&rooms, stranger.body(Body::empty()).unwrap()).await;
    assert_eq!((back.status.as_u16(), back.text()), (400, "error secret\n"));
}
