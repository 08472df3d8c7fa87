//! The statements of a server, put together from its parts.
//!
//! Input: a [`SidePlan`]. Output: SQL, and what an answer says.
//!
//! A statement about chunks gives one value: for each chunk its digest, how many rows and bytes are in it, and then the keys with
//! which the next chunks end. On MySQL each column of an answer costs more bytes than a digest has, because it is
//! described each time.

use final_core::database::Dialect;
use uuid::Uuid;

use crate::{
    form::{Form, Hash},
    plan::SidePlan,
    side::{chunk::MOST_TEXT, digest::Digest},
    sql::key_column::KeyColumn,
};

/// What stands for the bytes of a chunk that MySQL had to cut.
const CUT: u32 = u32::MAX;

/// Whether MySQL had to cut a chunk.
const IS_CUT: &str = "LENGTH(g) > @@group_concat_max_len - 8";

/// The parts of the statements.
pub(crate) struct Parts {
    dialect: Dialect,
    hash: Hash,
    is_utf8: bool,
    table: String,
    /// The fields of a row, and of its key, put together.
    row: String,
    key: String,
    /// The whole values of a row, put together.
    given: String,
    /// The columns of the key.
    key_columns: String,
    /// The bucket of a row.
    pub(super) bucket: String,
    order: String,
    /// Whether MySQL finds the rows of a chunk in the order of the key by itself.
    is_in_order: bool,
    /// What stands for a row that MySQL cannot put together. The other side has another.
    lost: Uuid,
}

impl Parts {
    pub(crate) fn new(dialect: Dialect, plan: &SidePlan, lost: Uuid) -> Self {
        let names: Vec<&str> = plan.keys.iter().map(KeyColumn::order).collect();
        let key_columns: Vec<&str> = plan.keys.iter().map(|key| key.name.as_str()).collect();
        let fields = |forms: &[Form]| {
            let columns = plan.columns.iter().zip(forms);
            let fields = columns.flat_map(|(column, form)| {
                let name = dialect.quoted(&column.name);
                match dialect {
                    #[cfg(feature = "postgres")]
                    Dialect::Postgres => {
                        let is_utf8 = plan.table.is_utf8;
                        vec![crate::sql::postgres::field(column, *form, &name, is_utf8)]
                    }
                    #[cfg(feature = "mysql")]
                    Dialect::MySql => crate::sql::mysql::field(column, *form, &name),
                    _ => vec![name],
                }
            });
            let fields: Vec<String> = fields.collect();
            match dialect {
                Dialect::MySql => format!("CONCAT({})", fields.join(", ")),
                _ => fields.join(" || "),
            }
        };
        let mut parts = Self {
            dialect,
            hash: plan.hash,
            is_utf8: plan.table.is_utf8,
            table: plan.table.name.clone(),
            row: fields(&plan.forms),
            key: fields(plan.forms.get(..plan.keys.len()).unwrap_or_default()),
            given: fields(plan.given.as_deref().unwrap_or_default()),
            key_columns: key_columns.join(", "),
            bucket: String::new(),
            order: names.join(", "),
            is_in_order: plan.table.is_clustered && plan.has_primary_key(),
            lost,
        };
        let length = plan.bucket_digits;
        parts.bucket = format!("left({}, {length})", parts.digits(&parts.key));
        parts
    }

    fn is_postgres(&self) -> bool {
        self.dialect == Dialect::Postgres
    }

    /// The bytes of a text, in UTF-8.
    fn bytes(&self, text: &str) -> String {
        match self.is_postgres() {
            true => format!("convert_to({text}, 'UTF8')"),
            false => format!("CAST({text} AS BINARY)"),
        }
    }

    /// The hash of a text as hexadecimal digits.
    fn digits(&self, text: &str) -> String {
        match (self.is_postgres(), self.hash) {
            (true, Hash::Md5) if self.is_utf8 => format!("md5({text})"),
            (true, Hash::Md5) => format!("md5(convert_to({text}, 'UTF8'))"),
            (true, Hash::Sha256) => format!("encode(sha256(convert_to({text}, 'UTF8')), 'hex')"),
            (false, Hash::Md5) => format!("MD5({text})"),
            (false, Hash::Sha256) => format!("SHA2({text}, 256)"),
        }
    }

