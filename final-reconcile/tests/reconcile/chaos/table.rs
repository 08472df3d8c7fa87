//! The table that is compared, and the words in which both servers differ.
//!
//! Input: changes of rows. Output: statements that leave the same row however often they are run.
//!
//! Rows of the source have even ids; every tenth of them is never deleted, and only those are damaged in the copy. What is
//! damaged is in `note`, `price` or the row itself, which no change of the source mends: a writer changes `version` and `body`.
//! The source alone has the time of each change.

use serde_json::Value;

/// Which server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Source,
    Copy,
}

/// What a writer does to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Insert {
        id: i64,
        version: i64,
    },
    Update {
        id: i64,
        version: i64,
    },
    Delete {
        id: i64,
    },
    /// The mirror has everything that was committed before this time, in microseconds since 1970.
    Beat {
        at: i64,
    },
}

/// How a row of the copy is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    Missing,
    Note,
    NoNote,
    Price,
    Extra,
}

impl Change {
    /// The row. None if it is no change of a row.
    pub fn id(self) -> Option<i64> {
        match self {
            Self::Insert { id, .. } | Self::Update { id, .. } | Self::Delete { id } => Some(id),
            Self::Beat { .. } => None,
        }
    }
}

impl Damage {
    /// What a comparison calls it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Note | Self::NoNote | Self::Price => "different",
        }
    }
}

/// Whether a writer keeps this row for ever.
pub fn stays(id: i64) -> bool {
    id % 20 == 0
}

impl Kind {
    pub fn of(url: &str) -> Self {
        match url.starts_with("postgres") {
            true => Self::Postgres,
            false => Self::MariaDb,
        }
    }

    /// The table with so many rows.
    pub fn table(self, place: Place, rows: i64) -> Vec<String> {
        let (text, options) = match self {
            Self::Postgres => ("text", ""),
            Self::MariaDb => ("varchar(200)", " CHARACTER SET utf8mb4"),
        };
        let numbers = match self {
            Self::Postgres => format!("SELECT n FROM generate_series(1, {rows}) n"),
            Self::MariaDb => format!("SELECT seq AS n FROM seq_1_to_{rows}"),
        };
        let changed = match (place, self) {
            (Place::Copy, _) => "",
            (Place::Source, Self::Postgres) => ", changed timestamptz NOT NULL DEFAULT now()",
            (Place::Source, Self::MariaDb) => {
                ", changed timestamp(6) NOT NULL DEFAULT current_timestamp(6) ON UPDATE current_timestamp(6)"
            }
        };
        let index = match place {
            Place::Copy => "SELECT 1",
            Place::Source => "CREATE INDEX changed ON goods (changed)",
        };
        vec![
            format!(
                "CREATE TABLE goods (id bigint PRIMARY KEY, version bigint NOT NULL, body {text} NOT NULL, \
                 note varchar(60), price decimal(12, 2) NOT NULL{changed}){options}"
            ),
            format!(
                "INSERT INTO goods ({COLUMNS}) SELECT n * 2, 0, concat('row ', n), concat('note ', n), n % 1000 + 0.25 \
                 FROM ({numbers}) AS numbers"
            ),
            index.to_owned(),
        ]
    }

    /// The table with the heartbeat of the mirror.
    pub fn beats(self) -> Vec<String> {
        let time = match self {
            Self::Postgres => "timestamp(6)",
            Self::MariaDb => "datetime(6)",
        };
        vec![
            format!("CREATE TABLE beats (at {time})"),
            "INSERT INTO beats VALUES (NULL)".to_owned(),
        ]
    }

