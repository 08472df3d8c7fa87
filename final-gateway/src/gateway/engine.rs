//! What a gateway stands on: a database, and the broker of its groups.
//!
//! Input: a pool, and the log of its database or another broker. State: none until it is started. Output: the store of
//! messages that clients publish, the broker that groups are opened on, and their dead letters. All types above this
//! file are the same for every database.
//!
//! | engine | what is published goes | groups read |
//! | --- | --- | --- |
//! | log | into the log | the log |
//! | broker | into an outbox with the gateway's name, and from there to the broker | the broker |

use std::{fmt, sync::Arc, time::Duration};

use final_core::{
    Bus, Options, OutboxDatabase, Router, SqlBroker,
    broker::{Broker, Link, LinkState, Setup},
    database::{DbResult, Driver},
};
use futures::future::BoxFuture;
use sqlx::Pool;
use tokio::time::timeout;

use super::{GatewayError, Limits};
use crate::{
    groups::Groups,
    publish::{LogStore, OutboxStore, Store},
    rights::Rights,
};

/// How long the database has for a sign of life.
const PING: Duration = Duration::from_secs(2);

/// How long the database has to count what is in the outbox.
const STATS: Duration = Duration::from_secs(3);

/// How long each step of the end may take.
const STEP: Duration = Duration::from_secs(10);

/// Where messages are kept: the log of a database, or RabbitMQ behind an outbox.
pub struct Engine {
    parts: Box<dyn Parts>,
}

impl Engine {
    /// The log of a database: nothing else to run. The pool is that of the same database, in which the gateway also
    /// keeps its own tables.
    pub fn log<DB: OutboxDatabase>(pool: Pool<DB>, log: SqlBroker<DB>) -> Self {
        Self::new(OnLog { pool, log })
    }

    /// Another broker, RabbitMQ for example. What clients publish is first committed to an outbox in the database of the
    /// pool, so that the answer to a client does not wait for the broker.
    pub fn broker<DB: OutboxDatabase>(pool: Pool<DB>, broker: impl Broker) -> Self {
        let broker: Arc<dyn Broker> = Arc::new(broker);
        Self::new(OnBroker { pool, broker })
    }

    fn new(parts: impl Parts) -> Self {
        Self {
            parts: Box::new(parts),
        }
    }

    /// The rights of apps, from tables in the database of the engine.
    pub(super) fn rights(&self) -> Rights {
        self.parts.rights()
    }

    /// Makes the tables that the engine needs for a gateway of this name.
    pub(super) async fn migrate(&self, name: &str) -> Result<(), GatewayError> {
        self.parts.migrate(name).await
    }

    /// Starts it for a gateway of this name.
    pub(super) async fn start(&self, settings: Settings<'_>) -> Result<Started, GatewayError> {
        self.parts.start(settings).await
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.parts.kind()).finish()
    }
}

/// What an engine has to know of its gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    pub(super) name: &'a str,
    pub(super) node: &'a str,
    pub(super) limits: &'a Limits,
}

/// An engine that runs.
pub(super) struct Started {
    /// Where messages of clients are written.
    pub(super) store: Arc<dyn Store>,
    /// What clients consume.
    pub(super) groups: Groups,
    /// What runs, and what it says of itself.
    pub(super) motor: Arc<dyn Motor>,
}

/// How the way to the broker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkNumbers {
    /// Whether the broker is there.
    pub(super) connected: bool,
    /// Messages that are committed and not yet with the broker. `None` without an outbox, or if they are not known.
    pub(super) pending: Option<u64>,
}

/// What runs below a gateway.
pub(super) trait Motor: Send + Sync + 'static {
    /// Asks the database for a sign of life.
    fn ping(&self) -> BoxFuture<'_, DbResult<()>>;

    /// Why only a restart helps.
    fn trouble(&self) -> BoxFuture<'_, Vec<String>>;

    /// Asks how the way to the broker is. It may ask the database.
    fn link(&self) -> BoxFuture<'_, LinkNumbers>;

    /// Ends it, within its own limits.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// An engine of one type of database.
trait Parts: Send + Sync + 'static {
    fn kind(&self) -> &'static str;

    fn rights(&self) -> Rights;

    fn migrate<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), GatewayError>>;

    fn start<'a>(&'a self, settings: Settings<'a>) -> BoxFuture<'a, Result<Started, GatewayError>>;
}

struct OnLog<DB: OutboxDatabase> {
    pool: Pool<DB>,
    log: SqlBroker<DB>,
}

