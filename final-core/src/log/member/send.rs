//! Messages that come through a relay: from the outbox of another database, or with `confirm(false)`.
//!
//! Input: outgoing messages in the link's channel. Output: rows of the log, up to 500 per transaction, and a
//! confirm for each message. A message that the database refuses does not hold up the others.
//!
//! ```text
//!   batch ─ one transaction ─┬─ committed ─▶ each confirmed as stored
//!                            ├─ values refused ─▶ each alone: stored, or faulty
//!                            └─ failed ─▶ all dropped, which counts as lost: the relay sends them again
//! ```

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
/// The pause after the database has failed.
const PAUSE: Duration = Duration::from_millis(200);

/// Writes outgoing messages into the log until the channel is closed.
///
/// The channel outlives a panic of this task, which loses only the messages of its batch.
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

/// Writes a batch, and confirms each message of it by the result. `failures` counts batches in a row that the
/// database has failed to write.
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
        // A dropped message counts as lost, and the relay sends it again.
        drop(sending);
        return tokio::time::sleep(PAUSE).await;
    }
    *failures = 0;
    // One of them is refused. Alone, the others are written.
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

/// The message to write, with what is left of its time to live. It is due now: its delay is over.
fn staged(sending: &Sending) -> Staged {
    Staged {
        ttl: sending.expires_in(),
        ..Staged::new(sending.message().clone())
    }
}

/// Writes messages and waits for the disk: once this has returned, the records they come from are removed.
async fn write<DB: OutboxDatabase>(member: &Member<DB>, staged: &[Staged]) -> DbResult<()> {
    member.prepare().await?;
    let mut tx = member.log.begin().await?;
    tx.be_durable().await?;
    member.log.append_here(tx.conn(), staged).await?;
    tx.commit().await
}
