//! A table as dbsync describes it in each message.
//!
//! Input: the table's name and its columns that are shown. Output: the object of a change up to its action.
//!
//! What a binary log does not tell is written as Go's zero value: the collation, whether a column counts up or is
//! computed, and the sizes of CHAR and VARCHAR. dbsync's own client reads none of it.

use super::go::text;
use crate::table::{Column, ColumnKind};

/// Everything up to the action: the same for all changes of a table.
pub(super) fn head(table: &str, columns: &[Column]) -> Vec<u8> {
    let mut out = b"{\"Table\":".to_vec();
    text(&mut out, table.as_bytes());
    out.extend(b",\"Column\":[");
    let mut first = true;
    for column in columns {
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
