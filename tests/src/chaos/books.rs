//! The books: all journals read together, and compared with the tables at the end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
};

use super::{
    journal::{Entry, Handled, Reader},
    now,
    work::Behavior,
};
use crate::{Error, Result};

/// The state of every sale and every message, as the journals tell it.
#[derive(Debug, Default)]
pub(crate) struct Books {
    journals: Vec<(u32, Reader)>,
    /// Sales whose callers were told that they are committed.
    committed: HashMap<i64, Committed>,
    rolled_back: HashSet<i64>,
    pub(super) unknown: u64,
    pub(super) dropped: u64,
    /// The first run of each message that was handled.
    handled: HashMap<(i64, u8), First>,
    pub(super) repeats: Vec<Repeat>,
    /// Committed messages that are not handled yet, by sale.
    open: BTreeMap<i64, Open>,
    /// For each seller: when each sale was committed, and when its last message without a delay was handled.
    flow: HashMap<u32, Vec<(u64, u64)>>,
    /// For each subscriber: the times at which it handled something.
    runs: HashMap<u32, Vec<u64>>,
    pub(super) early: u64,
    pub(super) other_id: u64,
    /// Sellers that have confirmed that they hold.
    pub(super) held: HashSet<u32>,
    /// Workers that did not reach the place at which they were to die.
    pub(super) missed: u64,
    /// Shutdowns that ran out of time while something else was broken.
    pub(super) late: u64,
    pub(super) problems: Vec<String>,
}

/// The first run of a message.
#[derive(Debug)]
struct First {
    id: String,
    subscriber: u32,
}

/// A further run of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub(super) at: u64,
    /// Who committed the message, and who handled it first.
    pub(super) workers: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
struct Committed {
    messages: u8,
}

/// A sale with messages on their way.
#[derive(Debug, Clone, Copy)]
struct Open {
    seller: u32,
    at: u64,
    /// One bit for each message without a delay that is not handled yet.
    prompt: u8,
    /// The same for messages that are late on purpose. Messages whose handler always fails are in neither.
    late: u8,
}

/// The comparison of the tables at the end with the journals.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(super) committed: u64,
    pub(super) rolled_back: u64,
    pub(super) messages: u64,
    pub(super) handled: u64,
    pub(super) poison: u64,
    pub(super) lost: Vec<(i64, u8)>,
    pub(super) invented: Vec<(i64, u8)>,
    /// Sales whose caller was told the opposite of what the table has.
    pub(super) belied: Vec<i64>,
}

impl Books {
    /// Adds the journal of a worker.
    pub(super) fn follow(&mut self, born: u32, journal: PathBuf) {
        self.journals.push((born, Reader::new(journal)));
    }

    /// Reads the new lines of all journals.
    pub(super) fn read(&mut self) -> Result<()> {
        let mut entries = Vec::new();
        for (born, journal) in &mut self.journals {
            let more = journal.more().map_err(|cause| {
                Error::new(
                    format!("a journal cannot be read: {cause}"),
                    "see its folder",
                )
            })?;
            entries.extend(more.into_iter().map(|entry| (*born, entry)));
        }
        for (born, entry) in entries {
            self.enter(born, entry);
        }
        Ok(())
    }

    fn enter(&mut self, born: u32, entry: Entry) {
        match entry {
            Entry::Started => {}
            Entry::Held => {
                self.held.insert(born);
            }
            Entry::Committed { sale, messages, at } => self.commit(born, sale, messages, at),
            Entry::RolledBack { sale } => {
                self.rolled_back.insert(sale);
            }
            Entry::Unknown { .. } => self.unknown += 1,
            Entry::Dropped { .. } => self.dropped += 1,
            Entry::Handled(handled) => self.handle(born, handled),
        }
    }

    fn commit(&mut self, seller: u32, sale: i64, messages: u8, at: u64) {
        self.committed.insert(sale, Committed { messages });
        let mut open = Open {
            seller,
            at,
            prompt: 0,
            late: 0,
        };
        for index in 0..messages {
            let behavior = Behavior::of(sale, index);
            if behavior.is_poison() || self.handled.contains_key(&(sale, index)) {
            } else if Behavior::delay(sale, index).is_zero() && matches!(behavior, Behavior::Good) {
                open.prompt |= 1 << index;
            } else {
                open.late |= 1 << index;
            }
        }
        if open.prompt == 0 {
            self.flow.entry(seller).or_default().push((at, now()));
        }
        if open.prompt | open.late != 0 {
            self.open.insert(sale, open);
        }
    }

