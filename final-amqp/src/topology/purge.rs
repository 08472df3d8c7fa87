//! Empties the queues of a service.
//!
//! Input: the topology. Output: empty queues, or the error that says why they are not emptied.

use final_core::broker::{BrokerError, BrokerErrorKind};
use lapin::{
    Channel, Connection, Queue, Result,
    options::{QueueDeclareOptions, QueuePurgeOptions},
    types::FieldTable,
};

use super::{Topology, wanted::short};
use crate::{
    code,
    connection::{close_channel, open_channel},
    deadline::{CALL_LIMIT, within},
    error::{broker_error, reply_code},
    names,
};

impl Topology {
    /// Empties the service's queues. Refused while a queue has consumers.
    pub(crate) async fn purge(
        &self,
        connection: &Connection,
    ) -> std::result::Result<(), BrokerError> {
        let failed = |error| broker_error("purging the queues", error);
        for queue in [
            self.queue.to_string(),
            names::dead_letter_queue(&self.queue),
        ] {
            let Some(found) = look(connection, &queue).await.map_err(failed)? else {
                continue;
            };
            if found.consumer_count() > 0 {
                return Err(BrokerError::new(
                    BrokerErrorKind::InUse,
                    format!(
                        "queue {queue:?} has {} consumer(s) and is not purged; stop the other \
                         instances first",
                        found.consumer_count()
                    ),
                ));
            }
            let channel = open_channel(connection).await.map_err(failed)?;
            let purged =
                channel.queue_purge(short(&queue).map_err(failed)?, QueuePurgeOptions::default());
            within(CALL_LIMIT, purged).await.map_err(failed)?;
            close_channel(&channel).await;
        }
        Ok(())
    }
}

/// Looks for a queue without creating it.
async fn look(connection: &Connection, queue: &str) -> Result<Option<Queue>> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::durable()
    };
    let channel: Channel = open_channel(connection).await?;
    let declared = channel.queue_declare(short(queue)?, passive, FieldTable::default());
    match within(CALL_LIMIT, declared).await {
        Ok(queue) => {
            close_channel(&channel).await;
            Ok(Some(queue))
        }
        Err(error) if reply_code(&error) == Some(code::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}