    /// The clock, in microseconds since 1970.
    pub fn clock(self) -> &'static str {
        match self {
            Self::Postgres => "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
            Self::MariaDb => "SELECT timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6))",
        }
    }

    /// Several changes, in one transaction.
    pub fn transaction(self, place: Place, changes: impl Iterator<Item = Change>) -> String {
        let mut all = String::from("BEGIN");
        for change in changes {
            all.push_str("; ");
            all.push_str(&self.change(place, change));
        }
        all.push_str("; COMMIT");
        all
    }

    fn change(self, place: Place, change: Change) -> String {
        let row = |id, version| format!("({id}, {version}, '{}', 'new', 1.5)", body(version));
        match (change, self) {
            (Change::Insert { id, version }, Self::Postgres) => {
                let row = row(id, version);
                format!("INSERT INTO goods ({COLUMNS}) VALUES {row} ON CONFLICT (id) DO NOTHING")
            }
            (Change::Insert { id, version }, Self::MariaDb) => {
                let row = row(id, version);
                format!("INSERT IGNORE INTO goods ({COLUMNS}) VALUES {row}")
            }
            (Change::Update { id, version }, _) => {
                let body = body(version);
                // MariaDB sets it by itself.
                let changed = match (place, self) {
                    (Place::Source, Self::Postgres) => ", changed = now()",
                    _ => "",
                };
                format!(
                    "UPDATE goods SET version = {version}, body = '{body}'{changed} WHERE id = {id}"
                )
            }
            (Change::Delete { id }, _) => format!("DELETE FROM goods WHERE id = {id}"),
            (Change::Beat { at }, Self::Postgres) => {
                format!("UPDATE beats SET at = timestamp 'epoch' + {at} * interval '1 microsecond'")
            }
            (Change::Beat { at }, Self::MariaDb) => {
                format!("UPDATE beats SET at = timestamp('1970-01-01') + INTERVAL {at} MICROSECOND")
            }
        }
    }

    /// Damages a row of the copy.
    pub fn damage(self, id: i64, damage: Damage) -> String {
        match damage {
            Damage::Missing => format!("DELETE FROM goods WHERE id = {id}"),
            Damage::Note => format!("UPDATE goods SET note = '' WHERE id = {id}"),
            Damage::NoNote => format!("UPDATE goods SET note = NULL WHERE id = {id}"),
            Damage::Price => format!("UPDATE goods SET price = 0.01 WHERE id = {id}"),
            Damage::Extra => self.change(Place::Copy, Change::Insert { id, version: 0 }),
        }
    }

    /// What a callback asks for. A row that the mirror has brought further keeps its version.
    pub fn repair(self, id: i64, row: &Value) -> String {
        let Value::Object(row) = row else {
            return format!("DELETE FROM goods WHERE id = {id}");
        };
        let value = |name: &str| match row.get(name).and_then(Value::as_str) {
            Some(text) => format!("'{}'", text.replace('\'', "''")),
            None => "NULL".to_owned(),
        };
        let columns = ["version", "body", "note", "price"].map(value).join(", ");
        let insert = format!("INSERT INTO goods VALUES ({id}, {columns})");
        match self {
            Self::Postgres => format!(
                "{insert} ON CONFLICT (id) DO UPDATE SET note = excluded.note, price = excluded.price, \
                 body = CASE WHEN goods.version <= excluded.version THEN excluded.body ELSE goods.body END, \
                 version = greatest(goods.version, excluded.version)"
            ),
            // In this order: each sees what was set before it.
            Self::MariaDb => format!(
                "{insert} ON DUPLICATE KEY UPDATE note = VALUES(note), price = VALUES(price), \
                 body = IF(version <= VALUES(version), VALUES(body), body), \
                 version = GREATEST(version, VALUES(version))"
            ),
        }
    }

    /// The keys of all open repairs, each with a `;` behind it.
    pub fn repaired_keys(self) -> &'static str {
        match self {
            Self::Postgres => {
                "SELECT coalesce(string_agg(convert_from(row_key, 'UTF8'), ''), '') FROM final_reconcile_repairs"
            }
            Self::MariaDb => {
                "SELECT coalesce(group_concat(CAST(row_key AS CHAR) SEPARATOR ''), '') FROM final_reconcile_repairs"
            }
        }
    }

    /// All rows as texts, in the order of the key.
    pub fn rows(self) -> &'static str {
        match self {
            Self::Postgres => {
                "SELECT coalesce(string_agg(concat_ws('|', id, version, body, coalesce(note, '-'), price), E'\\n' \
                 ORDER BY id), '') FROM goods WHERE id > {from} AND id <= {to}"
            }
            Self::MariaDb => {
                "SELECT coalesce(group_concat(concat_ws('|', id, version, body, coalesce(note, '-'), price) \
                 ORDER BY id SEPARATOR '\\n'), '') FROM goods WHERE id > {from} AND id <= {to}"
            }
        }
    }
}

const COLUMNS: &str = "id, version, body, note, price";

/// What a row says beside its number: no other version says the same.
fn body(version: i64) -> String {
    let more = usize::try_from(version % 30).unwrap_or_default();
    format!("versión {version} {}", "·x".repeat(more))
}
