//! The INSERTs of messages, inside the caller's transaction and alone.
//!
//! Input: messages as [`NewRow`]s. State: the texts for plain messages, for all others, and for one message that is
//! its own commit. Output: rows of `final_log`, or of `final_log_scheduled`.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, SqlSafeStr};
use uuid::Uuid;

use super::{
    dialect::{MESSAGE, Texts},
    entry::NewRow,
};
use crate::{
    database::{
        DbResult, Dialect, Driver, Server, Templates, Value,
        insert::{Insert, UTF8, all_written},
        lone::{
            OWN_TRANSACTION, in_transaction, is_not_in_transaction, outside_transaction,
            unless_in_transaction,
        },
        read,
    },
    message::MSGPACK,
};

/// The columns of a plain message, as `publish(topic, &value)` makes it, and how many of them are parameters.
/// Columns that it does not have are left out, and values that are always the same stand in the text.
const PLAIN: (&str, usize) = (
    "message_id, topic, payload, lane, weight, content_type, durable, created_at",
    5,
);

/// The parameters of a message that one group alone gets.
const ADDRESSED: usize = 10;

/// What the INSERT of messages gives whose sequence numbers are asked for.
const NUMBERED: &str = "message_id, seq";

/// The number that the last INSERT of this session has allocated, where an INSERT gives nothing.
const LAST: &str = "SELECT CAST(LAST_INSERT_ID() AS SIGNED)";

/// A condition of a statement on PostgreSQL, which makes the commit of its transaction wait for the disk.
const WAITS_FOR_DISK: &str = "(SELECT set_config('synchronous_commit', 'on', true)) = 'on'";

/// The error of an INSERT that has given other ids than it was given.
const CHANGED: &str = "a trigger or a rule of the table has changed the ids of the rows; remove it";

/// The statements for messages that are due at once, or for messages to be scheduled.
#[derive(Debug)]
pub(crate) struct LogInserts {
    /// For messages that are all plain.
    plain: Insert,
    /// For all other messages, and for scheduled ones.
    any: Insert,
    /// For messages that one group alone gets.
    addressed: Insert,
    /// For messages whose sequence numbers are asked for. Where the server cannot give them, each INSERT is followed
    /// by a question.
    numbered: Insert,
    /// Whether `numbered` gives what it has written.
    returns: bool,
    /// The same INSERTs, of any messages and numbered, for a statement that is its own commit and waits for the disk.
    /// `None` where an INSERT cannot tell whether it is, cannot say that it waits, or gives no numbers.
    durable: Option<(Insert, Insert)>,
    /// For one message whose INSERT is its own commit. `None` if the database cannot tell whether it is.
    lone: Option<(Insert, Insert)>,
    /// Whether the rows go into `final_log_scheduled`.
    scheduled: bool,
    /// Whether the server can say that a transaction is open.
    tells_transactions: bool,
}

impl LogInserts {
    pub(crate) fn new(dialect: Dialect, texts: &Texts, server: &Server, scheduled: bool) -> Self {
        let table = texts.table(if scheduled { "scheduled" } else { "" });
        let make = Maker {
            dialect,
            table: &table,
            scheduled,
        };
        let guarded = in_transaction("?");
        let lane = match server.tells_transactions {
            true => guarded.as_str(),
            false => "?",
        };
        Self {
            plain: make.many(true, lane).within(server),
            any: make.many(false, lane).within(server),
            addressed: make.addressed(lane).within(server),
            numbered: match server.returns {
                true => make.many(false, lane).returning(NUMBERED).within(server),
                false => make.many(false, lane).within(server),
            },
            returns: server.returns,
            durable: make.durable(server),
            lone: make.lone(server),
            scheduled,
            tells_transactions: server.tells_transactions,
        }
    }

    /// Inserts messages by one statement that is its own commit and waits for the disk: as many as one INSERT takes.
    /// Returns their sequence numbers if these are wanted. `None`, and nothing is written, if this database has no such
    /// statement for so many messages, or if it would not be its own commit.
    pub(crate) async fn append_durably<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        entries: &[NewRow<'_>],
        wants_numbers: bool,
    ) -> DbResult<Option<Vec<i64>>> {
        let Some((any, numbered)) = &self.durable else {
            return Ok(None);
        };
        let values = Insert::prepared::<DB>(self.values(entries, false));
        if !any.is_one_statement(&values) {
            return Ok(None);
        }
        let written = match wants_numbers {
            true => Self::numbers_of::<DB>(conn, numbered, entries, &values).await,
            false => any.execute::<DB>(conn, &values).await.map(|()| Vec::new()),
        };
        match written {
            Err(error) if self.tells_transactions && is_not_in_transaction(&error) => Ok(None),
            written => written.map(Some),
        }
    }

