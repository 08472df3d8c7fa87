//! Leaves out what is done of a transaction that was done in part.
//!
//! Input: the position's [`Partial`], then the events of the stream. State: which changes are done. Output: for each
//! event whether it is new; an error if the first transaction is another one.
//!
//! ```text
//!   waits for its transaction ─ Begin of it ─▶ in it: changes below the number are done ─ Begin of another ─▶ nothing is
//!              └ Begin of another one ─▶ error
//! ```

use std::sync::Arc;

use crate::position::Partial;

/// What is done.
#[derive(Debug)]
pub(super) struct Skip {
    waits_for: Option<Partial>,
    below: u64,
}

/// Another transaction came than the one that is done in part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OtherTransaction {
    pub(super) wanted: Arc<str>,
    pub(super) found: Arc<str>,
}

impl Skip {
    pub(super) fn new(partial: Option<Partial>) -> Self {
        Self {
            waits_for: partial,
            below: 0,
        }
    }

    /// A transaction begins.
    pub(super) fn begin(&mut self, id: &Arc<str>) -> Result<(), OtherTransaction> {
        self.below = match self.waits_for.take() {
            None => 0,
            Some(partial) if partial.transaction == *id => partial.changes,
            Some(partial) => {
                return Err(OtherTransaction {
                    wanted: partial.transaction,
                    found: Arc::clone(id),
                });
            }
        };
        Ok(())
    }

    /// Whether the change with that index is done.
    pub(super) fn is_done(&self, index: u64) -> bool {
        index < self.below
    }

    /// Whether the transaction that is done in part has not come yet. The position must not move then.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits_for.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial(transaction: &str, changes: u64) -> Option<Partial> {
        Some(Partial {
            transaction: transaction.into(),
            changes,
        })
    }

    #[test]
    fn what_is_done_of_the_first_transaction_is_left_out_and_nothing_of_the_next() {
        let mut skip = Skip::new(partial("7", 3));
        assert!(skip.is_waiting());
        skip.begin(&"7".into()).unwrap();
        assert!(!skip.is_waiting());
        assert!(skip.is_done(2) && !skip.is_done(3));
        skip.begin(&"8".into()).unwrap();
        assert!(!skip.is_done(0));
    }

    #[test]
    fn another_first_transaction_is_an_error() {
        let mut skip = Skip::new(partial("7", 3));
        let error = skip.begin(&"8".into()).unwrap_err();
        assert_eq!((&*error.wanted, &*error.found), ("7", "8"));
    }

    #[test]
    fn without_a_part_nothing_is_left_out() {
        let mut skip = Skip::new(None);
        skip.begin(&"8".into()).unwrap();
        assert!(!skip.is_waiting() && !skip.is_done(0));
    }
}
