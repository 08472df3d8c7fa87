//! Settings with which a commit can be undone by a crash.
//!
//! Input: the settings of a session, of its server, and of other roles. Output: a finding for each that is weak, with
//! the place where it is set.

pub(super) mod mysql;
pub(super) mod postgres;
pub(super) mod sqlite;

use super::{finding::Finding, ward::Ward};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect},
};

pub(super) async fn look<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<Vec<Finding>> {
    match DB::DIALECT {
        Dialect::Postgres => postgres::look(ward).await,
        Dialect::MySql => mysql::look(ward).await,
        Dialect::Sqlite => sqlite::look(ward).await,
    }
}
