//! The outbox in SQLite.

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

use sqlx::{Pool, Sqlite, Transaction};
use uuid::Uuid;

use self::statements::Statements;
pub(crate) use self::{error::Patience, pool::own_pool};
use super::{
    Alone, Backlog, Claimed, Dialect, FailedRecord, NewRecord, Record, StartupLock,
    claims::{Claims, Due, Gap, Stretch},
};
use crate::database::DbResult;
use crate::names::ServiceName;

dialect!(Sqlite);
