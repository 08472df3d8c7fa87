//! The task that writes what is in the queue.
//!
//! Input: the queue. State: whether the database failed last. Output: transactions, one after the other, and an answer
//! for each message. After a failure the next transaction is tried at once: clients wait for an answer, and each has its
//! own idea of when to try again.
//!
//! Clients that were answered together often send their next message at once. So a task that has answered many gives
//! them a moment, far shorter than a commit, to come back before it begins. It sleeps for nobody: it only lets the other
//! tasks run. A client that is alone never waits for that.
//!
//! ```text
//!   waits ─ a message ─▶ takes all that is there, 500 messages or 4 MiB at most ─▶ writes ─▶ answers ─┐
//!     ▲ └ stop ─▶ closed: writes what is left, within a limit ─▶ ends                                 │
//!     └───────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    Publisher, QueueLimits, Store, Ticket,
    halves::{self, Outcome},
    queue::{Tickets, queue},
};

/// Messages of one transaction.
const BATCH: usize = 500;
/// Bytes of one transaction. More would be more than one INSERT.
const BYTES: usize = 4 * 1024 * 1024;
/// The moment in which clients come back that were answered together.
const MOMENT: Duration = Duration::from_micros(300);
/// The pause after a panic.
const PAUSE: Duration = Duration::from_millis(100);

/// The task of a queue.
#[derive(Debug)]
pub(crate) struct Committer {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Committer {
    /// Begins to write what comes into a new queue. At a stop it has `limit` for what is left.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        limits: QueueLimits,
        limit: Duration,
    ) -> (Publisher, Self) {
        let (publisher, tickets) = queue(limits);
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep_on(store, tickets, stop.clone(), limit));
        let task = Some(task);
        (publisher, Self { stop, task })
    }

    /// Takes nothing new, writes what is left, and ends.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Committer {
    /// Without a stop, what is in the queue is written all the same, and then the task ends.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs the loop again after a panic, which loses only the answers of its transaction.
async fn keep_on(
    store: Arc<dyn Store>,
    tickets: Tickets,
    stop: CancellationToken,
    limit: Duration,
) {
    let tickets = Arc::new(Mutex::new(tickets));
    loop {
        let (store, tickets) = (Arc::clone(&store), Arc::clone(&tickets));
        let run = run(store, tickets, stop.clone(), limit);
        match tokio::spawn(run).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(
                    target: "final::gateway",
                    %error,
                    "the task that commits messages panicked; it is started again, and the clients of its \
                     transaction hear that nothing is known"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn run(
    store: Arc<dyn Store>,
    tickets: Arc<Mutex<Tickets>>,
    stop: CancellationToken,
    limit: Duration,
) {
    let mut tickets = tickets.lock().await;
    let counts = Arc::clone(&tickets.counts);
    let mut came = Vec::with_capacity(BATCH);
    let mut trouble = Trouble::default();
    let mut end = None;
    // So many were answered together last.
    let mut answered = 0;
    loop {
        if end.is_none() {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    tickets.close();
                    end = Some(Instant::now() + limit);
                    continue;
                }
                some = tickets.tickets.recv_many(&mut came, BATCH) => if some == 0 { return },
            }
        } else if tickets.tickets.recv_many(&mut came, BATCH).await == 0 {
            return;
        }
        if end.is_none() {
            come_back(&mut tickets, &mut came, answered).await;
        }
        answered = came.len();
        let lots = lots(std::mem::take(&mut came));
        // The stop may come between two transactions of these messages.
        let is_over = || {
            if end.is_none() && stop.is_cancelled() {
                tickets.close();
                end = Some(Instant::now() + limit);
            }
            end.is_some_and(|end| Instant::now() >= end)
        };
        trouble.note(halves::write(&*store, &counts, lots, is_over).await);
        came.reserve(BATCH);
    }
}

/// Lets the other tasks run until as many have come as were answered together, or the moment is over.
async fn come_back(tickets: &mut Tickets, came: &mut Vec<Ticket>, answered: usize) {
    let until = Instant::now() + MOMENT;
    let wanted = answered.min(BATCH);
    while came.len() < wanted && Instant::now() < until {
        tokio::task::yield_now().await;
        while came.len() < BATCH {
            match tickets.tickets.try_recv() {
                Ok(ticket) => came.push(ticket),
                Err(_) => break,
            }
        }
    }
}

/// The tickets in their order, in lots of as many as one transaction takes.
fn lots(tickets: Vec<Ticket>) -> Vec<Vec<Ticket>> {
    let mut lots: Vec<Vec<Ticket>> = Vec::new();
    let mut bytes = 0_usize;
    for ticket in tickets {
        bytes = bytes.saturating_add(ticket.weight);
        match lots.last_mut() {
            Some(lot) if bytes <= BYTES => lot.push(ticket),
            _ => {
                bytes = ticket.weight;
                lots.push(vec![ticket]);
            }
        }
    }
    lots
}

/// Whether the database fails, to log each outage once.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
}

impl Trouble {
    fn note(&mut self, outcome: Outcome) {
        match (outcome.failed, self.since) {
            (Some(error), None) => {
                self.since = Some(Instant::now());
                tracing::warn!(
                    target: "final::gateway",
                    error,
                    "messages of clients cannot be written; the clients hear of it"
                );
            }
            (None, Some(since)) if outcome.wrote => {
                self.since = None;
                tracing::info!(
                    target: "final::gateway",
                    after = ?since.elapsed(),
                    "messages of clients are written again"
                );
            }
            _ => {}
        }
    }
}
