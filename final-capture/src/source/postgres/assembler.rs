//! Messages of the stream become events.
//!
//! Input: [`Message`]s. State: the open transaction, and the tables that the stream has described. Output: [`Event`]s.
//!
//! ```text
//!            Begin                        Commit
//!   between ───────▶ in a transaction ───────────▶ between
//!                    │ Insert, Update, Delete, Truncate: each counts, wanted or not
//!                    └ Relation: the columns of the rows that follow
//! ```

use std::{collections::HashMap, sync::Arc};

use super::{
    pgoutput::{Cell, Malformed, Message, Old, Relation, Tuple},
    types::{Described, Reading, Type},
    values,
    wire::EPOCH,
};
use crate::{
    position::SourcePoint,
    select::Selection,
    source::{Event, RowChange, RowOp, Transaction},
    table::{Column, Table, TableName},
    value::{Row, Value},
};

/// Makes events of messages.
pub(super) struct Assembler {
    wanted: Selection,
    tables: HashMap<u32, Known>,
    /// What the stream called the types that are not built in.
    type_names: HashMap<u32, String>,
    open: Option<Open>,
    /// Everything up to here is complete.
    point: u64,
}

struct Open {
    commit: u64,
    /// How many changes have been seen.
    index: u64,
}

/// A table that the stream has described.
struct Known {
    table: Arc<Table>,
    is_wanted: bool,
    columns: Vec<Reader>,
}

#[derive(Clone, Copy)]
struct Reader {
    reading: Reading,
    is_key: bool,
}

impl Assembler {
    /// Begins between two transactions, after a point.
    pub(super) fn new(wanted: Selection, point: u64) -> Self {
        Self {
            wanted,
            tables: HashMap::new(),
            type_names: HashMap::new(),
            open: None,
            point,
        }
    }

    /// Everything up to here is complete.
    pub(super) fn point(&self) -> u64 {
        self.point
    }

    /// Between two transactions there is nothing for us before this point.
    pub(super) fn quiet(&mut self, point: u64, events: &mut Vec<Event>) {
        if self.open.is_none() && point > self.point {
            self.point = point;
            events.push(Event::Quiet(SourcePoint::Lsn(point)));
        }
    }

    /// Whether the table is wanted.
    pub(super) fn wants(&self, relation: &Relation<'_>) -> bool {
        self.wanted.wants(&name(relation))
    }

    /// Takes a message. A relation comes with what the catalog says of it.
    pub(super) fn take(
        &mut self,
        message: &Message<'_>,
        known: &Described,
        events: &mut Vec<Event>,
    ) -> Result<(), Malformed> {
        match message {
            Message::Begin { commit, at, xid } => {
                if self.open.is_some() {
                    return Err(Malformed(
                        "a transaction began inside of another".to_owned(),
                    ));
                }
                self.open = Some(Open {
                    commit: *commit,
                    index: 0,
                });
                events.push(Event::Begin(Transaction {
                    id: format!("{xid}@{:X}/{:X}", commit >> 32, commit & 0xffff_ffff).into(),
                    at: at.saturating_add(EPOCH),
                    after: SourcePoint::Lsn(self.point),
                }));
            }
            Message::Commit { commit, end } => {
                let begun = self.open.take().map(|open| open.commit);
                if begun != Some(*commit) || *end <= self.point {
                    return Err(Malformed(
                        "a commit is not that of its transaction".to_owned(),
                    ));
                }
                self.point = *end;
                events.push(Event::Commit(SourcePoint::Lsn(*end)));
            }
            Message::Relation(relation) => self.relation(relation, known, events),
            Message::Type(named) => {
                let name = match named.schema {
                    "" => named.name.to_owned(),
                    schema => format!("{schema}.{}", named.name),
                };
                self.type_names.insert(named.oid, name);
            }
            Message::Insert { relation, new } => {
                self.row(*relation, RowOp::Insert, None, Some(new), events)?;
            }
            Message::Update { relation, old, new } => {
                self.row(*relation, RowOp::Update, old.as_ref(), Some(new), events)?;
            }
            Message::Delete { relation, old } => {
                self.row(*relation, RowOp::Delete, Some(old), None, events)?;
            }
            Message::Truncate { relations } => {
                let index = self.count()?;
                let mut tables = Vec::new();
                let mut is_wanted = false;
                for relation in relations.iter() {
                    let known = self.known(relation)?;
                    is_wanted |= known.is_wanted;
                    tables.push(Arc::clone(&known.table));
                }
                if is_wanted {
                    events.push(Event::Truncate { tables, index });
                }
            }
            Message::Origin | Message::Emitted => {}
        }
        Ok(())
    }

