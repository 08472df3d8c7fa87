//! Makes the tables of the state.
//!
//! Input: a database. Output: all tables, or whether those that are there are of an earlier state of the release. Nothing
//! carries these along: nothing was released with them, and what differs is found again.

use final_core::database::{DbResult, Driver, Tables, migrate};

use super::{SqlState, schema};

impl<DB: Driver> SqlState<DB> {
    /// Makes all tables; those of this version stay as they are. False if those that are there are of an earlier state.
    pub(crate) async fn make_tables(&self) -> DbResult<bool> {
        if self.in_time(self.has_earlier_tables()).await? {
            return Ok(false);
        }
        let statements = schema::statements(DB::DIALECT);
        let tables = Tables {
            name: schema::NAME,
            version: schema::VERSION,
            statements: &statements,
        };
        migrate(&self.pool(), &tables).await.map(|()| true)
    }

    /// Whether a table is there that lacks a column.
    async fn has_earlier_tables(&self) -> DbResult<bool> {
        let mut conn = self.pool().acquire().await?;
        for (table, column) in schema::NEWEST {
            let columns = DB::columns(&mut conn, table).await?;
            if !columns.is_empty() && !columns.iter().any(|name| name == column) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What is wrong with tables of an earlier state, and what to do.
pub(crate) fn of_an_earlier_state() -> String {
    format!(
        "an earlier state of 0.1.0 has made them. End all reconcilers that use them, run these statements, and start again: \
         {} A sweep or a comparison finds the rows again that still differ",
        schema::removal()
    )
}
