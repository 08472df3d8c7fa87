//! Makes a capture's events of what is known of the stream.
//!
//! Input: [`Piece`]s. State: the table maps of the open transaction, and each table's columns as they were last.
//! Output: [`Event`]s for the tables that are wanted. The rows of the others are counted.

use std::{collections::HashMap, sync::Arc};

use super::{
    charset::Charsets,
    groups::Piece,
    layout::{self, Layout, TableMap},
    raw::{self, Meaning, RawEvent},
    rows::{self, Rows},
    server::Specials,
    wire::CannotRead,
};
use crate::{
    position::SourcePoint,
    select::Selection,
    source::{Event, RowChange, RowOp, Transaction},
    table::{Table, TableName},
};

/// How many table maps, and how many tables' columns, are remembered. More of them are read again. The maps of one
/// transaction may be more.
const MOST_REMEMBERED: usize = 4096;

/// A table map that was read.
#[derive(Debug)]
struct Mapped {
    body: Box<[u8]>,
    wanted: bool,
    /// None for a table that is not wanted and has columns of an unknown kind.
    layout: Option<Layout>,
}

/// Makes a capture's events of what is known of the stream.
#[derive(Debug)]
pub(super) struct Player {
    selection: Selection,
    charsets: Arc<Charsets>,
    most: usize,
    maps: HashMap<u64, Arc<Mapped>>,
    last: HashMap<TableName, Arc<Table>>,
    /// What the catalog said of the last map of a table.
    specials: HashMap<TableName, (Box<[u8]>, Specials)>,
    transaction: Option<Transaction>,
    begun: bool,
    index: u64,
    quiet: Option<SourcePoint>,
    partial_told: bool,
}

impl Player {
    pub(super) fn new(selection: Selection, charsets: Arc<Charsets>, most: usize) -> Self {
        Self {
            selection,
            charsets,
            most,
            maps: HashMap::new(),
            last: HashMap::new(),
            specials: HashMap::new(),
            transaction: None,
            begun: false,
            index: 0,
            quiet: None,
            partial_told: false,
        }
    }

    /// The stream was opened again: its table maps come again.
    pub(super) fn reopened(&mut self) {
        self.maps.clear();
        self.transaction = None;
        self.begun = false;
    }

    /// The point up to which nothing was for us, if it was not told.
    pub(super) fn quiet(&mut self) -> Option<SourcePoint> {
        self.quiet.take()
    }

    /// The table that the catalog has to be asked for before a piece can be played: the stream tells UUIDs and addresses
    /// as BINARY(16) and BINARY(4).
    pub(super) fn asks(&self, piece: &Piece) -> Option<TableName> {
        let Piece::Part { event, .. } = piece else {
            return None;
        };
        if event.meaning() != Meaning::Table || self.is_known(event) {
            return None;
        }
        let map = TableMap::new(&event.body).ok()?;
        let asked = self.specials.get(&map.name);
        let is_new = asked.is_none_or(|(body, _)| *body != event.body);
        (is_new && self.selection.wants(&map.name) && map.may_be_special()).then_some(map.name)
    }

    /// What the catalog said for that piece.
    pub(super) fn answered(&mut self, piece: &Piece, table: TableName, specials: Specials) {
        if let Piece::Part { event, .. } = piece {
            if self.specials.len() >= MOST_REMEMBERED {
                self.specials.clear();
            }
            self.specials.insert(table, (event.body.clone(), specials));
        }
    }

    fn is_known(&self, event: &RawEvent) -> bool {
        layout::number(&event.body).is_ok_and(|number| {
            self.maps
                .get(&number)
                .is_some_and(|map| map.body == event.body)
        })
    }

    /// Plays a piece. Returns about how many bytes it had.
    pub(super) fn play(
        &mut self,
        piece: Piece,
        events: &mut Vec<Event>,
    ) -> Result<usize, CannotRead> {
        match piece {
            Piece::Begin(transaction) => {
                self.transaction = Some(transaction);
                self.begun = false;
                self.index = 0;
                // Inside of a transaction none is forgotten: all maps of a statement come before its first rows.
                if self.maps.len() >= MOST_REMEMBERED {
                    self.maps.clear();
                }
            }
            Piece::Part {
                event,
                undone,
                prepared,
            } => {
                let bytes = event.body.len();
                match event.meaning() {
                    Meaning::Table => self.table(event)?,
                    _ => self.rows(&event, undone, prepared, events)?,
                }
                return Ok(bytes);
            }
            Piece::Truncate(name) => {
                if self.selection.wants(&name) {
                    self.begin(events);
                    let table = self.last.get(&name).cloned().unwrap_or_else(|| {
                        Arc::new(Table {
                            name,
                            columns: Vec::new(),
                            key: Vec::new(),
                        })
                    });
                    events.push(Event::Truncate {
                        tables: vec![table],
                        index: self.index,
                    });
                }
                self.index += 1;
            }
            Piece::End(point) => {
                self.transaction = None;
                if std::mem::take(&mut self.begun) {
                    self.quiet = None;
                    events.push(Event::Commit(point));
                } else {
                    self.quiet = Some(point);
                }
            }
        }
        Ok(0)
    }

    /// Tells of the transaction, at its first change that is for us.
    fn begin(&mut self, events: &mut Vec<Event>) {
        if let Some(transaction) = self.transaction.take() {
            self.quiet = None;
            self.begun = true;
            events.push(Event::Begin(transaction));
        }
    }