    fn relation(&mut self, relation: &Relation<'_>, known: &Described, events: &mut Vec<Event>) {
        let mut columns = Vec::with_capacity(relation.columns.len());
        let mut readers = Vec::with_capacity(relation.columns.len());
        let mut key = Vec::new();
        let full_key = match relation.is_full {
            true => self.full_key(relation, known),
            false => Vec::new(),
        };
        for (at, column) in relation.columns.iter().enumerate() {
            let named = self.type_names.get(&column.kind).map(String::as_str);
            let kind = Type::of(column.kind, column.modifier, known, named);
            let is_key = match relation.is_full {
                true => full_key.iter().any(|it| **it == *column.name),
                false => column.is_key,
            };
            if is_key {
                key.push(at);
            }
            readers.push(Reader {
                reading: kind.reading,
                is_key,
            });
            columns.push(Column {
                name: column.name.into(),
                kind: kind.kind,
                declared: kind.declared.into(),
            });
        }
        let table = Table {
            name: name(relation),
            columns,
            key,
        };
        let is_wanted = self.wanted.wants(&table.name);
        let before = self.tables.get(&relation.oid).map(|known| &known.table);
        // The same table keeps its address, by which the encoder finds what it knows of it.
        let table = match before {
            Some(before) if **before == table => Arc::clone(before),
            Some(_) if is_wanted => {
                let table = Arc::new(table);
                events.push(Event::Columns(Arc::clone(&table)));
                table
            }
            _ => Arc::new(table),
        };
        let known = Known {
            table,
            is_wanted,
            columns: readers,
        };
        self.tables.insert(relation.oid, known);
    }

    /// The key of a table with REPLICA IDENTITY FULL, where the stream marks each column. It is the primary key that the
    /// catalog has now, which may be newer than the stream. So a key that the stream had stays while its columns do:
    /// the order of a row's changes hangs on it.
    fn full_key(&self, relation: &Relation<'_>, known: &Described) -> Vec<Arc<str>> {
        let has = |name: &str| relation.columns.iter().any(|column| column.name == name);
        if !self.wants(relation) {
            return Vec::new();
        }
        if let Some(before) = self.tables.get(&relation.oid) {
            let names = before.table.key.iter();
            let key: Vec<_> = names
                .filter_map(|&at| before.table.columns.get(at).map(|it| Arc::clone(&it.name)))
                .collect();
            if !key.is_empty() && key.iter().all(|it| has(it)) {
                return key;
            }
        }
        if known.primary_key.iter().all(|it| has(it)) {
            return known.primary_key.iter().map(|it| (**it).into()).collect();
        }
        tracing::warn!(
            target: "final::capture",
            table = %name(relation),
            key = known.primary_key.join(", "),
            "the primary key of a table is newer than its changes, so their messages have no key; set REPLICA IDENTITY \
             USING INDEX there"
        );
        Vec::new()
    }

    fn row(
        &mut self,
        relation: u32,
        op: RowOp,
        old: Option<&Old<'_>>,
        new: Option<&Tuple<'_>>,
        events: &mut Vec<Event>,
    ) -> Result<(), Malformed> {
        let index = self.count()?;
        let known = self.known(relation)?;
        if !known.is_wanted {
            return Ok(());
        }
        let before = old.map(|old| known.old(old)).transpose()?;
        let after = new
            .map(|new| known.changed(new, before.as_ref()))
            .transpose()?;
        events.push(Event::Row(RowChange {
            table: Arc::clone(&known.table),
            op,
            before,
            after,
            index,
        }));
        Ok(())
    }

