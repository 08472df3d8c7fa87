//! A change as dbsync writes it.
//!
//! Input: the plan of a table and a [`Piece`] of a change. Output: one JSON object with `Table`, `Column`, `Action`,
//! `BeforeData` and `AfterData`, as Go's json-iterator writes it.
//!
//! `Table` and `Column` are the same for all changes of a table: the plan has them.

use super::{
    go::text,
    piece::{Op, Piece},
    plan::{ColumnPlan, Plan},
};
use crate::{
    table::ColumnKind,
    value::{Value, json::base64},
};

/// Why the change cannot be written: a column of the new row was not sent, and this format cannot leave it out. `null` in
/// its place would be a value that the row does not have.
pub(super) fn lacks(plan: &Plan, piece: &Piece<'_>) -> Option<String> {
    let mut after = plan.columns.iter().zip(piece.after?);
    let is_missing =
        |(column, value): &(&ColumnPlan, &Value)| column.is_shown() && **value == Value::Absent;
    let (column, _) = after.find(is_missing)?;
    let name = String::from_utf8_lossy(&column.name);
    Some(format!(
        "the source has not sent the column {}, and dbsync's format cannot leave a column out of a row. Have whole rows sent \
         (MariaDB: binlog_row_image = FULL; PostgreSQL: REPLICA IDENTITY FULL), drop the column by a rule, or use the format \
         `json`",
        name.trim_end_matches(':')
    ))
}

/// Appends the object.
pub(super) fn write(out: &mut Vec<u8>, plan: &Plan, piece: &Piece<'_>, readable: bool) {
    out.extend(&plan.dbsync_head);
    out.extend(match piece.op {
        Op::Insert => &b"insert"[..],
        Op::Delete => b"delete",
        Op::Update | Op::Truncate => b"update",
    });
    out.extend(b"\",\"BeforeData\":");
    row(out, plan, piece.before, readable);
    out.extend(b",\"AfterData\":");
    row(out, plan, piece.after, readable);
    out.push(b'}');
}

fn row(out: &mut Vec<u8>, plan: &Plan, row: Option<&[Value]>, readable: bool) {
    let Some(row) = row else {
        out.extend(b"null");
        return;
    };
    out.push(b'[');
    let mut first = true;
    for (column, value) in plan.columns.iter().zip(row) {
        if !column.is_shown() {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        let plain = matches!(column.show, crate::select::Show::Plain);
        // A masked or hashed value is a text, whatever the column has.
        let kind = if plain {
            &column.kind
        } else {
            &ColumnKind::Text
        };
        write_value(out, kind, &column.shown(value), readable);
    }
    out.push(b']');
}

fn write_value(out: &mut Vec<u8>, kind: &ColumnKind, value: &Value, readable: bool) {
    match value {
        Value::Null | Value::Absent => out.extend(b"null"),
        Value::Bool(value) => out.extend(value.to_string().as_bytes()),
        Value::Int(number) => out.extend(number.to_string().as_bytes()),
        Value::UInt(number) | Value::Bits(number) | Value::Set(number, _) => {
            out.extend(number.to_string().as_bytes())
        }
        Value::Enum(index, _) => out.extend(index.to_string().as_bytes()),
        Value::Float(number) if number.is_finite() => {
            let plain = *number == 0.0 || (1e-6..1e21).contains(&number.abs());
            float(out, number, plain);
        }
        Value::Double(number) if number.is_finite() => {
            let plain = *number == 0.0 || (1e-6..1e21).contains(&number.abs());
            float(out, number, plain);
        }
        // Go cannot write it. MySQL and MariaDB have no such number.
        Value::Float(_) | Value::Double(_) => out.extend(b"null"),
        Value::Bytes(bytes) if *kind == ColumnKind::Bytes && !readable => text(out, bytes),
        Value::Bytes(bytes) => in_base64(out, bytes),
        Value::Json(json) if !readable => in_base64(out, json.as_bytes()),
        Value::Text(value) => match kind {
            ColumnKind::LongText if !readable => in_base64(out, value.as_bytes()),
            ColumnKind::DateTime | ColumnKind::Timestamp => {
                let printed = value
                    .strip_suffix('Z')
                    .unwrap_or(value)
                    .replacen('T', " ", 1);
                text(out, printed.as_bytes());
            }
            _ => text(out, value.as_bytes()),
        },
        Value::Json(value) | Value::Invalid(value) => text(out, value.as_bytes()),
    }
}

fn in_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    base64(out, bytes);
    out.push(b'"');
}

/// A number as Go writes it: without an exponent unless it is very small or large, and then with its sign.
fn float<T: std::fmt::Display + std::fmt::LowerExp>(out: &mut Vec<u8>, number: &T, plain: bool) {
    if plain {
        out.extend(number.to_string().as_bytes());
        return;
    }
    let scientific = format!("{number:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => {
            out.extend(format!("{digits}e+{exponent}").as_bytes());
        }
        _ => out.extend(scientific.as_bytes()),
    }
}

#[cfg(test)]
mod tests;
