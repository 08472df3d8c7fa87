//! Renews the leases of what is in flight.

use std::{sync::Arc, time::Instant};

use super::Relay;
use crate::{OutboxDatabase, database::refused::refuses_values};

/// Renews, at a third of the lease, what would run out before the next round.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    let third = relay.store.lease() / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep(third) => {}
            () = relay.stop_ackers.cancelled() => return,
        }
        if let Err(error) = renew(&relay).await {
            // Not lost: what cannot be renewed is not written after its lease, and claimed again.
            relay.database_failed("renewing leases", &error, 0);
        }
    }
}

async fn renew<DB: OutboxDatabase>(relay: &Relay<DB>) -> Result<(), sqlx::Error> {
    let table = relay.store.table()?;
    let lease = relay.store.lease();
    // Fresh records are left out: most are settled before they need it.
    let horizon = Instant::now() + lease * 2 / 3;
    for _ in 0..3 {
        let ending = relay.flight.ending_before(horizon);
        if ending.is_empty() {
            return Ok(());
        }
        let end = Instant::now() + lease;
        relay.counters.statements.add(1);
        let ids: Vec<_> = ending.iter().map(|(id, _)| *id).collect();
        let renewed = match table.renew(&ids).await {
            // One that the table does not let be renewed must not take the leases of all others with it.
            Err(error) if refuses_values(&error) => break,
            renewed => renewed?,
        };
        if usize::try_from(renewed) == Ok(ids.len()) {
            relay
                .flight
                .renewed(ending.iter().map(|(_, lease)| lease), end);
            return Ok(());
        }
        // Some were answered and settled meanwhile, or are no longer ours. Which ones the count
        // does not tell, so none is taken as renewed.
    }
    for (id, held) in relay.flight.ending_before(horizon) {
        let end = Instant::now() + lease;
        relay.counters.statements.add(1);
        match table.renew(&[id]).await {
            Err(error) if refuses_values(&error) => {
                relay.database_failed("renewing the lease of one record", &error, 0);
            }
            renewed => {
                if renewed? == 1 {
                    relay.flight.renewed([&held], end);
                }
            }
        }
    }
    Ok(())
}
