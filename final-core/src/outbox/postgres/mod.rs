//! The outbox in PostgreSQL.

mod claim;
mod error;
mod insert;
mod inspect;
mod pool;
mod schema;
mod settle;
mod statements;

use std::time::Duration;

use sqlx::{Pool, Postgres, Transaction};
use uuid::Uuid;

use self::statements::Statements;
pub(crate) use self::{
    pool::{current_schema, own_pool},
    statements::quoted,
};
use super::{
    Backlog, Claimed, DbResult, Dialect, FailedRecord, NewRecord, Record, StartupLock,
    claims::{Claims, Due, Gap, Stretch},
};
use crate::names::ServiceName;

dialect!(Postgres);
