//! A gateway that is not started: its engine, its addresses and its limits.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Engine, GatewayError, Limits, Running,
    doors::Doors,
    engine::{Settings, Started},
    error::check_name,
    vitals::Condition,
};
use crate::{
    listen::Listen,
    publish::Committer,
    rights::{Apps, Rights},
};

/// A gateway that is not started.
///
/// ```no_run
/// use final_core::SqlBroker;
/// use final_gateway::{Engine, Gateway, Listen};
///
/// # async fn serve() -> Result<(), final_core::BoxError> {
/// let pool = sqlx::SqlitePool::connect("sqlite:edge.db?mode=rwc").await?;
/// let log = SqlBroker::new(pool.clone());
/// let gateway = Gateway::new("edge", Engine::log(pool, log))
///     .resp(Listen::at("127.0.0.1:6205"))
///     .http(Listen::at("127.0.0.1:6206"));
/// let running = gateway.start().await?;
/// # running.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use]
pub struct Gateway {
    name: String,
    node: String,
    engine: Engine,
    rights: Rights,
    resp: Option<Listen>,
    http: Option<Listen>,
    limits: Limits,
}

impl Gateway {
    /// A gateway of this name. The name is that of its outbox: 1 to 40 characters `a-z`, `0-9`, `_` or `-`, and no
    /// service of the database may have it. All nodes of one gateway have the same.
    pub fn new(name: impl Into<String>, engine: Engine) -> Self {
        let rights = engine.rights();
        Self {
            name: name.into(),
            node: Uuid::now_v7().simple().to_string(),
            engine,
            rights,
            resp: None,
            http: None,
            limits: Limits::default(),
        }
    }

    /// Sets the name of this node. It stands in receipts, so that a client learns which node to send a receipt to; no
    /// other node that runs at the same time may have it. A random one by default.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = node.into();
        self
    }

    /// Sets where the rights of apps come from: by default, from tables in the database of the engine.
    pub fn rights(mut self, rights: Rights) -> Self {
        self.rights = rights;
        self
    }

    /// Changes settings of the rights, such as the addresses of load balancers.
    ///
    /// ```no_run
    /// # fn gateway(gateway: final_gateway::Gateway) -> final_gateway::Gateway {
    /// gateway.map_rights(|rights| rights.balancers(["10.0.0.9".parse().unwrap()]))
    /// # }
    /// ```
    pub fn map_rights(mut self, change: impl FnOnce(Rights) -> Rights) -> Self {
        self.rights = change(self.rights);
        self
    }

    /// Listens for Redis clients. databus's port is 6205.
    pub fn resp(mut self, listen: Listen) -> Self {
        self.resp = Some(listen);
        self
    }

    /// Listens for HTTP clients. databus's port is 6206.
    pub fn http(mut self, listen: Listen) -> Self {
        self.http = Some(listen);
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The apps and their rights, to be changed. `None` if the rights do not come from tables.
    #[must_use]
    pub fn apps(&self) -> Option<Apps> {
        self.rights.apps()
    }

    /// Makes all tables that the gateway needs, or leaves them as they are. [`start`](Self::start) does the same.
    /// Several nodes may do so at once.
    ///
    /// # Errors
    ///
    /// Fails if the name cannot be used, or the database fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest to the next call.
    pub async fn migrate(&self) -> Result<(), GatewayError> {
        check_name(&self.name)?;
        self.engine.migrate(&self.name).await?;
        self.rights.migrate().await.map_err(GatewayError::Rights)
    }

    /// Starts it: makes the tables, and takes connections.
    ///
    /// # Errors
    ///
    /// Fails if the name or an address cannot be used, the database fails, or the broker refuses. A broker that is away
    /// is no error: it is tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what has been started.
    pub async fn start(self) -> Result<Running, GatewayError> {
        self.migrate().await?;
        let Self {
            name,
            node,
            engine,
            rights,
            resp,
            http,
            limits,
        } = self;
        // Before anything runs: an address that is taken is the most frequent mistake.
        let doors = Doors::open(resp, http, &limits).await?;
        let settings = Settings {
            name: &name,
            node: &node,
            limits: &limits,
        };
        let Started {
            store,
            groups,
            motor,
        } = engine.start(settings).await?;
        let (publisher, committer) =
            Committer::start(store, limits.queue(), limits.shutdown_within);
        let (told, died) = watch::channel(None);
        let condition = Condition {
            motor,
            publisher,
            groups,
            rights,
            is_stopping: Arc::new(AtomicBool::new(false)),
            died,
            asked: Arc::default(),
        };
        Ok(Running::start(condition, committer, doors, limits, told))
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("name", &self.name)
            .field("node", &self.node)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}
