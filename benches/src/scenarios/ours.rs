//! Our side: the bus, as its documentation says.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use final_amqp::Amqp;
use final_core::{BoxError, Bus, Payload, Router, SqlBroker, log::StartFrom};
use sqlx::Pool;

use crate::{
    Result,
    db::{Db, SERVICE},
    load::until,
    payload::{Order, TOPIC},
};

/// A bus to RabbitMQ, not started. Its tables are made.
pub(crate) async fn bus<DB: Db>(pool: &Pool<DB>, amqp: &str) -> Result<Bus<DB>> {
    let bus = Bus::new(SERVICE, pool.clone(), Amqp::new(amqp)?);
    bus.migrate().await?;
    Ok(bus)
}

/// The same with the database as the transport.
pub(crate) async fn log_bus<DB: Db>(pool: &Pool<DB>) -> Result<Bus<DB>> {
    let broker = SqlBroker::new(pool.clone()).start_from(StartFrom::Beginning);
    let bus = Bus::new(SERVICE, pool.clone(), broker);
    bus.migrate().await?;
    Ok(bus)
}

/// One business row and so many messages, in one transaction.
pub(crate) fn transaction<DB: Db>(
    bus: &Bus<DB>,
    number: u64,
    messages: u64,
) -> impl Future<Output = Result<()>> + Send + use<DB> {
    let bus = bus.clone();
    async move {
        let tx = bus.begin().await?;
        bus.transaction(tx, async |mut txbus| {
            DB::insert_order(txbus.conn(), number).await?;
            for message in 0..messages {
                let order = Order::new(number * 1_000 + message);
                txbus.publish(TOPIC, &order).await?;
            }
            Ok::<_, BoxError>(())
        })
        .await
    }
}

/// So many records of different orders, in transactions of 1,000, while nobody relays.
pub(crate) async fn fill<DB: Db>(bus: &Bus<DB>, records: u64) -> Result<()> {
    let mut left = records;
    while left > 0 {
        let messages = left.min(1_000);
        transaction(bus, left, messages).await?;
        left -= messages;
    }
    Ok(())
}

/// A router that counts what it handles, and shows it to `see`.
pub(crate) fn counting(
    see: impl Fn(&Order) + Clone + Send + Sync + 'static,
) -> (Router, Arc<AtomicU64>) {
    let handled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&handled);
    let router = Router::new().route(TOPIC, move |Payload(order): Payload<Order>| {
        see(&order);
        count.fetch_add(1, Relaxed);
        std::future::ready(())
    });
    (router, handled)
}

/// Makes the topic and the service's queue, so that messages have a place to go; nobody takes them.
pub(crate) async fn make_queue<DB: Db>(pool: &Pool<DB>, amqp: &str) -> Result<()> {
    let bus = bus(pool, amqp).await?;
    bus.start(counting(|_| ()).0).await?;
    Ok(bus.shutdown().await?)
}

/// Waits until these buses have sent so many since they started, and nothing is in the outbox.
///
/// The table is asked only at the end: asked every millisecond, MariaDB answered 600 times a second, and
/// only on our side.
pub(crate) async fn relayed<DB: Db>(
    pool: &Pool<DB>,
    buses: &[Bus<DB>],
    records: u64,
) -> Result<()> {
    let acked = || buses.iter().map(Bus::acked).sum::<u64>();
    until("for all records to be acked", async || {
        Ok(acked() >= records)
    })
    .await?;
    emptied(pool).await
}

/// Waits until nothing is in the outbox.
pub(crate) async fn emptied<DB: Db>(pool: &Pool<DB>) -> Result<()> {
    let empty = async || Ok(DB::newest(pool).await? == 0 && DB::count(pool).await? == 0);
    until("for the outbox to be empty", empty).await
}
