//! A gateway that is not started: its engine, its addresses and its limits.

use std::{fmt, sync::Arc, time::Duration};

use super::{Engine, GatewayError, Running, engine::Settings, error::check_name};
use crate::publish::{Committer, QueueLimits};

/// A gateway that is not started.
///
/// ```no_run
/// use final_core::SqlBroker;
/// use final_gateway::{Engine, Gateway};
///
/// # async fn serve() -> Result<(), final_core::BoxError> {
/// let pool = sqlx::SqlitePool::connect("sqlite:edge.db?mode=rwc").await?;
/// let log = SqlBroker::new(pool.clone());
/// let gateway = Gateway::new("edge", Engine::log(pool, log));
/// let running = gateway.start().await?;
/// # running.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use]
pub struct Gateway {
    name: String,
    engine: Engine,
    queue: QueueLimits,
    shutdown_within: Duration,
}

impl Gateway {
    /// A gateway of this name. The name is that of its outbox: 1 to 40 characters `a-z`, `0-9`, `_` or `-`, and no
    /// service of the database may have it. All nodes of one gateway have the same.
    pub fn new(name: impl Into<String>, engine: Engine) -> Self {
        Self {
            name: name.into(),
            engine,
            queue: QueueLimits::default(),
            shutdown_within: Duration::from_secs(10),
        }
    }

    /// Sets the largest payload of a message. 1,000,000 bytes by default.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.queue.max_message_bytes = bytes;
        self
    }

    /// Sets how many messages may wait for the database, and how many bytes of them. 16,384 and 64 MiB by default. What
    /// finds no room in time is answered as busy.
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        self.queue.messages = messages;
        self.queue.bytes = bytes;
        self
    }

    /// Sets how long each step of a shutdown may take. 10 s by default.
    pub fn shutdown_within(mut self, limit: Duration) -> Self {
        self.shutdown_within = limit;
        self
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
        self.engine.migrate(&self.name).await
    }

    /// Starts it: makes the tables, and takes connections.
    ///
    /// # Errors
    ///
    /// Fails if the name cannot be used, the database fails, or the broker refuses. A broker that is away is no error:
    /// it is tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what has been started.
    pub async fn start(self) -> Result<Running, GatewayError> {
        self.migrate().await?;
        let Self {
            name,
            engine,
            queue,
            shutdown_within,
        } = self;
        let started = engine
            .start(Settings {
                name: &name,
                max_message_bytes: queue.max_message_bytes,
            })
            .await?;
        let (publisher, committer) =
            Committer::start(Arc::clone(&started.store), queue, shutdown_within);
        Ok(Running::new(publisher, committer, started.motor))
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("name", &self.name)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}
