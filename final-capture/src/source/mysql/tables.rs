//! What of the captured tables would lose changes, or be in the way.
//!
//! Input: a connection, and which tables are wanted. Output: findings that name the tables. The catalog is that of
//! now, so it decides nothing about rows: those have their columns with them.

use std::collections::{BTreeMap, BTreeSet};

use final_core::admin::doctor::{Diagnosis, Finding, Level};
use mysql_async::{Conn, Error, prelude::Queryable};

use super::filter::Filter;
use crate::{
    select::{SelectError, Selection},
    table::{SourceTable, TableName},
};

const PATTERN_EMPTY: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_pattern_empty",
    "Nothing is captured by it until there is such a table. It may also be that the user has no right to see it",
);
const RULE: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_selection",
    "A rule that does not fit hides nothing",
);
const FILTER: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_binlog_filter",
    "The server does not write the changes of these schemas to its log, so none of them ever comes",
);
const NO_KEY: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_table_without_key",
    "Changes of one row cannot be told from those of another, so they have no order of their own",
);
const CASCADE: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_foreign_key_cascade",
    "InnoDB changes the rows of such a table itself when their parent changes, and does not write that to the log",
);
const CHARSET: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_charset_unknown",
    "Texts of this character set cannot be read, so the first change of the table stops the capture",
);
const OLD_TIME: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_time_format_old",
    "The log does not tell the length of such values, so the first change of the table stops the capture",
);
const VERSIONED: Diagnosis = Diagnosis::new(
    Level::Note,
    "source_table_versioned",
    "The log has the rows of history as well: a DELETE comes as an UPDATE of the row's end, and an UPDATE with an INSERT \
     of the old row",
);

const SYSTEM: &str = "('mysql', 'sys', 'information_schema', 'performance_schema')";

/// Character sets of more than two bytes that are read.
const WIDE: &str = "('utf8mb3', 'utf8mb4', 'utf16', 'utf16le', 'utf32')";

/// Findings of the tables that are wanted.
pub(super) async fn findings(conn: &mut Conn, wanted: &Selection) -> Result<Vec<Finding>, Error> {
    let without_key = format!(
        "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, '' FROM information_schema.TABLES t LEFT JOIN \
         information_schema.STATISTICS s ON s.TABLE_SCHEMA = t.TABLE_SCHEMA AND s.TABLE_NAME = t.TABLE_NAME AND \
         s.INDEX_NAME = 'PRIMARY' WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND s.TABLE_NAME IS NULL AND \
         t.TABLE_SCHEMA NOT IN {SYSTEM}"
    );
    let cascades = "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM \
         information_schema.REFERENTIAL_CONSTRAINTS WHERE UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR \
         DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT')";
    let charsets = format!(
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, CONCAT(c.COLUMN_NAME, ' ', c.CHARACTER_SET_NAME) FROM \
         information_schema.COLUMNS c JOIN information_schema.CHARACTER_SETS s ON s.CHARACTER_SET_NAME = \
         c.CHARACTER_SET_NAME WHERE s.MAXLEN > 2 AND s.CHARACTER_SET_NAME NOT IN {WIDE} AND c.TABLE_SCHEMA NOT IN \
         {SYSTEM}"
    );
    let old_times = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE COLUMN_TYPE LIKE \
         '%mariadb-5.3%' AND TABLE_SCHEMA NOT IN {SYSTEM}"
    );
    let all = all(conn, wanted).await?;
    let mut findings = Vec::new();
    for pattern in wanted.patterns() {
        let alone = Selection::tables([pattern.as_str()]);
        if !pattern.starts_with('!') && !all.keys().any(|table| alone.wants(table)) {
            findings.push(PATTERN_EMPTY.found(
                format!("no table is named by `{pattern}`"),
                "Compare the pattern with the tables of the source, and run `GRANT SELECT ON schema.* TO user`",
            ));
        }
    }
    findings.extend(rules(conn, wanted).await?);
    for (table, kinds) in &all {
        if kinds.iter().any(|kind| kind == "SYSTEM VERSIONED") {
            findings.push(VERSIONED.found(
                format!("{table} has system versioning"),
                "Look at `row_end` in the handler: a row whose end is in the past is history",
            ));
        }
    }
    for table in ask(conn, &without_key, wanted).await?.keys() {
        findings.push(NO_KEY.found(
            format!("{table} has no primary key"),
            format!("Run `ALTER TABLE {} ADD PRIMARY KEY (…)`", quoted(table)),
        ));
    }
    for (table, names) in ask(conn, cascades, wanted).await? {
        findings.push(CASCADE.found(
            format!("{table} has the foreign keys {}", names.join(", ")),
            "Change such rows by statements or triggers of your own, with keys of `ON DELETE RESTRICT ON UPDATE RESTRICT`",
        ));
    }
    for (table, columns) in ask(conn, &charsets, wanted).await? {
        findings.push(CHARSET.found(
            format!("{table} has {}", columns.join(", ")),
            format!(
                "Run `ALTER TABLE {} CONVERT TO CHARACTER SET utf8mb4`",
                quoted(&table)
            ),
        ));
    }
    for (table, columns) in ask(conn, &old_times, wanted).await? {
        findings.push(OLD_TIME.found(
            format!(
                "{table} has the columns {} in the format of MariaDB 5.3",
                columns.join(", ")
            ),
            format!(
                "Run `SET GLOBAL mysql56_temporal_format = ON` and `ALTER TABLE {} FORCE`",
                quoted(&table)
            ),
        ));
    }
    Ok(findings)
}

