//! Suspects: messages that may be the reason why a process ended.
//!
//! Input: a delivery that the broker delivers again, although this process did not give it back. State: a mark in the database for each suspect whose handler runs. Output: the delivery is handled, or
//! dead-lettered if its handler has begun too often without an end.
//!
//! ```text
//!   mark?  none ──────────────▶ slot ─▶ mark ─▶ attempts, beside other handlers ─▶ no mark
//!          begun before ──────▶ no other handler runs ─▶ mark ─▶ attempts, alone ─▶ no mark
//!          begun too often ───▶ DeadLetter; the mark stays for a while
//! ```
//!
//! A process that is killed leaves its marks behind. The first run of a message has no mark, because nothing told
//! that the message would be a suspect: so a message has begun once more than its mark says.
//!
//! Other messages cost no statement.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::{database::DbResult, lock::lock};

/// How often old marks are removed at most.
const CLEANING: Duration = Duration::from_secs(3600);
/// How long the last marks may take at a shutdown.
pub(super) const LAST: Duration = Duration::from_secs(2);

/// Where it is written down that the handlers of suspects have begun. It outlives the process.
pub(crate) trait Marks: Send + Sync + 'static {
    /// How often handlers have begun the message without an end.
    fn begun(&self, id: Uuid) -> BoxFuture<'_, DbResult<u32>>;

    /// Writes down that a handler begins.
    fn begins(&self, id: Uuid) -> BoxFuture<'_, DbResult<()>>;

    /// Removes the mark of a message whose handler came to an end.
    fn ended(&self, id: Uuid) -> BoxFuture<'_, DbResult<()>>;

    /// Removes marks that are older.
    fn forget(&self, age: Duration) -> BoxFuture<'_, DbResult<()>>;
}

/// The suspects of a subscriber.
pub(super) struct Suspects {
    pub(super) marks: Arc<dyn Marks>,
    /// How often a message may begin without an end.
    pub(super) limit: u32,
    /// One permit: for the suspect that is handled alone.
    pub(super) alone: Arc<Semaphore>,
    /// The marks of this process, and how many equal deliveries each is for.
    held: Mutex<HashMap<Uuid, usize>>,
    cleaned: Mutex<Option<Instant>>,
}

impl Suspects {
    pub(super) fn new(marks: Arc<dyn Marks>, limit: u32) -> Self {
        Self {
            marks,
            limit,
            alone: Arc::new(Semaphore::new(1)),
            held: Mutex::default(),
            cleaned: Mutex::default(),
        }
    }

    pub(super) fn begun(&self, id: Uuid) -> BoxFuture<'_, DbResult<u32>> {
        self.marks.begun(id)
    }

    pub(super) fn holds(&self, id: Uuid) -> bool {
        lock(&self.held).contains_key(&id)
    }

    /// Takes a hold of the mark. Whether it is the first one.
    pub(super) fn hold(&self, id: Uuid) -> bool {
        let mut held = lock(&self.held);
        let holds = held.entry(id).or_insert(0);
        *holds += 1;
        *holds == 1
    }

    /// Gives a hold up. Whether it was the last one.
    pub(super) fn let_go(&self, id: Uuid) -> bool {
        let mut held = lock(&self.held);
        let Some(holds) = held.get_mut(&id) else {
            return false;
        };
        *holds -= 1;
        *holds == 0 && held.remove(&id).is_some()
    }

    /// Removes the marks of handlers that were aborted: these came to no end, but the process did not end either.
    pub(super) async fn let_all_go(&self) {
        let held: Vec<Uuid> = lock(&self.held).drain().map(|(id, _)| id).collect();
        let end = async {
            for id in held {
                let _ = self.marks.ended(id).await;
            }
        };
        let _ = timeout(LAST, end).await;
    }

    pub(super) fn is_cleaning_due(&self) -> bool {
        let (mut cleaned, now) = (lock(&self.cleaned), Instant::now());
        let is_due = cleaned.is_none_or(|at| now.duration_since(at) >= CLEANING);
        if is_due {
            *cleaned = Some(now);
        }
        is_due
    }
}