    /// Whether many messages can be written by one statement that is its own commit and waits for the disk.
    pub(crate) fn commits_alone(&self) -> bool {
        self.durable.is_some()
    }

    /// Whether the sequence numbers of many messages cost one statement.
    pub(crate) fn returns(&self) -> bool {
        self.returns
    }

    /// Inserts messages: as many as one INSERT takes.
    pub(crate) async fn append<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        entries: &[NewRow<'_>],
    ) -> DbResult<()> {
        let are_plain = !self.scheduled && entries.iter().all(NewRow::is_plain);
        let insert = if are_plain { &self.plain } else { &self.any };
        let values = Insert::prepared::<DB>(self.values(entries, are_plain));
        insert.execute::<DB>(conn, &values).await
    }

    /// Inserts messages: as many as one INSERT takes. Returns their sequence numbers, in their order.
    ///
    /// The server gives the rows of an INSERT in any order, so they are matched by their ids. Several messages of one
    /// id have the numbers of that id in their order.
    pub(crate) async fn append_numbered<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        entries: &[NewRow<'_>],
    ) -> DbResult<Vec<i64>> {
        if !self.returns {
            return self.append_one_by_one::<DB>(conn, entries).await;
        }
        let values = Insert::prepared::<DB>(self.values(entries, false));
        Self::numbers_of::<DB>(conn, &self.numbered, entries, &values).await
    }

