//! Renews the leases of what is in flight.
//!
//! Input: the unanswered records whose lease ends soon (from the flight). Output: later ends of their leases,
//! in the table first and then in the flight. A renewal also takes a record out of its claim, because from
//! then on its lease stands in its own row.
//!
//! A record whose lease cannot be renewed is not lost. It is not written to the broker after its lease, and
//! some process claims it again.

use std::{sync::Arc, time::Instant};

use super::Relay;
use crate::{OutboxDatabase, database::refused::refuses_values};

/// Every third of a lease, renews the leases that would run out before the next round.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    let third = relay.store.lease() / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep(third) => {}
            () = relay.stopping.settling.cancelled() => return,
        }
        if let Err(error) = renew(&relay).await {
            relay.database_failed("renewing leases", &error, 0);
        }
    }
}

async fn renew<DB: OutboxDatabase>(relay: &Relay<DB>) -> Result<(), sqlx::Error> {
    let table = relay.store.table()?;
    let lease = relay.store.lease();
    // Fresh leases are left out: most records are settled before they need a renewal.
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
            // The table refuses one of them. The others are renewed one by one below.
            Err(error) if refuses_values(&error) => break,
            renewed => renewed?,
        };
        if usize::try_from(renewed) == Ok(ids.len()) {
            relay
                .flight
                .renewed(ending.iter().map(|(_, lease)| lease), end);
            return Ok(());
        }
        // Some records were settled meanwhile, or have another owner. The count does not tell which, so none
        // counts as renewed.
    }
    for (id, lease_of) in relay.flight.ending_before(horizon) {
        let end = Instant::now() + lease;
        relay.counters.statements.add(1);
        match table.renew(&[id]).await {
            Err(error) if refuses_values(&error) => {
                relay.database_failed("renewing the lease of one record", &error, 0);
            }
            renewed => {
                if renewed? == 1 {
                    relay.flight.renewed([&lease_of], end);
                }
            }
        }
    }
    Ok(())
}
