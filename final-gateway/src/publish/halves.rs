//! A transaction that is refused for one of its messages: the others are written without it.
//!
//! Input: lots of tickets in their order, and whether the time is over. Output: each ticket is answered. A lot that is
//! refused is written in halves, in order, until the refused message is alone. After another failure, and when the time
//! is over, the rest is answered and not written.
//!
//! ```text
//!   [a b X c] refused ─▶ [a b] written ─▶ [X c] refused ─▶ [X] refused: answered so ─▶ [c] written
//! ```

use std::sync::atomic::Ordering::Relaxed;

use final_core::{Error, Message};

use super::{PublishError, Store, Ticket, queue::Counts, told};

/// How the database was with a lot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why a transaction failed that was not refused for one of its messages.
    pub(super) failed: Option<String>,
    /// Whether any message was written.
    pub(super) wrote: bool,
}

/// Writes lots in their order, and answers each ticket. Before each transaction it asks whether the time is over.
pub(super) async fn write(
    store: &dyn Store,
    counts: &Counts,
    mut lots: Vec<Vec<Ticket>>,
    mut is_over: impl FnMut() -> bool,
) -> Outcome {
    let mut outcome = Outcome::default();
    // The lots that are still to be written, the next one last.
    lots.reverse();
    while let Some(mut tickets) = lots.pop() {
        if tickets.is_empty() {
            continue;
        }
        if is_over() {
            answer_all(tickets, counts, &PublishError::Stopping);
            continue;
        }
        if let Some(failed) = &outcome.failed {
            // The same database would be asked again for the rest, and each question may take its whole time.
            let away = PublishError::Away(failed.clone());
            answer_all(tickets, counts, &away);
            continue;
        }
        let messages: Vec<Message> = tickets.iter().map(|one| one.message.clone()).collect();
        let wants: Vec<bool> = tickets.iter().map(|one| one.wants_place).collect();
        match store.write(&messages, &wants).await {
            Ok(places) => {
                outcome.wrote = true;
                counts.transactions.fetch_add(1, Relaxed);
                let mut places = places.into_iter();
                for ticket in tickets {
                    ticket.answer(counts, Ok(places.next().flatten()));
                }
            }
            Err(error) if error.is_refusal() && tickets.len() > 1 => {
                let later = tickets.split_off(tickets.len() / 2);
                lots.push(later);
                lots.push(tickets);
            }
            Err(error) if error.is_refusal() => {
                answer_all(tickets, counts, &PublishError::Refused(told(&error)));
            }
            Err(Error::CommitUnknown { .. }) => {
                outcome.failed = Some("the database did not answer a COMMIT".to_owned());
                answer_all(tickets, counts, &PublishError::Unknown);
            }
            Err(error) => {
                let error = told(&error);
                outcome.failed = Some(error.clone());
                answer_all(tickets, counts, &PublishError::Away(error));
            }
        }
    }
    outcome
}

fn answer_all(tickets: Vec<Ticket>, counts: &Counts, error: &PublishError) {
    for ticket in tickets {
        ticket.answer(counts, Err(error.clone()));
    }
}
