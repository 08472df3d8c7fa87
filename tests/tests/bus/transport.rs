//! The operations that the suite needs of a broker: connect, go away, come back, and show dead letters.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use final_amqp::Amqp;
use final_core::{
    Bus, MemoryBroker, MessageId, SqlBroker,
    broker::{DeadLetter, DeadLetterFilter},
};
use final_tests::{Proxy, Vhost, eventually};
use sqlx::Pool;

use crate::{database::Database, house::SOON};

/// A broker under test.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Whether the broker counts a requeue as a try, so that a message without a handler has to leave its queue.
    const COUNTS_REQUEUES: bool = false;

    /// A new broker, or a new virtual host.
    async fn fresh() -> Self;

    fn bus<D: Database>(&self, service: &str, pool: Pool<D>) -> Bus<D>;

    /// The table a service's messages are written to.
    fn table(service: &str) -> String {
        format!("final_{}_outbox", service.replace('-', "_"))
    }

    /// Makes the broker unreachable, cutting what is connected.
    async fn go_away(&self);

    async fn come_back(&self);

    /// Waits for so many dead letters of the service, and takes them.
    async fn dead_letters(&self, service: &str, count: usize) -> Vec<Dead>;
}

/// A dead letter, with the fields that all brokers have.
#[derive(Debug)]
pub struct Dead {
    pub id: MessageId,
    pub topic: String,
    pub reason: String,
    pub attempts: u32,
    pub tenant: Option<String>,
    pub payload: Vec<u8>,
}

/// The in-process broker.
#[derive(Clone)]
pub struct Memory(MemoryBroker);

impl Transport for Memory {
    async fn fresh() -> Self {
        Self(MemoryBroker::new())
    }

    fn bus<D: Database>(&self, service: &str, pool: Pool<D>) -> Bus<D> {
        Bus::new(service, pool, self.0.clone())
    }

    async fn go_away(&self) {
        self.0.set_available(false);
    }

    async fn come_back(&self) {
        self.0.set_available(true);
    }

    async fn dead_letters(&self, service: &str, count: usize) -> Vec<Dead> {
        eventually("dead letters", SOON, async || {
            self.0.dead_letters(service).len() >= count
        })
        .await;
        let letters = self.0.dead_letters(service);
        letters.into_iter().map(Dead::from).collect()
    }
}

/// RabbitMQ, behind a proxy that can be cut.
#[derive(Clone)]
pub struct Rabbit(Arc<Wired>);

impl Rabbit {
    /// Where other clients connect, without the proxy.
    pub fn url(&self) -> &str {
        self.0.vhost.url()
    }

    /// Its management.
    pub fn vhost(&self) -> &Vhost {
        &self.0.vhost
    }
}

struct Wired {
    vhost: Vhost,
    proxied: String,
    proxy: Proxy,
}

impl Transport for Rabbit {
    const COUNTS_REQUEUES: bool = true;

    async fn fresh() -> Self {
        let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
        let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
        let proxied = proxy.url(vhost.url());
        Self(Arc::new(Wired {
            vhost,
            proxied,
            proxy,
        }))
    }

    fn bus<D: Database>(&self, service: &str, pool: Pool<D>) -> Bus<D> {
        Bus::new(
            service,
            pool,
            Amqp::new(&self.0.proxied).expect("a good URL"),
        )
    }

    async fn go_away(&self) {
        self.0.proxy.down();
    }

    async fn come_back(&self) {
        self.0.proxy.up().expect("the port is still ours");
    }

    async fn dead_letters(&self, service: &str, count: usize) -> Vec<Dead> {
        final_tests::take(self.0.vhost.url(), &format!("{service}_dlx"), count, SOON)
            .await
            .into_iter()
            .map(|delivery| Dead {
                id: MessageId::from_text(delivery.message_id().unwrap_or_default()),
                topic: delivery.header("x-final-msg-topic").unwrap_or_default(),
                reason: delivery.header("x-final-reason").unwrap_or_default(),
                attempts: delivery
                    .header("x-final-attempts")
                    .and_then(|n| n.parse().ok())
                    .unwrap_or_default(),
                tenant: delivery.header("tenant"),
                payload: delivery.payload().to_vec(),
            })
            .collect()
    }
}

impl From<DeadLetter> for Dead {
    fn from(letter: DeadLetter) -> Self {
        let message = letter.message.expect("a message");
        Self {
            id: letter.id,
            topic: letter.topic,
            reason: letter.reason,
            attempts: letter.attempts,
            tenant: message.headers().get("tenant").map(str::to_owned),
            payload: message.payload().to_vec(),
        }
    }
}

/// The log, in the database of the first bus. Other buses reach it from their own database.
#[derive(Clone)]
pub struct Log(Arc<OnceLock<Box<dyn LogOf>>>);

/// A log in some database.
trait LogOf: Any + Send + Sync {
    fn letters<'a>(&'a self, service: &'a str) -> futures::future::BoxFuture<'a, Vec<Dead>>;
}

impl<D: Database> LogOf for SqlBroker<D> {
    fn letters<'a>(&'a self, service: &'a str) -> futures::future::BoxFuture<'a, Vec<Dead>> {
        Box::pin(async move {
            let letters = self.dead_letters(service, &DeadLetterFilter::all()).await;
            let letters = letters.expect("letters").into_iter();
            letters.map(Dead::from).collect()
        })
    }
}

impl Transport for Log {
    async fn fresh() -> Self {
        Self(Arc::default())
    }

    fn bus<D: Database>(&self, service: &str, pool: Pool<D>) -> Bus<D> {
        let log = self
            .0
            .get_or_init(|| Box::new(SqlBroker::new(pool.clone())));
        let log: &dyn Any = &**log;
        let log: &SqlBroker<D> = log.downcast_ref().expect("one kind of database in a house");
        Bus::new(service, pool, log.clone())
    }

    fn table(_: &str) -> String {
        "final_log".to_owned()
    }

    async fn go_away(&self) {
        unreachable!("the log is as far away as the database");
    }

    async fn come_back(&self) {
        unreachable!("the log is as far away as the database");
    }

    async fn dead_letters(&self, service: &str, count: usize) -> Vec<Dead> {
        let log = self.0.get().expect("a bus has been made");
        eventually("dead letters", SOON, async || {
            log.letters(service).await.len() >= count
        })
        .await;
        log.letters(service).await
    }
}
