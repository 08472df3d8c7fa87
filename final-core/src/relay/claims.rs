//! Open claims of this process: which claims of the scanner still have records in flight.
//!
//! Input: the number of each new claim, and the end of each record that belongs to it. State: one shared
//! [`OpenClaim`] per claim, and the numbers of finished claims. Output: the finished numbers, which
//! the relay deletes from the table of claims in one statement. Until then a claim hides what was committed
//! late between its first and its last record.

use std::sync::{Arc, Mutex};

use super::Relay;
use crate::{OutboxDatabase, database::DbResult, lock::lock};

/// The claims of this process.
///
/// ```text
///   open ──▶ OpenClaim, shared by the batch and its records
///              └── the last of them drops it ──▶ finished ── take ──▶ the table is told
///                                                   ▲                    │
///                                                   └──── put_back ──────┘ that failed
/// ```
#[derive(Debug, Default)]
pub(super) struct OpenClaims {
    finished: Arc<Mutex<Vec<i64>>>,
}

/// A claim whose records are in flight or about to be. It is finished when its last holder drops it.
#[derive(Debug)]
pub(crate) struct OpenClaim {
    number: i64,
    finished: Arc<Mutex<Vec<i64>>>,
}

impl OpenClaims {
    /// Opens a claim of this process.
    pub(super) fn open(&self, number: i64) -> Arc<OpenClaim> {
        Arc::new(OpenClaim {
            number,
            finished: Arc::clone(&self.finished),
        })
    }

    /// How many claims are finished and still stand in the table.
    pub(super) fn finished(&self) -> usize {
        lock(&self.finished).len()
    }

    /// Takes the finished claims, each once.
    pub(super) fn take_finished(&self) -> Vec<i64> {
        std::mem::take(&mut *lock(&self.finished))
    }

    /// Puts back claims that the table could not be told of.
    fn put_back(&self, numbers: Vec<i64>) {
        lock(&self.finished).extend(numbers);
    }
}

impl Drop for OpenClaim {
    fn drop(&mut self) {
        lock(&self.finished).push(self.number);
    }
}

impl<DB: OutboxDatabase> Relay<DB> {
    /// Deletes the finished claims from the table, if there are at least `least`.
    pub(super) async fn finish_claims(&self, least: usize) -> DbResult<()> {
        if self.claims.finished() < least {
            return Ok(());
        }
        let finished = self.claims.take_finished();
        self.counters.statements.add(1);
        let result = self.outbox.table()?.finish(&finished).await;
        if result.is_err() {
            self.claims.put_back(finished);
        }
        result.map(|_| ())
    }
}