    fn handle(&mut self, subscriber: u32, handled: Handled) {
        let Handled {
            sale,
            index,
            id,
            early,
            at,
        } = handled;
        self.runs.entry(subscriber).or_default().push(at);
        self.early += u64::from(early);
        if let Some(first) = self.handled.get(&(sale, index)) {
            let seller = u32::try_from(sale >> 32).unwrap_or(0);
            self.repeats.push(Repeat {
                at,
                workers: [seller, first.subscriber],
            });
            self.other_id += u64::from(first.id != id);
            return;
        }
        self.handled.insert((sale, index), First { id, subscriber });
        let Some(open) = self.open.get_mut(&sale) else {
            return;
        };
        let bit = 1 << index;
        let was_prompt = open.prompt & bit != 0;
        open.prompt &= !bit;
        open.late &= !bit;
        let Open {
            seller,
            at: committed,
            prompt,
            late,
        } = *open;
        if was_prompt && prompt == 0 {
            self.flow.entry(seller).or_default().push((committed, at));
        }
        if prompt | late == 0 {
            self.open.remove(&sale);
        }
    }

    /// When sales committed by this seller after `since` were first handled.
    pub(super) fn sold_after(&self, seller: u32, since: u64) -> Option<u64> {
        let flow = self.flow.get(&seller)?.iter().rev();
        // Sales overlap, so their times are not sorted. Far fewer than a thousand overlap.
        let new = flow.take(1_000).filter(|(committed, _)| *committed > since);
        new.map(|(_, handled)| *handled).min()
    }

    /// When this subscriber first handled something after `since`.
    pub(super) fn handled_after(&self, subscriber: u32, since: u64) -> Option<u64> {
        let runs = self.runs.get(&subscriber)?;
        runs.iter()
            .rev()
            .take(1_000)
            .copied()
            .filter(|at| *at > since)
            .min()
    }

    /// Whether all prompt messages committed before then are handled.
    pub(super) fn is_caught_up(&self, then: u64) -> bool {
        self.open
            .values()
            .all(|open| open.at > then || open.prompt == 0)
    }

    /// How many messages of these sales are still to be handled.
    pub(super) fn unhandled(&self, sales: &[(i64, i64)]) -> usize {
        let is_open = |message: &(i64, u8)| {
            !Behavior::of(message.0, message.1).is_poison() && !self.handled.contains_key(message)
        };
        messages(sales).filter(is_open).count()
    }

    pub(super) fn handled(&self) -> usize {
        self.handled.len()
    }

    /// Compares with the sales in the table and the dead letters.
    pub(super) fn check(&self, sales: &[(i64, i64)], dead: &HashSet<(i64, u8)>) -> Comparison {
        let mut verdict = Comparison {
            committed: sales.len() as u64,
            rolled_back: self.rolled_back.len() as u64,
            handled: self.handled.len() as u64,
            ..Comparison::default()
        };
        let table: HashMap<i64, i64> = sales.iter().copied().collect();
        for message in messages(sales) {
            verdict.messages += 1;
            let is_poison = Behavior::of(message.0, message.1).is_poison();
            verdict.poison += u64::from(is_poison);
            let is_there = if is_poison {
                dead.contains(&message)
            } else {
                self.handled.contains_key(&message)
            };
            if !is_there {
                verdict.lost.push(message);
            }
        }
        let sold = |(sale, index): &(i64, u8)| {
            table
                .get(sale)
                .is_some_and(|messages| i64::from(*index) < *messages)
        };
        let seen = self.handled.keys().chain(dead).copied();
        verdict.invented = seen.filter(|message| !sold(message)).collect();
        let missing = self
            .committed
            .iter()
            .filter(|(sale, told)| table.get(sale).copied() != Some(told.messages.into()));
        verdict.belied = missing.map(|(sale, _)| *sale).collect();
        let there = self
            .rolled_back
            .iter()
            .filter(|sale| table.contains_key(sale));
        verdict.belied.extend(there);
        verdict
    }
}

