//! Renews the leases of the records in flight.
//!
//! Input: the unanswered records whose lease ends soon (from the flight). Output: later ends of their leases,
//! in the table first and then in the flight. A renewal also takes a record out of its claim, because from
//! then on its lease stands in its own row.
//!
//! A record whose lease cannot be renewed is not lost. It is not written to the broker after its lease, and
//! some process claims it again.

use std::{sync::Arc, time::Instant};

use super::Relay;
use crate::{
    OutboxDatabase,
    database::{DbResult, refused::refuses_values},
};

/// How often all leases are renewed together before each is renewed by itself.
const TOGETHER: usize = 3;

/// Every third of a lease, renews the leases that would run out before the next round.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    let third = relay.outbox.lease() / 3;
    let mut failures = 0_u32;
    loop {
        tokio::select! {
            () = tokio::time::sleep(third) => {}
            () = relay.stopping.settling.cancelled() => return,
        }
        match renew(&relay).await {
            Ok(()) => failures = 0,
            Err(error) => {
                relay.database_failed("renewing leases", &error, failures);
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// Renews all leases that end soon: together where the database can tell that all were renewed, and otherwise
/// one by one.
async fn renew<DB: OutboxDatabase>(relay: &Relay<DB>) -> DbResult<()> {
    // Fresh leases are left out: most records are settled before they need a renewal.
    let horizon = Instant::now() + relay.outbox.lease() * 2 / 3;
    for _ in 0..TOGETHER {
        match renew_together(relay, horizon).await? {
            Renewal::Done => return Ok(()),
            Renewal::Partly => {}
            Renewal::Refused => break,
        }
    }
    renew_each(relay, horizon).await
}

/// How a renewal of many leases went.
enum Renewal {
    /// All were renewed, or there was none.
    Done,
    /// Some records were settled meanwhile, or have another owner. The count does not tell which, so none of
    /// the leases counts as renewed.
    Partly,
    /// The table refuses one of them.
    Refused,
}

async fn renew_together<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    horizon: Instant,
) -> DbResult<Renewal> {
    let ending = relay.flight.ending_before(horizon);
    if ending.is_empty() {
        return Ok(Renewal::Done);
    }
    // Before the statement is sent, so that our end of the lease comes before the table's.
    let end = Instant::now() + relay.outbox.lease();
    relay.counters.statements.add(1);
    let ids: Vec<_> = ending.iter().map(|(id, _)| *id).collect();
    let renewed = match relay.outbox.table()?.renew(&ids).await {
        Err(error) if refuses_values(&error) => return Ok(Renewal::Refused),
        renewed => renewed?,
    };
    if usize::try_from(renewed) != Ok(ids.len()) {
        return Ok(Renewal::Partly);
    }
    let leases = ending.iter().map(|(_, lease)| lease);
    relay.flight.renewed(leases, end);
    Ok(Renewal::Done)
}

/// Renews each lease by a statement of its own, so that its count tells about this one record.
async fn renew_each<DB: OutboxDatabase>(relay: &Relay<DB>, horizon: Instant) -> DbResult<()> {
    for (id, lease) in relay.flight.ending_before(horizon) {
        let end = Instant::now() + relay.outbox.lease();
        relay.counters.statements.add(1);
        match relay.outbox.table()?.renew(&[id]).await {
            Err(error) if refuses_values(&error) => {
                relay.database_failed("renewing the lease of one record", &error, 0);
            }
            renewed => {
                if renewed? == 1 {
                    relay.flight.renewed([&lease], end);
                }
            }
        }
    }
    Ok(())
}
