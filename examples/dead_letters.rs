//! What becomes of messages that cannot be handled: retries, reasons, dead letters.
//!
//! ```sh
//! cargo run --example dead_letters
//! ```
//!
//! It prints one dead letter for each of: retries used up, a permanent failure, a payload that
//! cannot be decoded, a panic.

use std::time::Duration;

use final_core::{Bus, HandlerError, MemoryBroker, Options, Payload, Router, SqliteBus};
use serde::Deserialize;

#[derive(Deserialize)]
struct Order {
    #[expect(dead_code, reason = "decoding it is the point")]
    id: i64,
}

async fn always_fails() -> Result<(), &'static str> {
    Err("the mail server is away")
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
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
    let broker = MemoryBroker::new();
    // RabbitMQ keeps them in the queue `shop_dlx`, with the same facts in `x-final-*` headers.
    let bus: SqliteBus =
        Bus::new("shop", pool, broker.clone()).with_options(Options::default().retry_count(2));
    let router = Router::new()
        .route("mail.wanted", always_fails)
        .route("account.charged", never_again)
        .route("order.placed", decodes)
        .route("report.wanted", panics);
    bus.start(router).await?;

    for topic in [
        "mail.wanted",
        "account.charged",
        "order.placed",
        "report.wanted",
    ] {
        bus.publish(topic, "not an order").await?;
    }
    let mut letters = broker.dead_letters("shop");
    for _ in 0..1000 {
        if letters.len() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        letters = broker.dead_letters("shop");
    }
    bus.shutdown().await?;

    letters.sort_by(|a, b| a.topic().cmp(b.topic()));
    for letter in &letters {
        println!(
            "{} after {} attempt(s): {}",
            letter.topic(),
            letter.attempts,
            letter.reason
        );
    }
    if letters.len() == 4 {
        Ok(())
    } else {
        Err("expected four dead letters".into())
    }
}
