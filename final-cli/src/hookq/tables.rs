//! hookq's two tables.
//!
//! Input: their names, a client. Output: where the client's cursor is, what lies behind it, rows, a cursor that was
//! moved. hookq itself uses MySQL or MariaDB; tables of the same form are read on PostgreSQL and SQLite too.

use std::fmt;

use final_core::{
    OutboxDatabase,
    database::{DbResult, Dialect, FromRow, Templates, Value, columns, read},
};
use sqlx::Pool;

use super::{BATCH_BYTES, BATCH_ROWS, TopicRow};
use crate::exit::Failure;

/// The name of a table, with its schema if one was given. hookq takes both forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    schema: Option<String>,
    table: String,
}

impl std::str::FromStr for TableName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let parts: Vec<&str> = text.split('.').map(|part| part.trim_matches('`')).collect();
        if parts
            .iter()
            .any(|part| part.is_empty() || part.contains(['\0', '`', '"']))
        {
            return Err("write the name of a table, as topic_orders or queues.topic_orders");
        }
        match parts[..] {
            [table] => Ok(Self {
                schema: None,
                table: table.to_owned(),
            }),
            [schema, table] => Ok(Self {
                schema: Some(schema.to_owned()),
                table: table.to_owned(),
            }),
            _ => Err("write the name of a table, as topic_orders or queues.topic_orders"),
        }
    }
}

impl TableName {
    /// The name for a statement. `selected` is the schema of the connection, quoted and with its dot.
    fn quoted(&self, dialect: Dialect, selected: &str) -> String {
        let schema = match &self.schema {
            Some(schema) => format!("{}.", dialect.quoted(schema)),
            None => selected.to_owned(),
        };
        format!("{schema}{}", dialect.quoted(&self.table))
    }

    /// The name with its schema, always the same for one table.
    fn full(&self, selected: &str) -> String {
        let selected = selected.trim_end_matches('.').trim_matches(['`', '"']);
        format!(
            "{}.{}",
            self.schema.as_deref().unwrap_or(selected),
            self.table
        )
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.table),
            None => f.write_str(&self.table),
        }
    }
}

columns! {
    /// A row of a topic without its payload.
    struct SizeRow {
        id: i64,
        size: i64,
    }
}

columns! {
    struct BacklogRow {
        messages: i64,
        bytes: i64,
        last: Option<i64>,
    }
}

/// What lies behind a cursor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) messages: i64,
    pub(crate) bytes: i64,
    /// The last id. `None` if there is nothing.
    pub(crate) last: Option<i64>,
}

/// A topic of hookq, and one of its clients.
pub(crate) struct Hookq<DB: OutboxDatabase> {
    pub(super) pool: Pool<DB>,
    pub(super) topic: TableName,
    pub(super) client: String,
    /// The topic table with its schema, which the ids of messages depend on.
    pub(super) full_name: String,
    cursor: TableName,
    templates: Templates,
}

impl<DB: OutboxDatabase> Hookq<DB> {
    pub(crate) async fn new(
        pool: Pool<DB>,
        topic: TableName,
        cursor: TableName,
        client: String,
    ) -> Result<Self, Failure> {
        let server = async { DB::server(&mut *pool.acquire().await?).await };
        let server = server
            .await
            .map_err(|error| Failure::doing("the server cannot be asked", &error))?;
        let (clock, text) = match DB::DIALECT {
            Dialect::Postgres => ("LOCALTIMESTAMP", "text"),
            Dialect::MySql => ("UTC_TIMESTAMP()", "CHAR"),
            Dialect::Sqlite => ("CURRENT_TIMESTAMP", "TEXT"),
        };
        // Waits for a producer that has a row open, and keeps the next one out until the batch is committed. Without
        // it a row that commits late would be passed over, as hookq itself does.
        let wait = match DB::DIALECT {
            Dialect::MySql => "LOCK IN SHARE MODE",
            Dialect::Postgres | Dialect::Sqlite => "",
        };
        let names = [
            ("topic", topic.quoted(DB::DIALECT, &server.schema)),
            ("cursor", cursor.quoted(DB::DIALECT, &server.schema)),
            ("clock", clock.to_owned()),
            ("text", text.to_owned()),
            ("wait", wait.to_owned()),
        ];
        Ok(Self {
            full_name: topic.full(&server.schema),
            templates: Templates::new(DB::DIALECT, names),
            pool,
            topic,
            client,
            cursor,
        })
    }

    /// Where the client's cursor is. `None` if hookq has never written it.
    pub(crate) async fn cursor(&self) -> Result<Option<i64>, Failure> {
        let mut conn = self
            .pool
            .acquire()
            .await
            .map_err(|error| read_failed(self, &error))?;
        let sql = "SELECT sid FROM {cursor} WHERE cid = ?";
        let sids = self.read::<i64>(&mut conn, sql, &[self.client()]).await;
        let sids = sids.map_err(|error| self.no_cursors(&error))?;
        Ok(sids.first().copied())
    }

    /// The same inside a transaction, in which nobody else moves it.
    pub(super) async fn lock_cursor(
        &self,
        conn: &mut DB::Connection,
    ) -> Result<Option<i64>, Failure> {
        let sql = "SELECT sid FROM {cursor} WHERE cid = ? {lock}";
        let sids = self.read::<i64>(conn, sql, &[self.client()]).await;
        let sids = sids.map_err(|error| self.no_cursors(&error))?;
        Ok(sids.first().copied())
    }

