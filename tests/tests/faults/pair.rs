//! Two small services on one pool: one with an outbox, one with a log in the database. What happens to the
//! database happens to both.

use final_core::{Bus, MemoryBroker, OutboxDatabase, SqlBroker};
use final_tests::eventually;
use sqlx::Pool;

use crate::shop::{SOON, Tally, options};

const TOPIC: &str = "placed";
/// Connections that the two buses may open together: 4 of each outbox, and 5 of the log.
pub const CONNECTIONS: u32 = 13;

pub struct Pair<DB: OutboxDatabase> {
    pub outbox: Bus<DB>,
    pub log: Bus<DB>,
    handled: [Tally; 2],
    published: i64,
}

impl<DB: OutboxDatabase> Pair<DB> {
    /// Two buses that are not started.
    pub fn new(pool: &Pool<DB>) -> Self {
        Self::with_log(pool, SqlBroker::new(pool.clone()))
    }

    /// The same, with this log.
    pub fn with_log(pool: &Pool<DB>, log: SqlBroker<DB>) -> Self {
        let (outbox, log) = (
            Bus::new("shop", pool.clone(), MemoryBroker::new()),
            Bus::new("mail", pool.clone(), log),
        );
        Self {
            outbox: outbox.with_options(options()),
            log: log.with_options(options()),
            handled: Default::default(),
            published: 0,
        }
    }

    pub async fn start(&self) {
        for (bus, handled) in self.both() {
            bus.start(handled.router(TOPIC)).await.expect("start");
        }
    }

    fn both(&self) -> [(&Bus<DB>, &Tally); 2] {
        let [of_outbox, of_log] = &self.handled;
        [(&self.outbox, of_outbox), (&self.log, of_log)]
    }

    /// Publishes some messages.
    pub async fn publish(&mut self) {
        let numbers = self.published..self.published + 20;
        self.published = numbers.end;
        for (bus, _) in self.both() {
            for n in numbers.clone() {
                bus.publish(TOPIC, &n).await.expect("published");
            }
        }
    }

    /// Publishes the numbers after those of another pair.
    pub fn begin_at(&mut self, other: &Self) {
        self.published = other.published;
    }

    /// Waits until everything that another pair has published is handled and settled by this one.
    pub async fn is_done_after(&mut self, other: &Self) {
        self.published = other.published;
        self.is_done().await;
    }

    /// Waits until everything that was published is handled and settled.
    pub async fn is_done(&self) {
        for (bus, handled) in self.both() {
            handled.has_all(0..self.published).await;
            eventually("nothing pending", SOON, async || match bus.stats().await {
                Ok(stats) if stats.pending == 0 => Ok(()),
                other => Err(other),
            })
            .await;
        }
    }

    /// Publishes some messages, and waits until they are handled and settled.
    pub async fn works(&mut self) {
        self.publish().await;
        self.is_done().await;
    }

    pub async fn shut_down(self) {
        for (bus, _) in self.both() {
            bus.shutdown().await.expect("shutdown");
        }
    }
}
