//! The outbox in PostgreSQL.

mod alone;
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
    error::is_aborted,
    pool::{current_schema, own_pool},
    statements::{ALONE, quoted},
};
use super::{
    Alone, Backlog, Claimed, Dialect, FailedRecord, NewRecord, Record, StartupLock,
    claims::{Claims, Due, Gap, Stretch},
};
use crate::database::DbResult;
use crate::names::ServiceName;

dialect!(Postgres);
