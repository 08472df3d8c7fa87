//! Retention: removes acked records that were kept long enough.
//!
//! Input: how long to keep them. Output: small deletes with pauses in between, so that no writer waits for
//! them. A record that the table refuses to remove is passed over, and tried again in the next round.

use std::{sync::Arc, time::Duration};

use super::Relay;
use crate::{
    OutboxDatabase,
    database::{DbResult, refused::refuses_values},
};

/// How many records one statement removes.
const BATCH: u32 = 500;

/// The pause between two statements.
const PAUSE: Duration = Duration::from_millis(20);

/// How many refused records one round passes over. The next round begins with the oldest record again.
const MOST_REFUSED: u32 = 500;

/// Removes old acked records from time to time, until the relay stops.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>, keep: Duration) {
    let interval = keep.clamp(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        if let Err(error) = remove(&relay, keep).await {
            relay.database_failed("removing old acked records", &error, 0);
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = relay.stopping.taking.cancelled() => return,
        }
    }
}

/// Removes all that are old enough. A record that the table refuses to remove is passed over.
///
/// A batch that is refused is tried again with half of its records, down to the single record at fault. After
/// that the batches grow again. Refused records that lie one behind another take one statement each.
async fn remove<DB: OutboxDatabase>(relay: &Relay<DB>, keep: Duration) -> DbResult<()> {
    let (mut batch, mut refused) = (BATCH, 0);
    while !relay.stopping.taking.is_cancelled() {
        let table = relay.outbox.table()?;
        match table.purge_acked(keep, batch, refused).await {
            Ok(removed) if removed < u64::from(batch) => return Ok(()),
            Ok(_) => batch = (batch * 2).min(BATCH),
            Err(error) if !refuses_values(&error) => return Err(error),
            Err(_) if batch > 1 => batch /= 2,
            Err(error) => {
                relay.database_failed("removing an old acked record", &error, refused);
                refused += 1;
                if refused >= MOST_REFUSED {
                    return Ok(());
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = relay.stopping.taking.cancelled() => {}
        }
    }
    Ok(())
}
