//! The catalog of MySQL and MariaDB.

use std::sync::Arc;

use final_core::database::{DbResult, Driver, columns, read};
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, MySql, MySqlPool, SqlSafeStr, SqlStr};

use super::{
    ask::server::ServerTable,
    database::{SideDatabase, add_column, described, has_md5},
    reader::Reader,
    write::Writer,
};
use crate::{
    error::Reconciled,
    own::OwnPool,
    plan::SidePlan,
    table::{ColumnClass, Family, KeyOrder, SideColumn, SideTable, UniqueIndex},
};

/// The texts of values must not depend on settings of the server or the caller. What GROUP_CONCAT cannot hold is cut,
/// and a digest says so.
const UTC: &str = "SET SESSION time_zone = '+00:00'";
const READING: &[&str] = &[
    UTC,
    "SET SESSION group_concat_max_len = LEAST(67108864, @@max_allowed_packet)",
    "SET SESSION TRANSACTION READ ONLY",
];
/// A key of 0 is a key, and not the next number. The server ends a session whose process stands still, because it keeps a
/// row from everybody. A source may be read for a minute meanwhile.
const WRITING: &[&str] = &[
    UTC,
    "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')",
    "SET SESSION wait_timeout = 120",
    "SET @final_reconcile = 1 /*M!100300 , SESSION idle_transaction_timeout = 120 */",
];

const COLUMNS: &str = "
    SELECT CONVERT(column_name USING utf8mb4) AS name, CONVERT(column_type USING utf8mb4) AS declared,
        CONVERT(LOWER(data_type) USING utf8mb4) AS base, is_nullable = 'YES' AS nullable,
        CONVERT(COALESCE(collation_name, '') USING utf8mb4) AS collation_name,
        CAST(COALESCE(numeric_scale, 0) AS SIGNED) AS scale, CAST(COALESCE(numeric_precision, 0) AS SIGNED) AS digits,
        CAST(COALESCE(datetime_precision, 0) AS SIGNED) AS fraction,
        CAST(COALESCE(character_octet_length, 0) AS SIGNED) AS octets,
        COALESCE(generation_expression, '') <> '' AS is_generated,
        COALESCE(extra, '') LIKE '%INVISIBLE%' AS is_invisible
    FROM information_schema.columns
    WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?
    ORDER BY ordinal_position";

const INDEXES: &str = "
    SELECT CONVERT(index_name USING utf8mb4) AS index_name, CONVERT(COALESCE(column_name, '') USING utf8mb4) AS name,
        sub_part IS NOT NULL OR column_name IS NULL AS is_part
    FROM information_schema.statistics
    WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND non_unique = 0
    ORDER BY index_name = 'PRIMARY' DESC, index_name, seq_in_index";

const ABOUT: &str = "
    SELECT CAST(COALESCE(table_rows, 0) AS SIGNED) AS row_count, LOWER(VERSION()) LIKE '%mariadb%' AS is_mariadb,
        CONVERT(table_schema USING utf8mb4) AS schema_name,
        COALESCE(t.engine = 'InnoDB' AND t.create_options NOT LIKE '%partitioned%', 0) AS is_clustered,
        (SELECT CONVERT(e.engine USING utf8mb4) FROM information_schema.engines e
            WHERE e.engine = t.engine AND COALESCE(e.transactions, '') <> 'YES') AS unsafe_engine
    FROM information_schema.tables t
    WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?";

/// MariaDB keeps JSON as text with a check.
const CHECKS: &str = "
    SELECT CONVERT(check_clause USING utf8mb4) AS clause
    FROM information_schema.check_constraints
    WHERE constraint_schema = COALESCE(?, DATABASE()) AND table_name = ?";

columns! {
    struct ColumnRow {
        name: String,
        declared: String,
        base: String,
        nullable: i64,
        collation_name: String,
        scale: i64,
        digits: i64,
        fraction: i64,
        octets: i64,
        is_generated: i64,
        is_invisible: i64,
    }
}

columns! {
    struct IndexRow {
        index_name: String,
        name: String,
        is_part: i64,
    }
}

columns! {
    struct AboutRow {
        row_count: i64,
        is_mariadb: i64,
        is_clustered: i64,
        schema_name: String,
        unsafe_engine: Option<String>,
    }
}

/// A MySQL or MariaDB.
pub(super) struct OnMySql {
    pool: Arc<OwnPool<MySql>>,
    writing: Arc<OwnPool<MySql>>,
}

impl OnMySql {
    pub(super) fn new(caller: &MySqlPool) -> Self {
        Self {
            pool: Arc::new(OwnPool::new(caller, READING)),
            writing: Arc::new(OwnPool::new(caller, WRITING)),
        }
    }

