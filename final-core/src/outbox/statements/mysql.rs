//! The SQL of one outbox in MySQL and MariaDB.
//!
//! Input: the server and the service. Output: [`Statements`]. All texts are valid in MySQL 8 and in MariaDB,
//! and none depends on `sql_mode`.

use super::{ANY, Change, PLAIN, Probe, RecordInserts, Statements};
use crate::{
    database::{
        Dialect, Server,
        insert::{Insert, UTF8},
        lone::{in_transaction, unless_in_transaction},
        statement::Statement,
    },
    message::MSGPACK,
    names::ServiceName,
    outbox::{letters::LetterStatements, marks::MarkStatements, record::Status},
};

/// The driver says all that is needed.
pub(super) const SESSION: &[&str] = &[];

/// How many claims one statement ends.
const MOST_CLAIMS: usize = 8;

/// The columns of a claimed record but for its position.
const RECORD: &str = "\
    message_id, sent_as, topic, message_key, headers, payload, content_type, durable, attempts, faults, \
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at) AS expires_in";

/// The owner of a record without a lease. It is as long as the id of an owner, so that a renewal overwrites it
/// in place. With NULL the row would grow at a renewal, and would have to move within its page or out of it:
/// that takes InnoDB three times as long.
const NOBODY: &str = "x'00000000000000000000000000000000'";

/// Microseconds since 1970 as DATETIME, and back.
fn at(micros: &str) -> String {
    format!("TIMESTAMP'1970-01-01 00:00:00.000000' + INTERVAL {micros} MICROSECOND")
}

fn micros(at: &str) -> String {
    format!("TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00.000000', {at})")
}

/// The INSERTs for plain rows and for any, with a status made by `status`.
fn inserts(table: &str, server: &Server, status: impl Fn(String) -> String) -> (Insert, Insert) {
    let (plain, any) = rows(status);
    let insert = |(columns, parameters), row| {
        let into = format!("INSERT INTO {table} ({columns}) VALUES ");
        Insert::of_rows(parameters, &into, row).within(server)
    };
    (insert(PLAIN, &plain), insert(ANY, &any))
}

/// The same for one row whose INSERT is its own commit.
fn lone_inserts(table: &str, server: &Server) -> (Insert, Insert) {
    let (plain, any) = rows(|status| unless_in_transaction(&status));
    let insert = |(columns, parameters), row: &str| {
        let text = format!("INSERT INTO {table} ({columns}) VALUES {row}");
        Insert::of_one(parameters, text).within(server)
    };
    (insert(PLAIN, &plain), insert(ANY, &any))
}

/// The values of a plain row and of any, with a status.
fn rows(status: impl Fn(String) -> String) -> (String, String) {
    let clock = "UTC_TIMESTAMP(6)";
    let later = format!("{clock} + INTERVAL ? MICROSECOND");
    let pending = status((Status::Pending as i16).to_string());
    let owner = format!("IFNULL(?, {NOBODY})");
    let plain =
        format!("(?, {UTF8}, ?, {later}, {owner}, '{MSGPACK}', 1, {pending}, {clock}, {clock})");
    let status = status("?".into());
    let any = format!(
        "(?, {UTF8}, {UTF8}, {UTF8}, ?, ?, {UTF8}, ?, {later}, {status}, {later}, {later}, {owner}, {clock})"
    );
    (plain, any)
}

