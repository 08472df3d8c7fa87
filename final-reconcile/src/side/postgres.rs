//! The catalog of PostgreSQL.

use std::sync::Arc;

use final_core::database::{DbResult, Driver, columns, read};
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, PgPool, Postgres, SqlSafeStr, SqlStr};

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

/// The texts of values must not depend on settings of the server or the caller.
const TEXTS: &str = "SET TIME ZONE 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
    SET extra_float_digits = 1; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET xmloption = 'content'";
const READING: &[&str] = &[TEXTS, "SET default_transaction_read_only = on"];
/// The server ends a transaction whose process stands still, because it keeps a row from everybody. A source may be read
/// for a minute meanwhile.
const WRITING: &[&str] = &[TEXTS, "SET idle_in_transaction_session_timeout = '120s'"];

const COLUMNS: &str = r#"
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.attname, a.attnotnull, a.attcollation, a.atttypid AS type, a.atttypmod AS mod,
            a.attgenerated <> '' AS is_generated
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, b.attname, b.attnotnull OR t.typnotnull, b.attcollation, t.typbasetype,
            CASE WHEN b.mod = -1 THEN t.typtypmod ELSE b.mod END, b.is_generated
        FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type
        WHERE t.typtype = 'd')
    SELECT b.attname::text AS name, format_type(b.type, -1) AS base, format_type(b.type, b.mod) AS declared,
        t.typtype::text AS kind, b.mod::bigint AS modifier, NOT b.attnotnull AS nullable, b.is_generated,
        coalesce(c.collname::text, '') AS collation,
        coalesce(CASE WHEN c.collname = 'default' THEN d.datcollate ELSE c.collcollate END, '') AS locale,
        coalesce(CASE WHEN c.collname = 'default' THEN to_jsonb(d) ->> 'datlocprovider' ELSE c.collprovider::text END, '')
            AS provider
    FROM base b
    JOIN pg_catalog.pg_type t ON t.oid = b.type
    LEFT JOIN pg_catalog.pg_collation c ON c.oid = b.attcollation
    LEFT JOIN pg_catalog.pg_database d ON d.datname = current_database()
    WHERE t.typtype <> 'd'
    ORDER BY b.attnum"#;

const INDEXES: &str = "
    SELECT c.relname::text AS index, i.indisprimary AS is_primary, a.attname::text AS name
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = $1::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        AND k.place <= i.indnkeyatts
    ORDER BY i.indisprimary DESC, c.relname, k.place";

const ABOUT: &str = "
    SELECT c.reltuples::bigint AS rows, pg_catalog.current_setting('server_encoding') AS encoding
    FROM pg_catalog.pg_class c WHERE c.oid = to_regclass($1)";

columns! {
    struct ColumnRow {
        name: String,
        base: String,
        declared: String,
        kind: String,
        modifier: i64,
        nullable: bool,
        is_generated: bool,
        collation: String,
        locale: String,
        provider: String,
    }
}

columns! {
    struct IndexRow {
        index: String,
        is_primary: bool,
        name: String,
    }
}

columns! {
    struct AboutRow {
        rows: i64,
        encoding: String,
    }
}

/// A PostgreSQL.
pub(super) struct OnPostgres {
    pool: Arc<OwnPool<Postgres>>,
    writing: Arc<OwnPool<Postgres>>,
}

impl OnPostgres {
    pub(super) fn new(caller: &PgPool) -> Self {
        Self {
            pool: Arc::new(OwnPool::new(caller, READING)),
            writing: Arc::new(OwnPool::new(caller, WRITING)),
        }
    }

    async fn read_table(&self, table: &str) -> DbResult<Option<SideTable>> {
        let name = quoted(table);
        let mut conn = self.pool.get().acquire().await?;
        let asked = [name.as_str().into()];
        let about: Vec<AboutRow> = read::<Postgres, _>(&mut conn, &sql(ABOUT), &asked).await?;
        let Some(about) = about.into_iter().next() else {
            return Ok(None);
        };
        let columns: Vec<ColumnRow> = read::<Postgres, _>(&mut conn, &sql(COLUMNS), &asked).await?;
        let indexes: Vec<IndexRow> = read::<Postgres, _>(&mut conn, &sql(INDEXES), &asked).await?;
        let has_md5 = has_md5::<Postgres>(&mut conn).await?;
        let mut unique: Vec<UniqueIndex> = Vec::new();
        for row in indexes {
            add_column(&mut unique, row.index, row.is_primary, row.name);
        }
        Ok(Some(SideTable {
            family: Family::Postgres,
            shown: format!("`{table}` in {}", self.place()),
            name,
            columns: columns.into_iter().map(column).collect(),
            unique,
            rows: u64::try_from(about.rows).ok(),
            has_md5,
            is_utf8: about.encoding == "UTF8",
            unsafe_engine: None,
            is_clustered: false,
        }))
    }
}

