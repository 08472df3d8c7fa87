//! Messages that leave their queue for a while over RabbitMQ: what they keep, and what happens when something fails.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use final_amqp::Amqp;
use final_core::{Bus, HandlerError, Message, Options, PgBus, Router};
use final_tests::{Vhost, eventually};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::json;

use crate::{
    hostile::{every_type, producer, publish, table, text},
    shop::{SOON, options, service},
};

/// A service whose handler notes each message and answers by its payload.
struct Noting {
    bus: PgBus,
    seen: Arc<Mutex<Vec<(Instant, Message)>>>,
    database: String,
    name: String,
    topic: String,
}

impl Noting {
    async fn start(vhost: &Vhost, options: Options) -> Self {
        crate::shop::log();
        let database = final_tests::pg_database().await.expect("PostgreSQL");
        Self::start_on(vhost.url(), database, service(), options).await
    }

    async fn start_on(url: &str, database: String, name: String, options: Options) -> Self {
        let pool = sqlx::PgPool::connect(&database).await.expect("PostgreSQL");
        let amqp = Amqp::new(url).expect("a good URL");
        let bus: PgBus = Bus::new(&name, pool, amqp).with_options(options);
        let topic = format!("{name}.placed");
        let seen = Arc::<Mutex<Vec<(Instant, Message)>>>::default();
        let noted = Arc::clone(&seen);
        let router = Router::new().route(&topic, move |message: Message| {
            let answer = answer(&message);
            noted.lock().expect("lock").push((Instant::now(), message));
            async { answer }
        });
        bus.start(router).await.expect("start");
        Self {
            bus,
            seen,
            database,
            name,
            topic,
        }
    }

    async fn seen(&self, count: usize) -> Vec<Message> {
        eventually(&format!("{count} attempts"), SOON, async || {
            self.seen.lock().expect("lock").len() >= count
        })
        .await;
        let seen = self.seen.lock().expect("lock");
        seen.iter().map(|(_, message)| message.clone()).collect()
    }
}

/// What `abort` ends a process with.
const SIGABRT: i32 = 6;

/// How long a message stays away. Everything below that waits in memory.
const AWAY: Duration = Duration::from_secs(5);

