//! What a table says of its columns: the kind of values, and the type as SQL text.
//!
//! Input: a column's [`Shape`] and its type's number. Output: a [`ColumnKind`], and a text such as `int unsigned`.

use std::sync::Arc;

use super::{charset::Charset, server::Special, shape::Shape};
use crate::table::ColumnKind;

/// Whether a type is stored apart from its row: TEXT and BLOB.
const fn is_apart(code: u8) -> bool {
    matches!(code, 140 | 249..=252)
}

/// The kind of a column's values.
pub(super) fn kind(shape: &Shape, code: u8) -> ColumnKind {
    match shape {
        Shape::Int { bytes, unsigned } => ColumnKind::Integer {
            bytes: *bytes,
            unsigned: *unsigned,
        },
        Shape::Float => ColumnKind::Float { bytes: 4 },
        Shape::Double => ColumnKind::Float { bytes: 8 },
        Shape::Decimal { .. } => ColumnKind::Decimal,
        Shape::Year => ColumnKind::Year,
        Shape::Date => ColumnKind::Date,
        Shape::Time(_) => ColumnKind::Time,
        Shape::DateTime(_) => ColumnKind::DateTime,
        Shape::Timestamp(_) => ColumnKind::Timestamp,
        Shape::Bits(bits) => ColumnKind::Bits(u32::from(*bits)),
        Shape::Enum { texts, .. } => ColumnKind::Enum(Arc::clone(texts)),
        Shape::Set { texts, .. } => ColumnKind::Set(Arc::clone(texts)),
        Shape::Text { charset, .. } => match (*charset == Charset::Binary, is_apart(code)) {
            (true, true) => ColumnKind::Blob,
            (true, false) => ColumnKind::Bytes,
            (false, true) => ColumnKind::LongText,
            (false, false) => ColumnKind::Text,
        },
        Shape::Geometry { .. } => ColumnKind::Geometry,
        Shape::Special(Special::Uuid) => ColumnKind::Uuid,
        Shape::Special(Special::Inet4 | Special::Inet6) => ColumnKind::Other,
    }
}

/// A column's type as SQL text, as far as the stream tells it.
pub(super) fn declared(shape: &Shape, code: u8) -> String {
    match shape {
        Shape::Int { bytes, unsigned } => {
            let name = match bytes {
                1 => "tinyint",
                2 => "smallint",
                3 => "mediumint",
                4 => "int",
                _ => "bigint",
            };
            if *unsigned {
                format!("{name} unsigned")
            } else {
                name.to_owned()
            }
        }
        Shape::Float => "float".to_owned(),
        Shape::Double => "double".to_owned(),
        Shape::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        Shape::Year => "year".to_owned(),
        Shape::Date => "date".to_owned(),
        Shape::Time(digits) => timed("time", *digits),
        Shape::DateTime(digits) => timed("datetime", *digits),
        Shape::Timestamp(digits) => timed("timestamp", *digits),
        Shape::Bits(bits) => format!("bit({bits})"),
        Shape::Enum { texts, .. } => chosen("enum", texts),
        Shape::Set { texts, .. } => chosen("set", texts),
        Shape::Text {
            length,
            charset,
            size,
            fixed,
            ..
        } => {
            let characters = size / charset.widest();
            let binary = *charset == Charset::Binary;
            match (is_apart(code), binary) {
                (true, _) => {
                    let size = match length {
                        1 => "tiny",
                        2 => "",
                        3 => "medium",
                        _ => "long",
                    };
                    format!("{size}{}", if binary { "blob" } else { "text" })
                }
                (false, true) if *fixed => format!("binary({size})"),
                (false, true) => format!("varbinary({size})"),
                (false, false) if *fixed => format!("char({characters})"),
                (false, false) => format!("varchar({characters})"),
            }
        }
        Shape::Geometry { .. } => "geometry".to_owned(),
        Shape::Special(Special::Uuid) => "uuid".to_owned(),
        Shape::Special(Special::Inet4) => "inet4".to_owned(),
        Shape::Special(Special::Inet6) => "inet6".to_owned(),
    }
}

fn timed(name: &str, digits: u8) -> String {
    match digits {
        0 => name.to_owned(),
        digits => format!("{name}({digits})"),
    }
}

fn chosen(name: &str, texts: &[Arc<str>]) -> String {
    let texts: Vec<String> = texts
        .iter()
        .map(|text| format!("'{}'", text.replace('\'', "''")))
        .collect();
    format!("{name}({})", texts.join(","))
}
