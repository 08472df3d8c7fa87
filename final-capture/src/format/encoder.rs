//! The encoder: one call for each event of a transaction.
//!
//! ```text
//!   begin ─▶ (row | truncate)* ─▶ commit
//!              │ plan, filter, split           one message waits in `held` until the next change or the commit
//!              ▼                               tells whether it was the last of its transaction
//!            JSON ─▶ held ─▶ out
//! ```

use std::sync::Arc;

use final_core::Message;

use super::{
    EncodeError, Encoded, EncoderOptions, Format, Order, dbsync,
    ids::{SourceIds, TransactionIds},
    json, key,
    piece::{Op, Piece},
    plan::{Plan, Plans},
};
use crate::{
    change::READABLE,
    position::{SourceIdentity, SourcePoint},
    select::Fit,
    source::{RowChange, RowOp, Transaction},
    table::Table,
    value::{
        Row, Value,
        json::{Integers, text},
        text::unix_micros,
    },
};

const CONTENT_TYPE: &str = "application/json";

/// Makes messages of events.
#[derive(Debug)]
pub struct Encoder {
    options: EncoderOptions,
    integers: Integers,
    ids: SourceIds,
    plans: Plans,
    transaction: Option<Open>,
    held: Option<Held>,
    /// How long the last message was, so that the next one needs no second allocation.
    length: usize,
}

/// The transaction whose changes come.
#[derive(Debug)]
struct Open {
    ids: TransactionIds,
    /// `,"at":"…","position":"…","tx":{"id":"…"`
    tail: Vec<u8>,
}

/// A message that waits to learn whether it is the last one of its transaction.
#[derive(Debug)]
struct Held {
    body: Vec<u8>,
    topic: Arc<str>,
    key: Arc<str>,
    /// The change that it begins with.
    index: u64,
    /// Which message of that change it is.
    part: u32,
    changes: u64,
    ends_change: bool,
}

impl Encoder {
    /// An encoder of one source.
    #[must_use]
    pub fn new(options: EncoderOptions, identity: SourceIdentity) -> Self {
        Self {
            integers: match options.big_integers_as_text {
                true => Integers::TextIfBig,
                false => Integers::Numbers,
            },
            ids: SourceIds::new(&identity.0),
            plans: Plans::new(identity.0),
            transaction: None,
            held: None,
            length: 0,
            options,
        }
    }

    /// A transaction begins. What was left of another one is forgotten.
    pub fn begin(&mut self, transaction: Transaction) {
        let mut tail = b",\"at\":\"".to_vec();
        tail.extend(unix_micros(transaction.at, 6).as_bytes());
        tail.extend(b"\",\"position\":");
        text(&mut tail, &transaction.after.to_string());
        tail.extend(b",\"tx\":{\"id\":");
        text(&mut tail, &transaction.id);
        self.held = None;
        self.transaction = Some(Open {
            ids: self.ids.of(&transaction.id),
            tail,
        });
    }

    /// A change of it.
    ///
    /// # Errors
    ///
    /// Fails if the change cannot be written in this format. Messages that came out of the call count, and those of
    /// later changes as well.
    pub fn row(&mut self, change: RowChange, out: &mut Vec<Encoded>) -> Result<(), EncodeError> {
        let plan = match self.plans.of(&change.table, &self.options) {
            Ok(plan) => plan,
            Err(error) => return self.fail(error, out),
        };
        if !plan.wanted {
            return Ok(());
        }
        let Some(op) = filtered(&plan, &change) else {
            return Ok(());
        };
        let before = change.before.as_deref();
        let after = change.after.as_deref();
        let (mut only_key, mut whole) = (Vec::new(), Vec::new());
        let piece = match op {
            Op::Delete => {
                // A filter makes a delete of an update whose old row was not sent: it names the key at least.
                if before.is_none() {
                    only_key = key_of(&plan, after);
                }
                Piece {
                    op,
                    before: before.or(Some(&only_key)),
                    after: None,
                    moved: None,
                }
            }
            Op::Insert => {
                // An update that brings a row into the filter should be a whole row as well.
                if let (Some(before), Some(after)) = (before, after) {
                    whole = merged(before, after);
                }
                Piece {
                    op,
                    before: None,
                    after: if whole.is_empty() {
                        after
                    } else {
                        Some(&whole)
                    },
                    moved: None,
                }
            }
            _ => Piece {
                op,
                before,
                after,
                moved: None,
            },
        };
        if let Some(missing) = plan
            .key
            .iter()
            .find(|at| *piece.key_value(**at) == Value::Absent)
        {
            let column = plan
                .table()
                .columns
                .get(*missing)
                .map_or("", |column| &*column.name);
            let why = format!("the source did not send the column `{column}` of its key");
            return self.fail(broken(&plan, why), out);
        }
        if self.options.order == Order::Row && op == Op::Update && moves(&plan, before, after) {
            return self.moved(
                &plan,
                before.unwrap_or_default(),
                after.unwrap_or_default(),
                change.index,
                out,
            );
        }
        self.write(&plan, &piece, change.index, 0, true, out)
    }

