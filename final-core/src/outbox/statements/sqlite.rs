//! The SQL of one outbox in SQLite.
//!
//! Input: the server and the service. Output: [`Statements`]. The table has milliseconds, and the calls give
//! and take microseconds, so each text converts them.

use super::{ANY, Change, PLAIN, Probe, RecordInserts, Statements};
use crate::{
    database::{Dialect, Server, insert::Insert, statement::Statement},
    message::MSGPACK,
    names::ServiceName,
    outbox::{letters::LetterStatements, marks::MarkStatements, record::Status},
};

/// The driver says all that is needed.
pub(super) const SESSION: &[&str] = &[];

/// The running clock, in milliseconds since 1970. Within one statement it stands still.
pub(super) const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// A length of time in the unit of the table, rounded up so that nothing is due too early.
fn millis(micros: &str) -> String {
    format!("({micros} + 999) / 1000")
}

/// The INSERTs for plain rows and for any.
fn inserts(table: &str) -> (Insert, Insert) {
    let pending = Status::Pending as i16;
    let later = format!("{NOW} + {}", millis("?"));
    let plain = format!("(?, ?, ?, {later}, ?, '{MSGPACK}', 1, {pending}, {NOW}, {NOW})");
    let any = format!("(?, ?, ?, ?, ?, ?, ?, ?, {later}, ?, {later}, {later}, ?, {NOW})");
    (
        Insert::of_rows(
            PLAIN.1,
            &format!("INSERT INTO {table} ({}) VALUES ", PLAIN.0),
            &plain,
        ),
        Insert::of_rows(
            ANY.1,
            &format!("INSERT INTO {table} ({}) VALUES ", ANY.0),
            &any,
        ),
    )
}

