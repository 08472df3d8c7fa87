//! The books: what the source has committed, and what came of it.
//!
//! Input: each committed change in the order of its row, and each message as it comes. State: for each row the changes
//! that are still to come. Output: what is lost, invented, out of order or repeated.
//!
//! ```text
//!   committed ─▶ expected ─┐
//!                          ├─ equal ─▶ both are struck out
//!   a message ─▶ came ─────┘
//! ```
//!
//! A message may come before the writer has heard of its COMMIT, so either side waits for the other.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use uuid::Uuid;

/// So many problems are told in words. All are counted.
const MOST_WORDS: usize = 20;

/// A captured table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Whose rows change in every way.
    Goods,
    /// Whose rows are inserted, and which is emptied by TRUNCATE.
    Flats,
}

/// What is in order among itself: the changes of a row, or the TRUNCATEs of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub table: Table,
    /// None for TRUNCATE.
    pub row: Option<i64>,
}

/// What happened, with the version that the row has since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Insert(i64),
    Update(i64),
    Delete,
    Truncate,
}

impl Change {
    fn version(self) -> Option<i64> {
        match self {
            Self::Insert(version) | Self::Update(version) => Some(version),
            Self::Delete | Self::Truncate => None,
        }
    }
}

/// How often a message may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Once.
    Once,
    /// Again, with the same id.
    Again,
}

/// The books of one place where messages come.
#[derive(Debug)]
pub struct Books {
    place: &'static str,
    rule: Rule,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    lines: HashMap<Key, Line>,
    /// The rows of [`Table::Goods`] with their versions, as the messages make them.
    rows: HashMap<i64, i64>,
    /// What each id stood for.
    ids: HashMap<Uuid, (Key, Change)>,
    /// Transactions of which something is still to come, in the order in which they were noted.
    open: BTreeMap<u64, Open>,
    next: u64,
    /// Versions of transactions that were rolled back.
    rolled_back: HashSet<i64>,
    /// Changes that others overtook.
    overtaken: HashSet<(Key, Change)>,
    /// How often something may have happened, where the server itself does not tell.
    doubtful: HashMap<(Key, Change), u64>,
    verdict: Verdict,
}

/// The changes of one key that are not struck out.
#[derive(Debug, Default)]
struct Line {
    expected: VecDeque<Expected>,
    came: VecDeque<Change>,
}

#[derive(Debug)]
struct Expected {
    change: Change,
    transaction: u64,
}

#[derive(Debug)]
struct Open {
    at: Instant,
    left: usize,
}

/// What the books say.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub place: &'static str,
    pub transactions: u64,
    pub undone: u64,
    pub changes: u64,
    pub came: u64,
    pub repeats: u64,
    pub lost: u64,
    pub invented: u64,
    pub out_of_order: u64,
    /// Repeats where none may be, and ids that stood for something else before.
    pub wrong_repeats: u64,
    /// Messages that cannot be understood, or whose values are not those of their version.
    pub nonsense: u64,
    /// The first problems in words.
    pub words: Vec<String>,
}

