//! Dead letters that the bus takes out of RabbitMQ: collected, listed, replayed, discarded. On all databases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_core::{
    Bus, HandlerError, Message, Options, Router,
    broker::{DeadLetter, DeadLetterFilter, DeadLetters},
};
use final_tests::eventually;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    database::Database,
    house::{House, Notes, SOON},
    transport::Rabbit,
};

macro_rules! on_every_database {
    ($($name:ident),+ $(,)?) => {
        crate::suite!(@pair postgres, sqlx::Postgres, crate::transport::Rabbit: $($name,)+);
        crate::suite!(@pair mariadb, sqlx::MySql, crate::transport::Rabbit: $($name,)+);
        crate::suite!(@pair sqlite, sqlx::Sqlite, crate::transport::Rabbit: $($name,)+);
    };
}

on_every_database![
    a_collected_letter_is_replayed_to_its_service_alone,
    a_letter_is_replayed_while_the_outbox_has_records_of_its_id,
    letters_that_rabbitmq_made_come_along_with_its_words,
    letters_stay_in_rabbitmq_unless_they_are_to_be_collected,
    a_shutdown_in_the_middle_loses_no_letter_and_doubles_none,
    whatever_stands_in_the_queue_is_stored_once,
    equal_letters_are_all_stored,
    two_instances_share_the_letters,
    starting_with_a_purge_removes_collected_letters,
];

// Where the server can be made slow.
crate::suite!(@pair postgres_slowly, sqlx::Postgres, crate::transport::Rabbit:
    letters_that_take_too_long_together_are_stored_in_smaller_lots,);
crate::suite!(@pair mariadb_slowly, sqlx::MySql, crate::transport::Rabbit:
    letters_that_take_too_long_together_are_stored_in_smaller_lots,);

fn collecting<D: Database>(house: &House<D, Rabbit>) -> Options {
    house.options().retry_count(0).collect_dead_letters(true)
}

/// A service whose handler refuses everything until it is mended.
struct Clinic<D: Database> {
    bus: Bus<D>,
    notes: Notes,
    is_mended: Arc<AtomicBool>,
}

impl<D: Database> Clinic<D> {
    async fn open(house: &House<D, Rabbit>, options: Options) -> Self {
        Self::open_for(house, options, &house.topic("placed")).await
    }

    async fn open_for(house: &House<D, Rabbit>, options: Options, topic: &str) -> Self {
        let bus = house.bus_with(options);
        let (notes, is_mended) = (Notes::default(), Arc::new(AtomicBool::new(false)));
        let (noted, mended) = (notes.clone(), Arc::clone(&is_mended));
        let router = Router::new().route(topic, move |message: Message| {
            noted.add(message);
            let answer = match mended.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err(HandlerError::permanent("out of stock ✓")),
            };
            async move { answer }
        });
        bus.start(router).await.expect("start");
        Self {
            bus,
            notes,
            is_mended,
        }
    }

    fn mend(&self) {
        self.is_mended.store(true, Ordering::SeqCst);
    }
}

async fn letters<D: Database>(bus: &Bus<D>, service: &str) -> Vec<DeadLetter> {
    let all = DeadLetterFilter::all();
    let listed = bus.collected_letters().list(service, &all).await;
    listed.expect("a list")
}

/// Waits for so many letters.
async fn collected<D: Database>(bus: &Bus<D>, service: &str, count: usize) -> Vec<DeadLetter> {
    eventually(
        &format!("{count} collected letters"),
        SOON,
        async || match letters(bus, service).await {
            found if found.len() >= count => Ok(found),
            found => Err(found.len()),
        },
    )
    .await
}

fn dead_letter_queue<D: Database>(house: &House<D, Rabbit>) -> String {
    format!("{}_dlx", house.service)
}

/// How many messages stand in a queue, delivered or not. Asked on a channel, because the API's numbers are late.
async fn ready(url: &str, queue: &str) -> u32 {
    let (_connection, channel) = client(url).await;
    let passive = lapin::options::QueueDeclareOptions {
        passive: true,
        ..lapin::options::QueueDeclareOptions::durable()
    };
    let declared = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await;
    declared.expect("the queue").message_count()
}

