//! Messages that come by a relay: another database's outbox, or `confirm(false)`.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, mpsc};

use super::Member;
use crate::{
    OutboxDatabase,
    broker::{Confirm, LinkState, Outgoing, Sending, Staged},
    database::{DbResult, refused::refuses_values},
};

/// Messages of one transaction.
const BATCH: usize = 500;
/// The pause while the database is away.
const PAUSE: Duration = Duration::from_millis(200);

/// Writes what it is sent into the log until nobody sends any more.
///
/// `outgoing` outlives a panic, which loses only what it had in hand.
pub(crate) async fn run<DB: OutboxDatabase>(
    member: Arc<Member<DB>>,
    outgoing: Arc<Mutex<mpsc::Receiver<Outgoing>>>,
) {
    let mut outgoing = outgoing.lock().await;
    let mut batch = Vec::with_capacity(BATCH);
    let mut failures = 0;
    while outgoing.recv_many(&mut batch, BATCH).await > 0 {
        let sending: Vec<Sending> = batch.drain(..).filter_map(Outgoing::into_sending).collect();
        if sending.is_empty() {
            continue;
        }
        send(&member, sending, &mut failures).await;
    }
}

/// `failures` are those in a row.
async fn send<DB: OutboxDatabase>(member: &Member<DB>, sending: Vec<Sending>, failures: &mut u32) {
    let all: Vec<Staged> = sending.iter().map(staged).collect();
    let error = match write(member, &all).await {
        Ok(()) => {
            *failures = 0;
            member.wakeups.committed();
            return sending
                .into_iter()
                .for_each(|one| one.confirm(Confirm::Stored));
        }
        Err(error) => error,
    };
    if !refuses_values(&error) {
        *failures = failures.saturating_add(1);
        member.log_failure("writing messages to the log", &error, *failures);
        member.set_state(LinkState::Away);
        // Dropped, each counts as lost and is sent again.
        drop(sending);
        return tokio::time::sleep(PAUSE).await;
    }
    *failures = 0;
    // One of them is to blame, and the others need not suffer for it.
    for one in sending {
        let alone = [staged(&one)];
        match write(member, &alone).await {
            Ok(()) => one.confirm(Confirm::Stored),
            Err(error) if refuses_values(&error) => one.confirm(Confirm::Faulty(error.to_string())),
            Err(_) => drop(one),
        }
    }
    member.wakeups.committed();
}

fn staged(sending: &Sending) -> Staged {
    Staged {
        message: sending.message().clone(),
        ttl: sending.expires_in(),
        delay: Duration::ZERO,
    }
}

/// The record behind it is removed once this has returned, so it waits for the disk.
async fn write<DB: OutboxDatabase>(member: &Member<DB>, staged: &[Staged]) -> DbResult<()> {
    member.prepare().await?;
    let mut tx = member.log.begin().await?;
    tx.be_durable().await?;
    member.log.append_here(tx.conn(), staged).await?;
    tx.commit().await
}