/// The wanted tables that the user can see, each with its type.
async fn all(
    conn: &mut Conn,
    wanted: &Selection,
) -> Result<BTreeMap<TableName, Vec<String>>, Error> {
    let all = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', \
         'SYSTEM VERSIONED') AND TABLE_SCHEMA NOT IN {SYSTEM}"
    );
    ask(conn, &all, wanted).await
}

/// Wanted schemas that the server leaves out of its log: those of the tables that are there, and those that a pattern
/// names.
pub(super) async fn left_out(
    conn: &mut Conn,
    filter: &Filter,
    wanted: &Selection,
) -> Result<Option<Finding>, Error> {
    if !filter.is_on() {
        return Ok(None);
    }
    let mut schemas: BTreeSet<String> = all(conn, wanted)
        .await?
        .into_keys()
        .map(|table| table.schema.to_string())
        .collect();
    let is_name = |schema: &str| !schema.starts_with('!') && !schema.contains(['*', '?', '\\']);
    let named = wanted
        .patterns()
        .iter()
        .filter_map(|pattern| pattern.split_once('.'))
        .map(|(schema, _)| schema.to_owned());
    schemas.extend(named.filter(|schema| is_name(schema)));
    schemas.retain(|schema| !filter.lets(schema));
    Ok((!schemas.is_empty()).then(|| {
        let schemas: Vec<String> = schemas.into_iter().collect();
        FILTER.found(
            format!(
                "{}, so the log has no changes of {}",
                filter.told(),
                schemas.join(", ")
            ),
            "Take `binlog_do_db` and `binlog_ignore_db` out of the server's configuration and start it again, or leave the \
             schemas out by patterns such as `!schema.*`",
        )
    }))
}

/// Rules of tables or columns that are not there. A column that was to be hidden may have been renamed.
pub(super) async fn rules(conn: &mut Conn, wanted: &Selection) -> Result<Option<Finding>, Error> {
    let columns = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, CONCAT(COLUMN_KEY, ' ', COLUMN_NAME) FROM information_schema.COLUMNS WHERE \
         TABLE_SCHEMA NOT IN {SYSTEM} ORDER BY ORDINAL_POSITION"
    );
    let tables = ask(conn, &columns, wanted).await?;
    if tables.is_empty() {
        // Nothing can be seen, so nothing can be compared.
        return Ok(None);
    }
    let tables: Vec<SourceTable> = tables
        .into_iter()
        .map(|(name, columns)| {
            let columns = || columns.iter().filter_map(|column| column.split_once(' '));
            SourceTable {
                key: columns()
                    .filter(|(key, _)| *key == "PRI")
                    .map(|(_, name)| name.into())
                    .collect(),
                columns: columns().map(|(_, name)| name.into()).collect(),
                name,
            }
        })
        .collect();
    Ok(match wanted.check_tables(&tables) {
        Ok(()) => None,
        // Patterns without a table have findings of their own.
        Err(SelectError::UnknownTable { pattern }) if wanted.patterns().contains(&pattern) => None,
        Err(error) => Some(RULE.found(
            error.to_string(),
            "Mend the rule in the configuration of the capture",
        )),
    })
}

/// The wanted tables of an answer, each with its texts.
async fn ask(
    conn: &mut Conn,
    query: &str,
    wanted: &Selection,
) -> Result<BTreeMap<TableName, Vec<String>>, Error> {
    let rows: Vec<(String, String, String)> = conn.query(query).await?;
    let mut tables: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
    for (schema, table, text) in rows {
        let name = TableName {
            schema: schema.into(),
            table: table.into(),
        };
        if wanted.wants(&name) {
            tables.entry(name).or_default().push(text);
        }
    }
    Ok(tables)
}

fn quoted(table: &TableName) -> String {
    let part = |name: &str| format!("`{}`", name.replace('`', "``"));
    // Findings have what is to be typed between backticks, so names that need none have none.
    let is_plain = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if is_plain(&table.schema) && is_plain(&table.table) {
        table.to_string()
    } else {
        format!("{}.{}", part(&table.schema), part(&table.table))
    }
}