async fn client(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    let confirms = channel.confirm_select(ConfirmSelectOptions::default());
    confirms.await.expect("confirms");
    (connection, channel)
}

async fn publish(channel: &Channel, to: (&str, &str), properties: BasicProperties, body: &[u8]) {
    let (exchange, key) = (to.0.into(), to.1.into());
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish(exchange, key, options, body, properties);
    confirm.await.expect("written").await.expect("confirmed");
}

async fn a_collected_letter_is_replayed_to_its_service_alone<D: Database>(house: House<D, Rabbit>) {
    let topic = house.topic("placed");
    let other = house.neighbour().await;
    let (clinic, service) = (
        Clinic::open(&house, collecting(&house)).await,
        &house.service,
    );
    let neighbour = Clinic::open_for(&other, other.options(), &topic).await;
    neighbour.mend();
    let published = clinic.bus.publish(&topic, &7_i64).key("k ✓");
    let id = published.header("tenant", "Zoë").await.expect("publish");

    let found = collected(&clinic.bus, service, 1).await;
    let letter = &found[0];
    assert_eq!((letter.id, &*letter.topic), (id, &*topic));
    assert_eq!((&*letter.reason, letter.attempts), ("out of stock ✓", 1));
    assert!(letter.age < SOON);
    let message = letter.message.as_ref().expect("a message");
    assert_eq!(message.key(), Some("k ✓"));
    assert_eq!(message.headers().get("tenant"), Some("Zoë"));
    house
        .stats_are(&clinic.bus, "a count", |stats| stats.collected == 1)
        .await;
    neighbour.notes.reach(1).await;

    // It fails once more, with one attempt as before, and is a letter again.
    let one = DeadLetterFilter::all().id(id).reason("out of stock");
    let letters_of = clinic.bus.collected_letters();
    assert_eq!(letters_of.replay(service, &one).await.expect("replay"), 1);
    clinic.notes.reach(2).await;
    let found = collected(&clinic.bus, service, 1).await;
    assert_eq!((found[0].id, found[0].attempts), (id, 1));
    // Its handler is mended.
    clinic.mend();
    assert_eq!(letters_of.replay(service, &one).await.expect("replay"), 1);
    clinic.notes.reach(3).await;
    house.outbox_is_empty(&clinic.bus).await;

    for message in clinic.notes.all() {
        assert_eq!((message.id(), message.attempt()), (id, 1));
        assert_eq!(message.key(), Some("k ✓"));
        assert_eq!(message.headers().get("tenant"), Some("Zoë"));
        assert_eq!(message.received().exchange.as_deref(), Some(&*topic));
    }
    assert!(letters(&clinic.bus, service).await.is_empty());
    assert_eq!(
        ready(house.transport.url(), &dead_letter_queue(&house)).await,
        0
    );
    clinic.bus.shutdown().await.expect("shutdown");
    neighbour.bus.shutdown().await.expect("shutdown");
    assert_eq!(neighbour.notes.len(), 1);
}

/// The record of the message itself is kept as acked, others of its id wait, and so does that of an earlier replay.
async fn a_letter_is_replayed_while_the_outbox_has_records_of_its_id<D: Database>(
    house: House<D, Rabbit>,
) {
    let options = collecting(&house).retention(SOON * 100);
    let clinic = Clinic::open(&house, options).await;
    let (topic, service) = (house.topic("placed"), &house.service);
    let id = clinic.bus.publish(&topic, &7_i64).await.expect("publish");
    collected(&clinic.bus, service, 1).await;
    for _ in 0..2 {
        let waiting = clinic.bus.publish(&topic, &8_i64).id(id);
        waiting.delay(SOON * 10).await.expect("published");
    }

    let one = DeadLetterFilter::all().id(id);
    let letters_of = clinic.bus.collected_letters();
    assert_eq!(letters_of.replay(service, &one).await.expect("replay"), 1);
    clinic.notes.reach(2).await;
    collected(&clinic.bus, service, 1).await;
    clinic.mend();
    assert_eq!(letters_of.replay(service, &one).await.expect("replay"), 1);

    clinic.notes.reach(3).await;
    clinic.bus.shutdown().await.expect("shutdown");
    let came = clinic.notes.all();
    assert!(came.iter().all(|message| message.id() == id));
    assert_eq!(clinic.notes.numbers(), [7, 7, 7]);
    // The message, two that wait, and two replays.
    assert_eq!(house.records().await, 5);
}

