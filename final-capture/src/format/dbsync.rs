//! A change as dbsync writes it.
//!
//! Input: the plan of a table and a [`Piece`] of a change. Output: one JSON object with `Table`, `Column`, `Action`,
//! `BeforeData` and `AfterData`, as Go's json-iterator writes it.
//!
//! What a binary log does not tell is written as Go's zero value: the collation, whether a column counts up or is
//! computed, and the sizes of CHAR and VARCHAR. dbsync's own client reads none of it.

use std::fmt::Write as _;

use super::{
    json::{Op, Piece},
    plan::{ColumnPlan, Plan},
};
use crate::{
    table::{Column, ColumnKind, Table},
    value::{Value, json::base64},
};

/// Everything up to the action: the same for all changes of a table.
pub(super) fn head(table: &Table, columns: &[ColumnPlan]) -> Vec<u8> {
    let mut out = b"{\"Table\":".to_vec();
    text(&mut out, table.name.table.as_bytes());
    out.extend(b",\"Column\":[");
    let mut first = true;
    for (column, plan) in table.columns.iter().zip(columns) {
        if !plan.is_shown() {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        describe(&mut out, column);
    }
    out.extend(b"],\"Action\":\"");
    out
}

fn describe(out: &mut Vec<u8>, column: &Column) {
    let raw = raw_type(column);
    out.extend(b"{\"Name\":");
    text(out, column.name.as_bytes());
    out.extend(
        format!(
            ",\"Type\":{},\"Collation\":\"\",\"RawType\":",
            type_number(column, &raw)
        )
        .as_bytes(),
    );
    text(out, raw.as_bytes());
    let unsigned = matches!(column.kind, ColumnKind::Integer { unsigned: true, .. })
        || raw.contains("unsigned");
    out.extend(
        format!(",\"IsAuto\":false,\"IsUnsigned\":{unsigned},\"IsVirtual\":false,\"EnumValues\":")
            .as_bytes(),
    );
    list(
        out,
        if let ColumnKind::Enum(texts) = &column.kind {
            Some(texts)
        } else {
            None
        },
    );
    out.extend(b",\"SetValues\":");
    list(
        out,
        if let ColumnKind::Set(texts) = &column.kind {
            Some(texts)
        } else {
            None
        },
    );
    out.extend(b",\"FixedSize\":0,\"MaxSize\":0}");
}

fn list(out: &mut Vec<u8>, texts: Option<&std::sync::Arc<[std::sync::Arc<str>]>>) {
    let Some(texts) = texts else {
        out.extend(b"null");
        return;
    };
    out.push(b'[');
    for (at, one) in texts.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(out, one.as_bytes());
    }
    out.push(b']');
}

/// The type as SHOW COLUMNS prints it. The stream does not tell how wide integers are shown: MariaDB's usual width is
/// written.
fn raw_type(column: &Column) -> String {
    if column.declared.contains('(') {
        return column.declared.to_string();
    }
    let ColumnKind::Integer { bytes, unsigned } = column.kind else {
        return match column.kind {
            ColumnKind::Year => "year(4)".to_owned(),
            _ => column.declared.to_string(),
        };
    };
    let (name, signed_width, unsigned_width) = match bytes {
        1 => ("tinyint", 4, 3),
        2 => ("smallint", 6, 5),
        3 => ("mediumint", 9, 8),
        4 => ("int", 11, 10),
        _ => ("bigint", 20, 20),
    };
    match unsigned {
        true => format!("{name}({unsigned_width}) unsigned"),
        false => format!("{name}({signed_width})"),
    }
}

/// dbsync's numbers of the types.
fn type_number(column: &Column, raw: &str) -> u8 {
    match column.kind {
        ColumnKind::Integer { bytes: 3, .. } => 13,
        ColumnKind::Integer { .. } | ColumnKind::Year | ColumnKind::Bool => 1,
        ColumnKind::Float { .. } => 2,
        ColumnKind::Enum(_) => 3,
        ColumnKind::Set(_) => 4,
        ColumnKind::DateTime => 6,
        ColumnKind::Timestamp => 7,
        ColumnKind::Date => 8,
        ColumnKind::Time => 9,
        ColumnKind::Bits(_) => 10,
        // MariaDB's JSON is a LONGTEXT to SHOW COLUMNS.
        ColumnKind::Json if raw.starts_with("json") => 11,
        ColumnKind::Decimal => 12,
        ColumnKind::Bytes => 14,
        ColumnKind::Geometry if raw.starts_with("point") => 15,
        _ => 5,
    }
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

/// A text as json-iterator writes it: characters that HTML gives a meaning are escaped, and bytes that are no UTF-8 are
/// replaced.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        let mut plain = 0;
        let valid = chunk.valid();
        for (at, c) in valid.char_indices() {
            let escape = match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => unicode(c),
                _ => continue,
            };
            out.extend(valid.get(plain..at).unwrap_or_default().as_bytes());
            out.extend(escape.as_bytes());
            plain = at + c.len_utf8();
        }
        out.extend(valid.get(plain..).unwrap_or_default().as_bytes());
        out.extend(chunk.invalid().iter().flat_map(|_| b"\\ufffd"));
    }
    out.push(b'"');
}

fn unicode(c: char) -> String {
    let mut text = String::new();
    // Writing into a text cannot fail.
    let _ = write!(text, "\\u{:04x}", u32::from(c));
    text
}

#[cfg(test)]
mod tests;
