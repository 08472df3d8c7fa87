//! Suspects: messages that may be the reason why a process ended.
//!
//! Input: a delivery of which the broker says that it was delivered before, and that this process did not give
//! back. State: a mark in the database for each suspect whose handler runs. Output: the delivery is handled, or
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
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::work::{SubscriberContext, TopicRoute, work};
use crate::{
    broker::{Cause, Delivery},
    database::DbResult,
    lock::lock,
    runtime::backoff::Backoff,
};

/// How long a suspect waits until no other handler happens to run.
const POLITE: Duration = Duration::from_secs(2);
/// How long it keeps other handlers from beginning after that. Then it is handled beside them.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long it is handled alone. Other messages must not wait for long handlers.
const ALONE: Duration = Duration::from_secs(10);
/// How long a mark is kept whose message does not come again.
const KEPT: Duration = Duration::from_secs(3 * 24 * 3600);
/// How often old marks are removed at most.
const CLEANING: Duration = Duration::from_secs(3600);
/// How long the last marks may take at a shutdown.
const LAST: Duration = Duration::from_secs(2);

/// The pauses while the database does not take a mark.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

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
    marks: Arc<dyn Marks>,
    /// How often a message may begin without an end.
    limit: u32,
    /// One permit: for the suspect that is handled alone.
    alone: Arc<Semaphore>,
    /// The marks of this process, and how many equal deliveries each is for.
    held: Mutex<HashMap<Uuid, usize>>,
    cleaned: Mutex<Option<Instant>>,
}

/// Handles a suspect, or dead-letters it.
pub(super) async fn work_suspect(
    context: Arc<SubscriberContext>,
    delivery: Delivery,
    route: Arc<TopicRoute>,
) {
    let Ok(message) = delivery.message() else {
        return;
    };
    let (id, suspects) = (message.identity(), &context.suspects);
    let id = id.0;
    delivery.wait(true);
    let Some(begun) = context.ask("reading a mark", || suspects.begun(id)).await else {
        return context.requeue(delivery);
    };
    // If it is in hand here as well, the mark is this process's own.
    let begun = if suspects.holds(id) { 0 } else { begun };
    if begun.saturating_add(1) >= suspects.limit {
        return context.dead_letter(delivery, cause(begun.saturating_add(1)));
    }
    let (slot, company) = if begun == 0 {
        (context.slot().await, None)
    } else {
        tracing::warn!(
            target: "final::consume",
            service = &*context.service,
            topic = message.topic(),
            id = %message.id(),
            begun = begun.saturating_add(1),
            "a handler of this message has begun before and came to no end; it is handled alone now"
        );
        context.alone().await
    };
    let Some(slot) = slot else {
        return context.requeue(delivery);
    };
    if !context.begin(id).await {
        return context.requeue(delivery);
    }
    delivery.wait(false);
    let mut work = pin!(work(Arc::clone(&context), delivery, route, slot));
    tokio::select! {
        () = &mut work => {}
        () = sleep(ALONE), if company.is_some() => {
            drop(company);
            work.await;
        }
    }
    context.end(id).await;
}

/// What keeps other handlers from beginning.
struct NoCompany {
    _turn: OwnedSemaphorePermit,
    _slots: Option<OwnedSemaphorePermit>,
}

fn cause(begun: u32) -> Cause {
    let text = format!(
        "its handler began {begun} times and never came to an end: each time the process ended, or lost the broker \
         while the handler ran"
    );
    Cause::new(text, begun)
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

    fn begun(&self, id: Uuid) -> BoxFuture<'_, DbResult<u32>> {
        self.marks.begun(id)
    }

    fn holds(&self, id: Uuid) -> bool {
        lock(&self.held).contains_key(&id)
    }

    /// Takes a hold of the mark. Whether it is the first one.
    fn hold(&self, id: Uuid) -> bool {
        let mut held = lock(&self.held);
        let holds = held.entry(id).or_insert(0);
        *holds += 1;
        *holds == 1
    }

    /// Gives a hold up. Whether it was the last one.
    fn let_go(&self, id: Uuid) -> bool {
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

    fn is_cleaning_due(&self) -> bool {
        let (mut cleaned, now) = (lock(&self.cleaned), Instant::now());
        let is_due = cleaned.is_none_or(|at| now.duration_since(at) >= CLEANING);
        if is_due {
            *cleaned = Some(now);
        }
        is_due
    }
}

impl SubscriberContext {
    /// Asks the database until it answers. `None` if the bus stops before.
    async fn ask<'a, T>(
        &'a self,
        doing: &'static str,
        question: impl Fn() -> BoxFuture<'a, DbResult<T>>,
    ) -> Option<T> {
        let mut failures = 0;
        loop {
            let error = match self.stop.run_until_cancelled(question()).await? {
                Ok(answer) => return Some(answer),
                Err(error) => error,
            };
            failures += 1;
            if failures == 1 {
                tracing::warn!(
                    target: "final::consume",
                    service = &*self.service,
                    doing,
                    %error,
                    "the mark of a message that was delivered before cannot be read or written; the message waits"
                );
            }
            let pause = sleep(BACKOFF.pause(failures));
            self.stop.run_until_cancelled(pause).await?;
        }
    }

    /// Writes the mark. False if the bus stops before.
    async fn begin(&self, id: Uuid) -> bool {
        let suspects = &self.suspects;
        if suspects.is_cleaning_due() {
            // Tried again in an hour.
            let _ = suspects.marks.forget(KEPT).await;
        }
        if !suspects.hold(id) {
            return true;
        }
        let marked = self
            .ask("writing a mark", || suspects.marks.begins(id))
            .await;
        if marked.is_none() {
            suspects.let_go(id);
        }
        marked.is_some()
    }

    /// Removes the mark. While the bus stops it is tried once more.
    async fn end(&self, id: Uuid) {
        let suspects = &self.suspects;
        if !suspects.let_go(id) {
            return;
        }
        let ended = self
            .ask("removing a mark", || suspects.marks.ended(id))
            .await;
        if ended.is_none() {
            let _ = timeout(LAST, suspects.marks.ended(id)).await;
        }
    }

    /// Waits until no other handler runs, and keeps others from beginning; but not for long. `None` for the slot
    /// if the bus stops before.
    async fn alone(&self) -> (Option<OwnedSemaphorePermit>, Option<NoCompany>) {
        let turn = Arc::clone(&self.suspects.alone).acquire_owned();
        // The semaphore is never closed.
        let Some(Ok(turn)) = self.stop.run_until_cancelled(turn).await else {
            return (None, None);
        };
        let polite_until = Instant::now() + POLITE;
        while self.slots.available_permits() < self.concurrency && Instant::now() < polite_until {
            let pause = sleep(Duration::from_millis(20));
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return (None, None);
            }
        }
        let all = u32::try_from(self.concurrency).unwrap_or(u32::MAX);
        let all = timeout(PATIENCE, Arc::clone(&self.slots).acquire_many_owned(all));
        let (slot, slots) = match self.stop.run_until_cancelled(all).await {
            None => return (None, None),
            Some(Ok(Ok(mut slots))) => (slots.split(1), Some(slots)),
            Some(_) => (self.slot().await, None),
        };
        let company = NoCompany {
            _turn: turn,
            _slots: slots,
        };
        (slot, Some(company))
    }
}
