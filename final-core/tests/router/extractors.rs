//! What handlers may take, and what becomes of a message that does not have it.

use final_core::{
    Attempt, Bytes, FromMessage, HandlerError, Headers, Json, Key, Message, MessageId, Outcome,
    Payload, Router, Topic, handler::Permanent, payload::IntoPayload,
};

use crate::{Order, empty, message};

#[tokio::test]
async fn every_extractor_gives_its_part() {
    #[expect(clippy::too_many_arguments)]
    async fn all(
        Topic(topic): Topic,
        Key(key): Key,
        headers: Headers,
        id: MessageId,
        Attempt(attempt): Attempt,
        bytes: Bytes,
        message: Message,
        Payload(number): Payload<u16>,
    ) {
        assert_eq!(&*topic, "topic");
        assert_eq!(key.as_deref(), Some("42"));
        assert_eq!(headers.get("tenant"), Some("acme"));
        assert_eq!(id, message.id());
        assert_eq!(attempt, 2);
        assert_eq!(bytes, message.payload());
        assert_eq!(number, 7);
    }

    let sent = message("topic", &7_u16)
        .with_key("42")
        .with_header("tenant", "acme")
        .with_attempt(2);
    let router = Router::new().route("topic", all);
    assert_eq!(router.dispatch(sent).await.unwrap(), Outcome::Done);
}

#[tokio::test]
async fn payloads_go_and_come_as_msgpack_json_or_bytes() {
    fn order() -> Order {
        Order {
            id: -1,
            items: vec!["tea".into()],
        }
    }

    let router = Router::new()
        .route("msgpack", async |Payload(got): Payload<Order>| {
            assert_eq!(got, order());
        })
        .route("json", async |Json(got): Json<Order>| {
            assert_eq!(got, order());
        })
        .route("bytes", async |bytes: Bytes| assert_eq!(bytes, "raw"));

    let sent = [
        ("msgpack", (&order()).into_payload(), "application/msgpack"),
        ("json", Json(order()).into_payload(), "application/json"),
        (
            "bytes",
            Bytes::from("raw").into_payload(),
            "application/octet-stream",
        ),
    ];
    for (topic, payload, content_type) in sent {
        let payload = payload.unwrap();
        assert_eq!(payload.content_type, content_type);
        let message = Message::new(topic, payload.bytes).with_content_type(content_type);
        assert_eq!(router.dispatch(message).await.unwrap(), Outcome::Done);
    }
}

#[tokio::test]
async fn payload_that_cannot_be_decoded_is_a_permanent_failure_with_its_reason() {
    let router = Router::new()
        .route("msgpack", async |_: Payload<Order>| {})
        .route("json", async |_: Json<Order>| {});

    #[derive(serde::Serialize)]
    struct Other {
        id: &'static str,
    }
    let sent = Other { id: "secret" };
    let json = Message::new("json", "{\"id\":\"secret\"}").with_content_type("application/json");
    for (sent, expected) in [
        (
            message("msgpack", &sent),
            "the payload (11 bytes, \"application/msgpack\") is not msgpack for `router::Order`: \
             unexpected FixStr",
        ),
        (
            message("msgpack", &(7, 4111)),
            "the payload (5 bytes, \"application/msgpack\") is not msgpack for `router::Order`: \
             invalid type: integer, expected a sequence",
        ),
        (
            json.clone(),
            "the payload (15 bytes, \"application/json\") is not JSON for `router::Order`: \
             invalid type: string, expected i64 at line 1 column 14",
        ),
        (
            Message::new("msgpack", json.payload().clone()).with_content_type("application/json"),
            "the payload (15 bytes, \"application/json\") is not msgpack for `router::Order`: \
             there are bytes after its end",
        ),
    ] {
        let error = router.dispatch(sent).await.unwrap_err();
        assert!(Permanent::is_in(&*error));
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn reason_stays_short_whatever_was_sent() {
    #[derive(Debug)]
    struct Picky;

    impl<'de> serde::Deserialize<'de> for Picky {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(serde::de::Error::custom(text))
        }
    }

    let router = Router::new().route("topic", async |_: Payload<Picky>| {});
    let sent = message("topic", &"é".repeat(100_000)).with_content_type("x".repeat(100_000));
    let error = router.dispatch(sent).await.unwrap_err();
    assert!(error.to_string().chars().count() < 512);
}

#[tokio::test]
async fn extractor_of_ones_own_can_refuse_a_message_before_the_handler_runs() {
    struct Tenant(String);

    impl<S: Sync> FromMessage<S> for Tenant {
        async fn from_message(message: &Message, _: &S) -> Result<Self, HandlerError> {
            let tenant = message.headers().get("tenant").ok_or("no tenant")?;
            Ok(Self(tenant.to_owned()))
        }
    }

    let router = Router::new().route("topic", async |Tenant(tenant): Tenant| {
        assert_eq!(tenant, "acme");
    });
    let error = router.dispatch(empty("topic")).await.unwrap_err();
    assert_eq!(error.to_string(), "no tenant");
    assert!(!Permanent::is_in(&*error));
    let sent = empty("topic").with_header("tenant", "acme");
    assert_eq!(router.dispatch(sent).await.unwrap(), Outcome::Done);
}
