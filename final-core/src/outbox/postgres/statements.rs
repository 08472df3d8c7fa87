//! The SQL of one outbox, with the table's name filled in once.

use std::{fmt, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::{
    database::inserts::{ANY, PLAIN},
    message::MSGPACK,
    names::ServiceName,
    outbox::Status,
};

/// The columns of a claimed record, in the order `row::claimed` reads them. `was` is its place.
const RECORD: &str = "\
    r.message_id, r.topic, r.message_key, r.headers, r.payload, r.content_type, r.durable, \
    r.attempts, r.faults, \
    (extract(epoch FROM r.expires_at - clock_timestamp()) * 1000000)::bigint";

/// The values of one record that is plain, each a parameter: id, topic, payload, lease, owner.
const ONE_PLAIN: [&str; 5] = ["$1", "$2", "$3", "$4", "$5"];
/// Those of many with one lease. Each array is read into a store of its own for the statement, so
/// the fewer there are the better.
const MANY_PLAIN: [&str; 5] = ["id", "topic", "payload", "$4", "$5"];
const MANY_PLAIN_FROM: &str =
    "FROM UNNEST($1::uuid[], $2::text[], $3::bytea[]) AS r(id, topic, payload)";

/// The values of one record, each a parameter.
const ONE: [&str; 12] = [
    "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12",
];

/// The values of records that differ in their messages only.
const ALIKE: [&str; 12] = [
    "id", "topic", "key", "headers", "payload", "$6", "$7", "$8", "$9", "$10", "$11", "$12",
];
const ALIKE_FROM: &str = "FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[]) \
    AS r(id, topic, key, headers, payload)";

/// The values of records that differ in everything.
const MIXED: [&str; 12] = [
    "id",
    "topic",
    "key",
    "headers",
    "payload",
    "content_type",
    "durable",
    "expires",
    "status",
    "due",
    "available",
    "owner",
];
const MIXED_FROM: &str = "FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], \
    $6::text[], $7::boolean[], $8::bigint[], $9::smallint[], $10::bigint[], $11::bigint[], $12::uuid[]) \
    AS r(id, topic, key, headers, payload, content_type, durable, expires, status, due, available, \
    owner)";

/// Where a statement is its own transaction. A transaction begins with the message that binds the
/// statement, which is when the statement's cursor (the one without a name) is made; inside a transaction that
/// was begun before, the two times differ. `txid_current_if_assigned` would not do, because a
/// transaction has no number before it writes.
pub(crate) const ALONE: &str = "WHERE now() = \
    (SELECT creation_time FROM pg_catalog.pg_cursor() WHERE name = '')";

/// The clock of the statement: it stands still within it and not, as `now()` does, from the start of
/// the transaction on.
const CLOCK: &str = "statement_timestamp()";

/// A number of microseconds since 1970 as a time, and back.
fn at(micros: &str) -> String {
    format!("timestamptz 'epoch' + {micros}::bigint * interval '1 microsecond'")
}

fn micros(at: &str) -> String {
    format!("(extract(epoch FROM {at}) * 1000000)::bigint")
}

/// Does not wait until the disk has the statement's COMMIT: for locks, and for the end of a claim, which runs
/// out anyway. Always true.
const UNFLUSHED: &str = "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'";

fn later(micros: &str) -> String {
    format!("{CLOCK} + {micros}::bigint * interval '1 microsecond'")
}

fn insert_plain(table: &str, values: [&str; 5], from: Option<&str>) -> String {
    let [id, topic, payload, available, owner] = values;
    let (available, pending) = (later(available), Status::Pending as i16);
    let row = format!(
        "{id}, {topic}, {payload}, {available}, {owner}, '{MSGPACK}', TRUE, {pending}, {CLOCK}, {CLOCK}"
    );
    insert(table, PLAIN, &row, from)
}

fn insert_any(table: &str, values: [&str; 12], from: Option<&str>) -> String {
    let [
        id,
        topic,
        key,
        headers,
        payload,
        content_type,
        durable,
        expires,
        status,
        due,
        available,
        owner,
    ] = values;
    let (expires, due, available) = (later(expires), later(due), later(available));
    let row = format!(
        "{id}, {topic}, {key}, {headers}, {payload}, {content_type}, {durable}, {expires}, \
         {status}, {due}, {available}, {owner}, {CLOCK}"
    );
    insert(table, ANY, &row, from)
}

fn insert(table: &str, columns: &str, row: &str, from: Option<&str>) -> String {
    match from {
        None => format!("INSERT INTO {table} ({columns}) VALUES ({row})"),
        Some(from) => format!("INSERT INTO {table} ({columns}) SELECT {row} {from}"),
    }
}

pub struct Statements {
    pub(super) table: String,
    pub(super) insert_one_plain: SqlStr,
    pub(super) insert_many_plain: SqlStr,
    pub(super) insert_one: SqlStr,
    pub(super) insert_alike: SqlStr,
    pub(super) insert_mixed: SqlStr,
    pub(super) alone_plain: SqlStr,
    pub(super) alone: SqlStr,
    pub(super) claims: SqlStr,
    pub(in crate::outbox) look: SqlStr,
    pub(super) read: SqlStr,
    pub(super) reserve: SqlStr,
    pub(super) finish: SqlStr,
    pub(super) forget: SqlStr,
    pub(super) claim_parked: SqlStr,
    pub(super) next_due: SqlStr,
    pub(super) parked_topics: SqlStr,
    pub(super) delete: SqlStr,
    pub(super) mark_acked: SqlStr,
    pub(super) renew: SqlStr,
    pub(super) release: SqlStr,
    pub(super) put_back: SqlStr,
    pub(super) park: SqlStr,
    pub(super) unpark: SqlStr,
    pub(super) fail: SqlStr,
    pub(super) failed: SqlStr,
    pub(super) retry_failed: SqlStr,
    pub(super) retry_some_failed: SqlStr,
    pub(super) backlog: SqlStr,
    pub(super) purge_acked: SqlStr,
    pub(super) has_other_leases: SqlStr,
    pub(super) purge_all: SqlStr,
}

impl fmt::Debug for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statements").field(&self.table).finish()
    }
}