    /// The hash of a text as bytes.
    fn hashed(&self, text: &str) -> String {
        let digits = self.digits(text);
        match self.is_postgres() {
            true => format!("decode({digits}, 'hex')"),
            false => format!("UNHEX({digits})"),
        }
    }

    /// A statement that gives these bytes, one after the other.
    pub(crate) fn answer(&self, parts: &[String]) -> String {
        match self.is_postgres() {
            true => format!("SELECT {} AS d", parts.join(" || ")),
            false => format!("SELECT CONCAT({}) AS d", parts.join(", ")),
        }
    }

    /// The key of the row that stands so many behind the first; empty if there are fewer.
    pub(crate) fn end(&self, condition: &str, skipped: u64) -> String {
        let (key, table, order) = (self.bytes(&self.key), &self.table, &self.order);
        match self.is_postgres() {
            // In a table of its own, so that no text is made of the rows that are skipped.
            true => format!(
                "coalesce((SELECT {key} FROM (SELECT {} FROM {table} WHERE {condition} ORDER BY {order} \
                 LIMIT 1 OFFSET {skipped}) s), '')",
                self.key_columns
            ),
            false => format!(
                "COALESCE((SELECT {key} FROM {table} WHERE {condition} ORDER BY {order} LIMIT 1 OFFSET {skipped}), '')"
            ),
        }
    }

    /// A row with the last value of the first column, which is read from the end of an index.
    pub(crate) fn last_key(&self, keys: &[KeyColumn]) -> String {
        let (key, table) = (self.bytes(&self.key), &self.table);
        let first = keys.first().map_or("1", KeyColumn::order);
        format!(
            "SELECT {key} AS row_key FROM {table} WHERE {first} IS NOT NULL ORDER BY {first} DESC LIMIT 1"
        )
    }

    /// How many rows of a chunk there are, as `n`, and all of them put together, as `g`.
    ///
    /// The rows come from the index in order. MySQL needs no limit, because what it puts together has one; and no order
    /// where it keeps the rows in that of the key, which saves it a third of its time.
    ///
    /// GROUP_CONCAT leaves NULL out. So a row that MySQL cannot put together has a mark in its place: such a digest is
    /// equal to none of the other side, such a text is none of rows, and reading the rows says why.
    fn together(&self, condition: &str, most: u64) -> String {
        let (row, table, order) = (&self.row, &self.table, &self.order);
        if self.is_postgres() {
            let limit = most.saturating_add(1);
            return format!(
                "(SELECT count(*) AS n, coalesce(string_agg(r, ''), '') AS g FROM (SELECT {row} AS r FROM {table} \
                 WHERE {condition} ORDER BY {order} LIMIT {limit}) s) t"
            );
        }
        let lost = self.lost;
        let (index, order) = match self.is_in_order {
            true => (" FORCE INDEX (PRIMARY)", String::new()),
            false => ("", format!(" ORDER BY {order}")),
        };
        format!(
            "(SELECT COUNT(*) AS n, GROUP_CONCAT(COALESCE({row}, '~{lost}'){order} SEPARATOR '') AS g \
             FROM {table}{index} WHERE {condition}) t"
        )
    }

    /// The digest of a chunk, and how many rows and bytes are in it.
    pub(crate) fn digest(&self, condition: &str, most: u64) -> String {
        let together = self.together(condition, most);
        match self.is_postgres() {
            true => {
                let hash = self.hashed("g");
                format!(
                    "(SELECT {hash} || int4send(n::int) || int4send(octet_length(g)) FROM {together})"
                )
            }
            false => {
                let hash = self.hashed("COALESCE(g, '')");
                format!(
                    "(SELECT CONCAT({hash}, UNHEX(LPAD(HEX(n), 8, '0')), \
                     UNHEX(LPAD(HEX(IF({IS_CUT}, {CUT}, COALESCE(LENGTH(g), 0))), 8, '0'))) FROM {together})"
                )
            }
        }
    }

