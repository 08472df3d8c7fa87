//! The API as users write it: every spelling compiles and works.

use std::{sync::Arc, time::Duration};

use final_core::{
    Attempt, Bus, Bytes, Error, FromRef, HandlerError, Headers, Json, Key, MemoryBroker, Message,
    MessageId, MySqlBus, Options, Payload, PgBus, Router, SqliteBus, State, Stats, Topic, TxBus,
    subscribe, subscribers,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::house::SOON;

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    id: i64,
    total: i64,
}

#[derive(Debug)]
#[expect(dead_code, reason = "read in the text of a panic")]
enum AppError {
    Bus(Error),
    Sql(sqlx::Error),
}

impl From<Error> for AppError {
    fn from(error: Error) -> Self {
        Self::Bus(error)
    }
}

impl From<sqlx::Error> for AppError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

#[derive(Clone)]
struct App {
    mail: Mailer,
}

#[derive(Clone)]
struct Mailer(mpsc::UnboundedSender<String>);

impl Mailer {
    fn send(&self, text: impl Into<String>) {
        let _ = self.0.send(text.into());
    }
}

impl FromRef<App> for Mailer {
    fn from_ref(app: &App) -> Self {
        app.mail.clone()
    }
}

#[subscribe("order.placed")]
async fn send_receipt(
    State(mail): State<Mailer>,
    Payload(order): Payload<OrderPlaced>,
) -> Result<(), std::fmt::Error> {
    mail.send(format!("receipt {} {}", order.id, order.total));
    Ok(())
}

mod billing {
    use super::*;

    #[subscribe("order.paid")]
    pub async fn on_paid(
        State(app): State<App>,
        Json(order): Json<OrderPlaced>,
        Key(key): Key,
        Attempt(attempt): Attempt,
    ) -> Result<(), HandlerError> {
        let key = key.ok_or("a key is missing")?;
        app.mail.send(format!("paid {} {key} {attempt}", order.id));
        Ok(())
    }
}

async fn everything(
    State(mail): State<Mailer>,
    Topic(topic): Topic,
    headers: Headers,
    id: MessageId,
    bytes: Bytes,
    message: Message,
) {
    assert_eq!(id, message.id());
    let tenant = headers.get("tenant").unwrap_or_default();
    mail.send(format!("{topic} {tenant} {}", bytes.len()));
}

/// A helper that takes the handle by reference.
async fn book(txbus: &mut TxBus<sqlx::Sqlite>, order: &OrderPlaced) -> Result<(), AppError> {
    sqlx::query("INSERT INTO orders VALUES (?)")
        .bind(order.total)
        .execute(txbus.conn())
        .await?;
    txbus.publish("order.placed", order).await?;
    Ok(())
}

/// An `async fn` as the closure.
async fn place(mut txbus: TxBus<sqlx::Sqlite>) -> Result<i64, AppError> {
    // A deref, as with sqlx's own transactions.
    sqlx::query("INSERT INTO orders VALUES (3)")
        .execute(&mut *txbus)
        .await?;
    txbus
        .publish(
            String::from("order.placed"),
            &OrderPlaced { id: 3, total: 3 },
        )
        .await?;
    Ok(3)
}

fn is_send<T: Send>(value: T) -> T {
    value
}

async fn house() -> (sqlx::SqlitePool, SqliteBus) {
    let pool = sqlx::SqlitePool::connect("sqlite::memory:")
        .await
        .expect("SQLite");
    sqlx::query("CREATE TABLE orders (total INTEGER)")
        .execute(&pool)
        .await
        .expect("table");
    let bus = Bus::new("shop", pool.clone(), MemoryBroker::new())
        .with_options(Options::default().retry_count(5).num_ackers(2));
    (pool, bus)
}