fn answer(message: &Message) -> Result<(), HandlerError> {
    match message.payload() {
        body if body.starts_with(b"later") => Err(HandlerError::retry_in(AWAY, "later")),
        body if body.starts_with(b"never") => Err(HandlerError::permanent("never")),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_a_producer_wrote_survives_the_detour_and_the_dead_letters() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let service = Noting::start(&vhost, options().retry_count(1)).await;
    let (_connection, channel) = producer(vhost.url()).await;
    let types = every_type().into_iter().enumerate();
    let mut headers = table(types.map(|(n, value)| (format!("type{n}"), value)));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert("traceparent".into(), text(trace));
    headers.insert("x-request-id".into(), text("r"));
    headers.insert("x-death".into(), text("of another queue"));
    let properties = BasicProperties::default()
        .with_message_id("not a uuid".into())
        .with_content_type("application/x-mine".into())
        .with_content_encoding("br".into())
        .with_correlation_id("c".into())
        .with_reply_to("answers".into())
        .with_type("order.placed.v1".into())
        .with_app_id("legacy".into())
        .with_timestamp(1_700_000_000)
        .with_priority(7)
        .with_delivery_mode(2)
        .with_expiration("3600000".into());
    let body = b"later \0\xff\xfe compressed bytes";
    // Straight into the queue. A header says the topic.
    headers.insert("x-final-msg-topic".into(), text(&service.topic));
    headers.insert("x-final-key".into(), text("k"));
    let sent = headers.clone();
    publish(&channel, "", &service.name, headers, properties, body).await;
    // And one without an id, by the exchange.
    let (topic, plain) = (&service.topic, BasicProperties::default());
    let body_of_no_id = b"later, no id";
    publish(
        &channel,
        topic,
        topic,
        FieldTable::default(),
        plain,
        body_of_no_id,
    )
    .await;

    let seen = service.seen(4).await;
    for body in [&body[..], body_of_no_id] {
        let of_body = |message: &&Message| message.payload() == body;
        let both: Vec<_> = seen.iter().filter(of_body).collect();
        let [first, second] = both[..] else {
            panic!("{} attempts", both.len());
        };
        assert_eq!((first.attempt(), second.attempt()), (1, 2));
        assert_eq!(second.id(), first.id());
        assert_eq!(second.topic(), first.topic());
        assert_eq!(second.key(), first.key());
        assert_eq!(second.headers(), first.headers());
        assert_eq!(second.content_type(), first.content_type());
        assert_eq!(second.content_encoding(), first.content_encoding());
        assert_eq!(second.received(), first.received());
    }

    let dlq = format!("{}_dlx", service.name);
    let dead = final_tests::take(vhost.url(), &dlq, 2, SOON).await;
    let letter = dead.iter().find(|dead| dead.payload() == body);
    let letter = letter.expect("the letter").properties();
    let had = letter.headers().clone().expect("headers");
    for (name, value) in sent.inner() {
        let is_brokers = name.as_str() == "x-death";
        assert_eq!(
            had.inner().get(name.as_str()),
            Some(value).filter(|_| !is_brokers),
            "{name}"
        );
    }
    // A queue adds a header of its own when the letter is taken.
    let is_ours = |name: &&str| name.starts_with("x-final-") && !sent.contains_key(name);
    let ours = had.inner().keys().map(|name| name.as_str());
    let ours: Vec<_> = ours.filter(is_ours).collect();
    assert_eq!(
        ours,
        [
            "x-final-attempts",
            "x-final-reason",
            "x-final-service",
            "x-final-time"
        ]
    );
    let attempts = had.inner().get("x-final-attempts");
    assert_eq!(attempts, Some(&AMQPValue::LongLongInt(2)));
    assert_eq!(letter.message_id(), &Some("not a uuid".into()));
    assert_eq!(letter.correlation_id(), &Some("c".into()));
    assert_eq!(letter.reply_to(), &Some("answers".into()));
    assert_eq!(letter.kind(), &Some("order.placed.v1".into()));
    assert_eq!(letter.app_id(), &Some("legacy".into()));
    assert_eq!(letter.content_encoding(), &Some("br".into()));
    assert_eq!(letter.timestamp(), &Some(1_700_000_000));
    assert_eq!(letter.priority(), &Some(7));
    service.bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_dead_letter_queue_stands_in_no_other_messages_way() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let service = Noting::start(&vhost, options()).await;
    let api = vhost.api().expect("an API");
    let dlq = format!("{}_dlx", service.name);
    let full = json!({ "overflow": "reject-publish", "max-length": 10 });
    api.set_policy(vhost.name(), "full", &format!("^{dlq}$"), full)
        .await
        .expect("a policy");
    let (_connection, channel) = producer(vhost.url()).await;
    let topic = &service.topic;
    for n in 0..400 {
        let plain = (FieldTable::default(), BasicProperties::default());
        let body = format!("never {n}");
        publish(&channel, topic, topic, plain.0, plain.1, body.as_bytes()).await;
    }
    let plain = (FieldTable::default(), BasicProperties::default());
    publish(&channel, topic, topic, plain.0, plain.1, b"good").await;

    let seen = service.seen(401).await;
    assert!(seen.iter().any(|message| message.payload() == &b"good"[..]));
    // What is in the outbox is not dead-lettered yet.
    let stats = eventually("the good one counts", SOON, async || {
        match service.bus.stats().await {
            Ok(stats) if stats.handled == 1 && stats.pending > 300 => Ok(stats),
            other => Err(other),
        }
    })
    .await;
    assert!(stats.dead_lettered < 100, "{stats:?}");
    let began = Instant::now();
    service.bus.shutdown().await.expect("in time");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );

    // Once there is room, each letter arrives, with its reason.
    let (database, name) = (service.database.clone(), service.name.clone());
    let again = Noting::start_on(vhost.url(), database, name, options()).await;
    api.delete_policy(vhost.name(), "full").await.expect("gone");
    let dead = final_tests::take(vhost.url(), &dlq, 400, SOON).await;
    for letter in &dead {
        assert_eq!(letter.header("x-final-reason").as_deref(), Some("never"));
        assert_eq!(letter.header("x-final-attempts").as_deref(), Some("1"));
    }
    let mut bodies: Vec<_> = dead.iter().map(|dead| dead.payload().to_vec()).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 400);
    again.bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_process_dies_before_the_ack_comes_again_with_the_same_id() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let (database, name) = (
        final_tests::pg_database().await.expect("PostgreSQL"),
        service(),
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_detoured"))
        .args([&name, &database, vhost.url()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    let status = tokio::task::spawn_blocking(move || child.wait());
    let status = status.await.expect("joined").expect("ended");
    assert_eq!(status.signal(), Some(SIGABRT), "it dies in the middle");

    let service = Noting::start_on(vhost.url(), database, name, options().retry_count(1)).await;
    // The delivery that was not acked, and the record. The child may also have died before it settled the record of
    // what it had published, so there can be another delivery.
    eventually("the second attempt", SOON, async || {
        let seen = service.seen.lock().expect("lock");
        seen.iter().any(|(_, message)| message.attempt() == 2)
    })
    .await;
    let seen = service.seen(2).await;
    assert_eq!(seen[0].attempt(), 1);
    assert!(seen.iter().all(|message| message.id() == seen[0].id()));
    service.bus.shutdown().await.expect("shutdown");
}