/// Statements that change rows find them by `message_id IN (…) ORDER BY message_id LIMIT n`. The table is
/// nearly empty most of the time. A plain IN then reads all of it, and waits for every caller's open INSERT.
/// With ORDER BY and LIMIT the server goes by the key.
///
/// Statements that find rows by their status name the index, for the same reason. If they also change the rows,
/// they read the keys first, without locks that others wait for, and then go by the keys.
pub(super) fn statements(server: Server, service: &ServiceName) -> Statements {
    let quoted = |name: String| format!("{}{}", server.schema, Dialect::MySql.quoted(&name));
    let (t, c) = (quoted(service.table()), quoted(service.claims_table()));
    let sql = |text: String| Statement::new(Dialect::MySql, &text);
    let (plain, any) = inserts(&t, &server, |status| status);
    let (lone_plain, lone_any) = lone_inserts(&t, &server);
    let inserts = RecordInserts {
        plain,
        any,
        // Only MariaDB knows `@@in_transaction`.
        guarded: server
            .tells_transactions
            .then(|| inserts(&t, &server, |status| in_transaction(&status))),
        lone_plain,
        lone_any,
    };
    let due = format!("{t} FORCE INDEX ({})", service.short("due"));
    let parked = format!("{t} FORCE INDEX ({})", service.short("parked"));
    let listed = "message_id IN (:*ids)";
    let order = "ORDER BY message_id LIMIT :#ids";
    // Each record is looked up by its id. Where most of a small table is to be changed, a server would rather go
    // through all of it, and wait for every caller's open INSERT. A DELETE takes no hint, so it is a join.
    let by_id = format!("{t} FORCE INDEX (PRIMARY)");
    let delete =
        format!("DELETE r FROM (:+ids) AS l STRAIGHT_JOIN {t} AS r ON r.message_id = l.id");
    // This index leads to live claims only. Ended claims stay in the table until `forget` removes them, and are
    // not read.
    let live = format!("{c} FORCE INDEX ({})", service.short("live"));
    let read_only = Dialect::MySql.words().read_only;
    let in_claim = "live_until > UTC_TIMESTAMP(6) \
            AND (first_at < available_at OR first_at = available_at AND first_id <= message_id) \
            AND (last_at > available_at OR last_at = available_at AND last_id >= message_id)";
    // The owner's: by the record's own lease, or by a claim that covers it.
    let mine = format!(
        "WHERE {listed} AND status = 0 \
               AND (claimed_by = :owner AND available_at > UTC_TIMESTAMP(6) \
                 OR EXISTS (SELECT 1 FROM {live} WHERE owner = :owner AND {in_claim})) {order}"
    );
    Statements {
        inserts,
        claims: sql(format!(
            "SELECT n.number, {first_at} AS first_at, c.first_id, {last_at} AS last_at, c.last_id \
                 FROM (SELECT CAST(COALESCE(MAX(number), 0) AS SIGNED) AS number FROM {c}) n \
                 LEFT JOIN {c} c ON c.live_until > UTC_TIMESTAMP(6)",
            first_at = micros("c.first_at"),
            last_at = micros("c.last_at"),
        )),
        look: sql(format!(
            "SELECT {was} AS position, message_id, CAST(OCTET_LENGTH(payload) AS SIGNED) AS bytes \
                 FROM {due} WHERE status = 0 AND available_at <= UTC_TIMESTAMP(6) \
                   AND available_at >= {after} AND (available_at > {after} OR message_id > :after_id) \
                   AND available_at <= {before} AND (available_at < {before} OR message_id < :before_id) \
                 ORDER BY available_at, message_id LIMIT :most {share} SKIP LOCKED",
            was = micros("available_at"),
            after = at(":after_at"),
            before = at(":before_at"),
            // Two processes that look at the same time must not pass over each other's records: only one of
            // them can claim, and it must have seen all of them.
            share = if server.tells_transactions {
                "LOCK IN SHARE MODE"
            } else {
                "FOR SHARE"
            },
        )),
        read: sql(format!(
            "SELECT {RECORD}, {was} AS position FROM {due} WHERE status = 0 \
                   AND available_at >= {first} AND (available_at > {first} OR message_id >= :first_id) \
                   AND available_at <= {last} AND (available_at < {last} OR message_id <= :last_id) \
                 ORDER BY available_at, message_id LIMIT :most",
            was = micros("available_at"),
            first = at(":first_at"),
            last = at(":last_at"),
        )),
        reserve: sql(format!(
            "INSERT INTO {c} (number, owner, live_until, first_at, first_id, last_at, last_id) \
                 SELECT :last + 1, :owner, UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND, \
                     {first}, :first_id, {last}, :last_id \
                 FROM (SELECT COALESCE(MAX(number), 0) AS number FROM {c}) n WHERE n.number = :last",
            first = at(":first_at"),
            last = at(":last_at"),
        )),
        finish: Statement::with_lengths(
            Dialect::MySql,
            &format!(
                "UPDATE {c} SET live_until = '1970-01-01' WHERE owner = :owner \
                       AND number IN (:*numbers) ORDER BY number LIMIT :#numbers"
            ),
            &[MOST_CLAIMS],
        ),
        forget: sql(format!(
            "DELETE FROM {c} WHERE number <= :number AND live_until <= UTC_TIMESTAMP(6)"
        )),
        probe: Probe::Steps {
            find: sql(format!(
                "SELECT message_id FROM {parked} WHERE status = 1 AND topic = :topic \
                 ORDER BY message_id LIMIT 1 FOR UPDATE SKIP LOCKED"
            )),
            lease: sql(format!(
                "UPDATE {by_id} SET status = 0, claimed_by = :owner, \
                     available_at = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND \
                 WHERE {listed} AND status = 1 {order}"
            )),
            read: sql(format!(
                "SELECT {RECORD}, CAST(0 AS SIGNED) AS position FROM {t} WHERE message_id = :message_id"
            )),
        },
        // With NOT EXISTS in place of COUNT, MySQL 8 would make a join, and lose the order of the index.
        next_due: sql(format!(
            "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MIN(due)), {read_only} \
                 FROM ((SELECT available_at AS due FROM {due} \
                         WHERE status = 0 AND (SELECT COUNT(*) FROM {live} WHERE {in_claim}) = 0 \
                         ORDER BY available_at LIMIT 1) \
                     UNION ALL \
                       (SELECT live_until FROM {c} WHERE live_until > UTC_TIMESTAMP(6))) d"
        )),
        parked_topics: sql(format!(
            "SELECT DISTINCT topic FROM {parked} WHERE status = 1 ORDER BY topic LIMIT :most"
        )),
        delete: sql(delete.clone()),
        // An owner of NULL makes room in the row for the two times.
        mark_acked: sql(format!(
            "UPDATE {by_id} SET status = 2, claimed_by = NULL, sent_at = UTC_TIMESTAMP(6), \
                     acked_at = UTC_TIMESTAMP(6), available_at = UTC_TIMESTAMP(6) \
                 WHERE {listed} AND status IN (0, 1) {order}"
        )),
        renew: sql(format!(
            "UPDATE {by_id} SET claimed_by = :owner, available_at = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND {mine}"
        )),
        release: sql(format!(
            "UPDATE {by_id} SET claimed_by = {NOBODY}, \
                     available_at = UTC_TIMESTAMP(6) + INTERVAL :wait MICROSECOND {mine}"
        )),
        put_back: sql(format!(
            "UPDATE {by_id} SET claimed_by = {NOBODY}, attempts = attempts + 1, \
                     available_at = UTC_TIMESTAMP(6) + INTERVAL :wait MICROSECOND, \
                     faults = faults + :fault, last_error = :error, sent_at = UTC_TIMESTAMP(6) {mine}"
        )),
        park: sql(format!(
            "UPDATE {by_id} SET status = 1, claimed_by = {NOBODY}, attempts = attempts + 1, last_error = :error, \
                     sent_at = UTC_TIMESTAMP(6) {mine}"
        )),
        unpark: Change::by_ids(
            sql(format!(
                "SELECT message_id FROM {parked} WHERE status = 1 AND topic = :topic \
                 ORDER BY message_id LIMIT :most FOR UPDATE SKIP LOCKED"
            )),
            sql(format!(
                "UPDATE {by_id} SET status = 0, claimed_by = {NOBODY}, available_at = UTC_TIMESTAMP(6) \
                 WHERE {listed} AND status = 1 {order}"
            )),
        ),
        fail: sql(format!(
            "UPDATE {by_id} SET status = 3, claimed_by = {NOBODY}, attempts = attempts + 1, last_error = :error, \
                     sent_at = UTC_TIMESTAMP(6) {mine}"
        )),
        failed: sql(format!(
            "SELECT message_id, sent_as, topic, attempts, last_error, \
                     TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)) AS age \
                 FROM {due} WHERE status = 3 ORDER BY message_id LIMIT :most"
        )),
        retry_failed: sql(format!(
            "UPDATE {by_id} SET status = 0, claimed_by = {NOBODY}, attempts = 0, faults = 0, \
                     available_at = UTC_TIMESTAMP(6) \
                 WHERE {listed} AND status = 3 {order}"
        )),
        retry_failed_sent_as: Change::by_ids(
            sql(format!(
                "SELECT message_id FROM {due} WHERE status = 3 AND sent_as IN (:*ids)"
            )),
            sql(format!(
                "UPDATE {by_id} SET status = 0, claimed_by = {NOBODY}, attempts = 0, faults = 0, \
                     available_at = UTC_TIMESTAMP(6) \
                 WHERE {listed} AND status = 3 {order}"
            )),
        ),
        retry_some_failed: Change::by_ids(
            sql(format!(
                "SELECT message_id FROM {due} WHERE status = 3 ORDER BY message_id LIMIT :most"
            )),
            sql(format!(
                "UPDATE {by_id} SET status = 0, claimed_by = {NOBODY}, attempts = 0, faults = 0, \
                     available_at = UTC_TIMESTAMP(6) \
                 WHERE {listed} AND status = 3 {order}"
            )),
        ),
        backlog: sql(format!(
            "SELECT p.n AS pending, u.n AS unroutable, f.n AS failed, \
                     TIMESTAMPDIFF(MICROSECOND, \
                         LEAST(IFNULL(p.oldest, u.oldest), IFNULL(u.oldest, p.oldest)), UTC_TIMESTAMP(6)) AS oldest \
                 FROM (SELECT COUNT(*) AS n, MIN(IF(due_at <= UTC_TIMESTAMP(6), due_at, NULL)) AS oldest \
                           FROM {due} WHERE status = 0) p, \
                      (SELECT COUNT(*) AS n, MIN(IF(due_at <= UTC_TIMESTAMP(6), due_at, NULL)) AS oldest \
                           FROM {due} WHERE status = 1) u, \
                      (SELECT COUNT(*) AS n FROM {due} WHERE status = 3) f"
        )),
        has_other_leases: sql(format!(
            "SELECT EXISTS (SELECT 1 FROM {due} WHERE status = 0 AND claimed_by NOT IN (:owner, {NOBODY}) \
                     AND available_at > UTC_TIMESTAMP(6)) \
                   OR EXISTS (SELECT 1 FROM {c} WHERE owner <> :owner AND live_until > UTC_TIMESTAMP(6))"
        )),
        purge_acked: Change::by_ids(
            sql(format!(
                "SELECT message_id FROM {due} WHERE status = 2 \
                   AND available_at < UTC_TIMESTAMP(6) - INTERVAL :age MICROSECOND \
                 ORDER BY available_at LIMIT :most OFFSET :skip"
            )),
            sql(delete.clone()),
        ),
        // In rounds, by ids: a plain DELETE of all rows would wait for every caller's open INSERT.
        purge_all: Change::by_ids(
            sql(format!("SELECT message_id FROM {t} LIMIT :most")),
            sql(delete.clone()),
        ),
        marks: MarkStatements::new(Dialect::MySql, &server, service),
        letters: LetterStatements::new(Dialect::MySql, &server, service),
        table: t,
        server,
    }
}
