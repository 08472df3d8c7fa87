//! What a statement gives: rows, read into types that name their columns.
//!
//! Input: the rows of a result. State: the cells of a row that were not taken yet. Output: values of a type
//! that implements [`FromRow`].
//!
//! The type says which columns it takes ([`FromRow::COLUMNS`]), and the statement gives columns of these names
//! in any order. A name that is missing is an error that tells it. So a list of columns and its reader cannot
//! disagree in silence. Single values, tuples and arrays take the columns by their place.

use std::fmt;

use uuid::Uuid;

use super::DbResult;

/// What a column is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A whole number of 64 bits.
    Int,
    /// A truth value.
    Bool,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// An id: `uuid` on PostgreSQL, 16 bytes elsewhere.
    Id,
}

/// A column that a type takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the result; empty where the place decides.
    pub name: &'static str,
    /// What it is read as.
    pub kind: Kind,
}

/// A type that is read from a row.
///
/// [`columns!`](super::columns) implements it for a struct, with a column for each field.
pub trait FromRow: Sized + Send {
    /// The columns it takes, in the order in which [`from_row`](Self::from_row) takes them.
    const COLUMNS: &'static [Column];

    /// Reads a row that has these columns.
    ///
    /// # Errors
    ///
    /// Fails if a column cannot be read as its type.
    fn from_row(row: &mut Row) -> DbResult<Self>;
}

/// A type that is read from one column.
pub trait FromCell: Sized + Send {
    /// What the column is read as.
    const KIND: Kind;

    /// Takes the next cell of the row.
    ///
    /// # Errors
    ///
    /// Fails if the cell cannot be read.
    fn from_cell(row: &mut Row) -> DbResult<Self>;
}

/// A cell of a row. If it cannot be read it is the reason, which is an error only for a type that needs it.
#[derive(Debug)]
pub(crate) enum Cell {
    Int(Option<i64>),
    Bool(Option<bool>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Id(Option<Uuid>),
    Unreadable(String),
}

/// A row, taken from the left to the right.
pub struct Row(std::vec::IntoIter<Cell>);

impl Row {
    pub(crate) fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    fn next(&mut self) -> DbResult<Cell> {
        self.0
            .next()
            .ok_or_else(|| sqlx::Error::ColumnNotFound("one more than the row has".to_owned()))
    }
}

impl fmt::Debug for Row {
    /// Without the values, which are the user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Row")
    }
}

/// Where each column stands in a result with columns of these names.
pub(crate) fn places(columns: &[Column], names: &[&str]) -> DbResult<Vec<usize>> {
    let place = |(at, column): (usize, &Column)| match column.name {
        "" => Ok(at),
        wanted => names
            .iter()
            .position(|name| *name == wanted)
            .ok_or_else(|| sqlx::Error::ColumnNotFound(wanted.to_owned())),
    };
    columns.iter().enumerate().map(place).collect()
}

fn unexpected(cell: &Cell) -> sqlx::Error {
    sqlx::Error::Decode(
        match cell {
            Cell::Unreadable(why) => why.clone(),
            Cell::Int(_) => "a column is a number, and something else is wanted".to_owned(),
            Cell::Bool(_) => "a column is a truth value, and something else is wanted".to_owned(),
            Cell::Text(_) => "a column is a text, and something else is wanted".to_owned(),
            Cell::Bytes(_) => "a column is bytes, and something else is wanted".to_owned(),
            Cell::Id(_) => "a column is an id, and something else is wanted".to_owned(),
        }
        .into(),
    )
}

macro_rules! cells {
    ($($kind:ident => $type:ty,)*) => {$(
        /// NULL is `None`.
        impl FromCell for Option<$type> {
            const KIND: Kind = Kind::$kind;

            fn from_cell(row: &mut Row) -> DbResult<Self> {
                match row.next()? {
                    Cell::$kind(value) => Ok(value),
                    other => Err(unexpected(&other)),
                }
            }
        }

        /// NULL is the type's default: zero, false, or empty.
        impl FromCell for $type {
            const KIND: Kind = Kind::$kind;

            fn from_cell(row: &mut Row) -> DbResult<Self> {
                Ok(Option::<$type>::from_cell(row)?.unwrap_or_default())
            }
        }

        impl FromRow for $type {
            const COLUMNS: &'static [Column] = &[Column { name: "", kind: Kind::$kind }];

            fn from_row(row: &mut Row) -> DbResult<Self> {
                Self::from_cell(row)
            }
        }

        impl FromRow for Option<$type> {
            const COLUMNS: &'static [Column] = &[Column { name: "", kind: Kind::$kind }];

            fn from_row(row: &mut Row) -> DbResult<Self> {
                Self::from_cell(row)
            }
        }
    )*};
}

