//! Finds the transactions in the stream, and what of each is valid.
//!
//! Input: raw events. State: the open transaction with its events, and where the stream is. Output: [`Piece`]s, of
//! which only those that were really committed have parts.
//!
//! ```text
//!             GTID                          end: COMMIT, XID, ROLLBACK, XA PREPARE
//!   Between ────────▶ Held ──────────────────────────────────────────────────▶ Between, its parts are known
//!                      │ more than the limit
//!                      ▼
//!                    Sought: events are dropped ── end ──▶ Between, the stream is opened again before it
//!                                                                │ GTID of the sought one
//!                                                                ▼
//!                                                              Known: parts pass at once ── end ──▶ Between
//! ```
//!
//! A transaction must be seen to its end before its first row counts. MariaDB writes transactions to the log that
//! were rolled back (one that made a temporary table), and rows that a savepoint has undone (if a table without
//! transactions was changed between them). Nothing before the end tells. So a small one is held, and a large one is
//! read twice: its memory is that of one event.

mod group;
mod piece;
mod savepoints;

use std::{collections::VecDeque, mem, sync::Arc};

pub(super) use self::piece::{Next, Piece};
use self::{
    group::{Ending, Group, Known, Way},
    savepoints::{Savepoints, is_in},
};
use super::{
    charset::Charsets,
    place::Place,
    raw::{self, Meaning, RawEvent, STATEMENT_FORMAT},
    statement::{Query, Statement},
    wire::{CannotRead, Wire},
};
use crate::{position::SourcePoint, table::TableName};

/// How the stream is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupRules {
    /// How many bytes of a transaction are held.
    pub(super) hold: usize,
    /// How large something may become that was compressed.
    pub(super) most: usize,
    /// Whether changes in statement format are passed over.
    pub(super) pass_statements: bool,
    /// Whether the server has the names of all tables in lower case, whatever a statement writes.
    pub(super) lower_names: bool,
}

/// Finds the transactions in the stream.
#[derive(Debug)]
pub(super) struct Groups {
    place: Place,
    charsets: Arc<Charsets>,
    rules: GroupRules,
    group: Option<Group>,
    known: Option<Known>,
    pieces: VecDeque<Piece>,
}

/// A GTID event's flag: one statement follows, and no end.
const STANDALONE: u8 = 1;

impl Groups {
    pub(super) fn new(place: Place, charsets: Arc<Charsets>, rules: GroupRules) -> Self {
        Self {
            place,
            charsets,
            rules,
            group: None,
            known: None,
            pieces: VecDeque::new(),
        }
    }

    /// The last point between two transactions.
    pub(super) fn point(&self) -> SourcePoint {
        match &self.group {
            Some(group) => group.after.clone(),
            None => self.place.point(),
        }
    }

    /// The stream was opened again, after that point.
    pub(super) fn reopened(&mut self, place: Place) {
        self.place = place;
        self.group = None;
    }

    /// The file that the stream is in, and the offset there.
    pub(super) fn in_file(&self) -> (&str, u64) {
        self.place.in_file_now()
    }

    /// Gives a piece back that cannot be played yet.
    pub(super) fn give_back(&mut self, piece: Piece) {
        self.pieces.push_front(piece);
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }

    /// Takes an event in.
    pub(super) fn put(&mut self, event: RawEvent) -> Result<Next, CannotRead> {
        let meaning = event.meaning();
        // Between two transactions a new file moves a position by file, or an idle server would purge what we stand in.
        let before =
            (meaning == Meaning::Rotate && self.group.is_none()).then(|| self.place.point());
        self.place.pass(&event)?;
        let ending = match meaning {
            Meaning::Gtid => {
                self.begin(&event)?;
                return Ok(Next::Read);
            }
            Meaning::Format => {
                // The server was started again: what it had not finished is gone.
                if event.is_in_file()
                    && let Some(group) = self.group.take()
                {
                    if matches!(group.way, Way::Known(_)) {
                        return Err(CannotRead(format!(
                            "transaction {} was read twice, and the second time it has no end",
                            group.id
                        )));
                    }
                    self.moved(&group.after);
                }
                return Ok(Next::Read);
            }
            Meaning::Rotate => {
                if let Some(before) = before {
                    self.moved(&before);
                }
                return Ok(Next::Read);
            }
            Meaning::Nothing => return Ok(Next::Read),
            Meaning::Stop(why) => {
                if self.rules.pass_statements && why == STATEMENT_FORMAT {
                    return Ok(Next::Read);
                }
                return Err(CannotRead(format!(
                    "event {}: {why}",
                    raw::name(event.kind)
                )));
            }
            Meaning::Unknown => {
                return Err(CannotRead(format!(
                    "events of type {} are not known. A newer version of this program may know them",
                    event.kind
                )));
            }
            Meaning::Table | Meaning::Rows => {
                self.part(event)?;
                None
            }
            Meaning::Commit => Some(Ending::Committed),
            Meaning::Prepared => Some(prepared(&event)?),
            Meaning::Statement { compressed } => self.statement(&event, compressed)?,
        };
        match ending {
            Some(ending) => self.end(ending),
            None => Ok(Next::Read),
        }
    }

    /// Tells the point if it is another one than before.
    fn moved(&mut self, before: &SourcePoint) {
        let point = self.place.point();
        if point != *before {
            self.pieces.push_back(Piece::End(point));
        }
    }