async fn letters_that_rabbitmq_made_come_along_with_its_words<D: Database>(
    house: House<D, Rabbit>,
) {
    let service = &house.service;
    // Declares the queues.
    let first = Clinic::open(&house, house.options()).await;
    first.bus.shutdown().await.expect("shutdown");
    let (_connection, channel) = client(house.transport.url()).await;
    let topic = house.topic("placed");
    let soon = BasicProperties::default().with_expiration("1".into());
    publish(&channel, (&topic, &topic), soon, b"too late").await;
    let refused = BasicProperties::default().with_message_id("17".into());
    publish(&channel, (&topic, &topic), refused, b"refused").await;
    let got = eventually("a message to reject", SOON, async || {
        let got = channel.basic_get(service.as_str().into(), BasicGetOptions::default());
        match got.await.expect("get") {
            Some(got) if got.delivery.data == b"refused" => Ok(got),
            _ => Err("none"),
        }
    })
    .await;
    got.reject(BasicRejectOptions { requeue: false })
        .await
        .expect("rejected");

    let clinic = Clinic::open(&house, collecting(&house)).await;
    clinic.mend();
    let found = collected(&clinic.bus, service, 2).await;
    let letter = |body: &[u8]| {
        let is_it = |letter: &&DeadLetter| {
            letter
                .message
                .as_ref()
                .is_ok_and(|one| one.payload() == body)
        };
        found.iter().find(is_it).expect("the letter")
    };
    let expired = letter(b"too late");
    assert_eq!(expired.reason, format!("expired in the queue {service:?}"));
    let rejected = letter(b"refused");
    let words = format!("rejected by a consumer of the queue {service:?}");
    assert_eq!((&rejected.reason, rejected.attempts), (&words, 0));
    for letter in &found {
        assert_eq!(letter.topic, topic);
        assert!(
            letter.age < SOON + Duration::from_secs(5),
            "{:?}",
            letter.age
        );
    }

    let (all, of) = (DeadLetterFilter::all(), clinic.bus.collected_letters());
    assert_eq!(of.replay(service, &all).await.expect("replay"), 2);
    clinic.notes.reach(2).await;
    for message in clinic.notes.all() {
        assert_eq!(message.topic(), topic);
        let received = message.received();
        assert_eq!(received.exchange.as_deref(), Some(&*topic));
        assert_eq!(received.expiration, None);
        let of_rejected = message.payload() == &b"refused"[..];
        assert_eq!(received.message_id.as_deref(), of_rejected.then_some("17"));
    }
    clinic.bus.shutdown().await.expect("shutdown");
}

async fn letters_stay_in_rabbitmq_unless_they_are_to_be_collected<D: Database>(
    house: House<D, Rabbit>,
) {
    let options = house.options().retry_count(0);
    let clinic = Clinic::open(&house, options).await;
    let topic = house.topic("placed");
    clinic.bus.publish(&topic, &7_i64).await.expect("publish");

    let dlq = dead_letter_queue(&house);
    let taken = final_tests::take(house.transport.url(), &dlq, 1, SOON).await;
    assert_eq!(taken.len(), 1);
    assert!(letters(&clinic.bus, &house.service).await.is_empty());
    let vhost = house.transport.vhost();
    let connections = vhost.api().expect("an API").connections(vhost.name()).await;
    let connections = connections.expect("a list");
    assert!(!connections.iter().any(|name| name.contains("collector")));
    clinic.bus.shutdown().await.expect("shutdown");
}

