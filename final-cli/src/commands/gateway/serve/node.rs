//! A gateway as a service that the runner starts, asks and stops.
//!
//! Input: a configuration. Output: a [`Gateway`] with an engine, and a [`Service`] around it.

use final_amqp::Amqp;
use final_core::{BoxError, OutboxDatabase, SqlBroker};
use final_gateway::{Addresses, Engine, Gateway, Limits, Listen, ListenLimits, Running, Tls};
use tokio::sync::RwLock;

use super::config::{GatewayConfig, ListenConfig, LogConfig, RightsConfig};
use crate::{
    config::{BrokerAddress, DatabaseAddress},
    databases::{by_scheme, pool},
    service::{Condition, Service},
};

/// Connections for what the gateway writes. Each open group and topic has one or two of its own besides.
const CONNECTIONS: u32 = 10;

/// Where RESP and HTTP are spoken if the file does not say.
const RESP: &str = "127.0.0.1:6205";
const HTTP: &str = "127.0.0.1:6206";

/// Where clients come in.
pub(super) struct GatewayDoors {
    resp: Option<Listen>,
    http: Option<Listen>,
}

/// A gateway that runs, until its stop takes it.
pub(super) struct GatewayService {
    running: RwLock<Option<Running>>,
    /// Where clients reach it.
    pub(super) addresses: Addresses,
}

impl GatewayService {
    /// Makes the tables and starts.
    pub(super) async fn start(gateway: Gateway) -> Result<Self, BoxError> {
        gateway.migrate().await?;
        let running = gateway.start().await?;
        Ok(Self {
            addresses: running.addresses(),
            running: RwLock::new(Some(running)),
        })
    }
}

impl Service for GatewayService {
    async fn died(&self) -> BoxError {
        match &*self.running.read().await {
            Some(running) => running.died().await.into(),
            None => std::future::pending().await,
        }
    }

    async fn stop(&self) -> Result<(), BoxError> {
        if let Some(running) = self.running.write().await.take() {
            running.shutdown().await;
        }
        Ok(())
    }

    async fn condition(&self) -> Condition {
        let running = self.running.read().await;
        let Some(running) = &*running else {
            return Condition::not_ready("the gateway is stopping");
        };
        let health = running.health().await;
        Condition {
            live: health.is_live(),
            ready: health.is_ready(),
            reasons: [health.not_live, health.not_ready].concat(),
        }
    }

    async fn metrics(&self) -> String {
        match &*self.running.read().await {
            Some(running) => running.metrics().await,
            None => String::new(),
        }
    }
}

impl GatewayConfig {
    /// Where RESP and HTTP are to be spoken: both, unless the file names one of them only.
    ///
    /// # Errors
    ///
    /// Fails if a certificate or its key cannot be used.
    pub(super) fn doors(&self) -> Result<GatewayDoors, BoxError> {
        let are_named = self.resp.is_some() || self.http.is_some();
        Ok(GatewayDoors {
            resp: listen(self.resp.as_ref(), RESP, are_named)?,
            http: listen(self.http.as_ref(), HTTP, are_named)?,
        })
    }

    /// The gateway that the file describes. Nothing is connected yet.
    pub(super) fn gateway(&self, doors: GatewayDoors) -> Result<Gateway, BoxError> {
        let engine = engine(
            &self.database,
            self.rabbitmq.as_ref(),
            &self.log,
            self.limits.in_hand,
        )?;
        let mut gateway = Gateway::new(&self.name, engine).limits(self.limits());
        let RightsConfig { balancers, grace } = &self.rights;
        gateway = gateway.map_rights(|rights| rights.balancers(balancers.iter().copied()));
        if let Some(grace) = grace {
            gateway = gateway.map_rights(|rights| rights.grace(grace.0));
        }
        if let Some(node) = &self.node {
            gateway = gateway.node(node);
        }
        if let Some(resp) = doors.resp {
            gateway = gateway.resp(resp);
        }
        if let Some(http) = doors.http {
            gateway = gateway.http(http);
        }
        Ok(gateway)
    }

    fn limits(&self) -> Limits {
        let (given, mut limits) = (&self.limits, Limits::default());
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        macro_rules! set {
            ($($field:ident <- $value:expr;)*) => {$(
                if let Some(value) = $value {
                    limits.$field = value;
                }
            )*};
        }
        set! {
            max_message_bytes <- given.max_message.map(|size| bytes(size.0));
            in_hand <- given.in_hand;
            in_hand_bytes <- given.in_hand_bytes.map(|size| bytes(size.0));
            open_pairs <- given.open_pairs;
            open_pairs_of_app <- given.open_pairs_of_app.map(Some);
            visibility <- given.visibility.map(|time| time.0);
            max_deliveries <- given.max_deliveries;
            close_after <- given.close_after.map(|time| time.0);
        }
        limits
    }
}

fn listen(
    given: Option<&ListenConfig>,
    otherwise: &str,
    are_named: bool,
) -> Result<Option<Listen>, BoxError> {
    let Some(given) = given else {
        return Ok((!are_named).then(|| Listen::at(otherwise)));
    };
    let mut limits = ListenLimits::default();
    limits.connections = given.max_connections.unwrap_or(limits.connections);
    let listen = Listen::at(&given.listen).limits(limits);
    Ok(Some(match &given.tls {
        Some(tls) => listen.tls(Tls::from_files(&tls.certificate, &tls.key)?),
        None => listen,
    }))
}

/// The engine on a database, with RabbitMQ if one is named.
pub(super) fn engine(
    database: &DatabaseAddress,
    rabbitmq: Option<&BrokerAddress>,
    log: &LogConfig,
    in_hand: Option<usize>,
) -> Result<Engine, BoxError> {
    by_scheme!(database, engine_on(rabbitmq, log, in_hand))
}

fn engine_on<DB: OutboxDatabase>(
    database: &DatabaseAddress,
    rabbitmq: Option<&BrokerAddress>,
    log: &LogConfig,
    in_hand: Option<usize>,
) -> Result<Engine, BoxError> {
    let pool = pool::<DB>(database, CONNECTIONS)?;
    match rabbitmq {
        Some(address) => Ok(Engine::broker(pool, Amqp::new(address.expose())?)),
        None => Ok(Engine::log(
            pool.clone(),
            with(SqlBroker::new(pool), log, in_hand),
        )),
    }
}

fn with<DB: OutboxDatabase>(
    broker: SqlBroker<DB>,
    log: &LogConfig,
    in_hand: Option<usize>,
) -> SqlBroker<DB> {
    let broker = broker.key_order(log.key_order.unwrap_or(false));
    let broker = match in_hand {
        // The broker reads no more ahead than clients may have in hand.
        Some(messages) => broker.prefetch(messages),
        None => broker,
    };
    let broker = match log.keep {
        Some(keep) => broker.keep(keep.0),
        None => broker,
    };
    match log.max_age {
        Some(age) => broker.max_age(age.0),
        None => broker,
    }
}
