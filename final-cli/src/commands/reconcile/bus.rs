//! The bus of a reconciler, whatever its database: changes come from it, and repairs are published on it.
//!
//! Input: `[bus]` of the file. Output: [`AnyBus`].

use final_amqp::Amqp;
use final_core::{BoxError, Bus, Error, Health, OutboxDatabase, Router, SqlBroker};
use final_reconcile::Repair;
use futures::future::BoxFuture;
use serde::Deserialize;

use crate::{
    config::{BrokerAddress, DatabaseAddress},
    databases::{by_scheme, pool},
};

/// Connections of its pool.
const CONNECTIONS: u32 = 4;

/// The bus: the log of a database, or RabbitMQ.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BusConfig {
    /// The name of its queue, or of its group of the log.
    #[serde(default = "service_name")]
    pub(super) service: String,
    #[serde(default)]
    pub(super) log: Option<DatabaseAddress>,
    #[serde(default)]
    pub(super) rabbitmq: Option<BrokerAddress>,
}

fn service_name() -> String {
    "reconcile".to_owned()
}

/// A bus, without the type of its database.
pub(super) trait AnyBus: Send + Sync {
    /// A repair that publishes on it.
    fn repair(&self, topic: &str) -> Repair;
    /// Begins to send and to receive.
    fn start(&self, router: Router) -> BoxFuture<'_, Result<(), Error>>;
    /// Finishes what is in hand, and stops.
    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// How it is.
    fn health(&self) -> BoxFuture<'_, Health>;
    /// Its metrics in the text format of Prometheus.
    fn metrics(&self) -> BoxFuture<'_, String>;
}

impl<DB: OutboxDatabase> AnyBus for Bus<DB> {
    fn repair(&self, topic: &str) -> Repair {
        Repair::publish(self.clone(), topic)
    }

    fn start(&self, router: Router) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.start(router))
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.shutdown())
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        Box::pin(self.health())
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async {
            let mut text = String::new();
            self.metrics().await.write_prometheus(&mut text);
            text
        })
    }
}

/// The bus of the file. Over RabbitMQ its outbox is in the database of the state. Nothing is connected yet.
pub(super) fn open(
    config: &BusConfig,
    state: &DatabaseAddress,
) -> Result<Box<dyn AnyBus>, BoxError> {
    match (&config.log, &config.rabbitmq) {
        (Some(log), None) => by_scheme!(log, over_log(&config.service)),
        (None, Some(rabbitmq)) => by_scheme!(state, over_rabbitmq(&config.service, rabbitmq)),
        _ => Err("`bus` needs one of `log` and `rabbitmq`".into()),
    }
}

fn over_log<DB: OutboxDatabase>(
    log: &DatabaseAddress,
    service: &str,
) -> Result<Box<dyn AnyBus>, BoxError> {
    let pool = pool::<DB>(log, CONNECTIONS)?;
    let broker = SqlBroker::new(pool.clone());
    Ok(Box::new(Bus::new(service, pool, broker)))
}

fn over_rabbitmq<DB: OutboxDatabase>(
    state: &DatabaseAddress,
    service: &str,
    rabbitmq: &BrokerAddress,
) -> Result<Box<dyn AnyBus>, BoxError> {
    let broker = Amqp::new(rabbitmq.expose())?;
    Ok(Box::new(Bus::new(
        service,
        pool::<DB>(state, CONNECTIONS)?,
        broker,
    )))
}
