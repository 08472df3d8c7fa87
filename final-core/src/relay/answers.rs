//! The answers that wait to be settled, some of them until a later time.
//!
//! Input: answered records, from the links; and answers whose time has not come, from earlier rounds. Output:
//! batches that are due now, each gathered for a moment so that one statement settles many records.

use std::time::{Duration, Instant};

use tokio::{sync::mpsc, time::timeout_at};
use tokio_util::sync::CancellationToken;

use super::flight::AnsweredRecord;

/// How many answers one round of statements settles at most.
const MAX_BATCH: usize = 500;

/// How long an answer waits for others to be settled with. At 5,000 messages a second this makes
/// one statement of a hundred.
const GATHER: Duration = Duration::from_millis(20);

/// Where the answers come from, shared by the pool of ackers.
pub(crate) struct AnswerQueue {
    answers: mpsc::UnboundedReceiver<AnsweredRecord>,
    /// Answers that are not due yet. Each has its slot, so the window bounds them.
    later: Vec<AnsweredRecord>,
}

impl AnswerQueue {
    pub(crate) fn new(answers: mpsc::UnboundedReceiver<AnsweredRecord>) -> Self {
        Self {
            answers,
            later: Vec::new(),
        }
    }

    /// Waits for an answer, and takes the answers that follow closely. An empty batch means that `stop` was
    /// cancelled and no answer is left.
    ///
    /// From `hurry` on every answer is due, also one for later.
    pub(crate) async fn gather(
        &mut self,
        hurry: &CancellationToken,
        stop: &CancellationToken,
    ) -> Vec<AnsweredRecord> {
        loop {
            let mut batch = Vec::new();
            let due = self.later.iter().filter_map(|answer| answer.due).min();
            if !is_over(due, hurry) {
                let alarm = due.unwrap_or_else(Instant::now);
                tokio::select! {
                    biased;
                    received = self.answers.recv_many(&mut batch, MAX_BATCH) => {
                        if received == 0 {
                            return batch;
                        }
                        self.gather_more(&mut batch).await;
                    }
                    () = stop.cancelled() => return batch,
                    () = hurry.cancelled(), if due.is_some() => {}
                    () = tokio::time::sleep_until(alarm.into()), if due.is_some() => {}
                }
            }
            batch.append(&mut self.later);
            let (due, later) = batch
                .into_iter()
                .partition(|answer| answer.due.is_none() || is_over(answer.due, hurry));
            self.later = later;
            if !Vec::is_empty(&due) {
                return due;
            }
        }
    }

    async fn gather_more(&mut self, batch: &mut Vec<AnsweredRecord>) {
        let end = tokio::time::Instant::now() + GATHER;
        while batch.len() < MAX_BATCH {
            let more = MAX_BATCH - batch.len();
            if timeout_at(end, self.answers.recv_many(batch, more))
                .await
                .is_err()
            {
                break;
            }
        }
    }
}

fn is_over(due: Option<Instant>, hurry: &CancellationToken) -> bool {
    due.is_some_and(|due| due <= Instant::now() || hurry.is_cancelled())
}
