//! The SQL of one outbox, with the table's name filled in once.

use std::{fmt, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::{
    database::inserts::{ANY, Inserts, PLAIN, Pieces},
    message::MSGPACK,
    names::ServiceName,
    outbox::Status,
};

/// The running clock in milliseconds. Within one statement it stands still.
pub(super) const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

pub struct Statements {
    pub(super) table: String,
    pub(super) insert: Inserts,
    pub(super) claims: SqlStr,
    pub(super) look: SqlStr,
    pub(super) read: SqlStr,
    pub(super) reserve: SqlStr,
    pub(super) finish: SqlStr,
    pub(super) forget: SqlStr,
    pub(super) any_parked: SqlStr,
    pub(super) parked: SqlStr,
    pub(super) lease_parked: SqlStr,
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

fn sql(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

fn inserts(table: &str) -> Inserts {
    let pending = Status::Pending as i16;
    let plain = format!("(?, ?, ?, {NOW} + ?, ?, '{MSGPACK}', 1, {pending}, {NOW}, {NOW})");
    let any = format!("(?, ?, ?, ?, ?, ?, ?, {NOW} + ?, ?, {NOW} + ?, {NOW} + ?, ?, {NOW})");
    Inserts {
        plain: Pieces::of_rows(&format!("INSERT INTO {table} ({PLAIN}) VALUES "), &plain),
        any: Pieces::of_rows(&format!("INSERT INTO {table} ({ANY}) VALUES "), &any),
    }
}

impl Statements {
    /// The ids come as one JSON text: one statement for every number of them. `main` keeps a
    /// temporary table of the same name out of the way.
    pub(super) fn new(service: &ServiceName) -> Self {
        let t = format!("main.\"{}\"", service.table());
        let listed = "message_id IN (SELECT unhex(value) FROM json_each(?1))";
        let c = format!("main.\"{}\"", service.claims_table());
        let in_claim = format!(
            "live_until > {NOW} AND (first_at, first_id) <= (available_at, message_id) \
             AND (last_at, last_id) >= (available_at, message_id)"
        );
        // Leased by itself, or with a claim.
        let mine = format!(
            "WHERE {listed} AND status = 0 AND (claimed_by = ?2 AND available_at > {NOW} \
               OR EXISTS (SELECT 1 FROM {c} WHERE owner = ?2 AND {in_claim}))"
        );
        let record = format!(
            "message_id, topic, message_key, headers, payload, content_type, durable, attempts, faults, \
             (expires_at - {NOW}) * 1000, available_at * 1000"
        );
        Self {
            insert: inserts(&t),
            claims: sql(format!(
                "SELECT n.number, c.first_at * 1000, c.first_id, c.last_at * 1000, c.last_id \
                 FROM (SELECT ifnull(max(number), 0) AS number FROM {c}) n \
                 LEFT JOIN {c} c ON c.live_until > {NOW}"
            )),
            look: sql(format!(
                "SELECT available_at * 1000, message_id, length(payload) FROM {t} \
                 WHERE status = 0 AND available_at <= {NOW} \
                   AND (available_at, message_id) > (?1, ?2) AND (available_at, message_id) < (?3, ?4) \
                 ORDER BY available_at, message_id LIMIT ?5"
            )),
            read: sql(format!(
                "SELECT {record} FROM {t} WHERE status = 0 \
                   AND (available_at, message_id) >= (?1, ?2) AND (available_at, message_id) <= (?3, ?4) \
                 ORDER BY available_at, message_id LIMIT ?5"
            )),
            reserve: sql(format!(
                "INSERT INTO {c} (number, owner, live_until, first_at, first_id, last_at, last_id) \
                 SELECT ?1 + 1, ?2, {NOW} + ?3, ?4, ?5, ?6, ?7 \
                 WHERE (SELECT ifnull(max(number), 0) FROM {c}) = ?1"
            )),
            finish: sql(format!(
                "UPDATE {c} SET live_until = 0 \
                 WHERE number IN (SELECT value FROM json_each(?1)) AND owner = ?2"
            )),
            forget: sql(format!(
                "DELETE FROM {c} WHERE number <= ?1 AND live_until <= {NOW}"
            )),
            any_parked: sql(format!(
                "SELECT EXISTS (SELECT 1 FROM {t} WHERE status = 1 AND topic = ?1)"
            )),
            parked: sql(format!(
                "SELECT {record} FROM {t} WHERE status = 1 AND topic = ?1 ORDER BY message_id LIMIT 1"
            )),
            lease_parked: sql(format!(
                "UPDATE {t} SET status = 0, claimed_by = ?2, available_at = {NOW} + ?3 \
                 WHERE {listed} AND status = 1"
            )),
            next_due: sql(format!(
                "SELECT (min(due) - {NOW}) * 1000 \
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
                 SELECT topic FROM topics WHERE topic IS NOT NULL LIMIT ?1"
            )),
            delete: sql(format!("DELETE FROM {t} WHERE {listed}")),
            mark_acked: sql(format!(
                "UPDATE {t} SET status = 2, claimed_by = NULL, sent_at = {NOW}, acked_at = {NOW} \
                 WHERE {listed} AND status IN (0, 1)"
            )),
            renew: sql(format!(
                "UPDATE {t} SET claimed_by = ?2, available_at = {NOW} + ?3 {mine}"
            )),
            release: sql(format!(
                "UPDATE {t} SET claimed_by = NULL, available_at = {NOW} + ?3 {mine}"
            )),
            put_back: sql(format!(
                "UPDATE {t} SET claimed_by = NULL, attempts = attempts + 1, faults = faults + ?4, \
                     last_error = ?5, sent_at = {NOW}, available_at = {NOW} + ?3 {mine}"
            )),
            park: sql(format!(
                "UPDATE {t} SET status = 1, claimed_by = NULL, attempts = attempts + 1, last_error = ?3, \
                     sent_at = {NOW} {mine}"
            )),
            unpark: sql(format!(
                "UPDATE {t} SET status = 0, claimed_by = NULL, available_at = {NOW} \
                 WHERE message_id IN (SELECT message_id FROM {t} WHERE status = 1 AND topic = ?1 \
                     ORDER BY message_id LIMIT ?2)"
            )),
            fail: sql(format!(
                "UPDATE {t} SET status = 3, claimed_by = NULL, attempts = attempts + 1, last_error = ?3, \
                     sent_at = {NOW} {mine}"
            )),
            failed: sql(format!(
                "SELECT message_id, topic, attempts, last_error, ({NOW} - created_at) * 1000 \
                 FROM {t} WHERE status = 3 ORDER BY message_id LIMIT ?1"
            )),
            retry_failed: sql(format!(
                "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, available_at = {NOW} \
                 WHERE {listed} AND status = 3"
            )),
            retry_some_failed: sql(format!(
                "UPDATE {t} SET status = 0, claimed_by = NULL, attempts = 0, faults = 0, available_at = {NOW} \
                 WHERE message_id IN (SELECT message_id FROM {t} WHERE status = 3 \
                     ORDER BY message_id LIMIT ?1)"
            )),
            backlog: sql(format!(
                "SELECT p.n, u.n, f.n, \
                     ({NOW} - min(ifnull(p.oldest, u.oldest), ifnull(u.oldest, p.oldest))) * 1000 \
                 FROM (SELECT count(*) AS n, min(due_at) FILTER (WHERE due_at <= {NOW}) AS oldest \
                           FROM {t} WHERE status = 0) p, \
                      (SELECT count(*) AS n, min(due_at) FILTER (WHERE due_at <= {NOW}) AS oldest \
                           FROM {t} WHERE status = 1) u, \
                      (SELECT count(*) AS n FROM {t} WHERE status = 3) f"
            )),
            purge_acked: sql(format!(
                "DELETE FROM {t} WHERE message_id IN (SELECT message_id FROM {t} \
                     WHERE status = 2 AND acked_at < {NOW} - ?1 ORDER BY acked_at LIMIT ?2)"
            )),
            has_other_leases: sql(format!(
                "SELECT EXISTS (SELECT 1 FROM {t} WHERE status = 0 AND claimed_by <> ?1 \
                     AND available_at > {NOW}) \
                   OR EXISTS (SELECT 1 FROM {c} WHERE owner <> ?1 AND live_until > {NOW})"
            )),
            purge_all: sql(format!("DELETE FROM {t}")),
            table: t,
        }
    }
}