/// Every message of these sales.
fn messages(sales: &[(i64, i64)]) -> impl Iterator<Item = (i64, u8)> {
    sales.iter().flat_map(|(sale, messages)| {
        (0..u8::try_from(*messages).unwrap_or(u8::MAX)).map(|index| (*sale, index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sale whose messages are all handled at once.
    fn plain() -> i64 {
        let is_plain = |sale: &i64| {
            (0..2).all(|index| {
                Behavior::of(*sale, index) == Behavior::Good
                    && Behavior::delay(*sale, index).is_zero()
            })
        };
        (1..1_000).find(is_plain).unwrap()
    }

    fn handled(sale: i64, index: u8, id: &str, at: u64) -> Entry {
        Entry::Handled(Handled {
            sale,
            index,
            id: id.into(),
            early: false,
            at,
        })
    }

    fn committed(sale: i64, at: u64) -> Entry {
        Entry::Committed {
            sale,
            messages: 2,
            at,
        }
    }

    #[test]
    fn a_message_that_was_not_handled_is_lost() {
        let sale = plain();
        let mut books = Books::default();
        books.enter(1, committed(sale, 5));
        books.enter(2, handled(sale, 0, "a", 6));
        let verdict = books.check(&[(sale, 2)], &HashSet::new());
        assert_eq!(verdict.lost, [(sale, 1)]);
        assert!(verdict.invented.is_empty() && verdict.belied.is_empty());
        assert!(!books.open.is_empty() && !books.is_caught_up(5) && books.is_caught_up(4));
    }

    #[test]
    fn a_sale_that_only_the_table_knows_of_is_waited_for() {
        let sale = plain();
        let mut books = Books::default();
        books.enter(1, Entry::Unknown { sale });
        books.enter(2, handled(sale, 0, "a", 6));
        assert!(books.open.is_empty());
        assert_eq!(books.unhandled(&[(sale, 2)]), 1);
    }

    #[test]
    fn a_message_of_no_sale_is_invented() {
        let sale = plain();
        let mut books = Books::default();
        books.enter(2, handled(sale, 0, "a", 6));
        books.enter(2, handled(sale + 1, 3, "b", 6));
        let verdict = books.check(&[(sale + 1, 2)], &HashSet::from([(sale + 2, 0)]));
        let mut invented = verdict.invented;
        invented.sort();
        assert_eq!(invented, [(sale, 0), (sale + 1, 3), (sale + 2, 0)]);
    }

    #[test]
    fn a_caller_who_was_told_wrongly_is_found() {
        let sale = plain();
        let mut books = Books::default();
        books.enter(1, committed(sale, 5));
        books.enter(1, Entry::RolledBack { sale: sale + 1 });
        let verdict = books.check(&[(sale + 1, 0)], &HashSet::new());
        assert_eq!(verdict.belied, [sale, sale + 1]);
    }

    #[test]
    fn a_second_run_is_a_repeat_and_shows_another_id() {
        let sale = plain();
        let mut books = Books::default();
        for (id, at) in [("a", 6), ("a", 7), ("b", 8)] {
            books.enter(2, handled(sale, 0, id, at));
        }
        let at: Vec<_> = books.repeats.iter().map(|repeat| repeat.at).collect();
        assert_eq!(at, [7, 8]);
        assert_eq!(books.repeats[0].workers, [0, 2]);
        assert_eq!(books.other_id, 1);
    }

    #[test]
    fn flow_is_a_whole_sale_committed_after_the_moment() {
        let sale = plain();
        let mut books = Books::default();
        books.enter(1, committed(sale, 5));
        books.enter(2, handled(sale, 0, "a", 6));
        assert_eq!(books.sold_after(1, 4), None);
        books.enter(2, handled(sale, 1, "b", 9));
        assert_eq!(books.sold_after(1, 4), Some(9));
        assert_eq!(books.sold_after(1, 5), None);
        assert_eq!(books.handled_after(2, 6), Some(9));
        assert!(books.open.is_empty());
    }
}