cells! {
    Int => i64,
    Bool => bool,
    Text => String,
    Bytes => Vec<u8>,
    Id => Uuid,
}

/// A cell that cannot be read is the reason why.
impl<T: FromCell> FromCell for Result<T, String> {
    const KIND: Kind = T::KIND;

    fn from_cell(row: &mut Row) -> DbResult<Self> {
        Ok(T::from_cell(row).map_err(|error| error.to_string()))
    }
}

macro_rules! tuples {
    ($(($($type:ident),*))*) => {$(
        impl<$($type: FromCell),*> FromRow for ($($type,)*) {
            const COLUMNS: &'static [Column] = &[$(Column { name: "", kind: $type::KIND }),*];

            fn from_row(row: &mut Row) -> DbResult<Self> {
                Ok(($($type::from_cell(row)?,)*))
            }
        }
    )*};
}

tuples! { (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) }

/// Defines a struct that is read from rows: each field is a column of its name.
///
/// The types are `i64`, `bool`, `String`, `Vec<u8>` and `Uuid` (NULL is then zero, false or empty), each as
/// an `Option`, or as a `Result<_, String>` that holds the reason where the column cannot be read.
///
/// ```
/// use final_core::database::{FromRow, Kind, columns};
///
/// columns! {
///     /// How far somebody has come.
///     #[derive(Debug)]
///     pub struct Reached {
///         pub name: String,
///         pub at: Option<i64>,
///     }
/// }
///
/// let columns = Reached::COLUMNS.iter().map(|column| (column.name, column.kind));
/// assert!(columns.eq([("name", Kind::Text), ("at", Kind::Int)]));
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __database_columns {
    (
        $(#[$attribute:meta])*
        $visible:vis struct $name:ident {
            $($(#[$of_field:meta])* $field_visible:vis $field:ident: $type:ty),* $(,)?
        }
    ) => {
        $(#[$attribute])*
        $visible struct $name {
            $($(#[$of_field])* $field_visible $field: $type,)*
        }

        impl $crate::database::FromRow for $name {
            const COLUMNS: &'static [$crate::database::Column] = &[
                $($crate::database::Column {
                    name: stringify!($field),
                    kind: <$type as $crate::database::FromCell>::KIND,
                }),*
            ];

            fn from_row(
                row: &mut $crate::database::Row,
            ) -> $crate::database::DbResult<Self> {
                Ok(Self {
                    $($field: <$type as $crate::database::FromCell>::from_cell(row)?,)*
                })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::database::columns! {
        #[derive(Debug, PartialEq)]
        struct Entry {
            id: Uuid,
            text: Result<String, String>,
            count: Option<i64>,
        }
    }

    #[test]
    fn columns_are_found_by_their_names_wherever_they_stand() {
        let places = places(Entry::COLUMNS, &["count", "other", "id", "text"]);

        assert_eq!(places.unwrap(), [2, 3, 0]);
    }

    #[test]
    fn a_column_that_is_missing_is_told_by_its_name() {
        let error = places(Entry::COLUMNS, &["id", "count"]).unwrap_err();

        assert!(error.to_string().contains("text"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_spoils_only_what_needs_it() {
        let id = Uuid::now_v7();
        let cells = || vec![Cell::Id(Some(id)), Cell::Unreadable("no UTF-8".to_owned())];
        let with = |last| Row::new(cells().into_iter().chain([last]).collect());

        let entry = Entry::from_row(&mut with(Cell::Int(None))).unwrap();
        assert_eq!((entry.id, entry.count), (id, None));
        assert!(entry.text.unwrap_err().contains("no UTF-8"));
        Entry::from_row(&mut with(Cell::Unreadable("no number".to_owned()))).unwrap_err();
    }

    #[test]
    fn a_row_that_is_too_short_is_an_error() {
        <(i64, i64)>::from_row(&mut Row::new(vec![Cell::Int(Some(1))])).unwrap_err();
    }
}
