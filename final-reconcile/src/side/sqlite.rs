//! The catalog of SQLite.

use std::sync::Arc;

use final_core::database::{DbResult, Dialect, columns, read};
use futures::future::BoxFuture;
use sqlx::{Sqlite, SqlitePool};

use super::{
    ask::sqlite::{SqliteTable, sql},
    database::{SideDatabase, add_column, described},
    reader::Reader,
    write::Writer,
};
use crate::{
    error::Reconciled,
    own::OwnPool,
    plan::SidePlan,
    table::{ColumnClass, Family, KeyOrder, SideColumn, SideTable, UniqueIndex},
};

const COLUMNS: &str = "
    SELECT name, type AS declared, [notnull] AS not_null, pk AS place, hidden > 1 AS is_generated
    FROM pragma_table_xinfo(?1)
    WHERE hidden <> 1 ORDER BY cid";

const INDEXES: &str = "
    SELECT l.name AS index_name, l.origin = 'pk' AS is_primary, coalesce(i.name, '') AS name,
        coalesce(i.coll, '') AS collation
    FROM pragma_index_list(?1) l JOIN pragma_index_xinfo(l.name) i
    WHERE l.[unique] AND NOT l.partial AND i.key
    ORDER BY is_primary DESC, l.name, i.seqno";

columns! {
    struct ColumnRow {
        name: String,
        declared: String,
        not_null: i64,
        place: i64,
        is_generated: i64,
    }
}

columns! {
    struct IndexRow {
        index_name: String,
        is_primary: i64,
        name: String,
        collation: String,
    }
}

/// A SQLite database.
pub(super) struct OnSqlite {
    pool: Arc<OwnPool<Sqlite>>,
}

impl OnSqlite {
    pub(super) fn new(caller: &SqlitePool) -> Self {
        Self {
            pool: Arc::new(OwnPool::new(caller, &[])),
        }
    }

    async fn read_table(&self, table: &str) -> DbResult<Option<SideTable>> {
        let mut conn = self.pool.get().acquire().await?;
        let asked = [table.into()];
        let rows: Vec<ColumnRow> =
            read::<Sqlite, _>(&mut conn, &sql(COLUMNS.into()), &asked).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let indexes: Vec<IndexRow> =
            read::<Sqlite, _>(&mut conn, &sql(INDEXES.into()), &asked).await?;
        let mut unique: Vec<UniqueIndex> = Vec::new();
        let mut collations: Vec<(String, String)> = Vec::new();
        for row in indexes {
            collations.push((row.name.clone(), row.collation));
            add_column(&mut unique, row.index_name, row.is_primary != 0, row.name);
        }
        // An expression has no name.
        unique.retain(|index| index.columns.iter().all(|name| !name.is_empty()));
        let mut key: Vec<&ColumnRow> = rows.iter().filter(|row| row.place > 0).collect();
        key.sort_by_key(|row| row.place);
        if !key.is_empty() && !unique.iter().any(|index| index.is_primary) {
            // An INTEGER PRIMARY KEY is the table itself, and a table WITHOUT ROWID may be too.
            unique.insert(
                0,
                UniqueIndex {
                    name: "PRIMARY KEY".into(),
                    columns: key.iter().map(|row| row.name.clone()).collect(),
                    is_primary: true,
                },
            );
        }
        let columns = rows.iter().map(|row| {
            let collation = collations.iter().find(|(name, _)| *name == row.name);
            let collation = collation.map_or("BINARY", |(_, collation)| collation.as_str());
            // The key of rows is never NULL, whatever the column says.
            let is_row_id =
                key.len() == 1 && row.place == 1 && row.declared.eq_ignore_ascii_case("INTEGER");
            column(row, collation, is_row_id)
        });
        Ok(Some(SideTable {
            family: Family::Sqlite,
            shown: self.shown(table),
            name: Dialect::Sqlite.quoted(table),
            columns: columns.collect(),
            unique,
            rows: None,
            has_md5: true,
            is_utf8: true,
            unsafe_engine: None,
            is_clustered: false,
        }))
    }

    fn shown(&self, table: &str) -> String {
        format!("`{table}` in {}", self.place())
    }
}

impl SideDatabase for OnSqlite {
    fn place(&self) -> String {
        format!("SQLite {}", self.pool.place())
    }

    fn describe<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Reconciled<SideTable>> {
        let side = self.shown(table);
        Box::pin(described(&self.pool, side, self.read_table(table)))
    }

    fn reader(&self, plan: SidePlan) -> Arc<dyn Reader> {
        Arc::new(SqliteTable::new(Arc::clone(&self.pool), plan))
    }

    fn writer(&self, plan: SidePlan) -> Arc<dyn Writer> {
        Arc::new(SqliteTable::new(Arc::clone(&self.pool), plan))
    }
}

fn column(row: &ColumnRow, collation: &str, is_row_id: bool) -> SideColumn {
    use ColumnClass::*;
    let class = class(&row.declared);
    SideColumn {
        name: row.name.clone(),
        declared: match row.declared.as_str() {
            "" => "without a type".into(),
            declared => declared.into(),
        },
        cast: String::new(),
        is_utf8: false,
        nullable: row.not_null == 0 && !is_row_id,
        is_generated: row.is_generated != 0,
        is_invisible: false,
        order: match class {
            Bool | Integer { .. } | Decimal { .. } | Float { .. } | Bits { .. } => KeyOrder::Number,
            _ if collation == "BINARY" => KeyOrder::Bytes,
            _ => KeyOrder::Own(format!("sqlite {collation}")),
        },
        class,
    }
}

/// By the words in a type, as SQLite itself looks at them, and by those that others use.
fn class(declared: &str) -> ColumnClass {
    use ColumnClass::*;
    let declared = declared.to_ascii_uppercase();
    let has = |word: &str| declared.contains(word);
    match () {
        () if has("INT") => Integer {
            unsigned: false,
            zerofill: false,
        },
        () if has("BOOL") => Bool,
        () if has("JSON") => Json,
        () if has("UUID") => Uuid,
        () if has("CHAR") || has("CLOB") || has("TEXT") => Text { padded: false },
        () if has("BLOB") || has("BINARY") || has("BYTEA") => Bytes { length: None },
        () if has("REAL") || has("FLOA") || has("DOUB") => Float { single: false },
        () if has("DEC") || has("NUM") => Decimal { scale: None },
        () if has("DATETIME") || has("TIMESTAMP") => DateTime { precision: 6 },
        () if has("DATE") => Date,
        () if has("TIME") => Time { precision: 6 },
        () => Other,
    }
}
