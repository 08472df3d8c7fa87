//! INSERTs of several rows, where the number of rows is in the text.
//!
//! A text of its own for each number of rows would be prepared anew for each transaction, or drive
//! the caller's statements out of the cache (100 by default). So there are a few texts, and many rows
//! go in several pieces.

use sqlx::SqlStr;

/// Every small number, since most transactions publish a few messages: those are one statement.
const SMALL: usize = 16;
/// Beyond it a piece is one of these.
const LARGE: [usize; 2] = [32, 64];

/// One INSERT for each size of a piece, the smallest first.
#[derive(Debug)]
pub(crate) struct Pieces(Vec<(usize, SqlStr)>);

impl Pieces {
    /// All sizes. `insert` makes the text for so many rows.
    pub(crate) fn new(insert: impl Fn(usize) -> SqlStr) -> Self {
        let sizes = (1..=SMALL).chain(LARGE);
        Self(sizes.map(|rows| (rows, insert(rows))).collect())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sqlx::{AssertSqlSafe, SqlSafeStr};

    use super::*;

    proptest! {
        #[test]
        fn every_row_is_in_one_piece_in_its_order_with_the_statement_for_as_many(rows in 0..1_100_usize) {
            let pieces = Pieces::new(|rows| AssertSqlSafe(rows.to_string()).into_sql_str());
            let rows: Vec<usize> = (0..rows).collect();

            let cut: Vec<_> = pieces.of(&rows).collect();

            for (statement, piece) in &cut {
                prop_assert_eq!(statement.as_str(), piece.len().to_string());
            }
            let together: Vec<usize> = cut.iter().flat_map(|(_, piece)| piece.iter().copied()).collect();
            prop_assert_eq!(together, rows);
        }

        #[test]
        fn a_few_rows_are_one_piece(rows in 1..=16_usize) {
            let pieces = Pieces::new(|_| SqlStr::from_static(""));
            prop_assert_eq!(pieces.of(&vec![(); rows]).count(), 1);
        }
    }
}