impl<DB: OutboxDatabase> Parts for OnLog<DB> {
    fn kind(&self) -> &'static str {
        "log"
    }

    fn rights(&self) -> Rights {
        Rights::tables(self.pool.clone())
    }

    fn migrate<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async { Ok(Broker::migrate(&self.log).await?) })
    }

    fn start<'a>(&'a self, settings: Settings<'a>) -> BoxFuture<'a, Result<Started, GatewayError>> {
        Box::pin(async move {
            // A link without topics tells other processes of what is published, and removes what every group has.
            let setup = Setup::new(settings.name, Vec::<Arc<str>>::new());
            let opened = self.log.open(setup).await?;
            let Settings { node, limits, .. } = settings;
            // The broker sends no more than its prefetch, so it must not be less than what may be in hand.
            let log = self.log.clone().prefetch(limits.in_hand.clamp(1, 65_535));
            let groups = Groups::over_log(self.pool.clone(), log, node, limits.groups());
            Ok(Started {
                store: Arc::new(LogStore(self.log.clone())),
                groups: groups.await?,
                motor: Arc::new(LogMotor {
                    pool: self.pool.clone(),
                    link: opened.link,
                }),
            })
        })
    }
}

struct LogMotor<DB: OutboxDatabase> {
    pool: Pool<DB>,
    link: Arc<dyn Link>,
}

impl<DB: OutboxDatabase> Motor for LogMotor<DB> {
    fn ping(&self) -> BoxFuture<'_, DbResult<()>> {
        Box::pin(ping(&self.pool))
    }

    fn trouble(&self) -> BoxFuture<'_, Vec<String>> {
        let trouble = self.link.trouble().into_iter().collect();
        Box::pin(std::future::ready(trouble))
    }

    fn link(&self) -> BoxFuture<'_, LinkNumbers> {
        let connected = *self.link.state().borrow() == LinkState::Ready;
        let pending = None;
        Box::pin(std::future::ready(LinkNumbers { connected, pending }))
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.link.stop_consuming(STEP).await;
            self.link.finish_consuming(STEP).await;
            self.link.close(STEP).await;
        })
    }
}

struct OnBroker<DB: OutboxDatabase> {
    pool: Pool<DB>,
    broker: Arc<dyn Broker>,
}

impl<DB: OutboxDatabase> OnBroker<DB> {
    fn bus(&self, name: &str, options: Options) -> Bus<DB> {
        let broker = Arc::clone(&self.broker);
        Bus::new(name, self.pool.clone(), broker).with_options(options)
    }
}

impl<DB: OutboxDatabase> Parts for OnBroker<DB> {
    fn kind(&self) -> &'static str {
        "broker"
    }

    fn rights(&self) -> Rights {
        Rights::tables(self.pool.clone())
    }

    fn migrate<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), GatewayError>> {
        let bus = self.bus(name, Options::default());
        Box::pin(async move { Ok(bus.migrate().await?) })
    }

    fn start<'a>(&'a self, settings: Settings<'a>) -> BoxFuture<'a, Result<Started, GatewayError>> {
        Box::pin(async move {
            let Settings { name, node, limits } = settings;
            let options = Options::default()
                .max_message_bytes(limits.max_message_bytes)
                .shutdown_timeout(limits.shutdown_within);
            let bus = self.bus(name, options);
            bus.start(Router::new()).await?;
            let broker = Arc::clone(&self.broker);
            let groups = Groups::over_broker(self.pool.clone(), broker, node, limits.groups());
            Ok(Started {
                store: Arc::new(OutboxStore(bus.clone())),
                groups: groups.await?,
                motor: Arc::new(BusMotor {
                    pool: self.pool.clone(),
                    bus,
                }),
            })
        })
    }
}

struct BusMotor<DB: OutboxDatabase> {
    pool: Pool<DB>,
    bus: Bus<DB>,
}

impl<DB: OutboxDatabase> Motor for BusMotor<DB> {
    fn ping(&self) -> BoxFuture<'_, DbResult<()>> {
        Box::pin(ping(&self.pool))
    }

    fn trouble(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async { Vec::new() })
    }

    fn link(&self) -> BoxFuture<'_, LinkNumbers> {
        Box::pin(async {
            match timeout(STATS, self.bus.stats()).await {
                Ok(Ok(stats)) => LinkNumbers {
                    connected: stats.connected,
                    pending: Some(stats.pending),
                },
                _ => LinkNumbers::default(),
            }
        })
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Err(error) = self.bus.shutdown().await {
                tracing::warn!(
                    target: "final::gateway",
                    %error,
                    "the outbox of the gateway did not end as it should; its messages are sent after the next start"
                );
            }
        })
    }
}

async fn ping<DB: Driver>(pool: &Pool<DB>) -> DbResult<()> {
    use sqlx::Connection as _;
    let asked = async { pool.acquire().await?.ping().await };
    timeout(PING, asked)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