    async fn read_table(&self, table: &str) -> DbResult<Option<SideTable>> {
        let (schema, name) = match table.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, table),
        };
        let asked = [schema.into(), name.into()];
        let mut conn = self.pool.get().acquire().await?;
        let about: Vec<AboutRow> = read::<MySql, _>(&mut conn, &sql(ABOUT), &asked).await?;
        let Some(about) = about.into_iter().next() else {
            return Ok(None);
        };
        let family = match about.is_mariadb {
            0 => Family::MySql,
            _ => Family::MariaDb,
        };
        let rows: Vec<ColumnRow> = read::<MySql, _>(&mut conn, &sql(COLUMNS), &asked).await?;
        let indexes: Vec<IndexRow> = read::<MySql, _>(&mut conn, &sql(INDEXES), &asked).await?;
        let checks: Vec<String> = match family {
            Family::MariaDb => read::<MySql, _>(&mut conn, &sql(CHECKS), &asked).await?,
            _ => Vec::new(),
        };
        let has_md5 = has_md5::<MySql>(&mut conn).await?;
        let mut columns: Vec<SideColumn> = rows.into_iter().map(column).collect();
        for column in &mut columns {
            let check = format!("json_valid(`{}`)", column.name.replace('`', "``"));
            if checks.iter().any(|clause| clause.trim() == check) {
                column.class = ColumnClass::Json;
            }
        }
        let quote = |name: &str| MySql::DIALECT.quoted(name);
        Ok(Some(SideTable {
            family,
            shown: self.shown(table),
            name: format!("{}.{}", quote(&about.schema_name), quote(name)),
            columns,
            unique: unique(indexes),
            rows: u64::try_from(about.row_count).ok(),
            has_md5,
            is_utf8: true,
            unsafe_engine: about.unsafe_engine,
            is_clustered: about.is_clustered != 0,
        }))
    }

    fn shown(&self, table: &str) -> String {
        format!("`{table}` in {}", self.place())
    }
}

impl SideDatabase for OnMySql {
    fn place(&self) -> String {
        format!("MySQL {}", self.pool.place())
    }

    fn describe<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Reconciled<SideTable>> {
        let side = self.shown(table);
        Box::pin(described(&self.pool, side, self.read_table(table)))
    }

    fn reader(&self, plan: SidePlan) -> Arc<dyn Reader> {
        Arc::new(ServerTable::new(Arc::clone(&self.pool), plan))
    }

    fn writer(&self, plan: SidePlan) -> Arc<dyn Writer> {
        Arc::new(ServerTable::new(Arc::clone(&self.writing), plan))
    }
}

/// The unique indexes. An index over the beginning of a text, or over an expression, does not tell rows apart by columns.
fn unique(rows: Vec<IndexRow>) -> Vec<UniqueIndex> {
    let mut all: Vec<UniqueIndex> = Vec::new();
    let mut partly: Vec<String> = Vec::new();
    for row in rows {
        if row.is_part != 0 {
            partly.push(row.index_name.clone());
        }
        let is_primary = row.index_name == "PRIMARY";
        add_column(&mut all, row.index_name, is_primary, row.name);
    }
    all.retain(|index| !partly.contains(&index.name));
    all
}

fn column(row: ColumnRow) -> SideColumn {
    let class = class(&row);
    let charset = row.collation_name.split('_').next().unwrap_or_default();
    SideColumn {
        order: order(&row, class),
        is_utf8: matches!(class, ColumnClass::Text { .. })
            && matches!(charset, "utf8mb4" | "utf8mb3" | "utf8" | "ascii"),
        class,
        name: row.name,
        declared: row.declared,
        cast: String::new(),
        nullable: row.nullable != 0,
        is_generated: row.is_generated != 0,
        is_invisible: row.is_invisible != 0,
    }
}

fn class(row: &ColumnRow) -> ColumnClass {
    use ColumnClass::*;
    let number = |value: i64| u32::try_from(value).unwrap_or_default();
    let precision = number(row.fraction);
    match row.base.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Integer {
            unsigned: row.declared.contains("unsigned"),
            zerofill: row.declared.contains("zerofill"),
        },
        "year" => Integer {
            unsigned: true,
            zerofill: true,
        },
        "decimal" => Decimal {
            scale: Some(number(row.scale)),
        },
        "float" => Float { single: true },
        "double" => Float { single: false },
        "char" => Text { padded: true },
        "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Text { padded: false },
        "binary" => Bytes {
            length: Some(number(row.octets)),
        },
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Bytes { length: None },
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" | "vector" => {
            Bytes { length: None }
        }
        "date" => Date,
        "time" => Time { precision },
        "datetime" => DateTime { precision },
        "timestamp" => Moment { precision },
        "bit" => Bits {
            length: number(row.digits),
        },
        "uuid" => Uuid,
        "json" => Json,
        "enum" | "set" => Words,
        _ => Other,
    }
}

/// Binary collations of Unicode have the order of UTF-8.
fn order(row: &ColumnRow, class: ColumnClass) -> KeyOrder {
    use ColumnClass::*;
    const BYTES: [&str; 7] = [
        "utf8mb4_bin",
        "utf8mb4_nopad_bin",
        "utf8mb4_0900_bin",
        "utf8mb3_bin",
        "utf8mb3_nopad_bin",
        "utf8_bin",
        "ascii_bin",
    ];
    match class {
        Bool | Integer { .. } | Decimal { .. } | Float { .. } | Bits { .. } => KeyOrder::Number,
        Date | Time { .. } | DateTime { .. } | Moment { .. } => KeyOrder::Time,
        Bytes { .. } => KeyOrder::Bytes,
        Text { .. } if BYTES.contains(&row.collation_name.as_str()) => KeyOrder::Bytes,
        Text { .. } => KeyOrder::Own(format!("mysql {}", row.collation_name)),
        Uuid | Words | Json | Other => KeyOrder::Own(format!("mysql {}", row.declared)),
    }
}

fn sql(text: &'static str) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}
