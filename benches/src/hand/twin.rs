//! The whole job by hand: what a careful person would build in place of the bus, without its
//! reconnects, parking, dead letters and shutdown.
//!
//! ```text
//! transaction ── after COMMIT ──▶ publisher ── confirmed ──▶ deleter
//! ```
//!
//! The record is leased to the process that committed it, which publishes it without reading it
//! back; confirmed records are deleted many at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::Pool;
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

use super::{
    consumer::consume_forever,
    declare,
    publisher::{Publisher, WINDOW},
};
use crate::{
    Result,
    db::Db,
    payload::{Order, TOPIC},
};

/// One service that publishes and consumes.
pub(crate) struct Twin<DB: Db> {
    pool: Pool<DB>,
    owner: Uuid,
    committed: mpsc::UnboundedSender<(Uuid, Vec<u8>)>,
    handled: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Result<()>>>,
}

impl<DB: Db> Twin<DB> {
    /// Starts it, with this handler.
    pub(crate) async fn start(
        pool: &Pool<DB>,
        amqp: &str,
        mut handle: impl FnMut(&Order) + Send + 'static,
    ) -> Result<Self> {
        let incoming = super::connect(amqp).await?;
        let outgoing = super::connect(amqp).await?;
        let topic = format!("twin.{TOPIC}");
        declare(&incoming.create_channel().await?, &topic, "twin").await?;
        let (committed, to_send) = mpsc::unbounded_channel();
        let (confirmed, to_delete) = mpsc::channel(WINDOW);
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        let consume = async move {
            let consumed = consume_forever(&incoming, "twin", |order| {
                handle(&order);
                count.fetch_add(1, Relaxed);
                true
            });
            consumed.await
        };
        let publisher = async move {
            let channel = Publisher::open(&outgoing).await?;
            publish(channel, topic, to_send, confirmed).await
        };
        let tasks = vec![
            tokio::spawn(publisher),
            tokio::spawn(delete(pool.clone(), to_delete)),
            tokio::spawn(consume),
        ];
        Ok(Self {
            pool: pool.clone(),
            owner: Uuid::now_v7(),
            committed,
            handled,
            tasks,
        })
    }

    /// One business row and so many messages, in one transaction.
    pub(crate) fn transaction(
        &self,
        number: u64,
        messages: u64,
    ) -> impl Future<Output = Result<()>> + Send + use<DB> {
        let (pool, owner, committed) = (self.pool.clone(), self.owner, self.committed.clone());
        async move {
            let mut tx = DB::open(&pool).await?;
            DB::insert_order(&mut tx, number).await?;
            let mut staged = Vec::new();
            for message in 0..messages {
                let order = Order::new(number * 1_000 + message);
                let (id, payload) = (Uuid::now_v7(), order.encode()?);
                let lease = Some((owner, Duration::from_secs(5)));
                DB::insert_record(&mut tx, id, TOPIC, &payload, lease).await?;
                staged.push((id, payload));
            }
            DB::commit(tx).await?;
            for message in staged {
                let sent = committed.send(message);
                sent.map_err(|_| "the publisher has ended")?;
            }
            Ok(())
        }
    }

    /// How many messages were handled so far.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    /// Ends it. What waits stays.
    pub(crate) async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Sends what was committed, at most a window ahead of the confirms.
async fn publish(
    mut channel: Publisher,
    topic: String,
    mut to_send: mpsc::UnboundedReceiver<(Uuid, Vec<u8>)>,
    confirmed: mpsc::Sender<Uuid>,
) -> Result<()> {
    loop {
        let full = channel.waiting() >= WINDOW;
        tokio::select! {
            biased;
            next = to_send.recv(), if !full => {
                let Some((id, payload)) = next else { return Ok(()) };
                channel.send((&topic, ""), id, &payload).await?;
            }
            id = channel.confirmed(), if channel.waiting() > 0 => {
                if let Some(id) = id? {
                    confirmed.send(id).await?;
                }
            }
        }
    }
}

/// Deletes what was confirmed: whatever has gathered since the last time.
async fn delete<DB: Db>(pool: Pool<DB>, mut confirmed: mpsc::Receiver<Uuid>) -> Result<()> {
    let mut ids = Vec::new();
    while confirmed.recv_many(&mut ids, 500).await > 0 {
        DB::remove(&pool, &ids).await?;
        ids.clear();
    }
    Ok(())
}
