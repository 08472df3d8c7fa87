//! The SQL of one outbox in PostgreSQL.
//!
//! Input: the server and the service. Output: [`Statements`].

use super::{ANY, Change, PLAIN, Probe, RecordInserts, Statements};
use crate::{
    database::{Dialect, Server, insert::Insert, lone::OWN_TRANSACTION, statement::Statement},
    message::MSGPACK,
    names::ServiceName,
    outbox::{letters::LetterStatements, marks::MarkStatements, record::Status},
};

/// What the server or the role says about `synchronous_commit` stands: where it is off, an ack can be
/// lost with the server, and the record is sent again. That is a repeat, not a loss.
///
/// Plans are made for the values at hand: a plan for any LIMIT takes a tenth of the table for
/// granted, and the table is empty at one time and has a million rows at another. Without statistics the planner
/// expects a handful of due rows, and would fetch and sort the whole backlog for each claim.
pub(super) const SESSION: &[&str] = &["\
    SET plan_cache_mode = force_custom_plan; \
    SET enable_bitmapscan = off; \
    SET enable_seqscan = off; \
    SET jit = off"];

/// The columns of a claimed record but for its position.
const RECORD: &str = "\
    r.message_id, r.sent_as, r.topic, r.message_key, r.headers, r.payload, r.content_type, r.durable, \
    r.attempts::bigint AS attempts, r.faults::bigint AS faults, \
    (extract(epoch FROM r.expires_at - clock_timestamp()) * 1000000)::bigint AS expires_in";

/// The values of one record that is plain, each a parameter: id, topic, payload, lease, owner.
const ONE_PLAIN: [&str; 5] = ["$1", "$2", "$3", "$4", "$5"];
/// The values of many plain records with one lease. PostgreSQL reads each array into a store of its own, so a
/// statement with fewer arrays is faster.
const MANY_PLAIN: [&str; 5] = ["id", "topic", "payload", "$4", "$5"];
const MANY_PLAIN_FROM: &str =
    "FROM UNNEST($1::uuid[], $2::text[], $3::bytea[]) AS r(id, topic, payload)";

/// The values of many plain records, each with a lease of its own.
const MIXED_PLAIN: [&str; 5] = ["id", "topic", "payload", "available", "owner"];
const MIXED_PLAIN_FROM: &str = "FROM UNNEST($1::uuid[], $2::text[], $3::bytea[], $4::bigint[], $5::uuid[]) \
    AS r(id, topic, payload, available, owner)";

/// The values of one record, each a parameter.
const ONE: [&str; 13] = [
    "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13",
];

/// The values of many records that differ only in id, topic, key, headers and payload.
const ALIKE: [&str; 13] = [
    "id", "topic", "key", "headers", "payload", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13",
];
const ALIKE_FROM: &str = "FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[]) \
    AS r(id, topic, key, headers, payload)";

/// The values of many records that also have ids of their publisher's choice.
const NAMED: [&str; 13] = [
    "id", "topic", "key", "headers", "payload", "sent_as", "$7", "$8", "$9", "$10", "$11", "$12",
    "$13",
];
const NAMED_FROM: &str = "FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::uuid[]) \
    AS r(id, topic, key, headers, payload, sent_as)";

/// The values of many records that can differ in everything.
const MIXED: [&str; 13] = [
    "id",
    "topic",
    "key",
    "headers",
    "payload",
    "sent_as",
    "content_type",
    "durable",
    "expires",
    "status",
    "due",
    "available",
    "owner",
];
const MIXED_FROM: &str = "FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], \
    $6::uuid[], $7::text[], $8::boolean[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::uuid[]) \
    AS r(id, topic, key, headers, payload, sent_as, content_type, durable, expires, status, due, available, \
    owner)";

/// The clock of a statement. Within a statement it stands still, and in the next one it has gone on. `now()`
/// would stand still from the start of the transaction.
const CLOCK: &str = "statement_timestamp()";

/// A number of microseconds since 1970 as a time, and back.
fn at(micros: &str) -> String {
    format!("timestamptz 'epoch' + {micros}::bigint * interval '1 microsecond'")
}

