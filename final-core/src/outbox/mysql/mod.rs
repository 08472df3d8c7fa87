//! The outbox in MySQL and MariaDB.

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
    pool::{current_database, is_mariadb, own_pool},
    statements::quoted,
};
use super::{
    Backlog, Claimed, DbResult, Dialect, FailedRecord, NewRecord, Record, StartupLock,
    claims::{Claims, Due, Gap, Stretch},
};
use crate::names::ServiceName;

dialect!(MySql);
