//! A change as JSON of ours.
//!
//! Input: the plan of a table and a [`Piece`] of a change. Output: a JSON object without its end, to which the encoder
//! adds what it knows of the transaction.
//!
//! The fields and their meaning are in `docs/capture.md`.

use super::{
    piece::{Op, Piece},
    plan::Plan,
};
use crate::value::{
    Value,
    json::{self, Integers},
};

/// Appends the object, without its end.
pub(super) fn write(out: &mut Vec<u8>, plan: &Plan, piece: &Piece<'_>, integers: Integers) {
    let mut invalid = Invalid::default();
    out.extend(b"{\"op\":\"");
    out.extend(piece.op.name().as_bytes());
    out.push(b'"');
    out.extend(&plan.names);
    if piece.op == Op::Truncate {
        return;
    }
    out.extend(b",\"key\":");
    key(out, plan, |at| piece.key_value(at), integers);
    out.extend(b",\"before\":");
    row(out, plan, piece.before, integers, &mut invalid.before);
    out.extend(b",\"after\":");
    row(out, plan, piece.after, integers, &mut invalid.after);
    let partial = piece.before.is_some_and(|row| is_partial(plan, row));
    if piece.op == Op::Update {
        out.extend(b",\"changed\":");
        match (piece.before, piece.after) {
            (Some(before), Some(after)) if !partial => {
                let differs = |at| match (before.get(at), after.get(at)) {
                    (_, Some(Value::Absent)) => false,
                    (before, after) => before != after,
                };
                names(out, plan, differs);
            }
            _ => out.extend(b"null"),
        }
    }
    if partial {
        out.extend(b",\"partial\":true");
    }
    if let Some(after) = piece.after
        && is_partial(plan, after)
    {
        out.extend(b",\"unchanged\":");
        names(out, plan, |at| after.get(at) == Some(&Value::Absent));
    }
    invalid.write(out);
    if let Some(other) = piece.moved {
        out.extend(match piece.op {
            Op::Delete => &b",\"moved_to\":"[..],
            _ => b",\"moved_from\":",
        });
        key(
            out,
            plan,
            |at| other.get(at).unwrap_or(&Value::Absent),
            integers,
        );
    }
}

/// Whether the source left a column out that messages show.
fn is_partial(plan: &Plan, row: &[Value]) -> bool {
    let mut columns = row.iter().zip(&plan.columns);
    columns.any(|(value, column)| *value == Value::Absent && column.is_shown())
}

/// Appends an object of the key's columns, or `null` if the table has no key.
fn key<'a>(out: &mut Vec<u8>, plan: &Plan, value: impl Fn(usize) -> &'a Value, integers: Integers) {
    if plan.key.is_empty() {
        out.extend(b"null");
        return;
    }
    out.push(b'{');
    let mut first = true;
    for at in &plan.key {
        let Some(column) = plan.columns.get(*at) else {
            continue;
        };
        comma(out, &mut first);
        out.extend(&column.name);
        json::write(out, &column.shown(value(*at)), integers);
    }
    out.push(b'}');
}

fn row(
    out: &mut Vec<u8>,
    plan: &Plan,
    row: Option<&[Value]>,
    integers: Integers,
    invalid: &mut Vec<u8>,
) {
    let Some(row) = row else {
        out.extend(b"null");
        return;
    };
    out.push(b'{');
    let mut first = true;
    for (column, value) in plan.columns.iter().zip(row) {
        if *value == Value::Absent || !column.is_shown() {
            continue;
        }
        comma(out, &mut first);
        out.extend(&column.name);
        let shown = column.shown(value);
        if !json::write(out, &shown, integers)
            && let Value::Invalid(text) | Value::Json(text) = &*shown
        {
            invalid.push(if invalid.is_empty() { b'{' } else { b',' });
            invalid.extend(&column.name);
            json::text(invalid, text);
        }
    }
    out.push(b'}');
}

/// Appends an array of column names.
fn names(out: &mut Vec<u8>, plan: &Plan, which: impl Fn(usize) -> bool) {
    out.push(b'[');
    let mut first = true;
    for (at, column) in plan.columns.iter().enumerate() {
        if column.is_shown() && which(at) {
            comma(out, &mut first);
            // The name is stored with its colon.
            out.extend(column.name.split_last().map_or(&[][..], |(_, name)| name));
        }
    }
    out.push(b']');
}

fn comma(out: &mut Vec<u8>, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(b',');
    }
}

/// Values that are null in JSON because they are no dates or no JSON, with the text that the server prints. Each side
/// is an object without its end.
#[derive(Default)]
struct Invalid {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Invalid {
    fn write(self, out: &mut Vec<u8>) {
        if self.before.is_empty() && self.after.is_empty() {
            return;
        }
        out.extend(b",\"invalid\":{");
        let mut first = true;
        for (side, texts) in [
            (&b"\"before\":"[..], self.before),
            (b"\"after\":", self.after),
        ] {
            if !texts.is_empty() {
                comma(out, &mut first);
                out.extend(side);
                out.extend(texts);
                out.push(b'}');
            }
        }
        out.push(b'}');
    }
}
