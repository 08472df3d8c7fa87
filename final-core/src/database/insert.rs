//! INSERTs of any number of rows, by a few texts.
//!
//! Input: how many values a row has, and the parts of the text; then rows, as one list of values. State: the
//! texts, rendered once. Output: rows of the table, or an error if the database has written fewer.
//!
//! | database | rows go | texts |
//! | --- | --- | --- |
//! | PostgreSQL | as arrays, one for each column that is not the same in all rows | one for any number of rows |
//! | MySQL, SQLite | written out, in pieces | one for each of 1 to 16 rows, for 32, and for 64 |
//!
//! On MySQL a piece also fits into the largest packet that the server takes. What is larger would end the caller's
//! connection, and its transaction with it.
//!
//! With a text for each number of rows, each transaction would have its statement prepared anew, or would drive
//! the caller's statements out of the cache (100 by default).

use std::{ops::Range, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::{DbResult, Dialect, Driver, FromRow, Server, Value, limits::ExceedsPacket, read};

/// Each number of rows up to this one has a text. Most transactions publish a few messages, and those are one
/// statement then.
const SMALL: usize = 16;
/// More rows go in pieces of these sizes, and the rest in a smaller piece.
const LARGE: [usize; 2] = [32, 64];

/// The INSERT of rows with a number of columns into one table.
#[derive(Debug)]
pub(crate) struct Insert {
    columns: usize,
    /// One text for each size of a piece, the smallest first.
    pieces: Vec<(usize, SqlStr)>,
    /// One text for each number of columns that go as arrays, the smallest first. The columns behind them
    /// are the same for all rows and go as single values: PostgreSQL reads each array into a store of its
    /// own for the statement, so the fewer there are the better.
    arrays: Vec<(usize, SqlStr)>,
    /// How many bytes a statement may have with its values.
    packet: usize,
}

/// The placeholder of a text in an INSERT of MySQL, which is given the bytes of the text.
pub(crate) const UTF8: &str = "CONVERT(? USING utf8mb4)";

/// What a packet has besides values.
const PACKET_HEAD: usize = 64;

fn sql(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

impl Insert {
    /// All sizes of pieces, of a beginning and of the text of one row, repeated.
    pub(crate) fn of_rows(columns: usize, insert: &str, row: &str) -> Self {
        let text = |rows| format!("{insert}{}", vec![row; rows].join(", "));
        let sizes = (1..=SMALL).chain(LARGE);
        Self {
            columns,
            pieces: sizes.map(|rows| (rows, sql(text(rows)))).collect(),
            arrays: Vec::new(),
            packet: usize::MAX,
        }
    }

    /// The same, for a server that takes no packets larger than it says.
    pub(crate) fn within(mut self, server: &Server) -> Self {
        self.packet = server.packet.unwrap_or(usize::MAX);
        self
    }

    /// One text for one row, and those for any number.
    pub(crate) fn of_arrays(
        columns: usize,
        one: String,
        arrays: impl IntoIterator<Item = (usize, String)>,
    ) -> Self {
        let arrays = arrays
            .into_iter()
            .map(|(columns, text)| (columns, sql(text)));
        Self {
            columns,
            pieces: vec![(1, sql(one))],
            arrays: arrays.collect(),
            packet: usize::MAX,
        }
    }

    /// For one row alone.
    pub(crate) fn of_one(columns: usize, one: String) -> Self {
        Self::of_arrays(columns, one, [])
    }

    /// The same, and each statement gives these columns of the rows that it writes.
    pub(crate) fn returning(mut self, columns: &str) -> Self {
        let pieces = self.pieces.iter_mut().map(|(_, text)| text);
        let arrays = self.arrays.iter_mut().map(|(_, text)| text);
        for text in pieces.chain(arrays) {
            *text = sql(format!("{} RETURNING {columns}", text.as_str()));
        }
        self
    }

    /// Makes values fit for the session of a caller, whose charset is the caller's. On MySQL texts go as
    /// [`UTF8`]; the other drivers set the charset of every session themselves.
    pub(crate) fn prepared<DB: Driver>(mut values: Vec<Value<'_>>) -> Vec<Value<'_>> {
        if DB::DIALECT == Dialect::MySql {
            values.iter_mut().for_each(Value::make_bytes);
        }
        values
    }

    /// Inserts rows. The values of each row stand behind those of the row before.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if fewer rows were written than were given.
    pub(crate) async fn execute<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        values: &[Value<'_>],
    ) -> DbResult<()> {
        let rows = values.len() / self.columns;
        if rows > 1
            && let Some((columns, statement)) = self.arrays_for(values)
        {
            let values = self.transposed(columns, values);
            return all_written(DB::run_sql(conn, statement, &values).await?, rows);
        }
        let bytes = self.rows_in_packet(values)?;
        for (statement, piece) in self.pieces_for(rows, &bytes) {
            let values = &values[piece.start * self.columns..piece.end * self.columns];
            all_written(DB::run_sql(conn, statement, values).await?, piece.len())?;
        }
        Ok(())
    }

    /// Whether rows go by one statement.
    pub(crate) fn is_one_statement(&self, values: &[Value<'_>]) -> bool {
        let rows = values.len() / self.columns;
        let is_piece = || {
            let fits = self.rows_in_packet(values);
            fits.is_ok_and(|bytes| self.pieces_for(rows, &bytes).count() == 1)
        };
        rows <= 1 || self.arrays_for(values).is_some() || is_piece()
    }

    /// Inserts rows by the statements of [`returning`](Self::returning). Returns what they give, in any order.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if fewer rows were written than were given.
    pub(crate) async fn execute_returning<DB: Driver, T: FromRow>(
        &self,
        conn: &mut DB::Connection,
        values: &[Value<'_>],
    ) -> DbResult<Vec<T>> {
        let rows = values.len() / self.columns;
        if rows > 1
            && let Some((columns, statement)) = self.arrays_for(values)
        {
            let values = self.transposed(columns, values);
            let given = read::<DB, T>(conn, statement, &values).await?;
            return all_written(given.len() as u64, rows).map(|()| given);
        }
        let bytes = self.rows_in_packet(values)?;
        let mut all = Vec::with_capacity(rows);
        for (statement, piece) in self.pieces_for(rows, &bytes) {
            let values = &values[piece.start * self.columns..piece.end * self.columns];
            let given = read::<DB, T>(conn, statement, values).await?;
            all_written(given.len() as u64, piece.len())?;
            all.extend(given);
        }
        Ok(all)
    }

    /// Inserts one row by a statement that may write none. Returns how many it wrote.
    pub(crate) async fn execute_one<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        values: &[Value<'_>],
    ) -> DbResult<u64> {
        self.rows_in_packet(values)?;
        match self.pieces.first() {
            Some((_, statement)) => DB::run_sql(conn, statement, values).await,
            None => Ok(0),
        }
    }

    /// The text with the fewest arrays in which all rows can go together.
    fn arrays_for(&self, values: &[Value<'_>]) -> Option<(usize, &SqlStr)> {
        let first = &values[..self.columns.min(values.len())];
        let are_alike = |from: usize| {
            let mut rows = values.chunks(self.columns);
            rows.all(|row| row[from..] == first[from..])
        };
        let fits =
            |(columns, _): &&(usize, SqlStr)| *columns == self.columns || are_alike(*columns);
        let found = self.arrays.iter().find(fits);
        found.map(|(columns, statement)| (*columns, statement))
    }

    /// The first columns as arrays, and the others as the first row has them.
    fn transposed<'a>(&self, columns: usize, values: &[Value<'a>]) -> Vec<Value<'a>> {
        let column = |at| Value::column(values.iter().skip(at).step_by(self.columns));
        let same = values[columns..self.columns].iter().cloned();
        (0..columns).map(column).chain(same).collect()
    }

    /// How many bytes each row takes in a packet; none of them if all rows fit into one together.
    ///
    /// # Errors
    ///
    /// Fails if a row fits into none.
    fn rows_in_packet(&self, values: &[Value<'_>]) -> DbResult<Vec<usize>> {
        let bytes = |values: &[Value<'_>]| values.iter().map(Value::packet_bytes).sum::<usize>();
        let most = self.packet.saturating_sub(PACKET_HEAD);
        if self.packet == usize::MAX || bytes(values) <= most {
            return Ok(Vec::new());
        }
        let rows: Vec<usize> = values.chunks(self.columns).map(bytes).collect();
        match rows.iter().find(|bytes| **bytes > most) {
            None => Ok(rows),
            Some(&bytes) => Err(sqlx::Error::Configuration(Box::new(ExceedsPacket {
                bytes,
                packet: self.packet,
            }))),
        }
    }

    /// The rows in pieces, each with the statement for it. `bytes` are those of each row, where not all rows fit into
    /// one packet.
    fn pieces_for(
        &self,
        rows: usize,
        bytes: &[usize],
    ) -> impl Iterator<Item = (&SqlStr, Range<usize>)> + Send {
        let mut from = 0;
        std::iter::from_fn(move || {
            let most = self.packet.saturating_sub(PACKET_HEAD);
            let fits = |(size, _): &&(usize, SqlStr)| {
                let piece = bytes.get(from..from + size).unwrap_or_default();
                *size <= rows - from && (*size == 1 || piece.iter().sum::<usize>() <= most)
            };
            let (size, statement) = self.pieces.iter().rev().find(fits)?;
            let piece = from..from + size;
            from += size;
            Some((statement, piece))
        })
    }
}

/// Whether all rows were written. A trigger or a rule of the table can turn an INSERT into nothing, and that is
/// no error to the database.
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

/// An error unless all rows of an UPDATE or a DELETE were changed. They are locked, so only a trigger, a rule or a policy
/// of the table can keep one.
pub(crate) fn all_changed(changed: u64, rows: usize) -> DbResult<()> {
    if changed == rows as u64 {
        return Ok(());
    }
    let text = format!(
        "the statement was accepted and changed {changed} of {rows} rows; a trigger, a rule or a policy of the table \
         keeps rows as they are: remove it"
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
            let insert = Insert::of_rows(1, "", "(?)");

            let cut: Vec<_> = insert.pieces_for(rows, &[]).collect();

            for (statement, piece) in &cut {
                prop_assert_eq!(statement.as_str().matches("(?)").count(), piece.len());
            }
            let together: Vec<usize> = cut.into_iter().flat_map(|(_, piece)| piece).collect();
            prop_assert_eq!(together, (0..rows).collect::<Vec<_>>());
        }

        #[test]
        fn a_few_rows_are_one_piece(rows in 1..=16_usize) {
            let insert = Insert::of_rows(1, "", "(?)");
            prop_assert_eq!(insert.pieces_for(rows, &[]).count(), 1);
        }
    }

    #[test]
    fn rows_are_one_statement_if_they_are_one_piece_or_arrays() {
        let values = |rows| vec![Value::from(1_i64); rows];
        let pieces = Insert::of_rows(1, "", "(?)");
        for (rows, is_one) in [(1, true), (16, true), (17, false), (64, true), (96, false)] {
            assert_eq!(pieces.is_one_statement(&values(rows)), is_one, "{rows}");
        }
        let arrays = Insert::of_arrays(1, String::new(), [(1, String::new())]);
        assert!(arrays.is_one_statement(&values(500)));
        let mut narrow = Insert::of_rows(1, "", "(?)");
        narrow.packet = PACKET_HEAD + 40;
        assert!(!narrow.is_one_statement(&values(16)));
    }

    proptest! {
        #[test]
        fn every_piece_fits_into_a_packet(bytes in prop::collection::vec(0..900_usize, 1..200)) {
            let mut insert = Insert::of_rows(1, "", "(?)");
            insert.packet = 1_000;
            let values: Vec<Value<'_>> = bytes.iter().map(|bytes| vec![0; *bytes].into()).collect();

            let rows = insert.rows_in_packet(&values).unwrap();
            let mut from = 0;
            for (_, piece) in insert.pieces_for(values.len(), &rows) {
                prop_assert_eq!(piece.start, from);
                from = piece.end;
                let bytes: usize = values[piece].iter().map(Value::packet_bytes).sum();
                prop_assert!(bytes + PACKET_HEAD <= 1_000, "{}", bytes);
            }
            prop_assert_eq!(from, values.len());
        }
    }

    #[test]
    fn a_row_that_no_packet_takes_is_refused_before_anything_is_written() {
        let mut insert = Insert::of_rows(1, "", "(?)");
        insert.packet = 1_000;
        let values = [vec![0_u8; 10].into(), vec![0_u8; 1_000].into()];

        let error = insert.rows_in_packet(&values).unwrap_err().to_string();

        assert!(error.contains("max_allowed_packet is 1000"), "{error}");
    }

    #[test]
    fn what_is_the_same_in_all_rows_is_no_array() {
        let insert = Insert::of_arrays(3, String::new(), [(1, "few".into()), (3, "all".into())]);
        let rows = |last: i64| {
            let [a, b] = [[1, 7, 9], [2, 7, last]].map(|row: [i64; 3]| row.map(Value::from));
            [a, b].concat()
        };

        let alike = rows(9);
        let (columns, statement) = insert.arrays_for(&alike).unwrap();
        assert_eq!((columns, statement.as_str()), (1, "few"));
        let transposed = insert.transposed(columns, &alike);
        assert_eq!(
            transposed,
            [Value::from(&[1_i64, 2][..]), 7_i64.into(), 9_i64.into()]
        );

        let different = rows(8);
        let (columns, statement) = insert.arrays_for(&different).unwrap();
        assert_eq!((columns, statement.as_str()), (3, "all"));
        let transposed = insert.transposed(columns, &different);
        assert_eq!(transposed[2], Value::from(&[9_i64, 8][..]));
    }
}
