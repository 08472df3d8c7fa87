//! A table as its database describes it today.
//!
//! Input: the catalog. Output: [`SideTable`]: columns with the class of their values, and the unique indexes.

use std::fmt;

/// Which database a table is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Postgres,
    MySql,
    MariaDb,
    Sqlite,
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct SideTable {
    pub(crate) family: Family,
    /// Its place for people: the database without a password, and the name.
    pub(crate) shown: String,
    /// Its name in SQL, quoted.
    pub(crate) name: String,
    pub(crate) columns: Vec<SideColumn>,
    pub(crate) unique: Vec<UniqueIndex>,
    /// About how many rows it has, where the catalog says.
    pub(crate) rows: Option<u64>,
    /// Whether the server hashes with MD5. A server that is told to use approved algorithms only does not.
    pub(crate) has_md5: bool,
    /// Whether the texts of the server are UTF-8.
    pub(crate) is_utf8: bool,
    /// The engine of the table, if it keeps what is rolled back.
    pub(crate) unsafe_engine: Option<String>,
    /// Whether rows are kept in the order of the primary key, so that a range of it is read in that order.
    pub(crate) is_clustered: bool,
}

impl SideTable {
    /// The column of a name. Only on PostgreSQL two columns can differ by the case of their letters alone.
    pub(crate) fn column(&self, name: &str) -> Option<&SideColumn> {
        let exact = self.columns.iter().find(|column| column.name == name);
        let near = |column: &&SideColumn| column.name.eq_ignore_ascii_case(name);
        match self.family {
            Family::Postgres => exact,
            _ => exact.or_else(|| self.columns.iter().find(near)),
        }
    }

    /// A name as the table spells it. A name that it has not stays as it is.
    pub(crate) fn spelled(&self, name: &str) -> String {
        let column = self.column(name);
        column.map_or_else(|| name.to_owned(), |column| column.name.clone())
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SideColumn {
    pub(crate) name: String,
    /// Its type as its database writes it.
    pub(crate) declared: String,
    /// The type that a parameter is cast to, on PostgreSQL.
    pub(crate) cast: String,
    pub(crate) class: ColumnClass,
    pub(crate) nullable: bool,
    /// Whether the database makes its values from other columns, so that none can be written.
    pub(crate) is_generated: bool,
    /// Whether `SELECT *` leaves it out.
    pub(crate) is_invisible: bool,
    /// Whether its texts are stored as UTF-8, so that their bytes need not be converted.
    pub(crate) is_utf8: bool,
    /// In what order an index has its values.
    pub(crate) order: KeyOrder,
}

/// What kind of values a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnClass {
    Bool,
    Integer {
        unsigned: bool,
        zerofill: bool,
    },
    /// An exact number; without a scale each value has its own.
    Decimal {
        scale: Option<u32>,
    },
    Float {
        single: bool,
    },
    /// Text; padded texts are filled up with spaces (CHAR).
    Text {
        padded: bool,
    },
    /// Bytes; of a fixed length (BINARY), or not.
    Bytes {
        length: Option<u32>,
    },
    Date,
    Time {
        precision: u32,
    },
    /// A day and a time without a zone.
    DateTime {
        precision: u32,
    },
    /// A moment.
    Moment {
        precision: u32,
    },
    Bits {
        length: u32,
    },
    Uuid,
    Json,
    /// One or some of several texts.
    Words,
    /// A type without a rule of its own.
    Other,
}

/// In what order an index has the values of a column. Two sides whose orders are equal can be compared range by range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyOrder {
    /// As numbers.
    Number,
    /// As moments or days.
    Time,
    /// As bytes of UTF-8, or as bytes.
    Bytes,
    /// As the 32 digits of a UUID.
    Uuid,
    /// As a collation or a type of one server does it.
    Own(String),
}

/// A unique index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UniqueIndex {
    pub(crate) name: String,
    /// Its columns, in its order.
    pub(crate) columns: Vec<String>,
    pub(crate) is_primary: bool,
}

impl fmt::Display for UniqueIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.columns.join(", "))
    }
}
