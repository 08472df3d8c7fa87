//! The marks of suspects: which messages a handler has begun, in a table beside the outbox.
//!
//! Input: the identity of a message. State: a row for each suspect whose handler runs, or whose process has ended
//! before the handler did. Output: how often such a message has begun.
//!
//! | column | holds |
//! | --- | --- |
//! | `message_id` | the key: the message's id, or one made of its content if it has none |
//! | `begun` | how often a handler has begun it |
//! | `begun_at` | when that was last, in microseconds since 1970 by the database's clock |
//!
//! Only messages that come again have a mark, so all statements here are rare. They are the same for all
//! databases but for the dialect's words.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use uuid::Uuid;

use super::{Outbox, OutboxDatabase, Table};
use crate::{
    consume::Marks,
    database::{DbResult, Dialect, Server, limits::micros, statement::Statement},
    names::ServiceName,
};

/// The statement that makes the table.
pub(super) fn create_marks(dialect: Dialect, service: &ServiceName) -> String {
    let words = dialect.words();
    let (schema, engine) = match dialect {
        Dialect::Sqlite => ("main.", ""),
        Dialect::Postgres => ("", ""),
        Dialect::MySql => ("", " ENGINE = InnoDB"),
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {schema}{table} (\n  \
           message_id {id} NOT NULL PRIMARY KEY,\n  \
           begun {int} NOT NULL,\n  \
           begun_at {int} NOT NULL\n){engine}",
        table = service.suspects_table(),
        id = words.id_type,
        int = words.int_type,
    )
}

/// The SQL of the table.
#[derive(Debug)]
pub(crate) struct MarkStatements {
    begun: Statement,
    begin_again: Statement,
    begin: Statement,
    end: Statement,
    forget: Statement,
}

impl MarkStatements {
    /// The statements for a service's table on a server.
    pub(super) fn new(dialect: Dialect, server: &Server, service: &ServiceName) -> Self {
        let table = dialect.quoted(&service.suspects_table());
        let (table, now) = (format!("{}{table}", server.schema), dialect.words().now);
        let int = dialect.words().int;
        let sql = |text: String| Statement::new(dialect, &text);
        Self {
            begun: sql(format!(
                "SELECT CAST(begun AS {int}) AS begun FROM {table} WHERE message_id = :id"
            )),
            begin_again: sql(format!(
                "UPDATE {table} SET begun = begun + 1, begun_at = {now} WHERE message_id = :id"
            )),
            begin: sql(format!(
                "INSERT INTO {table} (message_id, begun, begun_at) VALUES (:id, 1, {now})"
            )),
            end: sql(format!("DELETE FROM {table} WHERE message_id = :id")),
            forget: sql(format!("DELETE FROM {table} WHERE begun_at < {now} - :age")),
        }
    }
}

impl<DB: OutboxDatabase> Table<'_, DB> {
    async fn marks(self, id: Uuid) -> DbResult<u32> {
        let id = vec![("id", id.into())];
        let begun: Vec<i64> = self.rows(&self.statements.marks.begun, id).await?;
        let begun = begun.into_iter().next().unwrap_or(0);
        Ok(u32::try_from(begun).unwrap_or(u32::MAX))
    }

    async fn mark(self, id: Uuid) -> DbResult<()> {
        let id = || vec![("id", id.into())];
        let marks = &self.statements.marks;
        if self.run(&marks.begin_again, id()).await? == 0 {
            self.run(&marks.begin, id()).await?;
        }
        Ok(())
    }

    async fn unmark(self, id: Uuid) -> DbResult<()> {
        let id = vec![("id", id.into())];
        self.run(&self.statements.marks.end, id).await?;
        Ok(())
    }

    async fn forget_marks(self, age: Duration) -> DbResult<()> {
        let age = vec![("age", micros(age).into())];
        self.run(&self.statements.marks.forget, age).await?;
        Ok(())
    }
}

impl<DB: OutboxDatabase> Marks for Outbox<DB> {
    fn begun(&self, id: Uuid) -> BoxFuture<'_, DbResult<u32>> {
        async move { self.table()?.marks(id).await }.boxed()
    }

    fn begins(&self, id: Uuid) -> BoxFuture<'_, DbResult<()>> {
        async move { self.table()?.mark(id).await }.boxed()
    }

    fn ended(&self, id: Uuid) -> BoxFuture<'_, DbResult<()>> {
        async move { self.table()?.unmark(id).await }.boxed()
    }

    fn forget(&self, age: Duration) -> BoxFuture<'_, DbResult<()>> {
        async move { self.table()?.forget_marks(age).await }.boxed()
    }
}
