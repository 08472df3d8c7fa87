//! What must hold for any stream of MariaDB.
//!
//! Input: events, each with its type and the two bytes of its length before it. Output: a panic if a decoder panics, if
//! rows come outside of a transaction, if their numbers do not grow, or if an error repeats a value.

use std::sync::Arc;

use final_core::fuzzing::check_error;

use super::{
    charset::Charsets,
    groups::{GroupRules, Groups, Next},
    place::Place,
    play::Player,
    raw::RawEvent,
    wire::{CannotRead, Wire},
};
use crate::{
    select::Selection,
    source::{Event, RowOp},
};

/// Reads bytes as events, each with its type and length before it.
pub fn binlog(bytes: &[u8]) {
    let charsets = Arc::new(Charsets::new(
        [
            (8, "ascii".to_owned()),
            (45, "utf8mb4".to_owned()),
            (54, "utf16".to_owned()),
            (60, "utf32".to_owned()),
            (63, "binary".to_owned()),
        ],
        &[("ascii".to_owned(), (0..=255_u8).map(char::from).collect())].into(),
        &[].into(),
    ));
    let most = 1 << 16;
    let place = Place::in_file("file".into(), 4);
    let rules = GroupRules {
        hold: 1 << 12,
        most,
        pass_statements: false,
        lower_names: false,
    };
    let mut groups = Groups::new(place.clone(), Arc::clone(&charsets), rules);
    let mut player = Player::new(Selection::tables(["*.*"]), charsets, most);
    let mut wire = Wire(bytes);
    let mut state = State::default();
    while let (Ok(kind), Ok(length)) = (wire.u8(), wire.low_first(2)) {
        let length = usize::try_from(length).unwrap_or(0).min(wire.0.len());
        let Ok(body) = wire.take(length) else {
            return;
        };
        let event = RawEvent {
            kind,
            end: 1,
            body: body.into(),
            ..RawEvent::default()
        };
        match groups.put(event) {
            Ok(Next::Read) => {}
            Ok(Next::Again(_)) => {
                groups.reopened(place.clone());
                player.reopened();
            }
            Err(CannotRead(why)) => return check_error(&why, 1024),
        }
        let mut played = Vec::new();
        while let Some(piece) = groups.take() {
            if let Some(table) = player.asks(&piece) {
                player.answered(&piece, table, super::server::Specials::default());
            }
            if let Err(CannotRead(why)) = player.play(piece, &mut played) {
                assert!(why.len() < 2048, "{why}");
                return;
            }
        }
        played.iter().for_each(|event| state.check(event));
    }
}

/// What came of the open transaction.
#[derive(Default)]
struct State {
    open: bool,
    next: u64,
}

impl State {
    fn check(&mut self, event: &Event) {
        match event {
            Event::Begin(_) => {
                assert!(!self.open, "a transaction inside of another");
                *self = Self {
                    open: true,
                    next: 0,
                };
            }
            Event::Row(row) => {
                self.grows(row.index);
                for values in [&row.before, &row.after].into_iter().flatten() {
                    assert_eq!(values.len(), row.table.columns.len());
                }
                assert_eq!(row.before.is_none(), row.op == RowOp::Insert);
                assert_eq!(row.after.is_none(), row.op == RowOp::Delete);
            }
            Event::Truncate { index, .. } => self.grows(*index),
            Event::Columns(_) => assert!(self.open, "columns outside of a transaction"),
            Event::Commit(_) => {
                assert!(self.open, "an end without a begin");
                self.open = false;
            }
            Event::Quiet(_) => assert!(!self.open, "quiet inside of a transaction"),
        }
    }

    fn grows(&mut self, index: u64) {
        assert!(self.open, "a change outside of a transaction");
        assert!(index >= self.next, "{index} comes again");
        self.next = index + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event that may well be read: GTID, table map, rows, and the ends of transactions.
    fn event() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![
            Just(162_u8),
            Just(19),
            Just(23),
            Just(24),
            Just(25),
            Just(30),
            Just(166),
            Just(16),
            Just(2),
            Just(165),
            Just(38),
            Just(4),
            Just(15),
        ];
        let table_map = (any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(
            |(types, rest)| {
                let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 1, b'b', 0, 4];
                body.extend(types);
                body.extend([8, 10, 2, 3, 1, 254, 16, 5, 2, 0]);
                body.extend([4, 8, 1, b'a', 1, b'b', 1, b'c', 1, b'd']);
                body.extend(rest);
                (19_u8, body)
            },
        );
        let rows = prop::collection::vec(any::<u8>(), 0..60).prop_map(|rest| {
            let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, 4, 0xff];
            body.extend(rest);
            (23_u8, body)
        });
        let other = (kind, prop::collection::vec(any::<u8>(), 0..60));
        prop_oneof![table_map, rows, other].prop_map(|(kind, body)| {
            let mut bytes = vec![kind];
            bytes.extend(u16::try_from(body.len()).unwrap_or(0).to_le_bytes());
            bytes.extend(body);
            bytes
        })
    }

    proptest! {
        #[test]
        fn hostile_events_are_read_or_refused(parts in prop::collection::vec(event(), 0..12)) {
            let mut bytes = vec![162, 13, 0];
            bytes.extend([0; 12]);
            bytes.push(4);
            bytes.extend(parts.concat());
            binlog(&bytes);
        }
    }
}