    fn begin(&mut self, event: &RawEvent) -> Result<(), CannotRead> {
        if let Some(group) = &self.group {
            return Err(CannotRead(format!(
                "transaction {} begins, and {} has not ended",
                self.place.last_id(),
                group.id
            )));
        }
        let mut wire = Wire(&event.body);
        wire.take(12)?;
        let flags = wire.u8()?;
        let id: Arc<str> = self.place.last_id();
        let known = self.known.take_if(|known| known.id == id);
        let mut group = Group {
            at: i64::from(event.at) * 1_000_000,
            after: self.place.point(),
            standalone: flags & STANDALONE != 0,
            way: Way::Held {
                events: Vec::new(),
                bytes: 0,
            },
            count: 0,
            savepoints: Savepoints::default(),
            id,
        };
        if let Some(known) = known {
            if known.ending != Ending::RolledBack {
                self.pieces.push_back(Piece::Begin(group.transaction()));
            }
            group.way = Way::Known(known);
        }
        self.group = Some(group);
        Ok(())
    }

    /// Keeps an event with rows, or hands it on.
    fn part(&mut self, event: RawEvent) -> Result<(), CannotRead> {
        let Some(group) = &mut self.group else {
            return Err(CannotRead::new(
                "rows come outside of a transaction: the position is inside of one. Begin at the end of a transaction",
            ));
        };
        let count = group.count;
        group.count += 1;
        match &mut group.way {
            Way::Sought => {}
            Way::Known(known) => {
                if known.ending != Ending::RolledBack {
                    self.pieces.push_back(Piece::Part {
                        event,
                        undone: is_in(&known.undone, count),
                        prepared: known.ending == Ending::Prepared,
                    });
                }
            }
            Way::Held { events, bytes } => {
                *bytes += event.body.len() + mem::size_of::<RawEvent>();
                events.push(event);
                if *bytes > self.rules.hold {
                    group.way = Way::Sought;
                }
            }
        }
        Ok(())
    }

    fn statement(
        &mut self,
        event: &RawEvent,
        compressed: bool,
    ) -> Result<Option<Ending>, CannotRead> {
        let statement =
            Query::new(&event.body, compressed, self.rules.most)?.statement(&self.charsets)?;
        let is_alone = self.group.as_ref().is_none_or(|group| group.standalone);
        let change = match &statement {
            Statement::Change(keyword) => Some(*keyword),
            // A server writes it alone. This one comes from a session.
            Statement::Emptied(_) if !is_alone => Some("DELETE"),
            _ => None,
        };
        if let Some(keyword) = change
            && !self.rules.pass_statements
        {
            return Err(CannotRead(format!("{keyword}: {STATEMENT_FORMAT}")));
        }
        let Some(group) = &mut self.group else {
            // Only MySQL writes BEGIN before its rows, and a file's end may have a ROLLBACK of an older server.
            return match statement {
                Statement::Rollback | Statement::Other => Ok(None),
                _ => Err(CannotRead::new(
                    "a statement comes outside of a transaction: the position is inside of one. Begin at the end of a \
                     transaction",
                )),
            };
        };
        if group.standalone {
            if let Statement::Truncate(table) | Statement::Emptied(table) = statement {
                let table = match self.rules.lower_names {
                    true => lower(&table),
                    false => table,
                };
                self.pieces.push_back(Piece::Begin(group.transaction()));
                self.pieces.push_back(Piece::Truncate(table));
            }
            return Ok(Some(Ending::Committed));
        }
        Ok(match statement {
            Statement::Commit => Some(Ending::Committed),
            Statement::Rollback => Some(Ending::RolledBack),
            Statement::Savepoint(name) => {
                group.savepoint(&name)?;
                None
            }
            Statement::RollbackTo(name) => {
                group.roll_back_to(&name)?;
                None
            }
            Statement::Truncate(_) => {
                return Err(CannotRead(format!(
                    "transaction {} has other changes, and empties a table",
                    group.id
                )));
            }
            Statement::XaFinish
            | Statement::Change(_)
            | Statement::Emptied(_)
            | Statement::Other => None,
        })
    }

    fn end(&mut self, ending: Ending) -> Result<Next, CannotRead> {
        let Some(mut group) = self.group.take() else {
            return Err(CannotRead::new(
                "a transaction ends that has not begun: the position is inside of one. Begin at the end of a \
                 transaction",
            ));
        };
        let undone = mem::take(&mut group.savepoints).undone();
        match group.way {
            Way::Sought => {
                self.known = Some(Known {
                    id: group.id,
                    ending,
                    undone,
                });
                return Ok(Next::Again(group.after));
            }
            Way::Known(known) => {
                if known.ending != ending || known.undone != undone {
                    return Err(CannotRead(format!(
                        "transaction {} was read twice, and has ended in two ways",
                        group.id
                    )));
                }
            }
            Way::Held { ref events, .. } => {
                if ending != Ending::RolledBack && !events.is_empty() {
                    self.pieces.push_back(Piece::Begin(group.transaction()));
                    let Way::Held { events, .. } = group.way else {
                        return Ok(Next::Read);
                    };
                    self.pieces
                        .extend((0..).zip(events).map(|(count, event)| Piece::Part {
                            event,
                            undone: is_in(&undone, count),
                            prepared: ending == Ending::Prepared,
                        }));
                }
            }
        }
        self.place.finish();
        self.pieces.push_back(Piece::End(self.place.point()));
        Ok(Next::Read)
    }
}

/// A name in lower case, as such a server stores it.
fn lower(name: &TableName) -> TableName {
    TableName {
        schema: name.schema.to_lowercase().into(),
        table: name.table.to_lowercase().into(),
    }
}

/// An XA PREPARE in one phase is a commit.
fn prepared(event: &RawEvent) -> Result<Ending, CannotRead> {
    Ok(match Wire(&event.body).u8()? {
        0 => Ending::Prepared,
        _ => Ending::Committed,
    })
}

#[cfg(test)]
mod tests;