fn micros(at: &str) -> String {
    format!("(extract(epoch FROM {at}) * 1000000)::bigint")
}

/// A condition that is always true. The statement's COMMIT then does not wait for the disk. It is for
/// statements that only lock, and for the end of a claim, which would run out anyway.
const UNFLUSHED: &str = "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'";

/// So many microseconds after the clock of the statement.
fn later(micros: &str) -> String {
    format!("{CLOCK} + {micros}::bigint * interval '1 microsecond'")
}

/// The INSERT of plain records. `from` unpacks arrays into rows, or is the condition of a row that is its own
/// commit.
fn insert_plain(table: &str, values: [&str; 5], from: Option<&str>) -> String {
    let [id, topic, payload, available, owner] = values;
    let (available, pending) = (later(available), Status::Pending as i16);
    let row = format!(
        "{id}, {topic}, {payload}, {available}, {owner}, '{MSGPACK}', TRUE, {pending}, {CLOCK}, {CLOCK}"
    );
    insert(table, PLAIN.0, &row, from)
}

/// The INSERT of any records, with `from` as for plain ones.
fn insert_any(table: &str, values: [&str; 13], from: Option<&str>) -> String {
    let [
        id,
        topic,
        key,
        headers,
        payload,
        sent_as,
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
        "{id}, {topic}, {key}, {headers}, {payload}, {sent_as}, {content_type}, {durable}, {expires}, \
         {status}, {due}, {available}, {owner}, {CLOCK}"
    );
    insert(table, ANY.0, &row, from)
}

fn insert(table: &str, columns: &str, row: &str, from: Option<&str>) -> String {
    match from {
        None => format!("INSERT INTO {table} ({columns}) VALUES ({row})"),
        Some(from) => format!("INSERT INTO {table} ({columns}) SELECT {row} {from}"),
    }
}

