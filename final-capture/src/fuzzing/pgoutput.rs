//! What must hold for any stream of PostgreSQL.
//!
//! Input: messages, each with its length in two bytes before it. Output: a panic if an event breaks the rules of
//! [`Event`], or if an error repeats a value.

use final_core::fuzzing::{SECRETS, check_error};

use crate::{
    position::SourcePoint,
    select::Selection,
    source::{Event, postgres::fuzzing::Decoder},
};

/// The bytes are messages, each with its length before it.
pub fn pgoutput(mut bytes: &[u8]) {
    let mut decoder = Decoder::new(Selection::tables(["*.*"]));
    let mut state = State::default();
    while let Some(length) = bytes.split_off(..2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let message = bytes.split_off(..length.min(bytes.len()));
        let mut events = Vec::new();
        let taken = decoder.take(message.unwrap_or_default(), &mut events);
        for event in &events {
            state.check(event);
        }
        if let Err(error) = taken {
            // Errors name tables and columns, and no values.
            if message.is_some_and(|message| message.starts_with(b"I")) && !state.has_odd_names {
                check_error(&error, 512);
            }
            return;
        }
        state.has_odd_names |= message
            .is_some_and(|message| message.starts_with(b"R") && message.len() > 200)
            || SECRETS.iter().any(|secret| {
                let windows = message.unwrap_or_default().windows(secret.len());
                windows.into_iter().any(|it| it == secret.as_bytes())
            });
    }
}

/// What the events so far were.
#[derive(Default)]
struct State {
    is_open: bool,
    /// The least index that the next change can have.
    index: u64,
    point: u64,
    /// A name is what stands for a secret.
    has_odd_names: bool,
}

impl State {
    fn check(&mut self, event: &Event) {
        match event {
            Event::Begin(transaction) => {
                assert!(!self.is_open, "a transaction in a transaction");
                assert_eq!(transaction.after, SourcePoint::Lsn(self.point));
                (self.is_open, self.index) = (true, 0);
            }
            Event::Row(row) => {
                self.change(row.index);
                for values in [&row.before, &row.after].into_iter().flatten() {
                    assert_eq!(values.len(), row.table.columns.len());
                }
                assert!(row.before.is_some() || row.after.is_some());
            }
            Event::Truncate { tables, index } => {
                self.change(*index);
                assert!(!tables.is_empty());
            }
            Event::Columns(table) => {
                assert!(table.key.iter().all(|at| *at < table.columns.len()));
            }
            Event::Commit(SourcePoint::Lsn(point)) => {
                assert!(self.is_open && *point > self.point);
                (self.is_open, self.point) = (false, *point);
            }
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, index: u64) {
        assert!(self.is_open && index >= self.index);
        self.index = index + 1;
    }
}