impl SideDatabase for OnPostgres {
    fn place(&self) -> String {
        let place = self.pool.place();
        format!("PostgreSQL {}", place.split('?').next().unwrap_or_default())
    }

    fn describe<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Reconciled<SideTable>> {
        let side = format!("`{table}` in {}", self.place());
        Box::pin(described(&self.pool, side, self.read_table(table)))
    }

    fn reader(&self, plan: SidePlan) -> Arc<dyn Reader> {
        Arc::new(ServerTable::new(Arc::clone(&self.pool), plan))
    }

    fn writer(&self, plan: SidePlan) -> Arc<dyn Writer> {
        Arc::new(ServerTable::new(Arc::clone(&self.writing), plan))
    }
}

fn column(row: ColumnRow) -> SideColumn {
    let class = class(&row);
    SideColumn {
        order: order(&row, class),
        class,
        name: row.name,
        declared: row.declared,
        cast: row.base,
        is_utf8: false,
        nullable: row.nullable,
        is_generated: row.is_generated,
        is_invisible: false,
    }
}

fn class(row: &ColumnRow) -> ColumnClass {
    use ColumnClass::*;
    let modifier = u32::try_from(row.modifier).ok();
    // Behind the modifier of a text, a number or bits, four bytes of the server's own.
    let precision = modifier.unwrap_or(6).min(6);
    if row.kind == "e" {
        return Words;
    }
    match row.base.as_str() {
        "boolean" => Bool,
        "smallint" | "integer" | "bigint" | "oid" => Integer {
            unsigned: false,
            zerofill: false,
        },
        "numeric" => Decimal {
            // A negative scale, which is new in version 15, rounds whole digits.
            scale: modifier
                .map(|modifier| modifier.saturating_sub(4) & 0x7ff)
                .filter(|scale| *scale <= 1000),
        },
        "real" => Float { single: true },
        "double precision" => Float { single: false },
        "bpchar" | "character" => Text { padded: true },
        "text" | "character varying" | "name" | "citext" | "\"char\"" => Text { padded: false },
        "bytea" => Bytes { length: None },
        "date" => Date,
        "time without time zone" => Time { precision },
        "timestamp without time zone" => DateTime { precision },
        "timestamp with time zone" => Moment { precision },
        "bit" | "\"bit\"" => Bits {
            length: modifier.unwrap_or(1),
        },
        "uuid" => Uuid,
        "json" | "jsonb" => Json,
        _ => Other,
    }
}

/// Collations of the C library and of ICU put letters in orders of their own; `C` has that of bytes.
fn order(row: &ColumnRow, class: ColumnClass) -> KeyOrder {
    use ColumnClass::*;
    match class {
        Bool | Integer { .. } | Decimal { .. } | Float { .. } | Bits { .. } => KeyOrder::Number,
        Date | Time { .. } | DateTime { .. } | Moment { .. } => KeyOrder::Time,
        Bytes { .. } => KeyOrder::Bytes,
        Uuid => KeyOrder::Uuid,
        Text { .. } => {
            let is_libc = matches!(row.provider.as_str(), "c" | "");
            let is_c = is_libc && matches!(row.locale.as_str(), "C" | "POSIX");
            // Padded texts are compared without their spaces, which is another order than that of bytes.
            match (is_c || row.provider == "b", class) {
                (true, Text { padded: false }) => KeyOrder::Bytes,
                _ => KeyOrder::Own(format!(
                    "postgres {} {} {}",
                    row.provider, row.collation, row.locale
                )),
            }
        }
        Words | Json | Other => KeyOrder::Own(format!("postgres {}", row.declared)),
    }
}

fn quoted(table: &str) -> String {
    let quote = |name: &str| Postgres::DIALECT.quoted(name);
    match table.split_once('.') {
        Some((schema, table)) => format!("{}.{}", quote(schema), quote(table)),
        None => quote(table),
    }
}

fn sql(text: &'static str) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}
