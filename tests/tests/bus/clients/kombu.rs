//! Messages by kombu.

use final_core::Bytes;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_reads_whatever_kombu_publishes() {
    let post = Post::open().await;
    let messages = post.published_by(Client::Kombu, 16, kind).await;

    assert_eq!(messages["straight"].topic(), post.house.service);
    has_headers(&messages["headers"], &headers());
    has_properties(&messages["properties"], "application/json");
    assert!(!messages["properties"].is_durable() && messages["headers"].is_durable());
    assert_eq!(extract::<Bytes>(&messages["text"]).await.unwrap(), "größe");
    assert_eq!(
        extract::<Bytes>(&messages["bytes"]).await.unwrap(),
        &[0xff, 0xfe][..]
    );

    let json = ["straight", "headers", "json", "json-gzip", "json-zlib"];
    are_orders(&messages, &json, &["msgpack", "msgpack-gzip"]).await;

    // What cannot be read is told.
    for (name, why) in [
        ("json-bzip2", "\"x-bz2\" is not gzip, deflate or zstd"),
        ("json-lzma", "\"x-lzma\" is not gzip, deflate or zstd"),
        ("yaml", "\"application/x-yaml\") is not JSON"),
        (
            "pickle-gzip",
            "\"application/x-python-serialize\") is not JSON",
        ),
    ] {
        let reason = extract::<Json<Order>>(&messages[name]).await.unwrap_err();
        assert!(
            reason.is_permanent() && reason.to_string().contains(why),
            "{reason}"
        );
    }
    post.close().await;
}

fn headers() -> Vec<Header> {
    let mixed = [
        HeaderValue::Int(1),
        text("a"),
        HeaderValue::Nil,
        table("deep", HeaderValue::Bool(true)),
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
        ("no", Some("false"), HeaderValue::Bool(false)),
        ("float", Some("1.5"), HeaderValue::Float(1.5)),
        ("whole", Some("12"), HeaderValue::Float(12.0)),
        ("decimal", Some("12.50"), price),
        (
            "time",
            Some("2024-02-29T12:00:00Z"),
            HeaderValue::Time(leap_day()),
        ),
        // kombu writes bytes as a text.
        ("tenant", Some("acme"), text("acme")),
        ("nil", None, HeaderValue::Nil),
        ("list", None, list(mixed)),
        (
            "table",
            None,
            table("a", table("b", list([HeaderValue::Int(1)]))),
        ),
        ("x-tenant", Some("acme"), text("acme")),
    ]
}
