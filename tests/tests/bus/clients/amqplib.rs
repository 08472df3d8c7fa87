//! Messages by Node's amqplib.

use final_core::Bytes;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_reads_whatever_amqplib_publishes() {
    let post = Post::open().await;
    let messages = post.published_by(Client::Amqplib, 12, kind).await;

    let bare = &messages[""];
    assert_eq!(bare.topic(), post.house.service);
    assert_eq!(extract::<Bytes>(bare).await.unwrap(), "something to do");
    assert!(!bare.is_identified());
    has_headers(&messages["headers"], &headers());
    has_properties(&messages["properties"], "application/json");
    let late = messages["milliseconds"].received();
    let late = late
        .timestamp
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    assert_eq!(late, Some(Duration::from_secs(1_709_208_000_123)));
    // The broker's own header.
    let copied = &messages["copied"];
    assert!(copied.headers().is_empty() && copied.received().headers.contains_key("CC"));

    let json = [
        "straight",
        "json",
        "json-bom",
        "json-utf-16",
        "json-gzip",
        "json-deflate",
        "json-raw-deflate",
        "copied",
    ];
    are_orders(&messages, &json, &[]).await;
    post.close().await;
}

fn headers() -> Vec<Header> {
    let deep = table("deep", HeaderValue::Bool(true));
    let mixed = [
        HeaderValue::Int(1),
        text("a"),
        HeaderValue::Nil,
        HeaderValue::Float(1.5),
        deep,
    ];
    let price = HeaderValue::Decimal {
        value: 1250,
        scale: 2,
    };
    vec![
        ("text", Some("größe"), text("größe")),
        ("small", Some("42"), HeaderValue::Int(42)),
        ("large", Some("1099511627776"), HeaderValue::Int(1 << 40)),
        ("negative", Some("-7"), HeaderValue::Int(-7)),
        ("yes", Some("true"), HeaderValue::Bool(true)),
        ("float", Some("1.5"), HeaderValue::Float(1.5)),
        // Node has one type for all numbers.
        ("whole", Some("12"), HeaderValue::Int(12)),
        ("huge", Some("1e300"), HeaderValue::Float(1e300)),
        ("decimal", Some("12.50"), price),
        (
            "time",
            Some("2024-02-29T12:00:00Z"),
            HeaderValue::Time(leap_day()),
        ),
        ("single", Some("0.1"), HeaderValue::Float(0.1)),
        ("short", Some("-300"), HeaderValue::Int(-300)),
        (
            "unsigned",
            Some("4294967295"),
            HeaderValue::Int(u32::MAX.into()),
        ),
        ("byte", Some("-1"), HeaderValue::Int(-1)),
        ("tenant", Some("acme"), HeaderValue::Bytes(b"acme".into())),
        ("bytes", None, HeaderValue::Bytes(vec![0xff, 0xfe])),
        ("nil", None, HeaderValue::Nil),
        ("list", None, list(mixed)),
        (
            "table",
            None,
            table("a", table("b", list([HeaderValue::Int(1)]))),
        ),
        ("x-request-id", Some("r"), text("r")),
    ]
}