    /// Tables were emptied.
    ///
    /// # Errors
    ///
    /// Fails if that cannot be written in this format.
    pub fn truncate(
        &mut self,
        tables: &[Arc<Table>],
        index: u64,
        out: &mut Vec<Encoded>,
    ) -> Result<(), EncodeError> {
        // dbsync has no message for it, and its clients would take any as a row.
        if matches!(self.options.format, Format::Dbsync { .. }) {
            return Ok(());
        }
        let mut wanted = Vec::new();
        for (part, table) in (0..).zip(tables) {
            match self.plans.of(table, &self.options) {
                Ok(plan) if plan.wanted => wanted.push((part, plan)),
                Ok(_) => {}
                Err(error) => return self.fail(error, out),
            }
        }
        let last = wanted.len().saturating_sub(1);
        for (at, (part, plan)) in wanted.iter().enumerate() {
            let piece = Piece {
                op: Op::Truncate,
                before: None,
                after: None,
                moved: None,
            };
            self.write(plan, &piece, index, *part, at == last, out)?;
        }
        Ok(())
    }

    /// The transaction is complete: what waits comes out.
    pub fn commit(&mut self, _point: &SourcePoint, out: &mut Vec<Encoded>) {
        self.release(true, out);
        self.transaction = None;
    }

    /// A change of the key as two messages, each in the order of its own key.
    fn moved(
        &mut self,
        plan: &Plan,
        before: &[Value],
        after: &[Value],
        index: u64,
        out: &mut Vec<Encoded>,
    ) -> Result<(), EncodeError> {
        // What has not changed may have come with the old row alone, and an insert should be whole.
        let after = merged(before, after);
        let delete = Piece {
            op: Op::Delete,
            before: Some(before),
            after: None,
            moved: Some(&after),
        };
        let insert = Piece {
            op: Op::Insert,
            before: None,
            after: Some(&after),
            moved: Some(before),
        };
        self.write(plan, &delete, index, 0, false, out)?;
        self.write(plan, &insert, index, 1, true, out)
    }

    fn write(
        &mut self,
        plan: &Plan,
        piece: &Piece<'_>,
        index: u64,
        part: u32,
        ends_change: bool,
        out: &mut Vec<Encoded>,
    ) -> Result<(), EncodeError> {
        if self.transaction.is_none() {
            let why = "it came outside of a transaction".to_owned();
            return self.fail(broken(plan, why), out);
        }
        let is_dbsync = matches!(self.options.format, Format::Dbsync { .. });
        if is_dbsync && let Some(why) = dbsync::lacks(plan, piece) {
            let error = EncodeError {
                stops: true,
                ..broken(plan, why)
            };
            return self.fail(error, out);
        }
        let mut body = Vec::with_capacity(self.length + self.length / 8 + 64);
        match self.options.format {
            Format::Json => json::write(&mut body, plan, piece, self.integers),
            Format::Dbsync { readable } => dbsync::write(&mut body, plan, piece, readable),
        }
        let changes = if ends_change { index + 1 } else { index };
        if let Order::Transaction { most_bytes } = self.options.order {
            self.gather(body, index, changes, ends_change, most_bytes, out);
            return Ok(());
        }
        self.release(false, out);
        let held = Held {
            body,
            topic: Arc::clone(&plan.topic),
            key: self.key(plan, piece),
            index,
            part,
            changes,
            ends_change,
        };
        self.held = Some(held);
        if is_dbsync {
            // It tells nothing of the transaction, so there is nothing to wait for.
            self.release(false, out);
        }
        Ok(())
    }

    fn key(&self, plan: &Plan, piece: &Piece<'_>) -> Arc<str> {
        if self.options.order == Order::Table || plan.key.is_empty() || piece.op == Op::Truncate {
            return Arc::clone(&plan.table_key);
        }
        // The table is part of it: a service that reads several tables has one order for all of them.
        let mut text = String::with_capacity(plan.table_key.len() + 24);
        text.push_str(&plan.table_key);
        text.push('/');
        for (number, at) in plan.key.iter().enumerate() {
            if let Some(column) = plan.columns.get(*at) {
                let value = column.shown(piece.key_value(*at));
                let value = key::plain(&column.kind, &value);
                key::append(&mut text, &value, number == 0);
            }
        }
        key::shortened(text).into()
    }