#[tokio::test]
async fn every_spelling_of_a_transaction_works() {
    let (_pool, bus) = house().await;
    let (sender, mut mails) = mpsc::unbounded_channel();
    let router = Router::new().subscribe(send_receipt).with_state(App {
        mail: Mailer(sender),
    });
    is_send(bus.start(router)).await.expect("start");

    let order = OrderPlaced { id: 1, total: 10 };
    let note = String::from("borrowed");
    let tx = bus.begin().await.expect("begin");
    let placed = bus.transaction(tx, async |mut txbus| {
        book(&mut txbus, &order).await?;
        Ok::<_, AppError>(note.len())
    });
    assert_eq!(is_send(placed).await.expect("committed"), 8);

    let tx = bus.begin().await.expect("begin");
    bus.transaction(tx, |mut txbus| async move {
        txbus
            .publish("order.placed", &OrderPlaced { id: 2, total: 20 })
            .await?;
        Ok::<_, AppError>(())
    })
    .await
    .expect("committed");

    let tx = bus.begin().await.expect("begin");
    assert_eq!(bus.transaction(tx, place).await.expect("committed"), 3);

    let mut received = Vec::new();
    for _ in 0..3 {
        let mail = tokio::time::timeout(SOON, mails.recv())
            .await
            .expect("in time");
        received.push(mail.expect("the handler is there"));
    }
    received.sort();
    assert_eq!(received, ["receipt 1 10", "receipt 2 20", "receipt 3 3"]);
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn every_spelling_of_a_publish_and_every_extractor_works() {
    let (pool, bus) = house().await;
    let (sender, mut mails) = mpsc::unbounded_channel();
    let ping = String::from("ping");
    let router = Router::new()
        .merge(subscribers![billing::on_paid])
        .route(&ping, everything)
        .route("closure", |_: Message| async {})
        .with_state(App {
            mail: Mailer(sender),
        });
    bus.start(router).await.expect("start");
    let order = OrderPlaced { id: 1, total: 10 };

    bus.publish("order.paid", Json(&order))
        .key("42")
        .await
        .expect("publish");
    let publish = bus.publish(&ping, &order).header("tenant", "acme");
    let publish = publish
        .ttl(SOON)
        .delay(Duration::from_millis(5))
        .durable(false);
    tokio::time::timeout(SOON, publish)
        .await
        .expect("in time")
        .expect("publish");
    bus.publish_bytes("ping", b"xx".as_slice())
        .await
        .expect("publish");
    bus.publish_bytes(String::from("ping"), vec![1_u8])
        .confirm(false)
        .await
        .expect("publish");
    let (published, ()) = tokio::join!(async { bus.publish("closure", "x").await }, async {});
    published.expect("publish");
    let mut tx = pool.begin().await.expect("begin");
    bus.publish_in(&mut *tx, "ping", "in")
        .key("k")
        .await
        .expect("publish_in");
    tx.commit().await.expect("commit");
    bus.wake();

    let mut received = Vec::new();
    for _ in 0..5 {
        let mail = tokio::time::timeout(SOON, mails.recv())
            .await
            .expect("in time");
        received.push(mail.expect("the handler is there"));
    }
    received.sort();
    assert_eq!(
        received,
        [
            "paid 1 42 1",
            "ping  1",
            "ping  2",
            "ping  3",
            "ping acme 12"
        ]
    );
    let Stats {
        pending: _,
        failed,
        connected,
        ..
    } = bus.stats().await.expect("stats");
    assert!(connected && failed == 0);
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_subscribed_function_can_be_called_in_a_test() {
    let (sender, mut mails) = mpsc::unbounded_channel();
    let order = OrderPlaced { id: 7, total: 70 };

    send_receipt(State(Mailer(sender)), Payload(order))
        .await
        .expect("handled");

    assert_eq!(mails.recv().await.as_deref(), Some("receipt 7 70"));
}

#[test]
fn a_bus_can_be_shared_by_threads_and_kept_in_a_state() {
    fn state<T: Clone + Send + Sync + 'static>() {}
    state::<PgBus>();
    state::<MySqlBus>();
    state::<Arc<SqliteBus>>();
}
