//! Tables of a kind that keeps no promise: unlogged ones of PostgreSQL, and engines of MySQL without transactions.
//!
//! Input: the tables of the bus. Output: a finding for each such table.

use super::{
    finding::{Diagnosis, Finding, Level},
    tables::OurTables,
    ward::Ward,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect, not_transactional},
};

pub(super) const TABLE_UNLOGGED: Diagnosis = Diagnosis::new(
    Level::Error,
    "table_unlogged",
    "PostgreSQL empties the table after a crash, and no standby has its rows",
);

pub(super) const TABLE_NOT_INNODB: Diagnosis = Diagnosis::new(
    Level::Error,
    "table_not_innodb",
    "The table takes part in no transaction: it keeps what is rolled back",
);

const UNLOGGED: &str = "\
    SELECT relname::text FROM pg_catalog.pg_class \
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) \
      AND relkind = 'r' AND relpersistence = 'u' ORDER BY relname";

pub(super) async fn look<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    tables: &OurTables,
) -> DbResult<Vec<Finding>> {
    match DB::DIALECT {
        Dialect::Postgres => {
            let unlogged: Vec<String> = ward.rows(UNLOGGED, &[]).await?;
            let unlogged = unlogged.iter().filter(|table| tables.has(table));
            Ok(unlogged.map(|table| of_unlogged(table)).collect())
        }
        Dialect::MySql => {
            let names: Vec<&str> = tables.names.iter().map(String::as_str).collect();
            let others = not_transactional::<DB>(&mut *ward.own().await?, &names).await?;
            let others = others.iter();
            Ok(others
                .map(|(table, engine)| of_engine(table, engine))
                .collect())
        }
        Dialect::Sqlite => Ok(Vec::new()),
    }
}

fn of_unlogged(table: &str) -> Finding {
    TABLE_UNLOGGED.found(
        format!("the table {table} is unlogged"),
        format!("Run `ALTER TABLE {table} SET LOGGED`"),
    )
}

fn of_engine(table: &str, engine: &str) -> Finding {
    TABLE_NOT_INNODB.found(
        format!("the table {table} has the engine {engine}"),
        format!("Run `ALTER TABLE {table} ENGINE = InnoDB`"),
    )
}
