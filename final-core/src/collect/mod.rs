//! Collecting dead letters: from the broker's queue into the service's database.
//!
//! Input: dead letters that the link gives away. State: those that are being stored, and those that the database
//! refuses. Output: rows of the table beside the outbox; then the broker may forget the letters.
//!
//! ```text
//!   link ─ LetterDelivery ─▶ a lot of them ─ INSERT, COMMIT ─ done ─▶ stored: acked
//!                                 ▲              ├─ refused ─▶ each alone, in a simpler form ─ refused ─▶ held
//!                                 ▲              ├─ takes too long ─▶ the half of them
//!                                 │              └─ the database is away ─┐                        5 min │
//!                                 └── pause; after a minute all go back ◀─┴──────────────────────────────┘
//! ```
//!
//! A queue counts what is given back, and drops a letter that was given back too often. So nothing is given back one
//! by one: while the database is away, what was delivered goes back once, and nothing is delivered until the database
//! has taken the copies that are still here. The link's window bounds how many letters wait here.

mod draft;
#[cfg(all(test, feature = "sqlite"))]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::draft::CollectionDraft;
use crate::{
    OutboxDatabase,
    broker::LetterStream,
    database::{
        DbResult,
        batch::takes_too_long,
        refused::{code, refuses_values},
    },
    failpoint::{self, Failpoint},
    outbox::Outbox,
    runtime::{backoff::Backoff, counter::Counter},
};

/// The pauses before the database is tried again.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// How long letters wait for the database before they go back to their queue, once for all of its outage. RabbitMQ
/// takes back what a consumer keeps for half an hour, and counts that each time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a letter is held that the database refuses in every form.
const HELD: Duration = Duration::from_secs(300);

/// How many letters, and how many bytes of them, one transaction stores. A letter with more bytes goes alone.
const LOT: usize = 50;
const LOT_BYTES: usize = 4 * 1024 * 1024;

/// How often a letter takes another key because an equal one has it.
const MOST_TWINS: u32 = 1_000;

/// Stores the dead letters of a service.
pub(crate) struct Collector<DB: OutboxDatabase> {
    service: Arc<str>,
    outbox: Arc<Outbox<DB>>,
    /// Cancelled when the bus shuts down: what cannot be stored then stays with the broker.
    ending: CancellationToken,
    /// How long letters wait for the database before they go back to their queue.
    patience: Duration,
    /// How many letters were stored.
    pub(crate) collected: Counter,
}

/// Why a lot was not stored.
enum NotStored {
    /// The letters themselves are refused, or one is there already.
    Letters(sqlx::Error),
    /// The database may take them later.
    Database(sqlx::Error),
}

impl<DB: OutboxDatabase> Collector<DB> {
    pub(crate) fn new(
        service: Arc<str>,
        outbox: Arc<Outbox<DB>>,
        ending: CancellationToken,
    ) -> Self {
        Self {
            service,
            outbox,
            ending,
            patience: PATIENCE,
            collected: Counter::default(),
        }
    }