/// Times are compared with `clock_timestamp()`, which runs on within a transaction; `now()` stands still at its
/// start. It also changes from row to row, so the planner would not use it as the bound of an index.
/// `(SELECT clock_timestamp())` is evaluated once, and can be such a bound.
pub(super) fn statements(server: Server, service: &ServiceName) -> Statements {
    let quoted = |name: String| format!("{}{}", server.schema, Dialect::Postgres.quoted(&name));
    let (t, c) = (quoted(service.table()), quoted(service.claims_table()));
    let sql = |text: String| Statement::new(Dialect::Postgres, &text);
    let inserts = RecordInserts {
        plain: Insert::of_arrays(
            PLAIN.1,
            insert_plain(&t, ONE_PLAIN, None),
            [
                (3, insert_plain(&t, MANY_PLAIN, Some(MANY_PLAIN_FROM))),
                (5, insert_plain(&t, MIXED_PLAIN, Some(MIXED_PLAIN_FROM))),
            ],
        ),
        any: Insert::of_arrays(
            ANY.1,
            insert_any(&t, ONE, None),
            [
                (5, insert_any(&t, ALIKE, Some(ALIKE_FROM))),
                (6, insert_any(&t, NAMED, Some(NAMED_FROM))),
                (13, insert_any(&t, MIXED, Some(MIXED_FROM))),
            ],
        ),
        // A transaction that failed refuses every statement until its end, so there is nothing to guard.
        guarded: None,
        lone_plain: Insert::of_one(PLAIN.1, insert_plain(&t, ONE_PLAIN, Some(OWN_TRANSACTION))),
        lone_any: Insert::of_one(ANY.1, insert_any(&t, ONE, Some(OWN_TRANSACTION))),
    };
    let read_only = Dialect::Postgres.words().read_only;
    let in_claim = "live_until > (SELECT clock_timestamp()) \
            AND (first_at, first_id) <= (available_at, message_id) \
            AND (last_at, last_id) >= (available_at, message_id)";
    // The owner's: by the record's own lease, or by a claim that covers it.
    let mine = format!(
        "WHERE message_id = ANY(:*ids) AND status = 0 \
               AND (claimed_by = :owner AND available_at > clock_timestamp() \
                 OR EXISTS (SELECT 1 FROM {c} WHERE owner = :owner AND {in_claim}))"
    );
    Statements {
        inserts,
        claims: sql(format!(
            "SELECT n.number, {first_at} AS first_at, c.first_id, {last_at} AS last_at, c.last_id \
                 FROM (SELECT coalesce(max(number), 0) AS number FROM {c}) n \
                 LEFT JOIN {c} c ON c.live_until > (SELECT clock_timestamp())",
            first_at = micros("c.first_at"),
            last_at = micros("c.last_at"),
        )),
        // A shared lock: two processes that look at the same time must not pass over each other's records.
        look: sql(format!(
            "SELECT {was} AS position, message_id, octet_length(payload)::bigint AS bytes FROM {t} \
                 WHERE status = 0 AND available_at <= (SELECT clock_timestamp()) AND {UNFLUSHED} \
                   AND (available_at, message_id) > ({after}, :after_id::uuid) \
                   AND (available_at, message_id) < ({before}, :before_id::uuid) \
                 ORDER BY available_at, message_id LIMIT :most FOR SHARE SKIP LOCKED",
            was = micros("available_at"),
            after = at(":after_at"),
            before = at(":before_at"),
        )),
        read: sql(format!(
            "SELECT {RECORD}, {was} AS position FROM {t} r \
                 WHERE status = 0 AND (available_at, message_id) >= ({first}, :first_id::uuid) \
                   AND (available_at, message_id) <= ({last}, :last_id::uuid) \
                 ORDER BY available_at, message_id LIMIT :most",
            was = micros("available_at"),
            first = at(":first_at"),
            last = at(":last_at"),
        )),
        reserve: sql(format!(
            "INSERT INTO {c} (number, owner, live_until, first_at, first_id, last_at, last_id) \
                 SELECT :last::bigint + 1, :owner::uuid, \
                     clock_timestamp() + :lease::bigint * interval '1 microsecond', \
                     {first}, :first_id::uuid, {last}, :last_id::uuid \
                 WHERE (SELECT coalesce(max(number), 0) FROM {c}) = :last \
                 ON CONFLICT (number) DO NOTHING",
            first = at(":first_at"),
            last = at(":last_at"),
        )),
        finish: sql(format!(
            "UPDATE {c} SET live_until = 'epoch' WHERE number = ANY(:*numbers) AND owner = :owner \
                   AND {UNFLUSHED}"
        )),
        forget: sql(format!(
            "DELETE FROM {c} WHERE number <= :number AND live_until <= clock_timestamp()"
        )),
        probe: Probe::Returning(sql(format!(
            "UPDATE {t} r SET status = 0, claimed_by = :owner, \
                     available_at = (SELECT clock_timestamp()) + :lease::bigint * interval '1 microsecond' \
                 FROM (SELECT message_id FROM {t} WHERE status = 1 AND topic = :topic \
                     ORDER BY message_id LIMIT 1 FOR UPDATE SKIP LOCKED) probe \
                 WHERE r.message_id = probe.message_id RETURNING {RECORD}, 0::bigint AS position"
        ))),
        next_due: sql(format!(
            "SELECT (extract(epoch FROM min(due) - clock_timestamp()) * 1000000)::bigint, {read_only} \
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
                 SELECT topic FROM topics WHERE topic IS NOT NULL LIMIT :most"
        )),
        delete: sql(format!("DELETE FROM {t} WHERE message_id = ANY(:*ids)")),
        mark_acked: sql(format!(
            "UPDATE {t} SET status = 2, claimed_by = NULL, sent_at = clock_timestamp(), \
                     acked_at = clock_timestamp() \
                 WHERE message_id = ANY(:*ids) AND status IN (0, 1)"
        )),
        renew: sql(format!(
            "UPDATE {t} SET claimed_by = :owner, \
                     available_at = clock_timestamp() + :lease::bigint * interval '1 microsecond' {mine}"
        )),
        release: sql(format!(
            "UPDATE {t} SET claimed_by = NULL, \
                     available_at = clock_timestamp() + :wait::bigint * interval '1 microsecond' {mine}"
        )),
        put_back: sql(format!(
            "UPDATE {t} SET claimed_by = NULL, attempts = attempts + 1, faults = faults + :fault, \
                     last_error = :error, sent_at = clock_timestamp(), \
                     available_at = clock_timestamp() + :wait::bigint * interval '1 microsecond' {mine}"
        )),
        park: sql(format!(
            "UPDATE {t} SET status = 1, claimed_by = NULL, attempts = attempts + 1, last_error = :error, \
                     sent_at = clock_timestamp() {mine}"
        )),
        unpark: Change::direct(sql(format!(
            "UPDATE {t} SET status = 0, claimed_by = NULL, available_at = clock_timestamp() \
                 WHERE message_id = ANY(ARRAY(SELECT message_id FROM {t} WHERE status = 1 AND topic = :topic \
                     ORDER BY message_id LIMIT :most FOR UPDATE SKIP LOCKED))"
        ))),
        fail: sql(format!(
            "UPDATE {t} SET status = 3, claimed_by = NULL, attempts = attempts + 1, last_error = :error, \
                     sent_at = clock_timestamp() {mine}"
        )),
        failed: sql(format!(
            "SELECT message_id, sent_as, topic, attempts::bigint AS attempts, last_error, \
                     (extract(epoch FROM clock_timestamp() - created_at) * 1000000)::bigint AS age \
                 FROM {t} WHERE status = 3 ORDER BY message_id LIMIT :most"
        )),
        retry_failed: sql(format!(
            "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, \
                     available_at = clock_timestamp() \
                 WHERE message_id = ANY(:*ids) AND status = 3"
        )),
        retry_failed_sent_as: Change::direct(sql(format!(
            "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, \
                     available_at = clock_timestamp() \
                 WHERE sent_as = ANY(:*ids) AND sent_as IS NOT NULL AND status = 3"
        ))),
        retry_some_failed: Change::direct(sql(format!(
            "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, \
                     available_at = clock_timestamp() \
                 WHERE message_id = ANY(ARRAY(SELECT message_id FROM {t} WHERE status = 3 \
                     ORDER BY message_id LIMIT :most FOR UPDATE SKIP LOCKED))"
        ))),
        // Each status is counted in its own partial index, so acked records that are kept are not read.
        backlog: sql(format!(
            "SELECT p.n AS pending, u.n AS unroutable, f.n AS failed, \
                     (extract(epoch FROM clock_timestamp() - LEAST(p.oldest, u.oldest)) * 1000000)::bigint AS oldest \
                 FROM (SELECT count(*) AS n, min(due_at) FILTER (WHERE due_at <= clock_timestamp()) AS oldest \
                           FROM {t} WHERE status = 0) p, \
                      (SELECT count(*) AS n, min(due_at) FILTER (WHERE due_at <= clock_timestamp()) AS oldest \
                           FROM {t} WHERE status = 1) u, \
                      (SELECT count(*) AS n FROM {t} WHERE status = 3) f"
        )),
        purge_acked: Change::direct(sql(format!(
            "DELETE FROM {t} WHERE message_id = ANY(ARRAY(SELECT message_id FROM {t} \
                     WHERE status = 2 \
                       AND acked_at < (SELECT clock_timestamp()) - :age::bigint * interval '1 microsecond' \
                     ORDER BY acked_at LIMIT :most OFFSET :skip FOR UPDATE SKIP LOCKED))"
        ))),
        has_other_leases: sql(format!(
            "SELECT EXISTS (SELECT 1 FROM {t} WHERE status = 0 AND claimed_by <> :owner \
                     AND available_at > (SELECT clock_timestamp())) \
                   OR EXISTS (SELECT 1 FROM {c} WHERE owner <> :owner AND live_until > (SELECT clock_timestamp()))"
        )),
        // Some servers refuse a DELETE without WHERE.
        purge_all: Change::direct(sql(format!("DELETE FROM {t} WHERE true"))),
        marks: MarkStatements::new(Dialect::Postgres, &server, service),
        letters: LetterStatements::new(Dialect::Postgres, &server, service),
        table: t,
        server,
    }
}
