//! A table as its source describes it beside each change: names and types of the columns at that moment.
//!
//! Input: what the stream itself says. Output: [`Table`]. The catalog of today is not asked, because the columns may
//! have been others when the row was written.

use std::{fmt, sync::Arc};

/// The name of a table: its schema (on MariaDB its database) and its own name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, on MariaDB and MySQL the database.
    pub schema: Arc<str>,
    /// The name in the schema.
    pub table: Arc<str>,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A table at the moment of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns, in their order in the rows.
    pub columns: Vec<Column>,
    /// Which columns are the primary key (on PostgreSQL the replica identity, if it is an index), by their place in
    /// `columns`, in the key's order. Empty if there is none.
    pub key: Vec<usize>,
}

/// A column at the moment of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// The kind of its values.
    pub kind: ColumnKind,
    /// Its type as SQL text, as far as the stream tells it: `int unsigned`, `numeric(10,2)`, `mood`.
    pub declared: Arc<str>,
}

/// What kind of values a column has, over all sources.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ColumnKind {
    /// True or false.
    Bool,
    /// A whole number.
    Integer {
        /// How many bytes the column takes: 1, 2, 3, 4 or 8.
        bytes: u8,
        /// Whether it has no negative numbers.
        unsigned: bool,
    },
    /// A number with a floating point, of 4 or 8 bytes.
    Float {
        /// 4 or 8.
        bytes: u8,
    },
    /// An exact number with a point.
    Decimal,
    /// Text of at most so many characters (CHAR, VARCHAR).
    Text,
    /// Text that is stored apart (MariaDB's TEXT types), which matters to the format of dbsync alone.
    LongText,
    /// Bytes (BINARY, VARBINARY, BYTEA).
    Bytes,
    /// Bytes that are stored apart (MariaDB's BLOB types).
    Blob,
    /// A JSON document.
    Json,
    /// A day.
    Date,
    /// A time of day, or on MariaDB a length of time.
    Time,
    /// A day and a time without a zone.
    DateTime,
    /// A moment.
    Timestamp,
    /// A year.
    Year,
    /// One of several texts.
    Enum(Arc<[Arc<str>]>),
    /// Some of several texts.
    Set(Arc<[Arc<str>]>),
    /// So many bits.
    Bits(u32),
    /// A UUID.
    Uuid,
    /// A shape in a plane, as the bytes that its server stores.
    Geometry,
    /// A type without a rule of its own: the text that its server prints.
    Other,
}

/// A table as the catalog of a source has it now, for checks of patterns and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTable {
    /// Its name.
    pub name: TableName,
    /// Its columns' names.
    pub columns: Vec<Arc<str>>,
    /// Those of its key, see [`Table::key`].
    pub key: Vec<Arc<str>>,
}
