//! What becomes of messages that cannot be handled: retries, reasons, dead letters, and the way back.
//!
//! ```sh
//! cargo run --example dead_letters
//! ```
//!
//! It prints one dead letter for each of: retries used up, a permanent failure, a payload that
//! cannot be decoded, a panic. Then the mail server is back, and letters are put back: one by its id,
//! some by a filter; the rest is thrown away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use final_core::{
    Bus, Error, HandlerError, MessageId, Options, Payload, Router, SqlBroker, SqliteBus, State,
    broker::DeadLetterFilter,
};
use serde::Deserialize;

/// The mail server, and what it was given.
#[derive(Clone, Default)]
struct Mail {
    is_up: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
}

#[derive(Deserialize)]
struct Order {
    #[expect(dead_code, reason = "decoding it is the point")]
    id: i64,
}

async fn send_mail(State(mail): State<Mail>, id: MessageId) -> Result<(), &'static str> {
    if !mail.is_up.load(Ordering::Relaxed) {
        return Err("the mail server is away");
    }
    mail.sent.fetch_add(1, Ordering::Relaxed);
    println!("  mail {id} is sent");
    Ok(())
}

async fn never_again() -> Result<(), HandlerError> {
    Err(HandlerError::permanent("the account is closed"))
}

async fn decodes(Payload(_): Payload<Order>) {}

async fn panics() {
    panic!("an index out of bounds, say");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The panic below is on purpose; its backtrace would only be noise.
    std::panic::set_hook(Box::new(|_| {}));
    let file = std::env::temp_dir().join(format!("final-letters-{}.db", std::process::id()));
    let url = format!("sqlite:{}?mode=rwc", file.display());
    let pool = sqlx::SqlitePool::connect(&url).await?;
    // RabbitMQ keeps them in the queue `shop_dlx`, with the same facts in `x-final-*` headers.
    let broker = SqlBroker::new(pool.clone());
    let bus: SqliteBus = Bus::new("shop", pool.clone(), broker.clone())
        .with_options(Options::default().retry_count(2));
    let mail = Mail::default();
    let router = Router::new()
        .route("mail.wanted", send_mail)
        .route("account.charged", never_again)
        .route("order.placed", decodes)
        .route("report.wanted", panics)
        .with_state(mail.clone());
    bus.start(router).await?;

    let first = bus.publish("mail.wanted", "hello").await?;
    for topic in [
        "mail.wanted",
        "mail.wanted",
        "account.charged",
        "order.placed",
        "report.wanted",
    ] {
        bus.publish(topic, "not an order").await?;
    }
    until(|| async { count(&broker, DeadLetterFilter::all()).await == 6 }).await;
    for letter in broker.dead_letters("shop", DeadLetterFilter::all()).await? {
        println!(
            "{} after {} attempt(s): {}",
            letter.topic, letter.attempts, letter.reason
        );
    }

    mail.is_up.store(true, Ordering::Relaxed);
    println!("one is put back:");
    let one = broker
        .replay("shop", DeadLetterFilter::all().id(first))
        .await?;
    until(|| async { mail.sent.load(Ordering::Relaxed) == 1 }).await;
    println!("all that failed for the mail server are put back:");
    let away = DeadLetterFilter::all().reason("mail server is away");
    let some = broker.replay("shop", away).await?;
    until(|| async { mail.sent.load(Ordering::Relaxed) == 3 }).await;
    let rest = broker.discard("shop", DeadLetterFilter::all()).await?;
    println!("{one} and {some} were put back, {rest} thrown away");

    bus.shutdown().await?;
    pool.close().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    if (one, some, rest, mail.sent.load(Ordering::Relaxed)) == (1, 2, 3, 3) {
        Ok(())
    } else {
        Err("expected six dead letters, of which three could be sent later".into())
    }
}

async fn count(broker: &SqlBroker<sqlx::Sqlite>, filter: DeadLetterFilter) -> usize {
    let letters: Result<_, Error> = broker.dead_letters("shop", filter).await;
    letters.map_or(0, |letters| letters.len())
}

/// Waits for a condition, ten seconds at most; the check at the end tells if it came true.
async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    for _ in 0..1000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
