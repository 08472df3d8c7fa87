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

use std::{collections::VecDeque, mem, ops::Range, sync::Arc};

use super::{
    charset::Charsets,
    place::Place,
    raw::{self, Meaning, RawEvent, STATEMENT_FORMAT},
    statement::{Query, Statement},
    wire::{CannotRead, Wire},
};
use crate::{position::SourcePoint, source::Transaction, table::TableName};

/// What is known of the stream.
#[derive(Debug)]
pub(super) enum Piece {
    /// A transaction that was committed begins.
    Begin(Transaction),
    /// An event of it. Rows that are `undone` are counted, and not told.
    Part {
        /// The event.
        event: RawEvent,
        /// Whether a savepoint has undone it.
        undone: bool,
        /// Whether the transaction is only prepared.
        prepared: bool,
    },
    /// A table of it was emptied.
    Truncate(TableName),
    /// Everything up to here is known.
    End(SourcePoint),
}

/// What the reader of the stream has to do after an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To go on.
    Read,
    /// To open the stream again after this point, which is before the transaction that was sought.
    Again(SourcePoint),
}

/// How a transaction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Committed,
    RolledBack,
    Prepared,
}

/// A large transaction whose end is known.
#[derive(Debug)]
struct Known {
    id: Arc<str>,
    ending: Ending,
    undone: Vec<Range<u64>>,
}

#[derive(Debug)]
enum Way {
    /// Its events are kept.
    Held { events: Vec<RawEvent>, bytes: usize },
    /// Only its end is looked for.
    Sought,
    /// Its end is known.
    Known(Known),
}

#[derive(Debug)]
struct Group {
    id: Arc<str>,
    at: i64,
    after: SourcePoint,
    /// One statement, and then it is over.
    standalone: bool,
    way: Way,
    /// How many events have come.
    count: u64,
    /// Savepoints with the count where they were set.
    savepoints: Vec<(String, u64)>,
    /// The events that savepoints have undone.
    undone: Vec<Range<u64>>,
}

/// How many savepoints and undone ranges of one transaction are kept.
const MOST_SAVEPOINTS: usize = 100_000;

/// Finds the transactions in the stream.
#[derive(Debug)]
pub(super) struct Groups {
    place: Place,
    charsets: Arc<Charsets>,
    /// How many bytes of a transaction are held.
    hold: usize,
    /// How large something may become that was compressed.
    most: usize,
    /// Whether changes in statement format are passed over.
    pass_statements: bool,
    group: Option<Group>,
    known: Option<Known>,
    pieces: VecDeque<Piece>,
}

/// A GTID event's flag: one statement follows, and no end.
const STANDALONE: u8 = 1;

