//! The lot that is being filled.
//!
//! Input: messages of a transaction, its end, and points between transactions. State: the messages, and where the
//! capture stands behind them. Output: lots that end with whole changes.

use std::sync::Arc;

use crate::{
    format::Encoded,
    position::{Partial, SourcePoint},
    source::Transaction,
    target::{Content, Item, LOT, LOT_BYTES, Lot, Mark},
};

/// The lot that is being filled.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    items: Vec<Item>,
    bytes: usize,
    rows: u64,
    /// So many of the items are whole changes.
    whole: usize,
    /// Where the capture stands when all items are done, if that is further than the last one's mark.
    end: Option<Mark>,
    transaction: Option<Arc<Transaction>>,
}

impl Assembly {
    pub(super) fn begin(&mut self, transaction: Transaction) {
        self.transaction = Some(Arc::new(transaction));
    }

    /// A change was read.
    pub(super) fn count_row(&mut self) {
        self.rows += 1;
    }

    /// A message of the transaction.
    pub(super) fn push(&mut self, encoded: Encoded) {
        let Encoded {
            message,
            changes,
            ends_change,
        } = encoded;
        self.put(Content::Message(message), changes, ends_change);
    }

    /// A change that cannot be written in the format.
    pub(super) fn push_unwritable(
        &mut self,
        topic: Arc<str>,
        key: Option<Arc<str>>,
        why: String,
        changes: u64,
    ) {
        self.put(Content::Unwritable { topic, key, why }, changes, true);
    }

    fn put(&mut self, content: Content, changes: u64, ends_change: bool) {
        let Some(transaction) = &self.transaction else {
            return;
        };
        let mark = Mark {
            point: transaction.after.clone(),
            partial: Some(Partial {
                transaction: Arc::clone(&transaction.id),
                changes,
            }),
            at: Some(transaction.at),
        };
        self.bytes += content.bytes();
        self.items.push(Item {
            content,
            mark,
            ends_change,
        });
        if ends_change {
            self.whole = self.items.len();
            self.end = None;
        }
    }

    /// The transaction is complete.
    pub(super) fn commit(&mut self, point: SourcePoint) {
        let at = self.transaction.take().map(|transaction| transaction.at);
        self.pass(Mark {
            point,
            partial: None,
            at,
        });
    }

    /// Nothing for us comes before this point.
    pub(super) fn quiet(&mut self, point: SourcePoint) {
        self.pass(Mark {
            point,
            partial: None,
            at: None,
        });
    }

    fn pass(&mut self, mark: Mark) {
        match self.items.last_mut() {
            Some(last) => {
                last.mark = Mark {
                    at: mark.at.or(last.mark.at),
                    ..mark
                };
                last.ends_change = true;
                self.whole = self.items.len();
                self.end = None;
            }
            None => self.end = Some(mark),
        }
    }

    /// Whether there is a message to hand over.
    pub(super) fn has_messages(&self) -> bool {
        self.whole > 0
    }

    /// Whether there is only a point to save.
    pub(super) fn has_point_only(&self) -> bool {
        self.whole == 0 && self.end.is_some()
    }

    /// Whether it has to be handed over before more is read. A change that is not whole yet never fills it.
    pub(super) fn is_full(&self) -> bool {
        self.whole > 0 && (self.items.len() >= LOT || self.bytes >= LOT_BYTES)
    }

    /// Takes what can be handed over: whole changes.
    pub(super) fn take(&mut self) -> Option<Lot> {
        let rest = self.items.split_off(self.whole);
        let items = std::mem::replace(&mut self.items, rest);
        self.whole = 0;
        self.bytes = self.items.iter().map(|item| item.content.bytes()).sum();
        let last = items.last().map(|item| item.mark.clone());
        let end = self.end.take().or(last)?;
        let rows = std::mem::take(&mut self.rows);
        Some(Lot { items, end, rows })
    }
}

#[cfg(test)]
mod tests {
    use final_core::Message;

    use super::*;

    fn encoded(changes: u64, ends_change: bool) -> Encoded {
        Encoded {
            message: Message::new("cdc.shop.holes", vec![0_u8; 10]),
            changes,
            ends_change,
        }
    }

    fn transaction(id: &str, after: u64) -> Transaction {
        Transaction {
            id: id.into(),
            at: 17,
            after: SourcePoint::Lsn(after),
        }
    }

    fn marks(lot: &Lot) -> Vec<(u64, Option<u64>)> {
        let lsn = |point: &SourcePoint| match point {
            SourcePoint::Lsn(lsn) => *lsn,
            other => panic!("{other}"),
        };
        let mark = |mark: &Mark| {
            let partial = mark.partial.as_ref();
            (lsn(&mark.point), partial.map(|partial| partial.changes))
        };
        let items = lot.items.iter().map(|item| mark(&item.mark));
        items.chain([mark(&lot.end)]).collect()
    }

    #[test]
    fn a_transaction_is_done_with_its_last_message_and_in_part_with_the_others() {
        let mut assembly = Assembly::default();
        assembly.begin(transaction("7", 100));
        assembly.push(encoded(1, true));
        assembly.push(encoded(2, true));
        assembly.commit(SourcePoint::Lsn(200));

        let lot = assembly.take().unwrap();
        assert_eq!(marks(&lot), [(100, Some(1)), (200, None), (200, None)]);
        assert_eq!(lot.end.at, Some(17));
        assert!(assembly.take().is_none());
    }

    #[test]
    fn a_lot_ends_with_a_whole_change() {
        let mut assembly = Assembly::default();
        assembly.begin(transaction("7", 100));
        assembly.push(encoded(1, true));
        assembly.push(encoded(1, false));
        let lot = assembly.take().unwrap();
        assert_eq!(marks(&lot), [(100, Some(1)), (100, Some(1))]);
        assert!(!assembly.has_messages() && assembly.take().is_none());

        assembly.push(encoded(2, true));
        let lot = assembly.take().unwrap();
        assert_eq!(
            marks(&lot),
            [(100, Some(1)), (100, Some(2)), (100, Some(2))]
        );
    }

    #[test]
    fn a_transaction_without_messages_moves_the_position_alone() {
        let mut assembly = Assembly::default();
        assembly.begin(transaction("7", 100));
        assembly.commit(SourcePoint::Lsn(200));
        assert!(assembly.has_point_only() && !assembly.has_messages());
        let lot = assembly.take().unwrap();
        assert_eq!(marks(&lot), [(200, None)]);
    }

    #[test]
    fn a_message_after_a_quiet_point_moves_the_position_to_its_own_place() {
        let mut assembly = Assembly::default();
        assembly.quiet(SourcePoint::Lsn(100));
        assembly.begin(transaction("7", 100));
        assembly.push(encoded(1, true));
        let lot = assembly.take().unwrap();
        assert_eq!(marks(&lot), [(100, Some(1)), (100, Some(1))]);
    }
}
