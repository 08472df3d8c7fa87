//! INSERTs of several rows, where the number of rows is in the text.
//!
//! A text of its own for each number of rows would be prepared anew for each transaction, or drive
//! the caller's statements out of the cache (100 by default). So there are a few texts, and many rows
//! go in several pieces.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::DbResult;

/// The columns of a record that is plain: as `publish(topic, &value)` makes it. What it does not have
/// is left out, and what is the same for all stands in the text: most records are plain, and each
/// parameter costs.
pub(crate) const PLAIN: &str = "message_id, topic, payload, available_at, claimed_by, content_type, \
    durable, status, due_at, created_at";

/// The columns of any record.
pub(crate) const ANY: &str = "message_id, topic, message_key, headers, payload, content_type, durable, \
    expires_at, status, due_at, available_at, claimed_by, created_at";

/// The INSERTs into one table.
#[derive(Debug)]
pub(crate) struct Inserts {
    pub(crate) plain: Pieces,
    pub(crate) any: Pieces,
}

/// One INSERT for each size of a piece, the smallest first.
#[derive(Debug)]
pub(crate) struct Pieces(Vec<(usize, SqlStr)>);

/// Every small number, since most transactions publish a few messages: those are one statement.
const SMALL: usize = 16;
/// Beyond it a piece is one of these.
const LARGE: [usize; 2] = [32, 64];

impl Pieces {
    /// All sizes, of a beginning and of the text of one row, repeated.
    pub(crate) fn of_rows(insert: &str, row: &str) -> Self {
        let text = |rows| format!("{insert}{}", vec![row; rows].join(", "));
        let sql = |rows| AssertSqlSafe(Arc::<str>::from(text(rows))).into_sql_str();
        let sizes = (1..=SMALL).chain(LARGE);
        Self(sizes.map(|rows| (rows, sql(rows))).collect())
    }

    /// The rows in pieces, each with the statement for it.
    pub(crate) fn of<'a, T>(
        &'a self,
        rows: &'a [T],
    ) -> impl Iterator<Item = (SqlStr, &'a [T])> + Send
    where
        T: Sync,
    {
        let mut rest = rows;
        std::iter::from_fn(move || {
            let fits = |(size, _): &&(usize, SqlStr)| *size <= rest.len();
            let (size, statement) = self.0.iter().rev().find(fits)?;
            let (piece, tail) = rest.split_at(*size);
            rest = tail;
            Some((statement.clone(), piece))
        })
    }
}

/// An INSERT that a trigger or a rule of the table turns into nothing is no error to the database.
pub(crate) fn all_written(written: u64, rows: usize) -> DbResult<()> {
    if written == rows as u64 {
        return Ok(());
    }
    let text = format!(
        "the INSERT was accepted and wrote {written} of {rows} rows; a trigger or a rule of the table \
         keeps rows out: remove it"
    );
    Err(sqlx::Error::Configuration(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_is_in_one_piece_in_its_order_with_the_statement_for_as_many(rows in 0..1_100_usize) {
            let pieces = Pieces::of_rows("", "(?)");
            let rows: Vec<usize> = (0..rows).collect();

            let cut: Vec<_> = pieces.of(&rows).collect();

            for (statement, piece) in &cut {
                prop_assert_eq!(statement.as_str().matches("(?)").count(), piece.len());
            }
            let together: Vec<usize> = cut.iter().flat_map(|(_, piece)| piece.iter().copied()).collect();
            prop_assert_eq!(together, rows);
        }

        #[test]
        fn a_few_rows_are_one_piece(rows in 1..=16_usize) {
            let pieces = Pieces::of_rows("", "(?)");
            prop_assert_eq!(pieces.of(&vec![(); rows]).count(), 1);
        }
    }
}
