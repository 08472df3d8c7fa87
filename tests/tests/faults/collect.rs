//! Collected dead letters: what they keep, and what happens when something fails.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use final_amqp::Amqp;
use final_core::{
    Bus, HandlerError, Message, OutboxDatabase, PgBus, Router,
    broker::{DeadLetter, DeadLetterFilter, DeadLetters},
};
use final_tests::{Proxy, Vhost, always, eventually, unique};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use sqlx::Pool;

use crate::{
    hostile::{every_type, producer, publish, table, text},
    overheard::warnings,
    shop::{SOON, hang_up, log, options, service},
};

/// What `abort` ends a process with.
const SIGABRT: i32 = 6;

/// A service that refuses everything until it is mended, and whose dead letters are collected.
struct Collecting<DB: OutboxDatabase> {
    bus: Bus<DB>,
    name: String,
    seen: Arc<Mutex<Vec<Message>>>,
    is_mended: Arc<AtomicBool>,
}

impl<DB: OutboxDatabase> Collecting<DB> {
    async fn start(name: &str, url: &str, pool: Pool<DB>) -> Self {
        log();
        let amqp = Amqp::new(url).expect("a good URL");
        let options = options().retry_count(0).collect_dead_letters(true);
        let bus = Bus::new(name, pool, amqp).with_options(options);
        let seen = Arc::<Mutex<Vec<Message>>>::default();
        let is_mended = Arc::new(AtomicBool::new(false));
        let (noted, mended) = (Arc::clone(&seen), Arc::clone(&is_mended));
        let router = Router::new().route(format!("{name}.placed"), move |message: Message| {
            noted.lock().expect("lock").push(message);
            let answer = match mended.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err(HandlerError::permanent("no")),
            };
            async move { answer }
        });
        bus.start(router).await.expect("start");
        Self {
            bus,
            name: name.to_owned(),
            seen,
            is_mended,
        }
    }

    async fn seen(&self, count: usize) -> Vec<Message> {
        eventually(&format!("{count} attempts"), SOON, async || {
            self.seen.lock().expect("lock").len() >= count
        })
        .await;
        self.seen.lock().expect("lock").clone()
    }

    async fn letters(&self) -> Vec<DeadLetter> {
        let (all, letters) = (DeadLetterFilter::all(), self.bus.collected_letters());
        letters.list(&self.name, &all).await.expect("a list")
    }

    /// Waits for so many letters.
    async fn collected(&self, count: usize) -> Vec<DeadLetter> {
        eventually(&format!("{count} letters"), SOON, async || {
            match self.letters().await {
                letters if letters.len() >= count => Ok(letters),
                letters => Err(letters.len()),
            }
        })
        .await
    }
}

async fn postgres(url: &str) -> sqlx::PgPool {
    sqlx::postgres::PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_secs(2))
        .connect(url)
        .await
        .expect("PostgreSQL")
}

/// Declares the queues of a service.
async fn declare(name: &str, url: &str, database: &str) {
    let bus: PgBus = Bus::new(
        name,
        postgres(database).await,
        Amqp::new(url).expect("a URL"),
    )
    .with_options(options());
    let router = Router::new().route(format!("{name}.placed"), async || {});
    bus.start(router).await.expect("start");
    bus.shutdown().await.expect("shutdown");
}

/// Puts letters into the queue, half of them without an id.
async fn put(url: &str, name: &str, numbers: std::ops::Range<usize>) {
    let (connection, channel) = producer(url).await;
    let exchange = format!("{name}_exchange_dlx");
    for number in numbers {
        let properties = match number % 2 {
            0 => BasicProperties::default(),
            _ => BasicProperties::default().with_message_id(format!("id {number}").into()),
        };
        let topic = format!("{name}.placed");
        let headers = table([("x-final-reason".to_owned(), text("no"))]);
        let body = format!("letter {number}");
        publish(
            &channel,
            &exchange,
            &topic,
            headers,
            properties,
            body.as_bytes(),
        )
        .await;
    }
    connection.close(200, "done".into()).await.expect("closed");
}

