//! Writes messages into the outbox that leave their queue for a while.
//!
//! Input: the [`DetourQueue`]. State: none. Output: records that are committed, and an answer for each message. The
//! scanner sends the records when they are due.
//!
//! ```text
//!   take a lot ─▶ INSERT, COMMIT ─ done ───────────────────────▶ answered: stored
//!        ▲              ├─ refused ─▶ each alone ─ refused ────▶ answered: not stored
//!        │              └─ the database is away ─┐
//!        └───────── pause ◀── put back ──────────┘
//! ```

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Relay;
use crate::{
    OutboxDatabase,
    consume::{DetourEntry, DetourQueue},
    database::{DbResult, refused::refuses},
    outbox::{NewRecord, RecordId},
    runtime::backoff::Backoff,
};

/// The pauses before the database is tried again.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

type Lot = Vec<(u64, DetourEntry)>;

/// Writes until told to stop.
pub(crate) async fn run<DB: OutboxDatabase>(
    relay: Arc<Relay<DB>>,
    queue: Arc<DetourQueue>,
    stop: CancellationToken,
) {
    let mut failures = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = queue.filled() => {}
        }
        match relay.write_detours(&queue).await {
            Ok(()) => failures = 0,
            Err(error) => {
                relay.database_failed(
                    "writing messages that wait for a later attempt",
                    &error,
                    failures,
                );
                failures = failures.saturating_add(1);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(PAUSES.pause(failures)) => {}
                }
            }
        }
    }
    queue.close();
}

impl<DB: OutboxDatabase> Relay<DB> {
    /// Writes one lot, and answers each message. If the database is away, they are put back.
    async fn write_detours(&self, queue: &DetourQueue) -> DbResult<()> {
        let lot = DetourLot::new(queue, queue.take());
        match self.write_lot(&lot.0).await {
            Ok(()) => self.stored(lot.done()),
            Err(error) if !refuses(&error) => return Err(error),
            Err(_) => {
                let mut lot = lot.done().into_iter();
                while let Some(entry) = lot.next() {
                    let one = DetourLot::new(queue, vec![entry]);
                    match self.write_lot(&one.0).await {
                        Ok(()) => self.stored(one.done()),
                        Err(error) if is_there(&error) => self.stored(one.done()),
                        Err(error) if refuses(&error) => {
                            tracing::warn!(
                                target: "final::relay",
                                service = self.service.as_str(), %error,
                                "the outbox does not take a message that waits for a later attempt; it \
                                 stays in the queue, and waits in memory"
                            );
                            one.done()
                                .into_iter()
                                .for_each(|(_, entry)| entry.answer(false));
                        }
                        Err(error) => {
                            queue.put_back(lot.collect());
                            return Err(error);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn write_lot(&self, lot: &Lot) -> DbResult<()> {
        let records: Vec<_> = lot
            .iter()
            .map(|(_, entry)| NewRecord {
                id: RecordId::of(entry.message.id()),
                message: &entry.message,
                ttl: None,
                delay: entry.delay(),
                lease: None,
                parked: false,
            })
            .collect();
        self.counters.statements.add(1);
        self.outbox.insert_durably(&records).await
    }

    /// Answers messages that are stored, and tells the scanner when they are due.
    fn stored(&self, lot: Lot) {
        let first = lot.iter().map(|(_, entry)| entry.delay()).min();
        for (_, entry) in lot {
            entry.answer(true);
        }
        match first {
            Some(Duration::ZERO) => self.bell.ring(),
            Some(delay) => self.bell.due_in(delay),
            None => {}
        }
    }
}

/// Whether a record is there already: its COMMIT was not answered, and took place.
fn is_there(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}

/// Messages that are being written. Dropped before they are answered, they are put back.
struct DetourLot<'a>(Lot, &'a DetourQueue);

impl<'a> DetourLot<'a> {
    fn new(queue: &'a DetourQueue, lot: Lot) -> Self {
        Self(lot, queue)
    }

    fn done(mut self) -> Lot {
        std::mem::take(&mut self.0)
    }
}

impl Drop for DetourLot<'_> {
    fn drop(&mut self) {
        self.1.put_back(std::mem::take(&mut self.0));
    }
}