    /// All rows of a chunk; NULL if there are too many.
    pub(crate) fn texts(&self, condition: &str, most: u64) -> String {
        let together = self.together(condition, most);
        match self.is_postgres() {
            true => format!(
                "SELECT CASE WHEN n <= {most} AND octet_length(g) <= {MOST_TEXT} THEN convert_to(g, 'UTF8') END AS d \
                 FROM {together}"
            ),
            false => format!(
                "SELECT CASE WHEN n <= {most} AND NOT COALESCE({IS_CUT} OR LENGTH(g) > {MOST_TEXT}, 0) \
                 THEN CAST(COALESCE(g, '') AS BINARY) END AS d FROM {together}"
            ),
        }
    }

    /// Takes the next digest from an answer. None if there is none.
    pub(crate) fn read_digest(&self, answer: &mut Vec<u8>, most: u64) -> Option<Digest> {
        let length = self.hash.length();
        let number = |at: usize| Some(u32::from_be_bytes(*answer.get(at..)?.first_chunk()?));
        let (rows, bytes) = (number(length)?, number(length + 4)?);
        let mut hash: Vec<u8> = answer.drain(..length + 8).collect();
        hash.truncate(length);
        Some(Digest {
            rows: rows.into(),
            bytes: bytes.into(),
            hash,
            is_cut: bytes == CUT || u64::from(rows) > most,
        })
    }

    /// Two sums of 60 bits of the hashes of rows, so that their order does not matter.
    pub(crate) fn buckets(&self) -> String {
        let (table, bucket) = (&self.table, &self.bucket);
        let row = self.digits(&self.row);
        match self.is_postgres() {
            true => format!(
                "SELECT bucket, count(h)::bigint AS row_count, count(*)::bigint - count(h)::bigint AS lost, \
                 sum(('x' || substr(h, 1, 15))::bit(60)::bigint)::text || ' ' \
                 || sum(('x' || substr(h, 16, 15))::bit(60)::bigint)::text AS sums \
                 FROM (SELECT {bucket} AS bucket, {row} AS h FROM {table}) s GROUP BY bucket"
            ),
            false => format!(
                "SELECT bucket, COUNT(h) AS row_count, COUNT(*) - COUNT(h) AS lost, \
                 CONCAT(SUM(CAST(CONV(SUBSTR(h, 1, 15), 16, 10) AS UNSIGNED)), ' ', \
                 SUM(CAST(CONV(SUBSTR(h, 16, 15), 16, 10) AS UNSIGNED))) AS sums \
                 FROM (SELECT {bucket} AS bucket, {row} AS h FROM {table}) s GROUP BY bucket"
            ),
        }
    }

    pub(crate) fn hashes(&self, condition: &str, limit: u64) -> String {
        let (key, hash) = (self.bytes(&self.key), self.hashed(&self.row));
        let (table, order) = (&self.table, &self.order);
        format!(
            "SELECT {key} AS row_key, {hash} AS row_hash FROM {table} WHERE {condition} ORDER BY {order} LIMIT {limit}"
        )
    }

    pub(crate) fn values(&self, condition: &str) -> String {
        let (key, given, table) = (self.bytes(&self.key), self.bytes(&self.given), &self.table);
        format!("SELECT {key} AS row_key, {given} AS row_text FROM {table} WHERE {condition}")
    }

    pub(crate) fn rows(&self, condition: &str, limit: Option<u64>) -> String {
        let (row, table) = (self.bytes(&self.row), &self.table);
        let page = limit.map(|limit| format!(" ORDER BY {} LIMIT {limit}", self.order));
        format!(
            "SELECT {row} AS row_text FROM {table} WHERE {condition}{}",
            page.unwrap_or_default()
        )
    }
}
