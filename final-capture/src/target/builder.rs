//! What a user says about the target.

use std::{fmt, sync::Arc};

use final_core::{OutboxDatabase, SqlBroker, broker::Broker};
use sqlx::Pool;

use super::{
    Outlet,
    broker::BrokerOutlet,
    log::{LogOutlet, PlaceOfPosition},
};
use crate::position::{Positions, SqlPositions};

/// What is done with a message that the target refuses for good, because it is too large for example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnPoison {
    /// It is kept in the table `final_capture_parked`, later changes of its key behind it, and everything else goes on.
    #[default]
    Park,
    /// The capture stops before it.
    Stop,
}

/// Where messages go, and where the position is kept.
pub struct Target(pub(crate) Arc<dyn Outlet>);

impl Target {
    /// The log of the database of that pool. The position is in the same database and is saved in the same transaction
    /// as the messages: each change comes exactly once.
    pub fn log<DB: OutboxDatabase>(pool: Pool<DB>, log: SqlBroker<DB>) -> Self {
        let positions = Arc::new(SqlPositions::new(pool));
        Self(Arc::new(LogOutlet::new(
            log,
            PlaceOfPosition::Same(positions),
        )))
    }

    /// The log of a database, with the position elsewhere. A change comes at least once, always with the same id.
    pub fn log_apart<DB: OutboxDatabase>(log: SqlBroker<DB>, positions: Positions) -> Self {
        Self(Arc::new(LogOutlet::new(
            log,
            PlaceOfPosition::Apart(positions.0),
        )))
    }

    /// Another broker, RabbitMQ for example. A change comes at least once, always with the same id. Of each key one
    /// message is in flight at a time, so that its changes keep their order whatever the broker loses.
    pub fn broker(broker: impl Broker, positions: Positions) -> Self {
        Self(Arc::new(BrokerOutlet::new(Arc::new(broker), positions.0)))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.0.kind()).finish()
    }
}
