//! How many rows one transaction changes: fewer, after one that took too long.
//!
//! Input: how each transaction has ended. State: how many rows the next one takes. Output: whether to try again.
//!
//! Rows may have many megabytes each. Fewer of them take less time.

use sqlx::SqlSafeStr;

use super::{
    DbResult, Dialect, Driver,
    renewable::{is_silence, is_unknown_commit},
};

/// On PostgreSQL: the COMMIT waits for the disk, because the new rows may be the only copies of messages. The server
/// ends a statement before it is given up here: one that goes on there would keep its rows locked. MariaDB has a word
/// for that in each statement, [`limited`](super::Words::limited).
const CAREFUL: &str = "\
    SELECT set_config('synchronous_commit', 'on', true), set_config('statement_timeout', '12s', true)";

/// Makes a transaction that has just begun one that changes a batch of rows.
pub(crate) async fn begin_batch<DB: Driver>(conn: &mut DB::Connection) -> DbResult<()> {
    match DB::DIALECT {
        Dialect::Postgres => DB::run_sql(conn, &CAREFUL.into_sql_str(), &[])
            .await
            .map(drop),
        Dialect::MySql | Dialect::Sqlite => Ok(()),
    }
}

/// Whether a batch has failed because its time was over, and nothing of it is done. After a COMMIT without an answer
/// all of it may be done, and another try would do more than was asked.
pub(crate) fn takes_too_long<DB: Driver>(error: &sqlx::Error) -> bool {
    is_silence(error) && !is_unknown_commit(error) || DB::is_cut_off(error)
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct BatchSize {
    rows: u64,
    /// How many rows the transaction has found, if that was told.
    found: Option<u64>,
    /// The error of the last transaction, if it took too long.
    too_long: Option<sqlx::Error>,
}

impl BatchSize {
    pub(crate) fn of(rows: u64) -> Self {
        Self {
            rows,
            found: None,
            too_long: None,
        }
    }

    /// How many rows the next transaction takes.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The transaction has found so many rows: perhaps fewer than it could take.
    pub(crate) fn found(&mut self, rows: usize) {
        self.found = Some(rows as u64);
    }

    /// The result of a transaction. `None` if the next one is to try the same with fewer rows.
    ///
    /// # Errors
    ///
    /// Fails if the transaction has failed; and if one took too long and the next has `found` no rows: the server is
    /// still at the first one, and keeps its rows locked.
    pub(crate) fn ended<DB: Driver, T>(
        &mut self,
        result: DbResult<T>,
        found: impl Fn(&T) -> bool,
    ) -> DbResult<Option<T>> {
        let tried = self.found.take().unwrap_or(u64::MAX).min(self.rows);
        match (result, self.too_long.take()) {
            (Err(error), _) if tried > 1 && takes_too_long::<DB>(&error) => {
                self.rows = tried / 2;
                self.too_long = Some(error);
                Ok(None)
            }
            (Ok(result), Some(error)) if !found(&result) => Err(error),
            (result, _) => result.map(Some),
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::database::renewable::{no_answer, unknown_commit};

    fn ended(size: &mut BatchSize, result: DbResult<u64>) -> DbResult<Option<u64>> {
        size.ended::<sqlx::Sqlite, _>(result, |rows| *rows > 0)
    }

    fn too_long() -> DbResult<u64> {
        Err(no_answer(Duration::from_secs(15)))
    }

    #[test]
    fn a_transaction_that_takes_too_long_is_tried_with_the_half_down_to_one_row() {
        let mut size = BatchSize::of(5);
        for rows in [2, 1] {
            assert!(ended(&mut size, too_long()).unwrap().is_none());
            assert_eq!(size.rows(), rows);
        }
        assert!(
            ended(&mut size, too_long()).is_err(),
            "one row is the least"
        );
        assert_eq!(ended(&mut size, Ok(1)).unwrap(), Some(1));
        assert_eq!(size.rows(), 1, "what comes is as large");
    }

    #[test]
    fn it_is_halved_from_what_was_found() {
        let mut size = BatchSize::of(100);
        size.found(3);
        assert!(ended(&mut size, too_long()).unwrap().is_none());
        assert_eq!(size.rows(), 1);

        let mut size = BatchSize::of(100);
        size.found(1);
        assert!(ended(&mut size, too_long()).is_err());
        assert_eq!(size.rows(), 100);
    }

    #[test]
    fn rows_that_an_abandoned_transaction_keeps_locked_are_no_end() {
        let mut size = BatchSize::of(100);
        assert!(ended(&mut size, too_long()).unwrap().is_none());
        assert!(ended(&mut size, Ok(0)).is_err());

        let mut size = BatchSize::of(100);
        assert!(ended(&mut size, too_long()).unwrap().is_none());
        assert_eq!(ended(&mut size, Ok(50)).unwrap(), Some(50));
        assert_eq!(ended(&mut size, Ok(0)).unwrap(), Some(0), "the end");
    }

    #[test]
    fn a_commit_without_an_answer_is_not_tried_again() {
        let mut size = BatchSize::of(100);

        assert!(ended(&mut size, Err(unknown_commit())).is_err());
        assert_eq!(size.rows(), 100);
    }

    #[test]
    fn other_errors_are_told_at_once() {
        let mut size = BatchSize::of(100);

        assert!(ended(&mut size, Err(sqlx::Error::RowNotFound)).is_err());
        assert_eq!(size.rows(), 100);
    }
}
