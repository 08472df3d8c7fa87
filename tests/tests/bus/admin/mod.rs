//! What the admin API promises: it needs a pool alone, it says what does not move, and bulk actions do what was
//! planned and nothing else.

mod bounded;
mod large;
mod letters;
mod operations;
mod overview;
mod records;
mod schema;
mod slow;
mod trail;

use final_core::{
    Bus, HandlerError, MemoryBroker, Message, Options, Router,
    admin::{Admin, Letter, Page, ServiceAdmin},
    broker::{DeadLetterFilter, LetterCursor},
};
use final_tests::eventually;

use crate::{
    database::Database,
    house::SOON,
    log::{Log, publish},
};

/// The admin of a database.
fn admin<D: Database>(log: &Log<D>) -> Admin<D> {
    Admin::new(log.pool.clone())
}

/// The admin of the service `shop`.
fn shop<D: Database>(log: &Log<D>) -> ServiceAdmin<D> {
    admin(log).service("shop")
}

/// A bus of `shop` that goes over RabbitMQ's stand-in, not started.
fn outbox_bus<D: Database>(log: &Log<D>, broker: &MemoryBroker) -> Bus<D> {
    let options = Options::default().shutdown_timeout(SOON);
    Bus::new("shop", log.pool.clone(), broker.clone()).with_options(options)
}

/// Starts `shop` on the log, with a handler that refuses each message: `refused, 100%_` and its number.
async fn refusing<D: Database>(log: &Log<D>, topic: &str) -> Bus<D> {
    let bus = log.bus("shop");
    let router = Router::new().route(topic, async |message: Message| {
        let number: i64 = rmp_serde::from_slice(message.payload()).expect("a number");
        Err::<(), _>(HandlerError::permanent(format!("refused, 100%_{number}")))
    });
    bus.start(router).await.expect("start");
    bus
}

/// Publishes these numbers to a topic whose handler refuses them, and waits until there are so many letters.
async fn kill<D: Database>(
    log: &Log<D>,
    bus: &Bus<D>,
    topic: &str,
    numbers: std::ops::Range<i64>,
    letters: i64,
) {
    publish(bus, topic, numbers).await;
    log.comes_to("SELECT count(*) FROM final_log_dead", letters)
        .await;
}

/// A page of the letters of `shop`.
async fn page<D: Database>(log: &Log<D>, filter: DeadLetterFilter) -> Page<Letter, LetterCursor> {
    shop(log).letters(&filter).await.expect("letters")
}

/// Waits until something about the database is so.
async fn comes_true(what: &str, check: impl AsyncFn() -> bool) {
    eventually(what, SOON, async || check().await).await;
}

/// Where so many rows come from in an INSERT.
fn numbers<D: Database>(count: u32) -> String {
    match D::NAME {
        "PostgreSQL" => format!("generate_series(1, {count}) AS s(n)"),
        "MySQL" => {
            let digit = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
                UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
            let of = |place: &str| format!("{digit} {place}");
            let digits = ["a", "b", "c", "d", "e", "f"].map(of).join(", ");
            let n = "1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d";
            format!("(SELECT {n} AS n FROM {digits}) s WHERE n <= {count}")
        }
        _ => format!(
            "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s) s"
        ),
    }
}

/// An INSERT of so many records into the outbox of `shop`. Their ids are their numbers. A status that is not pending
/// has an error.
fn fill<D: Database>(status: u8, topic: &str, from: u32, count: u32) -> String {
    let id = format!("({from} + n)");
    let (id, clock, payload, durable) = match D::NAME {
        "PostgreSQL" => (
            format!("lpad(to_hex({id}), 32, '0')::uuid"),
            "clock_timestamp()",
            "'\\x07'::bytea",
            "TRUE",
        ),
        "MySQL" => (
            format!("UNHEX(LPAD(HEX({id}), 32, '0'))"),
            "UTC_TIMESTAMP(6)",
            "x'07'",
            "TRUE",
        ),
        _ => (
            format!("unhex(printf('%032x', {id}))"),
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            "x'07'",
            "1",
        ),
    };
    let acked = if status == 2 { clock } else { "NULL" };
    let (error, sent) = match status {
        0 => ("NULL", "NULL"),
        _ => ("'no queue for it'", clock),
    };
    format!(
        "INSERT INTO final_shop_outbox (message_id, topic, payload, content_type, durable, status, attempts, \
             last_error, due_at, available_at, created_at, sent_at, acked_at) \
         SELECT {id}, '{topic}', {payload}, 'application/msgpack', {durable}, {status}, 1, {error}, \
             {clock}, {clock}, {clock}, {sent}, {acked} FROM {}",
        numbers::<D>(count)
    )
}
