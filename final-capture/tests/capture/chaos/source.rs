//! The source: one server of either kind, its tables, and the words in which they differ.
//!
//! Input: a kind of server. Output: statements for it.

use final_tests::Conn;

/// Which server is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

/// The tables that are captured, as patterns.
pub const TABLES: [&str; 2] = ["shop.goods", "shop.flats"];

impl Kind {
    /// Makes the tables. `marks` says which transactions are committed, and `unwatched` is not captured
    /// either; on MariaDB `loose` is not transactional.
    pub fn tables(self) -> Vec<String> {
        let (schema, text) = match self {
            Self::Postgres => ("CREATE SCHEMA shop", "TEXT"),
            Self::MariaDb => ("CREATE DATABASE shop", "VARCHAR(2000)"),
        };
        let rows = |name| {
            format!(
                "CREATE TABLE shop.{name} (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, body {text} NOT NULL)"
            )
        };
        let mut all = vec![schema.to_owned()];
        all.extend(["goods", "flats", "unwatched"].map(rows));
        all.push("CREATE TABLE shop.marks (id BIGINT PRIMARY KEY, fenced BIGINT NOT NULL)".into());
        if self == Self::MariaDb {
            all.push(format!("{} ENGINE = MyISAM", rows("loose")));
        }
        if self == Self::Postgres {
            // One table of each way: the whole row before a change, and its key alone.
            all.push("ALTER TABLE shop.goods REPLICA IDENTITY FULL".into());
        }
        all
    }

    /// So many rows in one statement.
    pub fn insert_many(self, from: i64, count: i64, version: i64) -> String {
        let rows = match self {
            Self::Postgres => format!("generate_series(0, {}) AS numbers(seq)", count - 1),
            Self::MariaDb => format!("shop.seq_0_to_{}", count - 1),
        };
        let body = body(version);
        format!(
            "INSERT INTO shop.goods (id, version, body) SELECT {from} + seq, {version}, '{body}' FROM {rows}"
        )
    }

    /// The next change of the columns of `goods`, by what is there. The added column is the first where the server can
    /// do that, so that values under the wrong names are seen.
    pub async fn alter(self, conn: &mut Conn) -> Result<(), sqlx::Error> {
        let column = "SELECT coalesce(max(concat(column_name, ' ', data_type)), '') FROM information_schema.columns \
            WHERE table_schema = 'shop' AND table_name = 'goods' AND column_name IN ('extra', 'other')";
        let first = match self {
            Self::Postgres => "",
            Self::MariaDb => " FIRST",
        };
        let change = match (conn.text(column).await?.as_str(), self) {
            ("", _) => format!("ADD COLUMN extra INT NOT NULL DEFAULT 7{first}"),
            ("extra integer", Self::Postgres) => "ALTER COLUMN extra TYPE BIGINT".into(),
            ("extra int", Self::MariaDb) => "MODIFY COLUMN extra BIGINT NOT NULL DEFAULT 7".into(),
            ("extra bigint", _) => "RENAME COLUMN extra TO other".into(),
            _ => "DROP COLUMN other".into(),
        };
        conn.run(&format!("ALTER TABLE shop.goods {change}")).await
    }

    /// Begins a new file of the log.
    pub fn rotate(self) -> &'static str {
        match self {
            Self::Postgres => "SELECT pg_switch_wal()",
            Self::MariaDb => "FLUSH BINARY LOGS",
        }
    }
}

/// What a row says beside its numbers: no other version says the same.
pub fn body(version: i64) -> String {
    let more = usize::try_from(version % 60).unwrap_or_default();
    format!("versión {version} {}", "·x".repeat(more))
}
