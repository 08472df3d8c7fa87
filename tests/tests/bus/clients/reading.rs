//! Messages and dead letters of a bus, read by other clients.

use serde_json::{Value, json};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pika_reads_messages_and_dead_letters_of_a_bus() {
    reads(Client::Pika, json!(order())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kombu_reads_messages_and_dead_letters_of_a_bus() {
    reads(Client::Kombu, json!(order())).await;
}

/// Node has no msgpack of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqplib_reads_messages_and_dead_letters_of_a_bus() {
    reads(Client::Amqplib, Value::Null).await;
}

/// `unpacked` is what the client reads of msgpack.
async fn reads(client: Client, unpacked: Value) {
    let house = House::<Sqlite, Rabbit>::new().await;
    let (service, topic) = (house.service.clone(), house.topic("placed"));
    let bus = house.bus();
    let refusing = async || Err::<(), _>(HandlerError::permanent("no such customer: Zoë"));
    bus.start(Router::new().route(&topic, refusing))
        .await
        .expect("start");
    let refused = bus.publish(&topic, &order()).header("tenant", "größe");
    let refused = refused.await.expect("publish");
    house
        .stats_are(&bus, "a dead letter", |stats| stats.dead_lettered == 1)
        .await;
    bus.shutdown().await.expect("shutdown");
    // Now the service's queue has no consumer.
    let bus = house.bus();
    bus.start(Router::new()).await.expect("start");
    let packed = bus
        .publish(&topic, &order())
        .key("k")
        .header("x-request-id", "r");
    let packed = packed.await.expect("publish");
    let text = bus.publish(&topic, Json(order())).await.expect("publish");
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");

    let url = house.transport.url();
    let mut dead = run(client, url, ["read", &format!("{service}_dlx"), "1"]).await;
    let mut live = run(client, url, ["read", &service, "2"]).await;

    let headers = dead.iter_mut().chain(&mut live);
    for headers in headers.filter_map(|message| message["headers"].as_object_mut()) {
        // The broker's own.
        headers.remove("x-delivery-count");
    }
    // Two messages can change places on their way out.
    live.sort_by_key(|message| message["content_type"].as_str() == Some("application/json"));
    let of = |id: String, kind: &str, headers: Value, payload: &Value| {
        json!({
            "id": id, "content_type": kind, "delivery_mode": 2, "reply_to": service,
            "headers": headers, "payload": payload,
        })
    };
    let headers = json!({ "x-final-msg-topic": topic, "x-final-key": "k", "x-request-id": "r" });
    let first = of(
        packed.to_string(),
        "application/msgpack",
        headers,
        &unpacked,
    );
    assert_eq!(live[0], first);
    let headers = json!({ "x-final-msg-topic": topic });
    assert_eq!(
        live[1],
        of(
            text.to_string(),
            "application/json",
            headers,
            &json!(order())
        )
    );

    let mut letter = dead[0].clone();
    let headers = letter["headers"].as_object_mut().expect("headers");
    assert!(headers.remove("x-final-time").is_some());
    let headers = json!({
        "tenant": "größe", "x-final-msg-topic": topic, "x-final-attempts": 1,
        "x-final-reason": "no such customer: Zoë", "x-final-service": service,
    });
    assert_eq!(
        letter,
        of(
            refused.to_string(),
            "application/msgpack",
            headers,
            &unpacked
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_has_each_header_as_pika_published_it() {
    let headers = json!({
        "text": "größe", "empty": "", "small": 42, "large": 1_u64 << 40, "negative": -7, "yes": true,
        "decimal": { "decimal": "12.5" }, "time": { "time": "2024-02-29T12:00:00" },
        "tenant": { "bytes": "YWNtZQ==" }, "bytes": { "bytes": "//4=" }, "nil": null,
        "list": [1, "a", null, { "bytes": "Yg==" }, { "deep": true }], "table": { "a": { "b": [1] } },
        "x-request-id": "r", "X-B3-TraceId": "t", "größe": "m",
    });
    has_each_header(Client::Pika, 18, headers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_has_each_header_as_amqplib_published_it() {
    let headers = json!({
        "text": "größe", "small": 42, "large": 1_u64 << 40, "negative": -7, "yes": true, "float": 1.5,
        "whole": 12, "huge": 1e300, "decimal": { "!": "decimal", "value": { "places": 2, "digits": 1250 } },
        "time": { "!": "timestamp", "value": 1_709_208_000 }, "single": f64::from(0.1_f32),
        "short": -300, "unsigned": u32::MAX, "byte": -1,
        "tenant": { "type": "Buffer", "data": [97, 99, 109, 101] },
        "bytes": { "type": "Buffer", "data": [255, 254] }, "nil": null,
        "list": [1, "a", null, 1.5, { "deep": true }], "table": { "a": { "b": [1] } }, "x-request-id": "r",
    });
    has_each_header(Client::Amqplib, 12, headers).await;
}

/// Lets a client publish to a service that refuses everything, and read the dead letters.
async fn has_each_header(client: Client, count: usize, expected: Value) {
    let house = House::<Sqlite, Rabbit>::new().await;
    let (service, topic) = (house.service.clone(), house.topic("placed"));
    let bus = house.bus();
    let router = [&topic, &service]
        .iter()
        .fold(Router::new(), |router, topic| {
            router.route(*topic, async || Err::<(), _>(HandlerError::permanent("no")))
        });
    bus.start(router).await.expect("start");

    run(client, house.transport.url(), ["publish", &topic, &service]).await;
    let dead = format!("{service}_dlx");
    let letters = run(
        client,
        house.transport.url(),
        ["read", &dead, &count.to_string()],
    )
    .await;

    assert_eq!(letters.len(), count);
    let letter = letters
        .iter()
        .find(|letter| letter["headers"]["x-request-id"] == "r");
    let mut headers = letter.expect("the one with headers")["headers"].clone();
    let headers = headers.as_object_mut().expect("headers");
    headers.retain(|name, _| !name.starts_with("x-final-") && name != "x-delivery-count");
    assert_eq!(Value::Object(headers.clone()), expected);
    bus.shutdown().await.expect("shutdown");
}
