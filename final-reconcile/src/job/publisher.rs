//! A bus on which repairs are published, whatever its database.

use std::fmt::Debug;

use final_core::{Bus, Error, Json, MessageId, OutboxDatabase};
use futures::future::BoxFuture;
use serde_json::Value;
use uuid::Uuid;

/// A bus, whatever its database.
pub(crate) trait Publisher: Debug + Send + Sync {
    /// Commits a message.
    fn publish(
        &self,
        topic: &str,
        id: Uuid,
        key: String,
        body: &Value,
    ) -> BoxFuture<'static, Result<(), Error>>;
}

impl<DB: OutboxDatabase> Publisher for Bus<DB> {
    fn publish(
        &self,
        topic: &str,
        id: Uuid,
        key: String,
        body: &Value,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let publish = Bus::publish(self, topic, Json(body));
        let publish = publish.id(MessageId(id)).key(key).into_future();
        Box::pin(async move { publish.await.map(drop) })
    }
}