    /// Stores letters until no more will come.
    pub(crate) async fn run(&self, letters: Arc<Mutex<LetterStream>>, stop: CancellationToken) {
        let mut letters = letters.lock().await;
        let mut held: Vec<CollectionDraft> = Vec::new();
        // A run before this one may have ended while it wanted none.
        letters.want(true);
        let work = async {
            loop {
                // Those of a channel that has ended come again.
                held.retain(|draft| !draft.delivery.is_void());
                let due = held.iter().filter_map(|draft| draft.due).min();
                let first = tokio::select! {
                    biased;
                    () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
                    letter = letters.recv() => match letter {
                        Some(letter) => Some(CollectionDraft::new(letter)),
                        // What is held stays with the broker.
                        None => return,
                    },
                };
                let mut lot: Vec<_> = match first {
                    Some(first) => vec![first],
                    None => take_due(&mut held),
                };
                let mut bytes: usize = lot.iter().map(CollectionDraft::weight).sum();
                while lot.len() < LOT
                    && bytes < LOT_BYTES
                    && let Some(letter) = letters.ready()
                {
                    let draft = CollectionDraft::new(letter);
                    bytes += draft.weight();
                    lot.push(draft);
                }
                held.extend(self.store(lot, &letters).await);
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Stores a lot. Returns the letters that the database refuses in every form.
    async fn store(
        &self,
        lot: Vec<CollectionDraft>,
        letters: &LetterStream,
    ) -> Vec<CollectionDraft> {
        let (mut lots, mut held) = (vec![lot], Vec::new());
        while let Some(lot) = lots.pop() {
            let (mut lot, error) = match self.store_together(lot, letters).await {
                Ok(()) => continue,
                Err(failed) => failed,
            };
            if takes_too_long::<DB>(&error) {
                let second = lot.split_off(lot.len() / 2);
                lots.extend([second, lot]);
                continue;
            }
            if lot.len() > 1 {
                tracing::debug!(
                    target: "final::consume",
                    service = &*self.service, letters = lot.len(), %error,
                    "dead letters are not stored together; each is stored alone"
                );
            }
            for draft in lot {
                held.extend(self.store_alone(draft, letters).await);
            }
        }
        held
    }

    /// Stores letters in one transaction, and tries that until the database answers. Gives them back if they are
    /// refused; or if they are several, and the database does not answer in time, because fewer of them may take less.
    async fn store_together(
        &self,
        mut lot: Vec<CollectionDraft>,
        letters: &LetterStream,
    ) -> Result<(), (Vec<CollectionDraft>, sqlx::Error)> {
        let (began, mut failures) = (Instant::now(), 0);
        // Whether the letters were given back. The copies here still find out when the database takes them.
        let mut are_back = false;
        loop {
            if !are_back {
                // Letters of a channel that is gone come again.
                lot.retain(|draft| !draft.delivery.is_void());
            }
            if lot.is_empty() {
                return Ok(());
            }
            let written = self.write(&mut lot).await;
            if are_back && !matches!(written, Err(NotStored::Database(_))) {
                letters.want(true);
            }
            match written {
                Ok(()) => {
                    failpoint::pass(Failpoint::AfterCollect);
                    lot.retain(|draft| !draft.delivery.is_void());
                    self.tell_of_simplified(&lot);
                    self.collected.add(lot.len());
                    lot.into_iter().for_each(|draft| draft.delivery.stored());
                    return Ok(());
                }
                Err(NotStored::Letters(error)) => return Err((lot, error)),
                Err(NotStored::Database(error)) => {
                    failures += 1;
                    self.tell_of_failure(&error, failures);
                    if self.ending.is_cancelled() {
                        // They stay with the broker.
                        return Ok(());
                    }
                    if lot.len() > 1 && takes_too_long::<DB>(&error) {
                        if are_back {
                            letters.want(true);
                        }
                        return Err((lot, error));
                    }
                    if !are_back && began.elapsed() >= self.patience {
                        letters.want(false);
                        are_back = true;
                    }
                    let pause = sleep(PAUSES.pause(failures));
                    self.ending.run_until_cancelled(pause).await;
                }
            }
        }
    }

    /// Stores a letter in the first form that the database takes. Gives it back if there is none.
    async fn store_alone(
        &self,
        draft: CollectionDraft,
        letters: &LetterStream,
    ) -> Option<CollectionDraft> {
        let (mut draft, mut twins) = (draft, 0);
        loop {
            let (mut refused, error) = self.store_together(vec![draft], letters).await.err()?;
            draft = refused.pop()?;
            if is_there(&error) && twins < MOST_TWINS {
                twins += 1;
                // The row is another letter that is equal; or this one, which another instance has stored in this
                // moment, and the next look finds it.
                if draft.is_new() {
                    draft.be_another();
                }
            } else if !draft.simplify(&code(&error)) {
                tracing::warn!(
                    target: "final::consume",
                    service = &*self.service,
                    id = %draft.delivery.letter().id,
                    bytes = draft.weight(),
                    %error,
                    delay = ?HELD,
                    "the database refuses a dead letter; it stays in the broker's queue, unacked, until the next try"
                );
                draft.delivery.refused();
                draft.be_whole();
                draft.due = Some(Instant::now() + HELD);
                return Some(draft);
            }
        }
    }

    async fn write(&self, lot: &mut [CollectionDraft]) -> Result<(), NotStored> {
        let rows: Vec<_> = lot.iter().map(CollectionDraft::row).collect();
        let written: DbResult<()> = self.outbox.store_letters(&rows).await;
        lot.iter_mut().for_each(|draft| draft.is_tried = true);
        written.map_err(|error| match refuses_values(&error) {
            true => NotStored::Letters(error),
            false => NotStored::Database(error),
        })
    }

    fn tell_of_simplified(&self, lot: &[CollectionDraft]) {
        for draft in lot.iter().filter(|draft| draft.is_simplified()) {
            tracing::warn!(
                target: "final::consume",
                service = &*self.service,
                id = %draft.delivery.letter().id,
                "the database refuses texts of a dead letter; it is stored without them, and a replay brings the whole message"
            );
        }
    }

    /// Logs at the first failure in a row, and then at every twentieth.
    fn tell_of_failure(&self, error: &sqlx::Error, failures: u32) {
        if failures % 20 == 1 {
            tracing::warn!(
                target: "final::consume",
                service = &*self.service, %error, failures,
                "dead letters cannot be stored; they stay in the broker's queue, and are tried again"
            );
        }
    }
}

/// Takes out what is due.
fn take_due(held: &mut Vec<CollectionDraft>) -> Vec<CollectionDraft> {
    let now = Instant::now();
    held.extract_if(.., |draft| draft.due.is_none_or(|due| due <= now))
        .collect()
}

/// Whether a row with the same key is there already.
fn is_there(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}
