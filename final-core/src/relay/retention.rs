//! Removes acked records that were kept long enough.

use std::{sync::Arc, time::Duration};

use super::Relay;
use crate::OutboxDatabase;

/// How many records one statement removes: small, so that no writer waits for it.
const BATCH: u32 = 500;

/// Removes old acked records from time to time, in small batches with pauses.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>, keep: Duration) {
    let interval = keep.clamp(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let removed = match relay.store.table() {
            Ok(table) => table.purge_acked(keep, BATCH).await,
            Err(error) => Err(error),
        };
        let pause = match removed {
            Ok(removed) if removed >= u64::from(BATCH) => Duration::from_millis(20),
            Ok(_) => interval,
            Err(error) => {
                relay.database_failed("removing old acked records", &error, 0);
                interval
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = relay.stop_scanner.cancelled() => return,
        }
    }
}
