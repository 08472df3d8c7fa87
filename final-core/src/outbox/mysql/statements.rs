//! The SQL of one outbox, with the table's name filled in once.
//!
//! All of it is valid in MySQL 8 and in MariaDB, and none depends on `sql_mode`.

use std::{fmt, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use uuid::Uuid;

use crate::{
    database::inserts::{ANY, Inserts, PLAIN, Pieces},
    message::MSGPACK,
    names::ServiceName,
    outbox::Status,
};

/// The columns of a claimed record, in the order `row::claimed` reads them.
const RECORD: &str = "\
    message_id, topic, message_key, headers, payload, content_type, durable, attempts, faults, \
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at)";

/// Who holds what nobody holds: as long as an owner, so that a renewal overwrites it where it stands. A
/// row that grows has to move within its page or out of it, which takes InnoDB three times as long.
pub(super) const NOBODY: Uuid = Uuid::nil();
const NOBODY_SQL: &str = "x'00000000000000000000000000000000'";

/// Microseconds since 1970 as DATETIME, and back.
const AT: &str = "TIMESTAMP'1970-01-01 00:00:00.000000' + INTERVAL ? MICROSECOND";

fn micros(at: &str) -> String {
    format!("TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00.000000', {at})")
}

pub struct Statements {
    pub(super) table: String,
    pub(super) mariadb: bool,
    insert: Inserts,
    insert_guarded: Inserts,
    pub(super) alone_plain: SqlStr,
    pub(super) alone: SqlStr,
    pub(super) claims: SqlStr,
    pub(super) look: SqlStr,
    pub(super) read: SqlStr,
    pub(super) reserve: SqlStr,
    pub(super) finish: SqlStr,
    pub(super) forget: SqlStr,
    pub(super) read_parked: SqlStr,
    pub(super) parked: SqlStr,
    pub(super) lease_parked: ById,
    pub(super) next_due: SqlStr,
    pub(super) parked_topics: SqlStr,
    pub(super) delete: ById,
    pub(super) mark_acked: ById,
    pub(super) renew: ById,
    pub(super) release: ById,
    pub(super) put_back: ById,
    pub(super) park: ById,
    pub(super) some_parked: SqlStr,
    pub(super) unpark: ById,
    pub(super) fail: ById,
    pub(super) failed: SqlStr,
    pub(super) some_failed: SqlStr,
    pub(super) retry_failed: ById,
    pub(super) backlog: SqlStr,
    pub(super) some_acked: SqlStr,
    pub(super) some: SqlStr,
    pub(super) has_other_leases: SqlStr,
}

impl fmt::Debug for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statements")
            .field("table", &self.table)
            .field("mariadb", &self.mariadb)
            .finish_non_exhaustive()
    }
}

/// One statement for each of a few lengths of its list of ids. Shorter lists repeat their last id, so
/// that the relay's statement cache stays small.
pub(super) struct ById([SqlStr; SIZES.len()]);

const SIZES: [usize; 7] = [1, 8, 32, 128, 256, 512, 1_000];

/// How many claims one statement ends.
pub(super) const MOST_CLAIMS: usize = 8;

/// The longest list.
pub(super) const MOST_IDS: usize = SIZES[SIZES.len() - 1];

impl ById {
    /// `{ids}` in the text becomes the list and `{n}` its length.
    fn new(text: &str) -> Self {
        Self(SIZES.map(|size| {
            let ids = vec!["?"; size].join(", ");
            sql(text
                .replace("{ids}", &ids)
                .replace("{n}", &size.to_string()))
        }))
    }

    /// The statement for this many ids, at most [`MOST_IDS`], and how many it takes.
    pub(super) fn for_ids(&self, ids: usize) -> (SqlStr, usize) {
        let at = SIZES.partition_point(|size| *size < ids);
        let at = at.min(SIZES.len() - 1);
        (self.0[at].clone(), SIZES[at])
    }
}