impl Groups {
    pub(super) fn new(
        place: Place,
        charsets: Arc<Charsets>,
        hold: usize,
        most: usize,
        pass_statements: bool,
    ) -> Self {
        Self {
            place,
            charsets,
            hold,
            most,
            pass_statements,
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
                if self.pass_statements && why == STATEMENT_FORMAT {
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
            savepoints: Vec::new(),
            undone: Vec::new(),
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
                if *bytes > self.hold {
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
            Query::new(&event.body, compressed, self.most)?.statement(&self.charsets)?;
        if let Statement::Change(keyword) = statement
            && !self.pass_statements
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
            if let Statement::Truncate(table) = statement {
                self.pieces.push_back(Piece::Begin(group.transaction()));
                self.pieces.push_back(Piece::Truncate(table));
            }
            return Ok(Some(Ending::Committed));
        }
        Ok(match statement {
            Statement::Commit => Some(Ending::Committed),
            Statement::Rollback => Some(Ending::RolledBack),
            Statement::Savepoint(name) => {
                group.savepoint(name)?;
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
            Statement::XaFinish | Statement::Change(_) | Statement::Other => None,
        })
    }

    fn end(&mut self, ending: Ending) -> Result<Next, CannotRead> {
        let Some(group) = self.group.take() else {
            return Err(CannotRead::new(
                "a transaction ends that has not begun: the position is inside of one. Begin at the end of a \
                 transaction",
            ));
        };
        match group.way {
            Way::Sought => {
                self.known = Some(Known {
                    id: group.id,
                    ending,
                    undone: group.undone,
                });
                return Ok(Next::Again(group.after));
            }
            Way::Known(known) => {
                if known.ending != ending || known.undone != group.undone {
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
                    let undone = group.undone;
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

impl Group {
    fn transaction(&self) -> Transaction {
        Transaction {
            id: Arc::clone(&self.id),
            at: self.at,
            after: self.after.clone(),
        }
    }

    fn savepoint(&mut self, name: String) -> Result<(), CannotRead> {
        // One with the same name replaces the older one.
        self.savepoints
            .retain(|(older, _)| !older.eq_ignore_ascii_case(&name));
        if self.savepoints.len() >= MOST_SAVEPOINTS {
            return Err(CannotRead(format!(
                "transaction {} has more than {MOST_SAVEPOINTS} savepoints",
                self.id
            )));
        }
        self.savepoints.push((name, self.count));
        Ok(())
    }

    fn roll_back_to(&mut self, name: &str) -> Result<(), CannotRead> {
        let found = self
            .savepoints
            .iter()
            .rposition(|(older, _)| older.eq_ignore_ascii_case(name));
        let Some((at, &(_, since))) = found.and_then(|at| Some((at, self.savepoints.get(at)?)))
        else {
            return Err(CannotRead(format!(
                "transaction {} goes back to a savepoint that it has not set",
                self.id
            )));
        };
        self.savepoints.truncate(at + 1);
        // Ranges inside of the new one are part of it.
        self.undone.retain(|range| range.start < since);
        if self.undone.len() >= MOST_SAVEPOINTS {
            return Err(CannotRead(format!(
                "transaction {} goes back to savepoints more than {MOST_SAVEPOINTS} times",
                self.id
            )));
        }
        if since < self.count {
            self.undone.push(since..self.count);
        }
        Ok(())
    }
}

/// Whether a number is in one of the ranges, which are in their order.
fn is_in(ranges: &[Range<u64>], count: u64) -> bool {
    let at = ranges.partition_point(|range| range.end <= count);
    ranges.get(at).is_some_and(|range| range.contains(&count))
}

/// An XA PREPARE in one phase is a commit.
fn prepared(event: &RawEvent) -> Result<Ending, CannotRead> {
    Ok(match Wire(&event.body).u8()? {
        0 => Ending::Prepared,
        _ => Ending::Committed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(hold: usize) -> Groups {
        Groups::new(
            Place::after_gtids("0-7-9".parse().unwrap()),
            Arc::default(),
            hold,
            1000,
            false,
        )
    }

    fn raw(kind: u8, body: &[u8]) -> RawEvent {
        RawEvent {
            kind,
            server: 7,
            at: 5,
            end: 1,
            body: body.into(),
            ..RawEvent::default()
        }
    }

    fn gtid(number: u64, flags: u8) -> RawEvent {
        let mut body = number.to_le_bytes().to_vec();
        body.extend([0, 0, 0, 0, flags]);
        raw(162, &body)
    }

    fn rows(byte: u8) -> RawEvent {
        raw(23, &[byte; 100])
    }

    fn query(text: &str) -> RawEvent {
        let mut body = vec![0; 14];
        body.extend(text.as_bytes());
        raw(2, &body)
    }

    fn xid() -> RawEvent {
        raw(16, &[0; 8])
    }

    /// What comes out, in short.
    fn out(groups: &mut Groups) -> Vec<String> {
        std::iter::from_fn(|| groups.take())
            .map(|piece| match piece {
                Piece::Begin(transaction) => format!("begin {}", transaction.id),
                Piece::Part {
                    event,
                    undone,
                    prepared,
                } => {
                    let first = event.body.first().copied().unwrap_or(0);
                    format!(
                        "{first}{}{}",
                        if undone { " undone" } else { "" },
                        if prepared { " prepared" } else { "" }
                    )
                }
                Piece::Truncate(table) => format!("truncate {table}"),
                Piece::End(point) => format!("end {point}"),
            })
            .collect()
    }

    fn feed(groups: &mut Groups, events: impl IntoIterator<Item = RawEvent>) -> Next {
        let mut last = Next::Read;
        for event in events {
            last = groups.put(event).unwrap();
        }
        last
    }

    #[test]
    fn nothing_comes_before_the_end_and_nothing_of_what_was_rolled_back() {
        let mut groups = groups(1000);
        feed(&mut groups, [gtid(10, 4), rows(1), rows(2)]);
        assert_eq!(out(&mut groups), [] as [&str; 0]);
        assert_eq!(groups.point().to_string(), "gtid:0-7-9");
        feed(
            &mut groups,
            [xid(), gtid(11, 4), rows(3), query("ROLLBACK")],
        );
        assert_eq!(
            out(&mut groups),
            [
                "begin 0-7-10",
                "1",
                "2",
                "end gtid:0-7-10",
                "end gtid:0-7-11"
            ]
        );
    }

    #[test]
    fn savepoints_undo_what_is_behind_them_also_inside_of_one_another() {
        let mut groups = groups(10_000);
        let events = [
            gtid(10, 4),
            rows(0),
            query("SAVEPOINT a"),
            rows(1),
            query("SAVEPOINT `b`"),
            rows(2),
            query("ROLLBACK TO b"),
            rows(3),
            query("ROLLBACK TO A"),
            rows(4),
            query("SAVEPOINT a"),
            rows(5),
            query("ROLLBACK TO a"),
            xid(),
        ];
        feed(&mut groups, events);
        assert_eq!(
            out(&mut groups),
            [
                "begin 0-7-10",
                "0",
                "1 undone",
                "2 undone",
                "3 undone",
                "4",
                "5 undone",
                "end gtid:0-7-10"
            ]
        );
        feed(&mut groups, [gtid(11, 4)]);
        assert!(groups.put(query("ROLLBACK TO never")).is_err());
    }

    #[test]
    fn a_large_transaction_is_sought_to_its_end_and_passes_at_once_the_second_time() {
        let mut groups = groups(300);
        let large = || {
            [
                gtid(10, 4),
                rows(0),
                query("SAVEPOINT s"),
                rows(1),
                rows(2),
                query("ROLLBACK TO s"),
                rows(3),
            ]
        };
        feed(&mut groups, large());
        let Next::Again(point) = groups.put(xid()).unwrap() else {
            panic!("it was held");
        };
        assert_eq!(point.to_string(), "gtid:0-7-9");
        assert_eq!(out(&mut groups), [] as [&str; 0]);
        groups.reopened(Place::after_gtids("0-7-9".parse().unwrap()));
        feed(&mut groups, large());
        assert_eq!(
            out(&mut groups),
            ["begin 0-7-10", "0", "1 undone", "2 undone", "3"]
        );
        feed(&mut groups, [xid()]);
        assert_eq!(out(&mut groups), ["end gtid:0-7-10"]);
    }

    #[test]
    fn a_transaction_that_a_crash_has_cut_off_is_gone_with_the_next_file() {
        let mut groups = groups(1000);
        feed(
            &mut groups,
            [
                gtid(10, 4),
                rows(1),
                raw(15, &[]),
                gtid(10, 4),
                rows(2),
                xid(),
            ],
        );
        assert_eq!(out(&mut groups), ["begin 0-7-10", "2", "end gtid:0-7-10"]);
        // Without a new file it is no crash.
        feed(&mut groups, [gtid(11, 4), rows(3)]);
        assert!(groups.put(gtid(12, 4)).is_err());
    }

    #[test]
    fn ddl_is_one_statement_and_a_truncate_is_told() {
        let mut groups = groups(1000);
        feed(
            &mut groups,
            [
                gtid(10, 1),
                query("ALTER TABLE t ADD b INT"),
                gtid(11, 33),
                query("TRUNCATE shop.t"),
            ],
        );
        assert_eq!(
            out(&mut groups),
            [
                "end gtid:0-7-10",
                "begin 0-7-11",
                "truncate shop.t",
                "end gtid:0-7-11"
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_the_point_stays_before_it() {
        for event in [
            query("INSERT INTO t VALUES (1)"),
            raw(26, &[1]),
            raw(18, &[]),
            raw(250, &[]),
            raw(40, &[]),
        ] {
            let mut groups = groups(1000);
            feed(&mut groups, [gtid(10, 4), rows(1)]);
            assert!(groups.put(event).is_err());
            assert_eq!(groups.point().to_string(), "gtid:0-7-9");
            assert_eq!(out(&mut groups), [] as [&str; 0]);
        }
    }

    #[test]
    fn a_prepared_transaction_is_marked_and_one_phase_is_a_commit() {
        let mut groups = groups(1000);
        feed(
            &mut groups,
            [
                gtid(10, 68),
                rows(1),
                query("XA END X'78',X'',1"),
                raw(38, &[0]),
            ],
        );
        assert_eq!(
            out(&mut groups),
            ["begin 0-7-10", "1 prepared", "end gtid:0-7-10"]
        );
        feed(
            &mut groups,
            [
                gtid(11, 133),
                query("XA COMMIT X'78',X'',1"),
                gtid(12, 4),
                rows(2),
                raw(38, &[1]),
            ],
        );
        assert_eq!(
            out(&mut groups),
            ["end gtid:0-7-11", "begin 0-7-12", "2", "end gtid:0-7-12"]
        );
    }

    fn rotate(file: &str, artificial: bool) -> RawEvent {
        let mut body = 4_u64.to_le_bytes().to_vec();
        body.extend(file.as_bytes());
        let mut event = raw(4, &body);
        event.end = if artificial { 0 } else { 300 };
        event
    }

    #[test]
    fn a_new_file_moves_a_position_by_file_also_where_nothing_is_written() {
        let place = Place::in_file("log.000001".into(), 200);
        let mut groups = Groups::new(place, Arc::default(), 1000, 1000, false);
        feed(&mut groups, [rotate("log.000002", false)]);
        assert_eq!(out(&mut groups), ["end file:log.000002:4"]);
        // The server announces the file once more where it opens it.
        feed(&mut groups, [rotate("log.000002", true), raw(15, &[])]);
        assert_eq!(out(&mut groups), [] as [&str; 0]);
        // What a crash has cut off is over with the next file.
        feed(
            &mut groups,
            [gtid(10, 4), rows(1), rotate("log.000003", true)],
        );
        assert_eq!(out(&mut groups), [] as [&str; 0]);
        feed(&mut groups, [raw(15, &[])]);
        assert_eq!(out(&mut groups), ["end file:log.000003:4"]);
    }

    #[test]
    fn a_new_file_tells_nothing_to_a_position_by_gtid() {
        let mut groups = groups(1000);
        feed(
            &mut groups,
            [
                rotate("log.000001", true),
                raw(15, &[]),
                rotate("log.000002", false),
            ],
        );
        assert_eq!(out(&mut groups), [] as [&str; 0]);
        assert_eq!(groups.point().to_string(), "gtid:0-7-9");
    }
}
