//! The tables of a database, as far as capturing them is concerned.
//!
//! Input: the catalog, a [`Selection`]. Output: each table that could be captured, and those that are wanted.

use std::collections::HashSet;

use sqlx::Row;

use super::catalog::Catalog;
use crate::{
    select::Selection,
    table::{SourceTable, TableName},
};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: TableName,
    oid: i64,
    /// The tables that it is a part of, itself not among them.
    ancestors: Vec<i64>,
    pub(super) is_partitioned: bool,
    /// Its changes are not written to the log.
    pub(super) is_unlogged: bool,
    /// An UPDATE can say which row it means: there is a key, or the whole old row is written.
    pub(super) has_identity: bool,
    pub(super) generated: Vec<String>,
    columns: Vec<String>,
    key: Vec<String>,
    /// Our role may put it into a publication.
    pub(super) is_ours: bool,
}

const TABLES: &str = r"
SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid::bigint AS oid,
       c.relkind = 'p' AS is_partitioned, c.relpersistence <> 'p' AS is_unlogged,
       CASE WHEN c.relispartition
            THEN ARRAY(SELECT a.relid::oid::bigint FROM pg_catalog.pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid)
            ELSE '{}' END AS ancestors,
       NOT EXISTS (
           SELECT FROM (
               SELECT c.oid AS leaf
               UNION ALL
               SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) t WHERE c.relkind = 'p' AND t.isleaf
           ) l
           JOIN pg_catalog.pg_class k ON k.oid = l.leaf
           WHERE k.relreplident <> 'f' AND NOT EXISTS (
               SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = k.oid AND i.indisvalid AND i.indimmediate
                 AND ((k.relreplident = 'd' AND i.indisprimary) OR (k.relreplident = 'i' AND i.indisreplident))
           )
       ) AS has_identity,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped ORDER BY a.attnum) AS generated,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
             WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
             ORDER BY a.attnum) AS key,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_ours
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2";

/// All tables of the database.
pub(super) async fn all(catalog: &Catalog) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query(TABLES).fetch_all(&catalog.0).await?;
    rows.iter()
        .map(|row| {
            let text = |column| row.try_get::<String, _>(column);
            Ok(Found {
                name: TableName {
                    schema: text("schema")?.into(),
                    table: text("name")?.into(),
                },
                oid: row.try_get("oid")?,
                ancestors: row.try_get("ancestors")?,
                is_partitioned: row.try_get("is_partitioned")?,
                is_unlogged: row.try_get("is_unlogged")?,
                has_identity: row.try_get("has_identity")?,
                generated: row.try_get("generated")?,
                columns: row.try_get("columns")?,
                key: row.try_get("key")?,
                is_ours: row.try_get("is_ours")?,
            })
        })
        .collect()
}

/// The wanted ones. A partition of a wanted table is left out: its changes come as changes of that table.
pub(super) fn wanted<'a>(all: &'a [Found], selection: &Selection) -> Vec<&'a Found> {
    let chosen: Vec<_> = all
        .iter()
        .filter(|table| selection.wants(&table.name))
        .collect();
    let oids: HashSet<_> = chosen.iter().map(|table| table.oid).collect();
    chosen
        .into_iter()
        .filter(|table| !table.ancestors.iter().any(|it| oids.contains(it)))
        .collect()
}

impl Found {
    /// Whether it can be in a publication without harm to who writes to it.
    pub(super) fn can_be_published(&self) -> bool {
        self.has_identity && !self.is_unlogged
    }

    /// What rules for columns are checked against.
    pub(super) fn for_rules(&self) -> SourceTable {
        let texts = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        SourceTable {
            name: self.name.clone(),
            columns: texts(&self.columns),
            key: texts(&self.key),
        }
    }

    /// Its name in SQL.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.name.schema), quote(&self.name.table))
    }
}

/// A name in SQL.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