    /// Moves the cursor, or writes it for the first time.
    pub(super) async fn move_cursor(
        &self,
        conn: &mut DB::Connection,
        before: Option<i64>,
        to: i64,
    ) -> Result<(), Failure> {
        let sql = match before {
            Some(_) => "UPDATE {cursor} SET sid = ?, updated_at = {clock} WHERE cid = ?",
            None => "INSERT INTO {cursor} (sid, cid, updated_at) VALUES (?, ?, {clock})",
        };
        let values = [to.into(), self.client()];
        let moved = DB::run_sql(conn, &self.templates.sql(sql), &values).await;
        match moved {
            Ok(1) => Ok(()),
            Ok(rows) => Err(Failure::Failed(format!(
                "writing the cursor of client {:?} changed {rows} rows of {} in place of one; look at the table's \
                 triggers. Nothing of this batch was copied",
                self.client, self.cursor
            ))),
            Err(error) => Err(self.no_cursors(&error)),
        }
    }

    /// Some of the clients that have a cursor.
    pub(crate) async fn clients(&self) -> Result<Vec<String>, Failure> {
        let mut conn = self
            .pool
            .acquire()
            .await
            .map_err(|error| read_failed(self, &error))?;
        let sql = "SELECT cid FROM {cursor} ORDER BY cid LIMIT 20";
        let clients = self.read::<String>(&mut conn, sql, &[]).await;
        clients.map_err(|error| self.no_cursors(&error))
    }

    /// What lies behind a cursor.
    pub(crate) async fn backlog(&self, after: i64) -> Result<Backlog, Failure> {
        let mut conn = self
            .pool
            .acquire()
            .await
            .map_err(|error| read_failed(self, &error))?;
        // The columns that the copies need are named, so that a table of another form is told before anything is done.
        let sql = "SELECT COUNT(*) AS messages, CAST(COALESCE(SUM(OCTET_LENGTH(data)), 0) AS {int}) AS bytes, \
                MAX(id) AS last, COUNT(p) AS protocols, COUNT(created_at) AS times \
            FROM {topic} WHERE id > ?";
        let rows = self
            .read::<BacklogRow>(&mut conn, sql, &[after.into()])
            .await;
        let rows = rows.map_err(|error| read_failed(self, &error))?;
        let backlog = rows.first().map(|row| Backlog {
            messages: row.messages,
            bytes: row.bytes,
            last: row.last,
        });
        Ok(backlog.unwrap_or_default())
    }

    /// The next rows after one and up to another, as many as a transaction should have.
    pub(super) async fn rows(
        &self,
        conn: &mut DB::Connection,
        after: i64,
        up_to: i64,
    ) -> Result<Vec<TopicRow>, Failure> {
        let sizes = "SELECT id, CAST(OCTET_LENGTH(data) AS {int}) AS size FROM {topic} \
            WHERE id > ? AND id <= ? ORDER BY id LIMIT ? {wait}";
        let values = [after.into(), up_to.into(), BATCH_ROWS.into()];
        let sizes = self.read::<SizeRow>(conn, sizes, &values);
        let sizes = sizes.await.map_err(|error| read_failed(self, &error))?;
        let mut bytes = 0;
        let fit = sizes.iter().take_while(|row| {
            bytes += row.size;
            bytes <= BATCH_BYTES
        });
        // One row alone always goes.
        let count = fit.count().max(1);
        let Some(last) = sizes.get(..count.min(sizes.len())).and_then(<[_]>::last) else {
            return Ok(Vec::new());
        };
        let rows = "SELECT id, CAST(p AS {int}) AS protocol, data, CAST(created_at AS {text}) AS created_at \
            FROM {topic} WHERE id > ? AND id <= ? ORDER BY id";
        let values = [after.into(), last.id.into()];
        let rows = self.read::<TopicRow>(conn, rows, &values);
        rows.await.map_err(|error| read_failed(self, &error))
    }

    async fn read<T: FromRow>(
        &self,
        conn: &mut DB::Connection,
        template: &str,
        values: &[Value<'_>],
    ) -> DbResult<Vec<T>> {
        read::<DB, T>(conn, &self.templates.sql(template), values).await
    }

    fn client(&self) -> Value<'_> {
        self.client.as_str().into()
    }

    fn no_cursors(&self, error: &sqlx::Error) -> Failure {
        let doing = format!(
            "{} cannot be used as a table of hookq's cursors (columns cid, sid, updated_at)",
            self.cursor
        );
        Failure::doing(doing, error)
    }
}

/// The failure where a topic cannot be read.
pub(super) fn read_failed<DB: OutboxDatabase>(hookq: &Hookq<DB>, error: &sqlx::Error) -> Failure {
    let doing = format!(
        "{} cannot be read as a topic of hookq (columns id, p, data, created_at)",
        hookq.topic
    );
    Failure::doing(doing, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_and_has_at_most_one_dot() {
        let name = |text: &str| text.parse::<TableName>();
        let quoted = |text| name(text).unwrap().quoted(Dialect::MySql, "`shop`.");
        assert_eq!(quoted("topic"), "`shop`.`topic`");
        assert_eq!(quoted("queues.topic"), "`queues`.`topic`");
        assert_eq!(quoted("`queues`.`topic`"), "`queues`.`topic`");
        assert_eq!(quoted("a b; DROP"), "`shop`.`a b; DROP`");
        for wrong in ["", ".", "a.", ".a", "a.b.c", "a`b", "a\"b", "a\0b"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_table_has_one_full_name_however_it_is_called() {
        let full = |text: &str| text.parse::<TableName>().unwrap().full("`shop`.");
        assert_eq!(full("topic"), "shop.topic");
        assert_eq!(full("shop.topic"), "shop.topic");
        assert_eq!(full("other.topic"), "other.topic");
    }
}