fn bodies(letters: &[DeadLetter]) -> Vec<String> {
    let body = |letter: &DeadLetter| {
        let message = letter.message.as_ref().expect("a message");
        String::from_utf8(message.payload().to_vec()).expect("a text")
    };
    let mut bodies: Vec<_> = letters.iter().map(body).collect();
    bodies.sort_unstable();
    bodies
}

fn all(count: usize) -> Vec<String> {
    let mut all: Vec<_> = (0..count).map(|n| format!("letter {n}")).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_between_the_commit_and_the_ack_leaves_each_letter_once() {
    const ALL: usize = 160;
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let name = service();
    declare(&name, vhost.url(), &database).await;
    put(vhost.url(), &name, 0..ALL).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_collecting"))
        .args([&name, &database, vhost.url()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    let status = tokio::task::spawn_blocking(move || child.wait());
    let status = status.await.expect("joined").expect("ended");
    assert_eq!(status.signal(), Some(SIGABRT), "it dies in the middle");

    let pool = postgres(&database).await;
    let count = format!("SELECT count(*) FROM final_{}_dead", name.replace('-', "_"));
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(count));
    let before: i64 = count.fetch_one(&pool).await.expect("a count");
    assert!(before > 0, "it has stored some");
    let service = Collecting::start(&name, vhost.url(), pool).await;
    service.collected(ALL).await;
    // Those that it had stored come last at the latest: nothing is left in the queue then.
    let unacked = async || in_queue(&vhost, &name).await == (0, 0);
    eventually("an empty queue", SOON, unacked).await;
    assert_eq!(bodies(&service.letters().await), all(ALL));
    service.bus.shutdown().await.expect("shutdown");
}

/// How many letters wait in the queue, asked on a channel.
async fn in_queue_now(url: &str, name: &str) -> u32 {
    let (_connection, channel) = producer(url).await;
    let passive = lapin::options::QueueDeclareOptions {
        passive: true,
        ..lapin::options::QueueDeclareOptions::durable()
    };
    let queue = format!("{name}_dlx");
    let declared = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default());
    declared.await.expect("the queue").message_count()
}

/// How many letters wait in the queue, and how many are delivered and not acked. RabbitMQ tells it late.
async fn in_queue(vhost: &Vhost, name: &str) -> (u64, u64) {
    let queue = vhost.api().expect("an API");
    let queue = queue.queue(vhost.name(), &format!("{name}_dlx")).await;
    let queue = queue.expect("the queue");
    let number = |name: &str| queue[name].as_u64().unwrap_or(u64::MAX);
    (number("messages_ready"), number("messages_unacknowledged"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_stay_in_the_queue_while_the_database_is_away_and_all_arrive_after() {
    const ALL: usize = 300;
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&database).await.expect("a proxy");
    let name = service();
    let pool = postgres(&proxy.url(&database)).await;
    let service = Collecting::start(&name, vhost.url(), pool).await;
    put(vhost.url(), &name, 0..10).await;
    service.collected(10).await;

    proxy.down();
    put(vhost.url(), &name, 10..ALL).await;
    let held = async || match in_queue(&vhost, &name).await {
        (ready, unacked) if unacked == 50 && ready == ALL as u64 - 60 => Ok(()),
        other => Err(other),
    };
    eventually("50 in flight, and the others in the queue", SOON, held).await;
    let most = async || in_queue(&vhost, &name).await.1 <= 50;
    always("50 in flight at most", Duration::from_secs(6), most).await;
    // The connections of RabbitMQ end meanwhile.
    hang_up(&vhost).await;
    proxy.up().expect("up");

    let letters = service.collected(ALL).await;
    assert_eq!(bodies(&letters), all(ALL));
    // An outage at the shutdown does not hold it up, and loses nothing.
    proxy.down();
    put(vhost.url(), &name, ALL..ALL + 10).await;
    let began = Instant::now();
    let _ = service.bus.shutdown().await;
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    proxy.up().expect("up");
    let again = Collecting::start(&name, vhost.url(), postgres(&database).await).await;
    let letters = again.collected(ALL + 10).await;
    assert_eq!(bodies(&letters), all(ALL + 10));
    again.bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_a_producer_wrote_survives_collecting_and_replaying() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let name = service();
    let service = Collecting::start(&name, vhost.url(), postgres(&database).await).await;
    let (_connection, channel) = producer(vhost.url()).await;
    let topic = format!("{name}.placed");
    let types = every_type().into_iter().enumerate();
    let mut headers = table(types.map(|(n, value)| (format!("type{n}"), value)));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (header, value) in [
        ("traceparent", trace),
        ("x-request-id", "r"),
        ("x-final-key", "k"),
    ] {
        headers.insert(header.into(), text(value));
    }
    headers.insert("x-final-msg-topic".into(), text(&topic));
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
        .with_delivery_mode(2);
    let body: Vec<u8> = (0..=255).collect();
    // Straight into the queue, and by the exchange with a key of its own.
    publish(&channel, "", &name, headers, properties, &body).await;
    let plain = (FieldTable::default(), BasicProperties::default());
    publish(&channel, &topic, &topic, plain.0, plain.1, b"no id").await;
    let before = service.seen(2).await;
    let letters = service.collected(2).await;

    service.is_mended.store(true, Ordering::SeqCst);
    let (every, of) = (DeadLetterFilter::all(), service.bus.collected_letters());
    assert_eq!(of.replay(&name, &every).await.expect("replay"), 2);
    let after = service.seen(4).await.split_off(2);
    for first in &before {
        let is_it = |message: &&Message| message.payload() == first.payload();
        let second = after.iter().find(is_it).expect("the message again");
        assert_eq!((first.attempt(), second.attempt()), (1, 1));
        assert_eq!(second.id(), first.id());
        assert_eq!(second.topic(), first.topic());
        assert_eq!(second.key(), first.key());
        assert_eq!(second.headers(), first.headers());
        assert_eq!(second.content_type(), first.content_type());
        assert_eq!(second.content_encoding(), first.content_encoding());
        assert_eq!(second.is_durable(), first.is_durable());
        let (mut second, first) = (second.received(), first.received());
        // The id that the bus has made for a message without one stands in its dead letter.
        if first.message_id.is_none() {
            second.message_id = None;
        }
        assert_eq!(second, first);
    }
    let ids = |messages: &[Message]| {
        let mut ids: Vec<_> = messages.iter().map(Message::id).collect();
        ids.sort_unstable();
        ids
    };
    let mut of_letters: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    of_letters.sort_unstable();
    assert_eq!(of_letters, ids(&before));
    service.bus.shutdown().await.expect("shutdown");
}

/// RabbitMQ takes larger messages than MariaDB does: 16 MiB of payload, and more before RabbitMQ 4. MariaDB's limit counts
/// everything else of the row as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_is_too_large_for_the_database_stays_in_the_queue_and_holds_up_no_other() {
    const TOO_MUCH: usize = 16 * 1024 * 1024 - 16;
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let database = final_tests::mysql_database().await.expect("MariaDB");
    let name = service();
    let pool = sqlx::MySqlPool::connect(&database).await.expect("MariaDB");
    let service = Collecting::start(&name, vhost.url(), pool).await;
    let (_connection, channel) = producer(vhost.url()).await;
    let (exchange, topic) = (format!("{name}_exchange_dlx"), format!("{name}.placed"));
    let plain = || (FieldTable::default(), BasicProperties::default());
    let (headers, properties) = plain();
    publish(
        &channel,
        &exchange,
        &topic,
        headers,
        properties,
        &vec![7; TOO_MUCH],
    )
    .await;
    // As RabbitMQ tells of a letter that it has taken back often.
    let headers = [
        ("x-delivery-count", AMQPValue::LongLongInt(9)),
        ("tenant", text("t")),
    ];
    let headers = table(headers.map(|(name, value)| (name.to_owned(), value)));
    let worn = vec![8; TOO_MUCH];
    publish(&channel, &exchange, &topic, headers, plain().1, &worn).await;
    put(vhost.url(), &name, 0..60).await;

    let letters = service.collected(60).await;
    assert_eq!(bodies(&letters), all(60));
    // One of each, and one of the copy that has taken the place of the second.
    eventually("warnings", SOON, async || {
        let about = warnings(&name);
        let is_it = |text: &String| {
            text.contains("the database refuses a dead letter")
                && text.contains("max_allowed_packet")
        };
        about.iter().filter(|text| is_it(text)).count() >= 3
    })
    .await;
    service.bus.shutdown().await.expect("shutdown");
    let left = final_tests::take(vhost.url(), &format!("{name}_dlx"), 2, SOON).await;
    for letter in &left {
        let copied = letter.header("tenant").is_some();
        assert_eq!(letter.payload(), vec![7 + u8::from(copied); TOO_MUCH]);
        // It counts from the beginning.
        let count = letter.header("x-delivery-count");
        assert!(count.is_none_or(|count| count.parse::<i64>().is_ok_and(|count| count < 9)));
    }
    assert_ne!(left[0].payload(), left[1].payload());
    assert_eq!(in_queue_now(vhost.url(), &name).await, 0);
}

/// As many as may be in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_letters_that_the_database_refuses_hold_up_no_other() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let name = service();
    declare(&name, vhost.url(), &database).await;
    let pool = postgres(&database).await;
    let (exchange, topic) = (format!("{name}_exchange_dlx"), format!("{name}.placed"));
    let (_connection, channel) = producer(vhost.url()).await;
    for _ in 0..50 {
        let plain = (FieldTable::default(), BasicProperties::default());
        publish(&channel, &exchange, &topic, plain.0, plain.1, b"refused").await;
    }
    put(vhost.url(), &name, 0..20).await;
    let table = format!("final_{}_dead", name.replace('-', "_"));
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; \
         END $$; \
         CREATE TRIGGER refused BEFORE INSERT ON {table} FOR EACH ROW \
         WHEN (NEW.payload = 'refused'::bytea) EXECUTE FUNCTION refuse()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(refuse))
        .execute(&pool)
        .await
        .expect("a trigger");

    let service = Collecting::start(&name, vhost.url(), pool).await;
    let letters = service.collected(20).await;
    assert_eq!(bodies(&letters), all(20));
    service.bus.shutdown().await.expect("shutdown");
    let left = final_tests::take(vhost.url(), &format!("{name}_dlx"), 50, SOON).await;
    assert!(left.iter().all(|letter| letter.payload() == b"refused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_read_the_letters_is_told_and_all_else_works() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let name = service();
    declare(&name, vhost.url(), &database).await;
    let (user, api) = (unique("few"), vhost.api().expect("its API"));
    api.add_user(&user, "s3cret").await.expect("a user");
    let letters = format!("^{name}_exchange_dlx$");
    let least = ["^$", &letters, &format!("^{name}$")];
    let permitted = api.set_permissions(&user, vhost.name(), least).await;
    permitted.expect("permissions");
    let (_, address) = vhost.url().rsplit_once('@').expect("a login");
    let url = format!("amqp://{user}:s3cret@{address}");

    let service = Collecting::start(&name, &url, postgres(&database).await).await;
    let (_connection, channel) = producer(vhost.url()).await;
    let topic = format!("{name}.placed");
    let plain = (FieldTable::default(), BasicProperties::default());
    publish(&channel, &topic, &topic, plain.0, plain.1, b"refused").await;
    service.seen(1).await;
    eventually("a warning that names the right", SOON, async || {
        let about = warnings(&name);
        let is_it = |text: &String| {
            text.contains("collecting dead letters") && text.contains(&format!("read `{name}_dlx`"))
        };
        about.iter().any(is_it)
    })
    .await;
    assert!(service.letters().await.is_empty());

    let more = ["^$", &letters, &format!("^{name}(_dlx)?$")];
    let permitted = api.set_permissions(&user, vhost.name(), more).await;
    permitted.expect("permissions");
    service.collected(1).await;
    service.bus.shutdown().await.expect("shutdown");
    api.delete_user(&user).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookalike_of_rabbitmqs_counts_is_no_part_of_a_letter() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let name = service();
    let service = Collecting::start(&name, vhost.url(), postgres(&database).await).await;
    let (_connection, channel) = producer(vhost.url()).await;
    let exchange = format!("{name}_exchange_dlx");
    let mut headers = FieldTable::default();
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(-9));
    headers.insert("x-final-attempts".into(), AMQPValue::LongLongInt(i64::MAX));
    let properties = BasicProperties::default();
    publish(&channel, &exchange, "k", headers, properties, b"x").await;

    let letters = service.collected(1).await;
    assert_eq!(letters[0].attempts, 0);
    service.bus.shutdown().await.expect("shutdown");
}