/// A list of ids or numbers goes as one JSON text, so there is one statement for lists of any length.
pub(super) fn statements(server: Server, service: &ServiceName) -> Statements {
    let quoted = |name: String| format!("{}{}", server.schema, Dialect::Sqlite.quoted(&name));
    let (t, c) = (quoted(service.table()), quoted(service.claims_table()));
    let sql = |text: String| Statement::new(Dialect::Sqlite, &text);
    let ((plain, any), (lone_plain, lone_any)) = (inserts(&t), inserts(&t));
    let inserts = RecordInserts {
        plain,
        any,
        // A transaction that failed is still open, and COMMIT decides, so there is nothing to guard.
        guarded: None,
        // Never used: no INSERT can tell whether it commits.
        lone_plain,
        lone_any,
    };
    let (lease, wait, age) = (millis(":lease"), millis(":wait"), millis(":age"));
    let listed = "message_id IN (SELECT unhex(value) FROM json_each(:*ids))";
    let read_only = Dialect::Sqlite.words().read_only;
    let in_claim = format!(
        "live_until > {NOW} AND (first_at, first_id) <= (available_at, message_id) \
             AND (last_at, last_id) >= (available_at, message_id)"
    );
    // The owner's: by the record's own lease, or by a claim that covers it.
    let mine = format!(
        "WHERE {listed} AND status = 0 AND (claimed_by = :owner AND available_at > {NOW} \
               OR EXISTS (SELECT 1 FROM {c} WHERE owner = :owner AND {in_claim}))"
    );
    let record = format!(
        "message_id, sent_as, topic, message_key, headers, payload, content_type, durable, attempts, faults, \
             (expires_at - {NOW}) * 1000 AS expires_in, available_at * 1000 AS position"
    );
    Statements {
        inserts,
        claims: sql(format!(
            "SELECT n.number AS number, c.first_at * 1000 AS first_at, c.first_id AS first_id, \
                     c.last_at * 1000 AS last_at, c.last_id AS last_id \
                 FROM (SELECT ifnull(max(number), 0) AS number FROM {c}) n \
                 LEFT JOIN {c} c ON c.live_until > {NOW}"
        )),
        look: sql(format!(
            "SELECT available_at * 1000 AS position, message_id, length(payload) AS bytes FROM {t} \
                 WHERE status = 0 AND available_at <= {NOW} \
                   AND (available_at, message_id) > (:after_at / 1000, :after_id) AND (available_at, message_id) < (:before_at / 1000, :before_id) \
                 ORDER BY available_at, message_id LIMIT :most"
        )),
        read: sql(format!(
            "SELECT {record} FROM {t} WHERE status = 0 \
                   AND (available_at, message_id) >= (:first_at / 1000, :first_id) AND (available_at, message_id) <= (:last_at / 1000, :last_id) \
                 ORDER BY available_at, message_id LIMIT :most"
        )),
        reserve: sql(format!(
            "INSERT INTO {c} (number, owner, live_until, first_at, first_id, last_at, last_id) \
                 SELECT :last + 1, :owner, {NOW} + {lease}, \
                     :first_at / 1000, :first_id, :last_at / 1000, :last_id \
                 WHERE (SELECT ifnull(max(number), 0) FROM {c}) = :last"
        )),
        finish: sql(format!(
            "UPDATE {c} SET live_until = 0 \
                 WHERE number IN (SELECT value FROM json_each(:*numbers)) AND owner = :owner"
        )),
        forget: sql(format!(
            "DELETE FROM {c} WHERE number <= :number AND live_until <= {NOW}"
        )),
        // SQLite has one writer at a time. So it is asked first if there is such a record, and only then for
        // the lock of the writer.
        probe: Probe::Checked {
            any: sql(format!(
                "SELECT EXISTS (SELECT 1 FROM {t} WHERE status = 1 AND topic = :topic)"
            )),
            lease: sql(format!(
                "UPDATE {t} SET status = 0, claimed_by = :owner, available_at = {NOW} + {lease} \
                     WHERE message_id = (SELECT message_id FROM {t} WHERE status = 1 AND topic = :topic \
                         ORDER BY message_id LIMIT 1) \
                     RETURNING {record}"
            )),
        },
        next_due: sql(format!(
            "SELECT (min(due) - {NOW}) * 1000, {read_only} \
                 FROM (SELECT * FROM (SELECT available_at AS due FROM {t} \
                         WHERE status = 0 AND NOT EXISTS (SELECT 1 FROM {c} WHERE {in_claim}) \
                         ORDER BY available_at LIMIT 1) \
                     UNION ALL \
                       SELECT live_until FROM {c} WHERE live_until > {NOW})"
        )),
        // Steps from topic to topic in the index: a million records of one topic are one step.
        parked_topics: sql(format!(
            "WITH RECURSIVE topics(topic) AS ( \
                     SELECT min(topic) FROM {t} WHERE status = 1 \
                     UNION ALL \
                     SELECT (SELECT min(n.topic) FROM {t} n WHERE n.status = 1 AND n.topic > topics.topic) \
                     FROM topics WHERE topics.topic IS NOT NULL) \
                 SELECT topic FROM topics WHERE topic IS NOT NULL LIMIT :most"
        )),
        delete: sql(format!("DELETE FROM {t} WHERE {listed}")),
        mark_acked: sql(format!(
            "UPDATE {t} SET status = 2, claimed_by = NULL, sent_at = {NOW}, acked_at = {NOW} \
                 WHERE {listed} AND status IN (0, 1)"
        )),
        renew: sql(format!(
            "UPDATE {t} SET claimed_by = :owner, available_at = {NOW} + {lease} {mine}"
        )),
        release: sql(format!(
            "UPDATE {t} SET claimed_by = NULL, available_at = {NOW} + {wait} {mine}"
        )),
        put_back: sql(format!(
            "UPDATE {t} SET claimed_by = NULL, attempts = attempts + 1, faults = faults + :fault, \
                     last_error = :error, sent_at = {NOW}, available_at = {NOW} + {wait} {mine}"
        )),
        park: sql(format!(
            "UPDATE {t} SET status = 1, claimed_by = NULL, attempts = attempts + 1, last_error = :error, \
                     sent_at = {NOW} {mine}"
        )),
        unpark: Change::direct(sql(format!(
            "UPDATE {t} SET status = 0, claimed_by = NULL, available_at = {NOW} \
                 WHERE message_id IN (SELECT message_id FROM {t} WHERE status = 1 AND topic = :topic \
                     ORDER BY message_id LIMIT :most)"
        ))),
        fail: sql(format!(
            "UPDATE {t} SET status = 3, claimed_by = NULL, attempts = attempts + 1, last_error = :error, \
                     sent_at = {NOW} {mine}"
        )),
        failed: sql(format!(
            "SELECT message_id, sent_as, topic, attempts, last_error, ({NOW} - created_at) * 1000 AS age \
                 FROM {t} WHERE status = 3 ORDER BY message_id LIMIT :most"
        )),
        retry_failed: sql(format!(
            "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, available_at = {NOW} \
                 WHERE {listed} AND status = 3"
        )),
        retry_failed_sent_as: Change::direct(sql(format!(
            "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, available_at = {NOW} \
                 WHERE sent_as IN (SELECT unhex(value) FROM json_each(:*ids)) AND sent_as IS NOT NULL AND status = 3"
        ))),
        retry_some_failed: Change::direct(sql(format!(
            "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, available_at = {NOW} \
                 WHERE message_id IN (SELECT message_id FROM {t} WHERE status = 3 \
                     ORDER BY message_id LIMIT :most)"
        ))),
        backlog: sql(format!(
            "SELECT p.n AS pending, u.n AS unroutable, f.n AS failed, \
                     ({NOW} - min(ifnull(p.oldest, u.oldest), ifnull(u.oldest, p.oldest))) * 1000 AS oldest \
                 FROM (SELECT count(*) AS n, min(due_at) FILTER (WHERE due_at <= {NOW}) AS oldest \
                           FROM {t} WHERE status = 0) p, \
                      (SELECT count(*) AS n, min(due_at) FILTER (WHERE due_at <= {NOW}) AS oldest \
                           FROM {t} WHERE status = 1) u, \
                      (SELECT count(*) AS n FROM {t} WHERE status = 3) f"
        )),
        purge_acked: Change::direct(sql(format!(
            "DELETE FROM {t} WHERE message_id IN (SELECT message_id FROM {t} \
                     WHERE status = 2 AND acked_at < {NOW} - {age} ORDER BY acked_at LIMIT :most OFFSET :skip)"
        ))),
        has_other_leases: sql(format!(
            "SELECT EXISTS (SELECT 1 FROM {t} WHERE status = 0 AND claimed_by <> :owner \
                     AND available_at > {NOW}) \
                   OR EXISTS (SELECT 1 FROM {c} WHERE owner <> :owner AND live_until > {NOW})"
        )),
        purge_all: Change::direct(sql(format!("DELETE FROM {t}"))),
        marks: MarkStatements::new(Dialect::Sqlite, &server, service),
        letters: LetterStatements::new(Dialect::Sqlite, &server, service),
        table: t,
        server,
    }
}