    /// The index of the change that comes now.
    fn count(&mut self) -> Result<u64, Malformed> {
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| Malformed("a change came outside of a transaction".to_owned()))?;
        let index = open.index;
        open.index += 1;
        Ok(index)
    }

    fn known(&self, relation: u32) -> Result<&Known, Malformed> {
        self.tables.get(&relation).ok_or_else(|| {
            Malformed(format!(
                "a change is of the table {relation}, which the server has not described"
            ))
        })
    }
}

impl Known {
    /// The row before a change. Beside the key nothing was sent, unless all was.
    fn old(&self, old: &Old<'_>) -> Result<Row, Malformed> {
        self.row(&old.row, old.is_key_only)
    }

    /// The row after a change. A large value that it has not touched is taken from the row before, if it is there.
    fn changed(&self, new: &Tuple<'_>, before: Option<&Row>) -> Result<Row, Malformed> {
        let mut row = self.row(new, false)?;
        if let Some(before) = before {
            for (after, before) in row.iter_mut().zip(before) {
                if *after == Value::Absent {
                    after.clone_from(before);
                }
            }
        }
        Ok(row)
    }

    fn row(&self, tuple: &Tuple<'_>, is_key_only: bool) -> Result<Row, Malformed> {
        if tuple.len() != self.columns.len() {
            return Err(Malformed(format!(
                "a row of {} has {} values for {} columns",
                self.table.name,
                tuple.len(),
                self.columns.len()
            )));
        }
        let mut row = Vec::with_capacity(self.columns.len());
        for (at, (cell, reader)) in tuple.cells().zip(&self.columns).enumerate() {
            row.push(match cell {
                _ if is_key_only && !reader.is_key => Value::Absent,
                Cell::Null => Value::Null,
                Cell::Unchanged => Value::Absent,
                Cell::Text(text) => values::read(reader.reading, text).map_err(|error| {
                    let column = self.table.columns.get(at).map_or("?", |it| &*it.name);
                    let table = &self.table.name;
                    Malformed(format!("the column {column} of {table}: {error}"))
                })?,
            });
        }
        Ok(row)
    }
}