/// A name in quotes; quotes within are doubled.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Statements {
    /// `clock_timestamp()` runs on within a transaction, `now()` stands still at its start. Because
    /// it changes from row to row the planner would not use it as the bound of an index; as
    /// `(SELECT clock_timestamp())` it is evaluated once and can be.
    pub(super) fn new(schema: &str, service: &ServiceName) -> Self {
        let t = format!("{}.{}", quoted(schema), quoted(&service.table()));
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        let c = format!("{}.{}", quoted(schema), quoted(&service.claims_table()));
        let in_claim = "live_until > (SELECT clock_timestamp()) \
            AND (first_at, first_id) <= (available_at, message_id) \
            AND (last_at, last_id) >= (available_at, message_id)";
        // Leased by itself, or with a claim.
        let mine = format!(
            "WHERE message_id = ANY($1) AND status = 0 \
               AND (claimed_by = $2 AND available_at > clock_timestamp() \
                 OR EXISTS (SELECT 1 FROM {c} WHERE owner = $2 AND {in_claim}))"
        );
        Self {
            insert_one_plain: sql(insert_plain(&t, ONE_PLAIN, None)),
            insert_many_plain: sql(insert_plain(&t, MANY_PLAIN, Some(MANY_PLAIN_FROM))),
            insert_one: sql(insert_any(&t, ONE, None)),
            insert_alike: sql(insert_any(&t, ALIKE, Some(ALIKE_FROM))),
            insert_mixed: sql(insert_any(&t, MIXED, Some(MIXED_FROM))),
            alone_plain: sql(insert_plain(&t, ONE_PLAIN, Some(ALONE))),
            alone: sql(insert_any(&t, ONE, Some(ALONE))),
            claims: sql(format!(
                "SELECT n.number, {first_at}, c.first_id, {last_at}, c.last_id \
                 FROM (SELECT coalesce(max(number), 0) AS number FROM {c}) n \
                 LEFT JOIN {c} c ON c.live_until > (SELECT clock_timestamp())",
                first_at = micros("c.first_at"),
                last_at = micros("c.last_at"),
            )),
            // A share of a lock: two who look at the same time must not pass over what the other has seen.
            look: sql(format!(
                "SELECT {was}, message_id, octet_length(payload)::bigint FROM {t} \
                 WHERE status = 0 AND available_at <= (SELECT clock_timestamp()) AND {UNFLUSHED} \
                   AND (available_at, message_id) > ({after}, $2::uuid) \
                   AND (available_at, message_id) < ({before}, $4::uuid) \
                 ORDER BY available_at, message_id LIMIT $5 FOR SHARE SKIP LOCKED",
                was = micros("available_at"),
                after = at("$1"),
                before = at("$3"),
            )),
            read: sql(format!(
                "SELECT {RECORD}, {was} FROM {t} r \
                 WHERE status = 0 AND (available_at, message_id) >= ({first}, $2::uuid) \
                   AND (available_at, message_id) <= ({last}, $4::uuid) \
                 ORDER BY available_at, message_id LIMIT $5",
                was = micros("available_at"),
                first = at("$1"),
                last = at("$3"),
            )),
            reserve: sql(format!(
                "INSERT INTO {c} (number, owner, live_until, first_at, first_id, last_at, last_id) \
                 SELECT $1::bigint + 1, $2::uuid, \
                     clock_timestamp() + $3::bigint * interval '1 microsecond', \
                     {first}, $5::uuid, {last}, $7::uuid \
                 WHERE (SELECT coalesce(max(number), 0) FROM {c}) = $1 \
                 ON CONFLICT (number) DO NOTHING",
                first = at("$4"),
                last = at("$6"),
            )),
            finish: sql(format!(
                "UPDATE {c} SET live_until = 'epoch' WHERE number = ANY($1) AND owner = $2 \
                   AND {UNFLUSHED}"
            )),
            forget: sql(format!(
                "DELETE FROM {c} WHERE number <= $1 AND live_until <= clock_timestamp()"
            )),
            claim_parked: sql(format!(
                "UPDATE {t} r SET status = 0, claimed_by = $2, \
                     available_at = (SELECT clock_timestamp()) + $3::bigint * interval '1 microsecond' \
                 FROM (SELECT message_id FROM {t} WHERE status = 1 AND topic = $1 \
                     ORDER BY message_id LIMIT 1 FOR UPDATE SKIP LOCKED) probe \
                 WHERE r.message_id = probe.message_id RETURNING {RECORD}, 0::bigint"
            )),
            next_due: sql(format!(
                "SELECT (extract(epoch FROM min(due) - clock_timestamp()) * 1000000)::bigint \
                 FROM ((SELECT available_at AS due FROM {t} \
                         WHERE status = 0 AND NOT EXISTS (SELECT 1 FROM {c} WHERE {in_claim}) \
                         ORDER BY available_at LIMIT 1) \
                     UNION ALL \
                       (SELECT live_until FROM {c} WHERE live_until > (SELECT clock_timestamp()))) d"
            )),
            // Steps from topic to topic in the index: a million records of one topic are one step.
            parked_topics: sql(format!(
                "WITH RECURSIVE topics AS ( \
                     (SELECT topic FROM {t} WHERE status = 1 ORDER BY topic LIMIT 1) \
                     UNION ALL \
                     SELECT (SELECT n.topic FROM {t} n WHERE n.status = 1 AND n.topic > topics.topic \
                         ORDER BY n.topic LIMIT 1) \
                     FROM topics WHERE topics.topic IS NOT NULL) \
                 SELECT topic FROM topics WHERE topic IS NOT NULL LIMIT $1"
            )),
            delete: sql(format!("DELETE FROM {t} WHERE message_id = ANY($1)")),
            mark_acked: sql(format!(
                "UPDATE {t} SET status = 2, claimed_by = NULL, sent_at = clock_timestamp(), \
                     acked_at = clock_timestamp() \
                 WHERE message_id = ANY($1) AND status IN (0, 1)"
            )),
            renew: sql(format!(
                "UPDATE {t} SET claimed_by = $2, \
                     available_at = clock_timestamp() + $3::bigint * interval '1 microsecond' {mine}"
            )),
            release: sql(format!(
                "UPDATE {t} SET claimed_by = NULL, \
                     available_at = clock_timestamp() + $3::bigint * interval '1 microsecond' {mine}"
            )),
            put_back: sql(format!(
                "UPDATE {t} SET claimed_by = NULL, attempts = attempts + 1, faults = faults + $4, \
                     last_error = $5, sent_at = clock_timestamp(), \
                     available_at = clock_timestamp() + $3::bigint * interval '1 microsecond' {mine}"
            )),
            park: sql(format!(
                "UPDATE {t} SET status = 1, claimed_by = NULL, attempts = attempts + 1, last_error = $3, \
                     sent_at = clock_timestamp() {mine}"
            )),
            unpark: sql(format!(
                "UPDATE {t} SET status = 0, claimed_by = NULL, available_at = clock_timestamp() \
                 WHERE message_id = ANY(ARRAY(SELECT message_id FROM {t} WHERE status = 1 AND topic = $1 \
                     ORDER BY message_id LIMIT $2 FOR UPDATE SKIP LOCKED))"
            )),
            fail: sql(format!(
                "UPDATE {t} SET status = 3, claimed_by = NULL, attempts = attempts + 1, last_error = $3, \
                     sent_at = clock_timestamp() {mine}"
            )),
            failed: sql(format!(
                "SELECT message_id, topic, attempts, last_error, \
                     (extract(epoch FROM clock_timestamp() - created_at) * 1000000)::bigint \
                 FROM {t} WHERE status = 3 ORDER BY message_id LIMIT $1"
            )),
            retry_failed: sql(format!(
                "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, \
                     available_at = clock_timestamp() \
                 WHERE message_id = ANY($1) AND status = 3"
            )),
            retry_some_failed: sql(format!(
                "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, \
                     available_at = clock_timestamp() \
                 WHERE message_id = ANY(ARRAY(SELECT message_id FROM {t} WHERE status = 3 \
                     ORDER BY message_id LIMIT $1 FOR UPDATE SKIP LOCKED))"
            )),
            // One part for each status, so that each is counted in its own index and what is kept
            // as acked is not read.
            backlog: sql(format!(
                "SELECT p.n, u.n, f.n, \
                     (extract(epoch FROM clock_timestamp() - LEAST(p.oldest, u.oldest)) * 1000000)::bigint \
                 FROM (SELECT count(*) AS n, min(due_at) FILTER (WHERE due_at <= clock_timestamp()) AS oldest \
                           FROM {t} WHERE status = 0) p, \
                      (SELECT count(*) AS n, min(due_at) FILTER (WHERE due_at <= clock_timestamp()) AS oldest \
                           FROM {t} WHERE status = 1) u, \
                      (SELECT count(*) AS n FROM {t} WHERE status = 3) f"
            )),
            purge_acked: sql(format!(
                "DELETE FROM {t} WHERE message_id = ANY(ARRAY(SELECT message_id FROM {t} \
                     WHERE status = 2 \
                       AND acked_at < (SELECT clock_timestamp()) - $1::bigint * interval '1 microsecond' \
                     ORDER BY acked_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
            )),
            has_other_leases: sql(format!(
                "SELECT EXISTS (SELECT 1 FROM {t} WHERE status = 0 AND claimed_by <> $1 \
                     AND available_at > (SELECT clock_timestamp())) \
                   OR EXISTS (SELECT 1 FROM {c} WHERE owner <> $1 AND live_until > (SELECT clock_timestamp()))"
            )),
            purge_all: sql(format!("DELETE FROM {t}")),
            table: t,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::quoted;

    proptest! {
        /// As the server reads it: two quotes within are one, and a single one would be the end.
        #[test]
        fn a_quoted_name_ends_where_it_should(name in r#"[a-z;'"` \\é-]{0,20}"#) {
            let quoted = quoted(&name);
            let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let parts: Vec<&str> = inside.expect("quotes around it").split(r#""""#).collect();

            prop_assert!(parts.iter().all(|part| !part.contains('"')), "{}", quoted);
            prop_assert_eq!(parts.join(r#"""#), name);
        }
    }
}