impl Books {
    pub fn new(place: &'static str, rule: Rule) -> Self {
        Self {
            place,
            rule,
            notes: Mutex::default(),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A statement may have been carried out, and the server does not tell.
    pub fn doubtful(&self, key: Key, change: Change) {
        *self.notes().doubtful.entry((key, change)).or_default() += 1;
    }

    /// A transaction is committed, with these changes in their order.
    pub fn committed(&self, changes: &[(Key, Change)]) {
        let mut notes = self.notes();
        let notes = &mut *notes;
        notes.verdict.transactions += 1;
        notes.verdict.changes += changes.len() as u64;
        let transaction = notes.next;
        notes.next += 1;
        let open = Open {
            at: Instant::now(),
            left: changes.len(),
        };
        if open.left > 0 {
            notes.open.insert(transaction, open);
        }
        for &(key, change) in changes {
            let line = notes.lines.entry(key).or_default();
            line.expected.push_back(Expected {
                change,
                transaction,
            });
            notes.strike(key);
        }
    }

    /// Changes are rolled back with their transaction or to a savepoint, and these versions exist nowhere.
    pub fn undone(&self, changes: &[(Key, Change)]) {
        let mut notes = self.notes();
        notes.verdict.undone += changes.len() as u64;
        let versions = changes.iter().filter_map(|(_, change)| change.version());
        notes.rolled_back.extend(versions);
    }

    /// Where these messages come.
    pub fn place(&self) -> &'static str {
        self.place
    }

    /// A message has come.
    pub fn came(&self, id: Uuid, key: Key, change: Change) {
        let mut notes = self.notes();
        notes.verdict.came += 1;
        if let Some(first) = notes.ids.insert(id, (key, change)) {
            notes.verdict.repeats += 1;
            if self.rule == Rule::Once || first != (key, change) {
                notes.verdict.wrong_repeats += 1;
                notes.tell(format!(
                    "{id} came again: {key:?} {change:?}, before {first:?}"
                ));
            }
            return;
        }
        if let Key {
            table: Table::Goods,
            row: Some(row),
        } = key
        {
            match change.version() {
                Some(version) => notes.rows.insert(row, version),
                None => notes.rows.remove(&row),
            };
        }
        notes.lines.entry(key).or_default().came.push_back(change);
        notes.strike(key);
    }

    /// How the rows of [`Table::Goods`] that the messages make differ from those that the source has in the end.
    pub fn differences(&self, source: &HashMap<i64, i64>) -> Option<String> {
        let notes = self.notes();
        let differ = |(id, version): &(&i64, &i64)| source.get(id) != Some(version);
        let other = notes.rows.iter().filter(differ).count();
        let missing = source.keys().filter(|id| !notes.rows.contains_key(id));
        let missing = missing.count();
        let same = other + missing == 0;
        (!same).then(|| {
            format!(
                "{}: {other} rows are not as in the source, and {missing} are missing",
                self.place
            )
        })
    }

    /// A message that cannot be understood, or has values that nobody wrote.
    pub fn nonsense(&self, what: String) {
        let mut notes = self.notes();
        notes.verdict.nonsense += 1;
        notes.tell(what);
    }

    /// How many transactions that were committed by then have changes that did not come.
    pub fn missing(&self, by: Instant) -> usize {
        let notes = self.notes();
        notes.open.values().take_while(|open| open.at <= by).count()
    }

    /// How many messages have come.
    pub fn count(&self) -> u64 {
        self.notes().verdict.came
    }

    /// How many transactions have not come whole.
    pub fn open(&self) -> usize {
        self.notes().open.len()
    }

    /// How many transactions were noted, and how many of these have come whole.
    pub fn flow(&self) -> (u64, u64) {
        let notes = self.notes();
        let open = notes.open.len() as u64;
        (
            notes.verdict.transactions,
            notes.verdict.transactions - open,
        )
    }

    /// Ends the books: what has not come is lost, and what waits for a COMMIT is invented.
    pub fn close(&self) -> Verdict {
        let mut notes = self.notes();
        for (key, mut line) in std::mem::take(&mut notes.lines) {
            for expected in line.expected.drain(..) {
                notes.lose(key, expected.change);
            }
            for change in line.came.drain(..) {
                notes.invent(key, change);
            }
        }
        Verdict {
            place: self.place,
            ..notes.verdict.clone()
        }
    }
}

impl Notes {
    /// Strikes out what is on both sides of a key.
    fn strike(&mut self, key: Key) {
        let Some(mut line) = self.lines.remove(&key) else {
            return;
        };
        while let (Some(expected), Some(&change)) = (line.expected.front(), line.came.front()) {
            if expected.change == change {
                self.settle(expected.transaction);
                line.expected.pop_front();
                line.came.pop_front();
            } else if let Some(place) = line.expected.iter().position(|it| it.change == change) {
                for passed in line.expected.drain(..place) {
                    self.settle(passed.transaction);
                    self.lose(key, passed.change);
                    self.overtaken.insert((key, passed.change));
                }
            } else {
                line.came.pop_front();
                self.invent(key, change);
            }
        }
        if !line.expected.is_empty() || !line.came.is_empty() {
            self.lines.insert(key, line);
        }
    }

    fn settle(&mut self, transaction: u64) {
        if let Some(open) = self.open.get_mut(&transaction) {
            open.left -= 1;
            if open.left == 0 {
                self.open.remove(&transaction);
            }
        }
    }

    fn lose(&mut self, key: Key, change: Change) {
        self.verdict.lost += 1;
        self.tell(format!("{key:?} {change:?} did not come in its turn"));
    }

    fn invent(&mut self, key: Key, change: Change) {
        if let Some(left @ 1..) = self.doubtful.get_mut(&(key, change)) {
            *left -= 1;
            return;
        }
        if self.overtaken.remove(&(key, change)) {
            self.verdict.lost -= 1;
            self.verdict.out_of_order += 1;
            self.tell(format!("{key:?} {change:?} came after later ones"));
            return;
        }
        self.verdict.invented += 1;
        let is_rolled_back = change
            .version()
            .is_some_and(|version| self.rolled_back.contains(&version));
        let why = match is_rolled_back {
            true => "was rolled back",
            false => "was never committed, or came before with another id",
        };
        self.tell(format!("{key:?} {change:?} {why}"));
    }