    fn table(&mut self, event: RawEvent) -> Result<(), CannotRead> {
        if self.is_known(&event) {
            return Ok(());
        }
        let number = layout::number(&event.body)?;
        let map = TableMap::new(&event.body)?;
        let wanted = self.selection.wants(&map.name);
        let layout = if wanted {
            let none = Specials::default();
            let specials = self
                .specials
                .get(&map.name)
                .map_or(&none, |(_, known)| known);
            Some(map.full(&self.charsets, specials)?)
        } else {
            map.bare().ok()
        };
        let mapped = Mapped {
            body: event.body,
            wanted,
            layout,
        };
        self.maps.insert(number, Arc::new(mapped));
        Ok(())
    }

    fn rows(
        &mut self,
        event: &RawEvent,
        undone: bool,
        prepared: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), CannotRead> {
        let Some((op, form)) = rows::op(event.kind) else {
            return Err(CannotRead(format!(
                "event {} has no rows",
                raw::name(event.kind)
            )));
        };
        let Some(rows) = Rows::new(op, form, &event.body, self.most)? else {
            return Ok(());
        };
        let Some(mapped) = self.maps.get(&rows.table).cloned() else {
            return Err(CannotRead(format!(
                "rows of table number {} come without its table map",
                rows.table
            )));
        };
        let Some(layout) = &mapped.layout else {
            // Nobody wants them, and they cannot be counted: the event counts as one change, each time it is read.
            self.index += 1;
            return Ok(());
        };
        if undone || !mapped.wanted {
            self.index += rows.count(layout)?;
            return Ok(());
        }
        if prepared {
            return Err(CannotRead(format!(
                "rows of {} are of a distributed transaction that was only prepared (`XA PREPARE`). Such transactions \
                 of captured tables cannot be captured: use `XA COMMIT … ONE PHASE`, or leave the table out",
                layout.table.name
            )));
        }
        if rows.is_partial(layout) && !std::mem::replace(&mut self.partial_told, true) {
            tracing::warn!(
                target: "final::capture",
                table = %layout.table.name,
                "the source writes only some columns of its rows; set binlog_row_image to FULL there",
            );
        }
        self.begin(events);
        self.columns(&layout.table, events);
        let table = &layout.table;
        let index = &mut self.index;
        rows.each(layout, self.most, |before, after| {
            events.push(Event::Row(RowChange {
                table: Arc::clone(table),
                op,
                before,
                after: if op == RowOp::Delete { None } else { after },
                index: *index,
            }));
            *index += 1;
        })
    }

    /// Tells if a table's columns are not those of its last change.
    fn columns(&mut self, table: &Arc<Table>, events: &mut Vec<Event>) {
        match self.last.get(&table.name) {
            Some(last) if Arc::ptr_eq(last, table) || last == table => return,
            Some(_) => events.push(Event::Columns(Arc::clone(table))),
            None if self.last.len() >= MOST_REMEMBERED => self.last.clear(),
            None => {}
        }
        self.last.insert(table.name.clone(), Arc::clone(table));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u8, body: Vec<u8>) -> RawEvent {
        RawEvent {
            kind,
            body: body.into(),
            ..RawEvent::default()
        }
    }

    /// A table map of one INT.
    fn map(number: u64) -> RawEvent {
        let mut body = number.to_le_bytes().get(..6).unwrap().to_vec();
        body.extend([1, 0, 4]);
        body.extend(b"shop\0\x01t\0");
        body.extend([1, 3, 0, 1]);
        raw(19, body)
    }

    /// An INSERT of one row.
    fn insert(number: u64) -> RawEvent {
        let mut body = number.to_le_bytes().get(..6).unwrap().to_vec();
        body.extend([1, 0, 1, 1, 0, 7, 0, 0, 0]);
        raw(23, body)
    }

    fn transaction(player: &mut Player, events: impl IntoIterator<Item = RawEvent>) {
        let point = || SourcePoint::Gtid("0-1-1".into());
        let begin = Piece::Begin(Transaction {
            id: "0-1-1".into(),
            at: 0,
            after: point(),
        });
        let parts = events.into_iter().map(|event| Piece::Part {
            event,
            undone: false,
            prepared: false,
        });
        for piece in std::iter::once(begin).chain(parts) {
            player.play(piece, &mut Vec::new()).unwrap();
        }
        player.play(Piece::End(point()), &mut Vec::new()).unwrap();
    }

    #[test]
    fn a_statement_has_all_its_table_maps_however_many_came_before_and_they_are_bounded() {
        let selection = Selection::tables(["other.*"]);
        let mut player = Player::new(selection, Arc::default(), 1000);
        let most = u64::try_from(MOST_REMEMBERED).unwrap();
        // The maps of both tables come before the rows of both.
        for number in 0..most + 2 {
            let second = most * 2 + number;
            let events = [map(number), map(second), insert(number), insert(second)];
            transaction(&mut player, events);
            assert!(player.maps.len() <= MOST_REMEMBERED + 2);
        }
        // An odd count: the second map of a statement is the first one too many.
        player.reopened();
        transaction(&mut player, [map(0), insert(0)]);
        for number in 1..most {
            let second = most * 2 + number;
            transaction(
                &mut player,
                [map(number), map(second), insert(number), insert(second)],
            );
        }
    }
}