fn sql(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

/// A name in backticks, which mean the same in every `sql_mode`.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Outside a transaction the guarded INSERT writes a status that the table's CHECK refuses. A
/// deadlock ends the transaction at once, and a closure that goes on would otherwise have its
/// messages committed alone. NULL would not do: without strict mode an INSERT of several rows turns
/// it into 0.
fn inserts(table: &str, guarded: bool) -> Inserts {
    let (plain, any) = rows(|status| match guarded {
        true => format!("IF(@@in_transaction, {status}, -1)"),
        false => status,
    });
    Inserts {
        plain: Pieces::of_rows(&format!("INSERT INTO {table} ({PLAIN}) VALUES "), &plain),
        any: Pieces::of_rows(&format!("INSERT INTO {table} ({ANY}) VALUES "), &any),
    }
}

/// What a column is given that must not be NULL, so that MariaDB refuses the INSERT where it would not
/// commit by itself. A row alone is refused in every `sql_mode`, and no session can switch that off, as
/// it can the CHECKs.
pub(crate) fn alone(value: &str) -> String {
    format!("IF(@@autocommit AND NOT @@in_transaction, {value}, NULL)")
}

/// The INSERT of one plain row that is its own commit, and that of any row.
fn alone_inserts(table: &str) -> [SqlStr; 2] {
    let (plain, any) = rows(|status| alone(&status));
    [
        sql(format!("INSERT INTO {table} ({PLAIN}) VALUES {plain}")),
        sql(format!("INSERT INTO {table} ({ANY}) VALUES {any}")),
    ]
}

/// The values of a plain row and of any, with a status.
fn rows(status: impl Fn(String) -> String) -> (String, String) {
    let clock = "UTC_TIMESTAMP(6)";
    let later = format!("{clock} + INTERVAL ? MICROSECOND");
    let pending = status((Status::Pending as i16).to_string());
    let plain = format!("(?, ?, ?, {later}, ?, '{MSGPACK}', 1, {pending}, {clock}, {clock})");
    let status = status("?".into());
    let any = format!("(?, ?, ?, ?, ?, ?, ?, {later}, {status}, {later}, {later}, ?, {clock})");
    (plain, any)
}

impl Statements {
    /// Everything that changes rows finds them by `message_id IN (…) ORDER BY message_id LIMIT n`.
    /// The table is nearly empty most of the time; a plain IN then reads all of it, and waits for
    /// every caller's open INSERT. With ORDER BY and LIMIT it reads the key.
    ///
    /// What finds rows by their status is told its index for the same reason; if it also changes
    /// them, it reads first, without locks, and then goes by the ids.
    pub(super) fn new(schema: &str, service: &ServiceName, mariadb: bool) -> Self {
        let t = format!("{}.{}", quoted(schema), quoted(&service.table()));
        let due = format!("{t} FORCE INDEX ({})", service.short("due"));
        let parked = format!("{t} FORCE INDEX ({})", service.short("parked"));
        let listed = "message_id IN ({ids})";
        let order = "ORDER BY message_id LIMIT {n}";
        let c = format!("{}.{}", quoted(schema), quoted(&service.claims_table()));
        // What has ended is not read, however long the server keeps it.
        let live = format!("{c} FORCE INDEX ({})", service.short("live"));
        let in_claim = "live_until > UTC_TIMESTAMP(6) \
            AND (first_at < available_at OR first_at = available_at AND first_id <= message_id) \
            AND (last_at > available_at OR last_at = available_at AND last_id >= message_id)";
        // Leased by itself, or with a claim.
        let mine = format!(
            "WHERE {listed} AND status = 0 \
               AND (claimed_by = ? AND available_at > UTC_TIMESTAMP(6) \
                 OR EXISTS (SELECT 1 FROM {live} WHERE owner = ? AND {in_claim})) {order}"
        );
        let [alone_plain, alone] = alone_inserts(&t);
        Self {
            insert: inserts(&t, false),
            insert_guarded: inserts(&t, true),
            alone_plain,
            alone,
            claims: sql(format!(
                "SELECT n.number, {first_at}, c.first_id, {last_at}, c.last_id \
                 FROM (SELECT CAST(COALESCE(MAX(number), 0) AS SIGNED) AS number FROM {c}) n \
                 LEFT JOIN {c} c ON c.live_until > UTC_TIMESTAMP(6)",
                first_at = micros("c.first_at"),
                last_at = micros("c.last_at"),
            )),
            look: sql(format!(
                "SELECT {was}, message_id, CAST(OCTET_LENGTH(payload) AS SIGNED) \
                 FROM {due} WHERE status = 0 AND available_at <= UTC_TIMESTAMP(6) \
                   AND available_at >= {AT} AND (available_at > {AT} OR message_id > ?) \
                   AND available_at <= {AT} AND (available_at < {AT} OR message_id < ?) \
                 ORDER BY available_at, message_id LIMIT ? {share} SKIP LOCKED",
                was = micros("available_at"),
                // Two who look at the same time must not pass over what the other has seen.
                share = if mariadb {
                    "LOCK IN SHARE MODE"
                } else {
                    "FOR SHARE"
                },
            )),
            read: sql(format!(
                "SELECT {RECORD}, {was} FROM {due} WHERE status = 0 \
                   AND available_at >= {AT} AND (available_at > {AT} OR message_id >= ?) \
                   AND available_at <= {AT} AND (available_at < {AT} OR message_id <= ?) \
                 ORDER BY available_at, message_id LIMIT ?",
                was = micros("available_at"),
            )),
            reserve: sql(format!(
                "INSERT INTO {c} (number, owner, live_until, first_at, first_id, last_at, last_id) \
                 SELECT ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, {AT}, ?, {AT}, ? \
                 FROM (SELECT COALESCE(MAX(number), 0) AS number FROM {c}) n WHERE n.number = ?"
            )),
            finish: sql(format!(
                "UPDATE {c} SET live_until = '1970-01-01' WHERE owner = ? AND number IN ({numbers}) \
                 ORDER BY number LIMIT {MOST_CLAIMS}",
                numbers = ["?"; MOST_CLAIMS].join(", "),
            )),
            forget: sql(format!(
                "DELETE FROM {c} WHERE number <= ? AND live_until <= UTC_TIMESTAMP(6)"
            )),
            read_parked: sql(format!(
                "SELECT {RECORD}, CAST(0 AS SIGNED) FROM {t} WHERE message_id = ?"
            )),
            parked: sql(format!(
                "SELECT message_id FROM {parked} WHERE status = 1 AND topic = ? \
                 ORDER BY message_id LIMIT 1 FOR UPDATE SKIP LOCKED"
            )),
            lease_parked: ById::new(&format!(
                "UPDATE {t} SET status = 0, claimed_by = ?, \
                     available_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
                 WHERE {listed} AND status = 1 {order}"
            )),
            // COUNT and not NOT EXISTS, which MySQL 8 would make a join that loses the order.
            next_due: sql(format!(
                "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MIN(due)) \
                 FROM ((SELECT available_at AS due FROM {due} \
                         WHERE status = 0 AND (SELECT COUNT(*) FROM {live} WHERE {in_claim}) = 0 \
                         ORDER BY available_at LIMIT 1) \
                     UNION ALL \
                       (SELECT live_until FROM {c} WHERE live_until > UTC_TIMESTAMP(6))) d"
            )),
            parked_topics: sql(format!(
                "SELECT DISTINCT topic FROM {parked} WHERE status = 1 ORDER BY topic LIMIT ?"
            )),
            delete: ById::new(&format!("DELETE FROM {t} WHERE {listed} {order}")),
            // NULL makes room for the two times.
            mark_acked: ById::new(&format!(
                "UPDATE {t} SET status = 2, claimed_by = NULL, sent_at = UTC_TIMESTAMP(6), \
                     acked_at = UTC_TIMESTAMP(6), available_at = UTC_TIMESTAMP(6) \
                 WHERE {listed} AND status IN (0, 1) {order}"
            )),
            renew: ById::new(&format!(
                "UPDATE {t} SET claimed_by = ?, available_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND {mine}"
            )),
            release: ById::new(&format!(
                "UPDATE {t} SET claimed_by = {NOBODY_SQL}, \
                     available_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND {mine}"
            )),
            put_back: ById::new(&format!(
                "UPDATE {t} SET claimed_by = {NOBODY_SQL}, attempts = attempts + 1, \
                     available_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, \
                     faults = faults + ?, last_error = ?, sent_at = UTC_TIMESTAMP(6) {mine}"
            )),
            park: ById::new(&format!(
                "UPDATE {t} SET status = 1, claimed_by = {NOBODY_SQL}, attempts = attempts + 1, last_error = ?, \
                     sent_at = UTC_TIMESTAMP(6) {mine}"
            )),
            some_parked: sql(format!(
                "SELECT message_id FROM {parked} WHERE status = 1 AND topic = ? \
                 ORDER BY message_id LIMIT ? FOR UPDATE SKIP LOCKED"
            )),
            unpark: ById::new(&format!(
                "UPDATE {t} SET status = 0, claimed_by = {NOBODY_SQL}, available_at = UTC_TIMESTAMP(6) \
                 WHERE {listed} AND status = 1 {order}"
            )),
            fail: ById::new(&format!(
                "UPDATE {t} SET status = 3, claimed_by = {NOBODY_SQL}, attempts = attempts + 1, last_error = ?, \
                     sent_at = UTC_TIMESTAMP(6) {mine}"
            )),
            failed: sql(format!(
                "SELECT message_id, topic, attempts, last_error, \
                     TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)) \
                 FROM {due} WHERE status = 3 ORDER BY message_id LIMIT ?"
            )),
            some_failed: sql(format!(
                "SELECT message_id FROM {due} WHERE status = 3 ORDER BY message_id LIMIT ?"
            )),
            retry_failed: ById::new(&format!(
                "UPDATE {t} SET status = 0, claimed_by = {NOBODY_SQL}, attempts = 0, faults = 0, \
                     available_at = UTC_TIMESTAMP(6) \
                 WHERE {listed} AND status = 3 {order}"
            )),
            backlog: sql(format!(
                "SELECT p.n, u.n, f.n, \
                     TIMESTAMPDIFF(MICROSECOND, \
                         LEAST(IFNULL(p.oldest, u.oldest), IFNULL(u.oldest, p.oldest)), UTC_TIMESTAMP(6)) \
                 FROM (SELECT COUNT(*) AS n, MIN(IF(due_at <= UTC_TIMESTAMP(6), due_at, NULL)) AS oldest \
                           FROM {due} WHERE status = 0) p, \
                      (SELECT COUNT(*) AS n, MIN(IF(due_at <= UTC_TIMESTAMP(6), due_at, NULL)) AS oldest \
                           FROM {due} WHERE status = 1) u, \
                      (SELECT COUNT(*) AS n FROM {due} WHERE status = 3) f"
            )),
            // `mark_acked` sets `available_at` as well, so this needs no index of its own.
            some_acked: sql(format!(
                "SELECT message_id FROM {due} WHERE status = 2 \
                   AND available_at < UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND \
                 ORDER BY available_at LIMIT ?"
            )),
            some: sql(format!("SELECT message_id FROM {t} LIMIT ?")),
            has_other_leases: sql(format!(
                "SELECT EXISTS (SELECT 1 FROM {due} WHERE status = 0 AND claimed_by NOT IN (?, {NOBODY_SQL}) \
                     AND available_at > UTC_TIMESTAMP(6)) \
                   OR EXISTS (SELECT 1 FROM {c} WHERE owner <> ? AND live_until > UTC_TIMESTAMP(6))"
            )),
            table: t,
            mariadb,
        }
    }

    /// The INSERTs. Only MariaDB knows `@@in_transaction`.
    pub(super) fn insert(&self, in_transaction: bool) -> &Inserts {
        if in_transaction && self.mariadb {
            &self.insert_guarded
        } else {
            &self.insert
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
            let inside = quoted.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            let parts: Vec<&str> = inside.expect("quotes around it").split(r#"``"#).collect();

            prop_assert!(parts.iter().all(|part| !part.contains('`')), "{}", quoted);
            prop_assert_eq!(parts.join(r#"`"#), name);
        }
    }
}