async fn a_shutdown_in_the_middle_loses_no_letter_and_doubles_none<D: Database>(
    house: House<D, Rabbit>,
) {
    const ALL: usize = 400;
    let service = &house.service;
    let first = Clinic::open(&house, house.options().retry_count(0)).await;
    let topic = house.topic("placed");
    for number in 0..ALL as i64 {
        first.bus.publish(&topic, &number).await.expect("publish");
    }
    first.notes.reach(ALL).await;
    let dead = |stats: &final_core::Stats| stats.dead_lettered == ALL as u64;
    house.stats_are(&first.bus, "dead letters", dead).await;
    first.bus.shutdown().await.expect("shutdown");

    let mut found = Vec::new();
    for least in [1, ALL / 2, ALL] {
        let clinic = Clinic::open(&house, collecting(&house)).await;
        found = collected(&clinic.bus, service, least).await;
        clinic.bus.shutdown().await.expect("shutdown");
    }
    let mut ids: Vec<_> = found.iter().map(|letter| letter.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), found.len()), (ALL, ALL));
    assert_eq!(
        ready(house.transport.url(), &dead_letter_queue(&house)).await,
        0
    );
}

async fn whatever_stands_in_the_queue_is_stored_once<D: Database>(house: House<D, Rabbit>) {
    let service = &house.service;
    let clinic = Clinic::open(&house, collecting(&house)).await;
    let (_connection, channel) = client(house.transport.url()).await;
    let long = "x".repeat(100_000);
    let texts = ["a\0b", "Zoë ✓ 🦀", "'; DROP TABLE orders; --", &long];
    let mut bodies = Vec::new();
    let exchange = format!("{service}_exchange_dlx");
    let mut put = async |properties: BasicProperties, key: &str| {
        let body = format!("\0{}\u{fffd}", bodies.len()).into_bytes();
        publish(&channel, (&exchange, key), properties, &body).await;
        bodies.push(body);
    };
    // Nothing at all, also no topic.
    put(BasicProperties::default(), "").await;
    put(BasicProperties::default(), "a\nb").await;
    for text in texts {
        let text = AMQPValue::LongString(text.into());
        for name in [
            "x-final-reason",
            "x-final-msg-topic",
            "x-final-key",
            "x-final-attempts",
            "x-final-time",
            "x-death",
            "tenant",
        ] {
            let mut headers = FieldTable::default();
            headers.insert(name.into(), text.clone());
            let properties = BasicProperties::default().with_headers(headers);
            put(properties, "order.placed").await;
        }
    }
    for time in [0, 1, u64::MAX] {
        let mut headers = FieldTable::default();
        headers.insert("x-final-time".into(), AMQPValue::Timestamp(time));
        headers.insert("x-final-attempts".into(), AMQPValue::LongLongInt(-1));
        put(BasicProperties::default().with_headers(headers), "k").await;
    }
    let short = BasicProperties::default()
        .with_content_type("a\0b".into())
        .with_content_encoding("ü\0".into())
        .with_message_id("\0".into());
    put(short, "order.placed").await;

    let found = collected(&clinic.bus, service, bodies.len()).await;
    assert_eq!(found.len(), bodies.len());
    assert!(found.iter().all(|letter| letter.reason.len() <= 1024));
    assert_eq!(
        ready(house.transport.url(), &dead_letter_queue(&house)).await,
        0
    );
    let payloads = format!("SELECT COUNT(DISTINCT payload) FROM {}", table(&house));
    assert_eq!(D::number(&house.pool, &payloads).await, bodies.len() as i64);
    let (all, of) = (DeadLetterFilter::all(), clinic.bus.collected_letters());
    let discarded = of.discard(service, &all).await.expect("discard");
    assert_eq!(discarded, bodies.len() as u64);
    clinic.bus.shutdown().await.expect("shutdown");
}

fn table<D: Database>(house: &House<D, Rabbit>) -> String {
    format!("final_{}_dead", house.service.replace('-', "_"))
}

