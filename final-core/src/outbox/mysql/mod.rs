//! The outbox in MySQL and MariaDB.

mod alone;
mod claim;
mod error;
mod insert;
mod inspect;
mod pool;
pub(crate) mod predecessor;
mod schema;
mod settle;
mod statements;

use std::time::Duration;

use sqlx::{MySql, Pool, Transaction};
use uuid::Uuid;

use self::statements::Statements;
pub(crate) use self::{
    error::is_not_alone,
    pool::{current_database, is_mariadb, own_pool},
    statements::{alone, quoted},
};
use super::{
    Alone, Backlog, Claimed, Dialect, FailedRecord, NewRecord, Record, StartupLock,
    claims::{Claims, Due, Gap, Stretch},
};
use crate::database::DbResult;
use crate::names::ServiceName;

dialect!(MySql);

/// What is said to a MySQL, which cannot say whether a transaction is open.
#[cfg(test)]
pub(super) fn statements_of_mysql(schema: &str, service: &ServiceName) -> Statements {
    Statements::new(schema, service, false)
}