    /// Adds a change to the message of the transaction.
    fn gather(
        &mut self,
        mut change: Vec<u8>,
        index: u64,
        changes: u64,
        ends_change: bool,
        most: usize,
        out: &mut Vec<Encoded>,
    ) {
        change.extend(b",\"index\":");
        number(&mut change, index);
        change.push(b'}');
        // Between the changes and the end of the message: what is known of the transaction, and an index of 20 digits.
        let end = self.transaction.as_ref().map_or(0, |open| open.tail.len()) + 48;
        if let Some(held) = &mut self.held
            && (held.body.len() + change.len() + end <= most || !held.ends_change)
        {
            held.body.push(b',');
            held.body.extend(change);
            (held.changes, held.ends_change) = (changes, ends_change);
            return;
        }
        self.release(false, out);
        let mut body = b"{\"changes\":[".to_vec();
        body.extend(change);
        self.held = Some(Held {
            body,
            topic: Arc::clone(&self.options.transaction_topic),
            key: Arc::clone(&self.options.transaction_topic),
            index,
            part: 0,
            changes,
            ends_change,
        });
    }

    /// Lets the message go that waits.
    fn release(&mut self, last: bool, out: &mut Vec<Encoded>) {
        let (Some(held), Some(open)) = (self.held.take(), &self.transaction) else {
            return;
        };
        let mut body = held.body;
        if matches!(self.options.format, Format::Json) {
            if matches!(self.options.order, Order::Transaction { .. }) {
                body.push(b']');
            }
            body.extend(&open.tail);
            body.extend(b",\"index\":");
            number(&mut body, held.index);
            body.extend(if last {
                &b",\"last\":true}}"[..]
            } else {
                b",\"last\":false}}"
            });
        }
        self.length = body.len();
        let id = open.ids.id(held.index, held.part);
        let mut message = Message::identified(id, held.topic, body)
            .with_key(held.key)
            .with_content_type(CONTENT_TYPE);
        if self.options.format == (Format::Dbsync { readable: true }) {
            // A text could be base64 by accident, so the reader cannot see the difference by itself.
            message = message.with_header(READABLE, "true");
        }
        out.push(Encoded {
            message,
            changes: held.changes,
            ends_change: held.ends_change,
        });
    }

    /// Fails behind the message that waits, so that the order of the changes stays.
    fn fail(&mut self, error: EncodeError, out: &mut Vec<Encoded>) -> Result<(), EncodeError> {
        self.release(false, out);
        Err(error)
    }
}

fn broken(plan: &Plan, why: String) -> EncodeError {
    EncodeError {
        table: plan.name().clone(),
        key: None,
        why,
        stops: false,
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    // Writing a number into memory cannot fail.
    let _ = serde_json::to_writer(out, &number);
}

/// Whether an update changes the key, as far as the source sent it.
fn moves(plan: &Plan, before: Option<&[Value]>, after: Option<&[Value]>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    plan.key
        .iter()
        .any(|at| match (before.get(*at), after.get(*at)) {
            (Some(Value::Absent), _) | (_, Some(Value::Absent)) => false,
            (before, after) => before != after,
        })
}

/// A row with nothing but the key.
fn key_of(plan: &Plan, row: Option<&[Value]>) -> Row {
    let row = row.unwrap_or_default();
    let of = |at: usize| row.get(at).filter(|_| plan.key.contains(&at)).cloned();
    (0..row.len())
        .map(|at| of(at).unwrap_or(Value::Absent))
        .collect()
}

/// What the row filters make of a change. None if its row stays outside.
fn filtered(plan: &Plan, change: &RowChange) -> Option<Op> {
    let op = match change.op {
        RowOp::Insert => Op::Insert,
        RowOp::Update => Op::Update,
        RowOp::Delete => Op::Delete,
    };
    if !plan.filters() {
        return Some(op);
    }
    let before = change
        .before
        .as_deref()
        .map_or(Fit::Unknown, |row| plan.fit(row));
    let after = match (&change.before, &change.after) {
        (_, None) => Fit::Unknown,
        (None, Some(after)) => plan.fit(after),
        (Some(before), Some(after)) => match plan.fit(after) {
            // A large value that has not changed may have come with the old row.
            Fit::Unknown => plan.fit(&merged(before, after)),
            known => known,
        },
    };
    match (op, before, after) {
        (Op::Insert, _, Fit::No) | (Op::Delete, Fit::No, _) | (Op::Update, Fit::No, Fit::No) => {
            None
        }
        (Op::Update, Fit::No, _) => Some(Op::Insert),
        (Op::Update, _, Fit::No) => Some(Op::Delete),
        (op, _, _) => Some(op),
    }
}

fn merged(before: &[Value], after: &[Value]) -> Row {
    let of = |(old, new): (&Value, &Value)| {
        if *new == Value::Absent {
            old.clone()
        } else {
            new.clone()
        }
    };
    before.iter().zip(after).map(of).collect()
}

#[cfg(test)]
mod tests;