fn name(relation: &Relation<'_>) -> TableName {
    TableName {
        schema: relation.schema.into(),
        table: relation.name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::pgoutput::{Message, RelationColumn},
        *,
    };

    fn relation(name: &'static str, kind: u32) -> Message<'static> {
        Message::Relation(Relation {
            oid: 5,
            schema: "shop",
            name,
            is_full: false,
            columns: vec![RelationColumn {
                is_key: true,
                name: "id",
                kind,
                modifier: -1,
            }],
        })
    }

    fn begin(commit: u64) -> Message<'static> {
        Message::Begin {
            commit,
            at: 0,
            xid: 1,
        }
    }

    fn commit(commit: u64, end: u64) -> Message<'static> {
        Message::Commit { commit, end }
    }

    /// An INSERT of one text into the table 5.
    fn insert(bytes: &'static [u8]) -> Message<'static> {
        Message::decode(bytes).unwrap()
    }

    const ONE: &[u8] = b"I\0\0\0\x05N\0\x01t\0\0\0\x011";
    const X: &[u8] = b"I\0\0\0\x05N\0\x01t\0\0\0\x01x";
    const TWO_VALUES: &[u8] = b"I\0\0\0\x05N\0\x02nn";

    fn take(messages: &[Message<'_>]) -> Result<Vec<Event>, Malformed> {
        let mut assembler = Assembler::new(Selection::tables(["shop.*"]), 100);
        let mut events = Vec::new();
        for message in messages {
            assembler.take(message, &Described::default(), &mut events)?;
        }
        Ok(events)
    }

    #[test]
    fn a_stream_that_makes_no_sense_is_an_error() {
        let holes = relation("holes", 23);
        for (messages, why) in [
            (vec![begin(200), begin(300)], "inside of another"),
            (vec![commit(200, 210)], "not that of its transaction"),
            (
                vec![begin(200), commit(201, 210)],
                "not that of its transaction",
            ),
            (
                vec![begin(50), commit(50, 90)],
                "not that of its transaction",
            ),
            (vec![holes.clone(), insert(ONE)], "outside of a transaction"),
            (vec![begin(200), insert(ONE)], "not described"),
            (
                vec![begin(200), holes.clone(), insert(TWO_VALUES)],
                "2 values for 1 columns",
            ),
            (
                vec![begin(200), holes, insert(X)],
                "the column id of shop.holes",
            ),
        ] {
            let error = take(&messages).unwrap_err().0;
            assert!(error.contains(why), "{error}");
        }
    }

    /// The id of a message is made of the index, so two changes with one index would be one message.
    #[test]
    fn a_truncate_is_a_change_between_the_rows_before_it_and_after_it() {
        let events = take(&[
            begin(200),
            relation("holes", 23),
            insert(ONE),
            Message::decode(b"T\0\0\0\x01\0\0\0\0\x05").unwrap(),
            insert(ONE),
            commit(200, 210),
        ])
        .unwrap();
        let changes: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Row(row) => Some(("row", row.index)),
                Event::Truncate { index, .. } => Some(("truncate", *index)),
                _ => None,
            })
            .collect();
        assert_eq!(changes, [("row", 0), ("truncate", 1), ("row", 2)]);
    }

    #[test]
    fn a_table_that_is_described_again_is_the_same_and_changed_columns_are_told() {
        let events = take(&[
            begin(200),
            relation("holes", 23),
            insert(ONE),
            relation("holes", 23),
            insert(ONE),
            relation("holes", 20),
            insert(ONE),
            commit(200, 210),
        ])
        .unwrap();
        let tables: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Row(row) => Some(&row.table),
                _ => None,
            })
            .collect();
        assert!(Arc::ptr_eq(tables[0], tables[1]));
        let news: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Columns(table) => Some(table),
                _ => None,
            })
            .collect();
        assert_eq!(news.len(), 1);
        assert!(Arc::ptr_eq(news[0], tables[2]));
    }

    #[test]
    fn with_full_identity_a_key_stays_that_of_the_stream_while_its_columns_are_there() {
        let full = |names: &[&'static str]| {
            let column = |name: &&'static str| RelationColumn {
                is_key: true,
                name,
                kind: 23,
                modifier: -1,
            };
            Message::Relation(Relation {
                oid: 5,
                schema: "shop",
                name: "holes",
                is_full: true,
                columns: names.iter().map(column).collect(),
            })
        };
        let key = |names: &[&str]| Described {
            primary_key: names.iter().map(|it| (*it).to_owned()).collect(),
            ..Described::default()
        };
        let mut assembler = Assembler::new(Selection::tables(["shop.*"]), 100);
        let mut described = |columns: &[&'static str], known: &Described| {
            let mut events = Vec::new();
            assembler.take(&full(columns), known, &mut events).unwrap();
            assembler.tables[&5].table.key.clone()
        };
        assert_eq!(described(&["id", "depth"], &key(&["id"])), [0]);
        // The catalog is ahead: the column is called otherwise there.
        assert_eq!(described(&["id", "depth", "more"], &key(&["number"])), [0]);
        // The stream has come there.
        assert_eq!(described(&["depth", "number"], &key(&["number"])), [1]);
        // A part of a key would be the same for several rows.
        assert!(described(&["id", "part"], &key(&["part", "later"])).is_empty());
    }

    #[test]
    fn a_quiet_point_is_told_between_transactions_and_forwards_only() {
        let mut assembler = Assembler::new(Selection::tables(["shop.*"]), 100);
        let mut events = Vec::new();
        assembler.quiet(100, &mut events);
        assembler.quiet(150, &mut events);
        assembler.quiet(120, &mut events);
        assert_eq!(events, [Event::Quiet(SourcePoint::Lsn(150))]);
        assembler
            .take(&begin(200), &Described::default(), &mut events)
            .unwrap();
        let Some(Event::Begin(transaction)) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!(transaction.after, SourcePoint::Lsn(150));
        assert_eq!(&*transaction.id, "1@0/C8");
        assembler.quiet(300, &mut events);
        assert_eq!(events.len(), 2, "a transaction is open");
    }
}
