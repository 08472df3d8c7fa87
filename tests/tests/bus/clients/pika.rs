//! Messages by pika.

use final_core::Bytes;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_reads_whatever_pika_publishes() {
    let post = Post::open().await;
    let messages = post.published_by(Client::Pika, 18, kind).await;

    // Without properties, straight into the queue.
    let bare = &messages[""];
    assert_eq!(bare.topic(), post.house.service);
    assert_eq!(extract::<Bytes>(bare).await.unwrap(), "Hello World!");
    assert!(!bare.is_identified() && bare.headers().is_empty());
    assert_eq!(messages["straight"].topic(), post.house.service);
    assert_eq!(messages["headers"].topic(), post.house.topic("placed"));

    has_headers(&messages["headers"], &headers());
    has_properties(&messages["properties"], "application/json");
    let late = messages["milliseconds"].received();
    let late = late
        .timestamp
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    assert_eq!(late, Some(Duration::from_secs(1_709_208_000_123)));
    let id = "6f1c2c6e-6a7e-4a0e-9d7f-2f4a0e1c2d3b";
    assert_eq!(messages["uuid"].id().to_string(), id);
    assert!(!messages["empty"].is_identified() && messages["empty"].payload().is_empty());

    let json = [
        "json",
        "json-bom",
        "json-utf-16",
        "json-utf-16-be",
        "json-gzip",
        "json-zlib",
    ];
    let msgpack = ["msgpack", "msgpack-gzip", "msgpack-old", "msgpack-single"];
    are_orders(&messages, &json, &msgpack).await;
    let Payload(forms) = extract::<Payload<Forms>>(&messages["msgpack-forms"])
        .await
        .unwrap();
    assert_eq!(
        (forms.at.as_str(), forms.count),
        ("2024-02-29T12:00:00Z", 3)
    );
    assert!(forms.lines.is_empty() && forms.raw == b"acme");
    assert_eq!(forms.by_number[&7], "seven");
    post.close().await;
}

/// What Python writes otherwise than a bus.
#[derive(Debug, Deserialize)]
struct Forms {
    at: String,
    count: u32,
    lines: Vec<Line>,
    raw: Vec<u8>,
    by_number: BTreeMap<u32, String>,
}

fn headers() -> Vec<Header> {
    let deep = table("deep", HeaderValue::Bool(true));
    let mixed = [
        HeaderValue::Int(1),
        text("a"),
        HeaderValue::Nil,
        HeaderValue::Bytes(b"b".into()),
        deep,
    ];
    let price = HeaderValue::Decimal {
        value: 125,
        scale: 1,
    };
    vec![
        ("text", Some("größe"), text("größe")),
        ("empty", Some(""), text("")),
        ("small", Some("42"), HeaderValue::Int(42)),
        ("large", Some("1099511627776"), HeaderValue::Int(1 << 40)),
        ("negative", Some("-7"), HeaderValue::Int(-7)),
        ("yes", Some("true"), HeaderValue::Bool(true)),
        // pika writes decimals without zeros at their end.
        ("decimal", Some("12.5"), price),
        (
            "time",
            Some("2024-02-29T12:00:00Z"),
            HeaderValue::Time(leap_day()),
        ),
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
        ("X-B3-TraceId", Some("t"), text("t")),
        ("größe", Some("m"), text("m")),
    ]
}