async fn equal_letters_are_all_stored<D: Database>(house: House<D, Rabbit>) {
    let service = &house.service;
    let first = Clinic::open(&house, house.options()).await;
    first.bus.shutdown().await.expect("shutdown");
    let (_connection, channel) = client(house.transport.url()).await;
    let exchange = format!("{service}_exchange_dlx");
    let put = async || {
        let equal = BasicProperties::default().with_message_id("7".into());
        publish(&channel, (&exchange, "order.placed"), equal, b"equal").await;
    };
    for _ in 0..3 {
        put().await;
    }
    // They come together, and one more when they are stored.
    let clinic = Clinic::open(&house, collecting(&house)).await;
    collected(&clinic.bus, service, 3).await;
    put().await;

    collected(&clinic.bus, service, 4).await;
    clinic.bus.shutdown().await.expect("shutdown");
    assert_eq!(letters(&house.bus(), service).await.len(), 4);
}

async fn two_instances_share_the_letters<D: Database>(house: House<D, Rabbit>) {
    const ALL: usize = 200;
    let service = &house.service;
    let one = Clinic::open(&house, collecting(&house)).await;
    let other = Clinic::open(&house, collecting(&house)).await;
    let topic = house.topic("placed");
    for number in 0..ALL as i64 {
        one.bus.publish(&topic, &number).await.expect("publish");
    }

    let found = collected(&one.bus, service, ALL).await;
    assert_eq!(found.len(), ALL);
    eventually("both counts", SOON, async || {
        let of = async |bus: &Bus<D>| bus.stats().await.expect("stats").collected;
        match of(&one.bus).await + of(&other.bus).await {
            200 => Ok(()),
            count => Err(count),
        }
    })
    .await;
    one.bus.shutdown().await.expect("shutdown");
    other.bus.shutdown().await.expect("shutdown");
    assert_eq!(letters(&house.bus(), service).await.len(), ALL);
}

async fn starting_with_a_purge_removes_collected_letters<D: Database>(house: House<D, Rabbit>) {
    let clinic = Clinic::open(&house, collecting(&house)).await;
    let topic = house.topic("placed");
    clinic.bus.publish(&topic, &7_i64).await.expect("publish");
    collected(&clinic.bus, &house.service, 1).await;
    clinic.bus.shutdown().await.expect("shutdown");

    let options = collecting(&house).purge_on_startup(true);
    let clinic = Clinic::open(&house, options).await;

    assert!(letters(&clinic.bus, &house.service).await.is_empty());
    clinic.bus.shutdown().await.expect("shutdown");
}

/// Each letter takes nearly half a second, so a lot of 50 takes longer than the 15 s that it has.
async fn letters_that_take_too_long_together_are_stored_in_smaller_lots<D: Database>(
    house: House<D, Rabbit>,
) {
    const ALL: usize = 60;
    let clinic = Clinic::open(&house, house.options()).await;
    clinic.bus.shutdown().await.expect("shutdown");
    let (_connection, channel) = client(house.transport.url()).await;
    let exchange = format!("{}_exchange_dlx", house.service);
    for number in 0..ALL {
        let body = format!("letter {number}").into_bytes();
        publish(
            &channel,
            (&exchange, "order.placed"),
            BasicProperties::default(),
            &body,
        )
        .await;
    }
    let table = table(&house);
    let each = match D::NAME {
        "PostgreSQL" => {
            let sql = "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN PERFORM pg_sleep(0.45); RETURN NEW; END'";
            D::run_on(&house.pool, sql).await;
            "EXECUTE FUNCTION slowly()"
        }
        _ => "DO SLEEP(0.45)",
    };
    let slowly = format!("CREATE TRIGGER slowly BEFORE INSERT ON {table} FOR EACH ROW {each}");
    D::run_on(&house.pool, &slowly).await;

    let clinic = Clinic::open(&house, collecting(&house)).await;
    let found = eventually("all letters", SOON * 2, async || {
        match letters(&clinic.bus, &house.service).await {
            found if found.len() >= ALL => Ok(found),
            found => Err(found.len()),
        }
    });

    assert_eq!(found.await.len(), ALL);
    clinic.bus.shutdown().await.expect("shutdown");
}