    fn tell(&mut self, what: String) {
        if self.verdict.words.len() < MOST_WORDS {
            self.verdict.words.push(what);
        }
    }
}

impl Verdict {
    /// How many things went wrong.
    pub fn problems(&self) -> u64 {
        self.lost + self.invented + self.out_of_order + self.wrong_repeats + self.nonsense
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} transactions committed with {} changes, {} changes rolled back; {} messages came; {} lost, {} invented, \
             {} out of order, {} repeats, {} of them wrong, {} wrong values",
            self.place,
            self.transactions,
            self.changes,
            self.undone,
            self.came,
            self.lost,
            self.invented,
            self.out_of_order,
            self.repeats,
            self.wrong_repeats,
            self.nonsense
        )?;
        for words in &self.words {
            write!(f, "\n  {words}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Key = Key {
        table: Table::Goods,
        row: Some(7),
    };
    const WHOLE: Key = Key {
        table: Table::Flats,
        row: None,
    };

    fn books(rule: Rule) -> Books {
        Books::new("here", rule)
    }

    fn came(books: &Books, id: u128, change: Change) {
        books.came(Uuid::from_u128(id), ROW, change);
    }

    fn problems(books: &Books) -> [u64; 5] {
        let it = books.close();
        [
            it.lost,
            it.invented,
            it.out_of_order,
            it.wrong_repeats,
            it.nonsense,
        ]
    }

    #[test]
    fn what_came_in_order_is_struck_out_whoever_was_first() {
        let books = books(Rule::Once);
        came(&books, 1, Change::Insert(1));
        books.committed(&[(ROW, Change::Insert(1)), (ROW, Change::Update(2))]);
        assert_eq!((books.missing(Instant::now()), books.flow()), (1, (1, 0)));
        came(&books, 2, Change::Update(2));
        assert_eq!((books.missing(Instant::now()), books.flow()), (0, (1, 1)));
        assert_eq!(problems(&books), [0; 5]);
    }

    #[test]
    fn a_change_that_did_not_come_is_lost() {
        let books = books(Rule::Once);
        books.committed(&[
            (ROW, Change::Insert(1)),
            (ROW, Change::Update(2)),
            (ROW, Change::Delete),
        ]);
        came(&books, 1, Change::Insert(1));
        came(&books, 3, Change::Delete);
        assert_eq!(problems(&books), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_change_at_the_end_that_did_not_come_is_lost() {
        let books = books(Rule::Again);
        books.committed(&[(ROW, Change::Insert(1))]);
        assert_eq!(problems(&books), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_was_rolled_back_is_invented() {
        let books = books(Rule::Once);
        books.undone(&[(ROW, Change::Insert(1))]);
        came(&books, 1, Change::Insert(1));
        books.committed(&[(ROW, Change::Insert(2))]);
        came(&books, 2, Change::Insert(2));
        let verdict = books.close();
        assert_eq!((verdict.invented, verdict.lost), (1, 0));
        assert!(verdict.words[0].contains("rolled back"), "{verdict}");
    }

    #[test]
    fn a_change_that_was_overtaken_is_out_of_order_and_not_lost() {
        let books = books(Rule::Once);
        books.committed(&[(ROW, Change::Insert(1)), (ROW, Change::Update(2))]);
        came(&books, 2, Change::Update(2));
        came(&books, 1, Change::Insert(1));
        assert_eq!(problems(&books), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_repeat_is_wrong_where_each_message_comes_once() {
        for (rule, wrong) in [(Rule::Once, 1), (Rule::Again, 0)] {
            let books = books(rule);
            books.committed(&[(ROW, Change::Insert(1))]);
            came(&books, 1, Change::Insert(1));
            came(&books, 1, Change::Insert(1));
            assert_eq!(books.notes().verdict.repeats, 1);
            assert_eq!(problems(&books), [0, 0, 0, wrong, 0]);
        }
    }

    #[test]
    fn a_repeat_with_another_id_is_invented() {
        let books = books(Rule::Again);
        books.committed(&[(ROW, Change::Insert(1))]);
        came(&books, 1, Change::Insert(1));
        came(&books, 2, Change::Insert(1));
        assert_eq!(problems(&books), [0, 1, 0, 0, 0]);
    }

    #[test]
    fn an_id_that_stood_for_something_else_is_wrong() {
        let books = books(Rule::Again);
        books.committed(&[(ROW, Change::Insert(1)), (ROW, Change::Update(2))]);
        came(&books, 1, Change::Insert(1));
        came(&books, 1, Change::Update(2));
        assert_eq!(problems(&books), [1, 0, 0, 1, 0]);
    }

    #[test]
    fn rows_that_are_not_those_of_the_source_are_seen() {
        let books = books(Rule::Once);
        came(&books, 1, Change::Insert(1));
        came(&books, 2, Change::Update(2));
        assert_eq!(books.differences(&HashMap::from([(7, 2)])), None);
        assert!(books.differences(&HashMap::from([(7, 1)])).is_some());
        assert!(
            books
                .differences(&HashMap::from([(7, 2), (8, 1)]))
                .is_some()
        );
        came(&books, 3, Change::Delete);
        assert!(books.differences(&HashMap::from([(7, 2)])).is_some());
        assert_eq!(books.differences(&HashMap::new()), None);
    }

    #[test]
    fn what_the_server_leaves_open_may_come_or_not() {
        for (came, invented) in [(1, 0), (2, 0), (3, 1)] {
            let books = books(Rule::Once);
            books.doubtful(WHOLE, Change::Truncate);
            for id in 0..came {
                books.came(Uuid::from_u128(id), WHOLE, Change::Truncate);
            }
            books.committed(&[(WHOLE, Change::Truncate)]);
            assert_eq!(books.missing(Instant::now()), 0);
            assert_eq!(problems(&books), [0, invented, 0, 0, 0]);
        }
    }
}
