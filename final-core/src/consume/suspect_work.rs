//! The work on one suspect.
//!
//! Input: a delivery that is suspect, and its route. Output: the delivery is handled, with a mark while its handler
//! runs; or dead-lettered or held, if its handler has begun too often without an end. The states stand in
//! [`suspects`](super::suspects).

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{
    context::{SubscriberContext, TopicRoute},
    suspects::LAST,
    work::work,
};
use crate::{
    broker::{Cause, Delivery, Holding},
    database::DbResult,
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

/// The pauses while the database does not take a mark.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Handles a suspect, or gives it up.
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
        return context.requeue(&route.stats, delivery);
    };
    // If it is in hand here as well, the mark is this process's own.
    let begun = if suspects.holds(id) { 0 } else { begun };
    if begun.saturating_add(1) >= suspects.limit {
        let why = cause(begun.saturating_add(1));
        if route.route.hold().is_some() {
            // By itself it would take the process down again.
            let holding = Holding {
                retries: false,
                ..Holding::new(why)
            };
            return context.hold(&route.stats, delivery, holding);
        }
        return context.dead_letter(&route.stats, delivery, why);
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
        return context.requeue(&route.stats, delivery);
    };
    if !context.begin(id).await {
        return context.requeue(&route.stats, delivery);
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
