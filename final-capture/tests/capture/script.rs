//! A source in this process: transactions that a test has written down.
//!
//! Input: rows of a test. State: all transactions so far, and what is wrong with the source. Output: the events of a
//! stream, as a server's. What was read is the same each time, so a child process with the same script has the same
//! source.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use final_capture::{
    position::{Position, SourceIdentity, SourcePoint},
    select::Selection,
    source::{
        Event, Gap, OpenedSource, Reader, RowChange, RowOp, Source, SourceError, SourceLag,
        Transaction,
    },
    table::{Column, ColumnKind, Table, TableName},
    value::Value,
};
use final_core::admin::doctor::Finding;
use futures::future::BoxFuture;
use tokio::sync::watch;

/// A row of a transaction: a key and a text.
pub type ScriptRow = (i64, String);

/// A row with this text stands for a TRUNCATE of the table.
pub const TRUNCATE: &str = "truncate";

#[derive(Default)]
struct State {
    transactions: Vec<Vec<ScriptRow>>,
    /// The number of the transaction at which reading fails for good.
    unreadable: Option<usize>,
    /// Transactions before this one are gone.
    purged: usize,
    is_away: bool,
    /// How often a stream was opened, and from where.
    opened: Vec<Option<String>>,
    /// What was told to be saved.
    saved: Vec<u64>,
    /// How many readers are open.
    readers: usize,
    /// Ends the open streams once.
    breaks: u64,
    /// Another id for each transaction.
    history: String,
    /// How many events are read at a time, with a pause before each.
    slow: Option<usize>,
    /// How many events are read at a time, and how long each time keeps the thread.
    busy: Option<(usize, Duration)>,
    /// How long a stream takes to be opened.
    opens_in: Duration,
}

/// A source that a test writes.
#[derive(Clone)]
pub struct Script {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

/// The point after so many transactions.
fn point(transactions: usize) -> SourcePoint {
    SourcePoint::Lsn(transactions as u64 * 10)
}

fn number(point: &SourcePoint) -> usize {
    match point {
        SourcePoint::Lsn(lsn) => (*lsn / 10) as usize,
        other => panic!("{other}"),
    }
}

impl Script {
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state.lock().unwrap());
        self.changed.send_modify(|version| *version += 1);
        done
    }

    /// Commits a transaction.
    pub fn commit(&self, rows: impl IntoIterator<Item = ScriptRow>) {
        let rows = rows.into_iter().collect();
        self.change(|state| state.transactions.push(rows));
    }

    /// Commits so many transactions of these many rows, over a few keys. The texts count the rows.
    pub fn commit_many(&self, transactions: usize, rows: usize, keys: i64) {
        for _ in 0..transactions {
            let first = self.rows() as i64;
            self.commit((first..first + rows as i64).map(|row| (row % keys, row.to_string())));
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.change(|state| state.transactions.iter().map(Vec::len).sum())
    }

    pub fn unreadable_at(&self, transaction: usize) {
        self.change(|state| state.unreadable = Some(transaction));
    }

    pub fn purge_before(&self, transaction: usize) {
        self.change(|state| state.purged = transaction);
    }

    pub fn set_away(&self, is_away: bool) {
        self.change(|state| {
            state.is_away = is_away;
            state.breaks += 1;
        });
    }

    /// From now on so many events are read at a time, with a pause before each time.
    pub fn slow(&self, events: usize) {
        self.change(|state| state.slow = Some(events));
    }

    /// From now on so many events are read at a time, and each time keeps the thread for so long, as reading large rows
    /// does.
    pub fn busy(&self, events: usize, each: Duration) {
        self.change(|state| state.busy = Some((events, each)));
    }

    /// From now on a stream takes so long to be opened.
    pub fn opens_in(&self, time: Duration) {
        self.change(|state| state.opens_in = time);
    }

    /// From now on the same points have other transactions.
    pub fn rewrite_history(&self) {
        self.change(|state| state.history.push('x'));
    }

    pub fn opened(&self) -> Vec<Option<String>> {
        self.change(|state| state.opened.clone())
    }

    /// The number of transactions that the source was told to be saved last.
    pub fn saved(&self) -> Option<u64> {
        self.change(|state| state.saved.last().copied())
    }

    pub fn readers(&self) -> usize {
        self.change(|state| state.readers)
    }
}

pub fn table() -> Arc<Table> {
    let column = |name: &str, kind, declared: &str| Column {
        name: name.into(),
        kind,
        declared: declared.into(),
    };
    Arc::new(Table {
        name: TableName {
            schema: "shop".into(),
            table: "holes".into(),
        },
        columns: vec![
            column(
                "id",
                ColumnKind::Integer {
                    bytes: 8,
                    unsigned: false,
                },
                "bigint",
            ),
            column("text", ColumnKind::Text, "text"),
        ],
        key: vec![0],
    })
}

