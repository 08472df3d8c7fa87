//! The value of one column, in one canonical form: the same whether the row was read by SELECT or from the stream.
//!
//! Input: what a source decoded. Output: [`Value`], which the formats write.

pub(crate) mod json;
#[allow(dead_code, reason = "each source has types of its own")]
pub(crate) mod text;

use std::sync::Arc;

use bytes::Bytes;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// NULL.
    Null,
    /// The source did not send it: a large value that an UPDATE has not touched, or a column beside the key in the
    /// old row.
    Absent,
    /// The column holds what no calendar has, such as MariaDB's `0000-00-00`. The text is what the server prints.
    Invalid(Arc<str>),
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number without a sign.
    UInt(u64),
    /// A number with a floating point of 4 bytes.
    Float(f32),
    /// A number with a floating point of 8 bytes. Also infinite or not a number, on PostgreSQL.
    Double(f64),
    /// A text in UTF-8. Decimals, dates, times, UUIDs and types without a rule are texts in canonical form as well: the
    /// column's kind tells which.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Bytes),
    /// A JSON document, as text.
    Json(Arc<str>),
    /// One of the texts of an ENUM, with its number counted from 1. Number 0 is MariaDB's mark of a value that was
    /// refused, and its text is empty.
    Enum(u32, Arc<str>),
    /// The texts of a SET, with its bits.
    Set(u64, Vec<Arc<str>>),
    /// Bits, the last one the lowest. At most 64.
    Bits(u64),
}

/// The values of a row, in the order of the table's columns.
pub type Row = Vec<Value>;