    async fn numbers_of<DB: Driver>(
        conn: &mut DB::Connection,
        numbered: &Insert,
        entries: &[NewRow<'_>],
        values: &[Value<'_>],
    ) -> DbResult<Vec<i64>> {
        let mut given = numbered
            .execute_returning::<DB, (Uuid, i64)>(conn, values)
            .await?;
        given.sort_unstable();
        let mut of_id = HashMap::new();
        for (at, (id, _)) in given.iter().enumerate().rev() {
            of_id.insert(*id, at);
        }
        let number = |entry: &NewRow<'_>| {
            let next = of_id.get_mut(&entry.id)?;
            let (id, number) = *given.get(*next)?;
            *next += 1;
            (id == entry.id).then_some(number)
        };
        let numbers: Option<Vec<i64>> = entries.iter().map(number).collect();
        numbers.ok_or_else(|| sqlx::Error::Protocol(CHANGED.to_owned()))
    }

    /// The same for a server whose INSERT gives nothing.
    async fn append_one_by_one<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        entries: &[NewRow<'_>],
    ) -> DbResult<Vec<i64>> {
        let mut numbers = Vec::with_capacity(entries.len());
        for entry in entries {
            let values = self.values(std::slice::from_ref(entry), false);
            let values = Insert::prepared::<DB>(values);
            self.numbered.execute::<DB>(conn, &values).await?;
            let last = AssertSqlSafe(LAST).into_sql_str();
            let last: Vec<i64> = read::<DB, i64>(conn, &last, &[]).await?;
            numbers.extend(last);
        }
        Ok(numbers)
    }

    /// Inserts messages for one group alone: as many as one INSERT takes.
    pub(crate) async fn append_for<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        group: &str,
        entries: &[NewRow<'_>],
    ) -> DbResult<()> {
        let mut values = Vec::with_capacity(entries.len() * ADDRESSED);
        for entry in entries {
            values.extend([
                entry.id.into(),
                entry.topic.into(),
                entry.key.into(),
                entry.headers.as_deref().into(),
                entry.payload.into(),
                entry.content_type.into(),
                entry.durable.into(),
                entry.lane.into(),
                entry.weight.into(),
                group.into(),
            ]);
        }
        let values = Insert::prepared::<DB>(values);
        self.addressed.execute::<DB>(conn, &values).await
    }

    /// Inserts one message by a statement that is its own commit. False, and nothing is written, if it would
    /// not be its own commit, or if no statement of this database can tell.
    pub(crate) async fn append_alone<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        entry: &NewRow<'_>,
    ) -> DbResult<bool> {
        let Some((plain, any)) = &self.lone else {
            return Ok(false);
        };
        let is_plain = !self.scheduled && entry.is_plain();
        let insert = if is_plain { plain } else { any };
        let values = self.values(std::slice::from_ref(entry), is_plain);
        let values = Insert::prepared::<DB>(values);
        match insert.execute_one::<DB>(conn, &values).await {
            // MariaDB refuses the row if it would not be committed, so a missing row was kept out by a trigger.
            Ok(written) if self.tells_transactions => all_written(written, 1).map(|()| true),
            Ok(written) => Ok(written == 1),
            Err(error) if DB::is_not_alone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The values of all rows, row after row, in the order of the parameters.
    fn values<'a>(&self, entries: &'a [NewRow<'_>], are_plain: bool) -> Vec<Value<'a>> {
        let mut values = Vec::with_capacity(entries.len() * if are_plain { 5 } else { 11 });
        for entry in entries {
            values.extend([entry.id.into(), entry.topic.into()]);
            if are_plain {
                values.push(entry.payload.into());
                values.extend([entry.lane.into(), entry.weight.into()]);
                continue;
            }
            values.extend([
                entry.key.into(),
                entry.headers.as_deref().into(),
                entry.payload.into(),
                entry.content_type.into(),
                entry.durable.into(),
                entry.lane.into(),
                entry.weight.into(),
                entry.expires_in.into(),
            ]);
            if self.scheduled {
                values.push(entry.due_in.into());
            }
        }
        values
    }
}

/// Renders the INSERTs into one table.
struct Maker<'a> {
    dialect: Dialect,
    table: &'a str,
    scheduled: bool,
}

impl Maker<'_> {
    /// How many parameters a row has.
    fn parameters(&self, plain: bool) -> usize {
        match plain {
            true => PLAIN.1,
            false => 10 + usize::from(self.scheduled),
        }
    }

    /// The beginning of an INSERT, and the values of one row.
    fn row(&self, plain: bool, lane: &str) -> (String, String) {
        let now = self.dialect.words().now;
        let text = match self.dialect {
            Dialect::MySql => UTF8,
            Dialect::Postgres | Dialect::Sqlite => "?",
        };
        let any = format!("?, {text}, {text}, {text}, ?, {text}, ?, {lane}, ?, {now} + ?, {now}");
        let (columns, row) = match (plain, self.scheduled) {
            (true, _) => (
                PLAIN.0.to_owned(),
                format!("?, {text}, ?, {lane}, ?, '{MSGPACK}', 1, {now}"),
            ),
            (false, false) => (format!("{MESSAGE}, expires_at, created_at"), any),
            (false, true) => (
                format!("{MESSAGE}, expires_at, created_at, due_at"),
                format!("{any}, {now} + ?"),
            ),
        };
        (format!("INSERT INTO {} ({columns})", self.table), row)
    }

    /// The INSERT of any number of rows.
    fn many(&self, plain: bool, lane: &str) -> Insert {
        let parameters = self.parameters(plain);
        let (into, row) = self.row(plain, lane);
        match self.dialect {
            Dialect::Postgres => Insert::of_arrays(
                parameters,
                numbered(&format!("{into} VALUES ({row})")),
                [(parameters, self.arrays(plain))],
            ),
            Dialect::MySql | Dialect::Sqlite => {
                Insert::of_rows(parameters, &format!("{into} VALUES "), &format!("({row})"))
            }
        }
    }

    /// The INSERTs of a statement that is its own commit and waits for the disk, whatever its session says.
    ///
    /// On MariaDB the server's settings say whether a COMMIT waits for the disk, and that of a transaction waits no longer
    /// than that of one statement.
    fn durable(&self, server: &Server) -> Option<(Insert, Insert)> {
        let parameters = self.parameters(false);
        match self.dialect {
            Dialect::Postgres => {}
            Dialect::MySql if server.tells_transactions && server.returns => {
                let (into, row) = self.row(false, &outside_transaction("?"));
                let (into, row) = (format!("{into} VALUES "), format!("({row})"));
                let make = || Insert::of_rows(parameters, &into, &row);
                let numbered = make().returning(NUMBERED).within(server);
                return Some((make().within(server), numbered));
            }
            Dialect::MySql | Dialect::Sqlite => return None,
        }
        let (into, row) = self.row(false, "?");
        let many = self.arrays(false).replacen(
            "AS clock)",
            &format!("AS clock WHERE {WAITS_FOR_DISK})"),
            1,
        );
        let make = || {
            Insert::of_arrays(
                parameters,
                numbered(&format!("{into} SELECT {row} WHERE {WAITS_FOR_DISK}")),
                [(parameters, many.clone())],
            )
        };
        Some((make(), make().returning(NUMBERED)))
    }

    /// The INSERT of messages for one group alone.
    fn addressed(&self, lane: &str) -> Insert {
        let (table, now) = (self.table, self.dialect.words().now);
        let text = match self.dialect {
            Dialect::MySql => UTF8,
            Dialect::Postgres | Dialect::Sqlite => "?",
        };
        let row = format!("?, {text}, {text}, {text}, ?, {text}, ?, {lane}, ?, {text}, {now}");
        let into = format!("INSERT INTO {table} ({MESSAGE}, recipient, created_at)");
        match self.dialect {
            Dialect::Postgres => Insert::of_arrays(
                ADDRESSED,
                numbered(&format!("{into} VALUES ({row})")),
                // The group is the same in all rows.
                [(
                    ADDRESSED - 1,
                    format!(
                        "WITH c AS MATERIALIZED (SELECT {now} AS clock) \
                         {into} \
                         SELECT id, topic, key, headers, payload, content_type, durable, lane, weight, \
                             $10::text, clock \
                         FROM c, UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], \
                             $6::text[], $7::bigint[], $8::bigint[], $9::bigint[]) \
                         AS r(id, topic, key, headers, payload, content_type, durable, lane, weight)"
                    ),
                )],
            ),
            Dialect::MySql | Dialect::Sqlite => {
                Insert::of_rows(ADDRESSED, &format!("{into} VALUES "), &format!("({row})"))
            }
        }
    }

    /// The INSERTs of one row that is its own commit, plain and any. `None` if no statement can tell.
    fn lone(&self, server: &Server) -> Option<(Insert, Insert)> {
        let make = |plain| {
            let (into, row) = self.row(plain, "?");
            let text = match self.dialect {
                Dialect::Postgres => numbered(&format!("{into} SELECT {row} {OWN_TRANSACTION}")),
                Dialect::MySql if server.tells_transactions => {
                    let (into, row) = self.row(plain, &unless_in_transaction("?"));
                    format!("{into} VALUES ({row})")
                }
                Dialect::MySql | Dialect::Sqlite => return None,
            };
            Some(Insert::of_one(self.parameters(plain), text).within(server))
        };
        Some((make(true)?, make(false)?))
    }

    /// The columns are sent as arrays. The server unpacks each into a store of its own, so few columns are better.
    fn arrays(&self, plain: bool) -> String {
        let (table, now) = (self.table, self.dialect.words().now);
        if plain {
            return format!(
                "WITH c AS MATERIALIZED (SELECT {now} AS clock) \
                 INSERT INTO {table} ({}) \
                 SELECT id, topic, payload, lane, weight, '{MSGPACK}', 1, clock \
                 FROM c, UNNEST($1::uuid[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[]) \
                 AS r(id, topic, payload, lane, weight)",
                PLAIN.0
            );
        }
        let (due, array, given, value) = match self.scheduled {
            true => (", due_at", ", $11::bigint[]", ", due", ", clock + due"),
            false => ("", "", "", ""),
        };
        format!(
            "WITH c AS MATERIALIZED (SELECT {now} AS clock) \
             INSERT INTO {table} ({MESSAGE}, expires_at, created_at{due}) \
             SELECT id, topic, key, headers, payload, content_type, durable, lane, weight, \
                 clock + expires, clock{value} \
             FROM c, UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], \
                 $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[]{array}) \
             AS r(id, topic, key, headers, payload, content_type, durable, lane, weight, expires{given})"
        )
    }
}

/// Numbers the placeholders, as PostgreSQL wants them.
fn numbered(text: &str) -> String {
    Templates::new(Dialect::Postgres, [])
        .sql(text)
        .as_str()
        .to_owned()
}