impl Source for Script {
    fn check<'a>(&'a self, _: &'a Selection) -> BoxFuture<'a, Result<Vec<Finding>, SourceError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn open<'a>(
        &'a self,
        _: &'a Selection,
        from: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<OpenedSource, SourceError>> {
        Box::pin(async move {
            let opens_in = self.change(|state| state.opens_in);
            tokio::time::sleep(opens_in).await;
            let at = self.change(|state| {
                state.opened.push(from.map(ToString::to_string));
                if state.is_away {
                    return Err(SourceError::Away("it was told to be away".into()));
                }
                let at = match from {
                    Some(position) => number(&position.point),
                    None => state.transactions.len(),
                };
                if at < state.purged || at > state.transactions.len() {
                    return Err(SourceError::Gap(Box::new(Gap {
                        position: from.expect("a position").clone(),
                        oldest: Some(point(state.purged)),
                        why: "it was purged".into(),
                    })));
                }
                state.readers += 1;
                Ok((at, state.breaks))
            });
            let (at, breaks) = at?;
            let reader = ScriptReader {
                script: self.clone(),
                changed: self.changed.subscribe(),
                at,
                row: None,
                breaks,
            };
            Ok(OpenedSource {
                reader: Box::new(reader),
                identity: SourceIdentity("script:1".into()),
                point: point(at),
            })
        })
    }

    fn place(&self) -> String {
        "a script".to_owned()
    }
}

struct ScriptReader {
    script: Script,
    changed: watch::Receiver<u64>,
    /// The transaction that is read.
    at: usize,
    /// The next row of it, if it has begun.
    row: Option<usize>,
    breaks: u64,
}

impl ScriptReader {
    /// Appends what is there, up to `most` bytes of it.
    fn fill(&mut self, events: &mut Vec<Event>, most: usize) -> Result<(), SourceError> {
        let script = self.script.clone();
        let state = script.state.lock().unwrap();
        if state.breaks != self.breaks {
            return Err(SourceError::Away("the stream was broken".into()));
        }
        let least = state.busy.map(|(events, _)| events).or(state.slow);
        let most = least.map_or(most, |events| events * 100);
        let mut bytes = 0;
        while bytes < most {
            if state.unreadable == Some(self.at) {
                return Err(SourceError::Unreadable {
                    after: point(self.at),
                    what: "an event of an unknown type".into(),
                });
            }
            let Some(rows) = state.transactions.get(self.at) else {
                break;
            };
            bytes += 100;
            match self.row {
                None => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                    events.push(Event::Begin(Transaction {
                        id: format!("t{}{}", self.at, state.history).into(),
                        at: now.as_micros() as i64,
                        after: point(self.at),
                    }));
                    self.row = Some(0);
                }
                Some(row) if row < rows.len() => {
                    events.push(change(&rows[row], row as u64));
                    self.row = Some(row + 1);
                }
                Some(_) => {
                    self.at += 1;
                    self.row = None;
                    events.push(Event::Commit(point(self.at)));
                }
            }
        }
        Ok(())
    }
}

fn change((key, text): &ScriptRow, index: u64) -> Event {
    if text == TRUNCATE {
        let tables = vec![table()];
        return Event::Truncate { tables, index };
    }
    Event::Row(RowChange {
        table: table(),
        op: RowOp::Insert,
        before: None,
        after: Some(vec![Value::Int(*key), Value::Text(text.as_str().into())]),
        index,
    })
}

/// Takes the thread for so long, as decoding many changes does.
#[allow(
    clippy::disallowed_methods,
    reason = "the test is about a reader that has much to do"
)]
fn keep_busy(time: Duration) {
    std::thread::sleep(time);
}

impl Reader for ScriptReader {
    fn read<'a>(
        &'a mut self,
        events: &'a mut Vec<Event>,
        most: usize,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            if self.script.state.lock().unwrap().slow.is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            loop {
                self.changed.borrow_and_update();
                let before = events.len();
                self.fill(events, most)?;
                if events.len() > before {
                    let busy = self.script.state.lock().unwrap().busy;
                    if let Some((_, each)) = busy {
                        keep_busy(each);
                    }
                    return Ok(());
                }
                self.changed.changed().await.expect("the script is there");
            }
        })
    }

    fn saved(&mut self, point: &SourcePoint) {
        let number = number(point) as u64;
        self.script.state.lock().unwrap().saved.push(number);
    }

    fn lag(&self) -> SourceLag {
        SourceLag::default()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl Drop for ScriptReader {
    fn drop(&mut self) {
        self.script.state.lock().unwrap().readers -= 1;
    }
}
