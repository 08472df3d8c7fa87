//! Which tables, columns and rows are captured.
//!
//! Input: patterns and rules of the configuration. State: which hidden columns were seen. Output: for each table whether
//! it is wanted, and what its messages show of a row.
//!
//! A rule whose table or column is not there is an error, at the latest at the first change of that table: a column
//! that was to be hidden may only have another name.

mod filter;
mod hash;
mod literal;
mod pattern;
mod rules;
mod seen;

use std::{fmt, sync::Arc};

use self::{filter::Filter, pattern::Pattern, seen::Seen};
pub(crate) use self::{
    filter::{Fit, TableFilter},
    rules::{Show, TableRules},
};
pub use self::{hash::HashKey, rules::ColumnRules};
use crate::table::{SourceTable, Table, TableName};

/// Which tables, columns and rows are captured.
///
/// ```
/// use final_capture::select::{ColumnRules, HashKey, Selection};
///
/// let selection = Selection::tables(["shop.*", "!shop.tmp_*"])
///     .columns("shop.users", ColumnRules::new().drop("password").mask("email").hash("phone"))
///     .columns("shop.orders", ColumnRules::new().filter("status in ('paid', 'sent')"))
///     .hash_key(HashKey::new("a secret of sixteen bytes or more")?);
/// selection.check()?;
/// # Ok::<_, final_capture::select::SelectError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Selection {
    patterns: Vec<String>,
    rules: Vec<(String, ColumnRules)>,
    hash_key: Option<HashKey>,
    read: Vec<Pattern>,
    /// One memory for all clones: each new stream has a clone, and a column may be renamed between two streams.
    seen: Arc<Seen>,
}

impl Selection {
    /// Tables by patterns: `shop.holes`, `shop.*`, `shop_*.order_?`. A pattern with `!` in front takes tables out again,
    /// wherever it stands. A backslash takes the character after it literally.
    ///
    /// Wildcards take neither the tables of the server (`mysql`, `pg_catalog`, …) nor those of this program, whose names
    /// begin with `final_`. A pattern that names them does.
    #[must_use]
    pub fn tables(patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        // What is no pattern is told by `check`.
        let read = patterns.iter().filter_map(|text| Pattern::new(text).ok());
        Self {
            read: read.collect(),
            patterns,
            ..Self::default()
        }
    }

    /// What messages show of the tables that fit the pattern. Of several rules, the last one about a column counts.
    #[must_use]
    pub fn columns(mut self, tables: impl Into<String>, rules: ColumnRules) -> Self {
        self.rules.push((tables.into(), rules));
        self
    }

    /// The key of [`ColumnRules::hash`].
    #[must_use]
    pub fn hash_key(mut self, key: HashKey) -> Self {
        self.hash_key = Some(key);
        self
    }

    /// The patterns as they were given.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether the table is captured.
    #[must_use]
    pub fn wants(&self, table: &TableName) -> bool {
        let fits = |excludes| {
            let mut of_kind = self
                .read
                .iter()
                .filter(move |one| one.excludes() == excludes);
            of_kind.any(|pattern| pattern.fits(table))
        };
        fits(false) && !fits(true)
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    ///
    /// Tells the pattern, the rule or the filter that is wrong.
    pub fn check(&self) -> Result<(), SelectError> {
        for pattern in &self.patterns {
            Pattern::new(pattern)?;
        }
        if self.read.iter().all(Pattern::excludes) {
            return Err(SelectError::NoTables);
        }
        for (tables, rules) in &self.rules {
            if Pattern::new(tables)?.excludes() {
                return Err(SelectError::Pattern {
                    pattern: tables.clone(),
                    why: "a rule for columns cannot exclude",
                });
            }
            rules.check()?;
            if rules.hashes() && self.hash_key.is_none() {
                return Err(SelectError::NoHashKey);
            }
        }
        Ok(())
    }

    /// Checks patterns and rules against the tables that a server has: each of them must fit something, and a row filter
    /// each of its tables. Where only some tables of a rule have a column that it hides, a warning names the others.
    ///
    /// # Errors
    ///
    /// Tells the pattern, table or column that is not there, and the rule that would hide a key.
    pub fn check_tables(&self, tables: &[SourceTable]) -> Result<(), SelectError> {
        self.check()?;
        for pattern in self.read.iter().filter(|pattern| !pattern.excludes()) {
            if !tables.iter().any(|table| pattern.fits(&table.name)) {
                return Err(SelectError::UnknownTable {
                    pattern: pattern.text().to_owned(),
                });
            }
        }
        for (text, rules) in &self.rules {
            let pattern = Pattern::new(text)?;
            let of_rule: Vec<_> = tables
                .iter()
                .filter(|table| pattern.fits(&table.name) && self.wants(&table.name))
                .collect();
            if of_rule.is_empty() {
                return Err(SelectError::UnknownTable {
                    pattern: text.clone(),
                });
            }
            for column in rules.filtered() {
                if let Some(table) = lacking(&of_rule, &column).next() {
                    return Err(SelectError::FilterColumn {
                        table: table.name.to_string(),
                        column: column.clone(),
                    });
                }
            }
            for column in rules.hidden() {
                let lacking: Vec<_> = lacking(&of_rule, column).collect();
                if lacking.len() == of_rule.len() {
                    return Err(SelectError::UnknownColumn {
                        table: text.clone(),
                        column: column.to_owned(),
                    });
                }
                for table in lacking {
                    tracing::warn!(
                        target: "final::capture",
                        table = %table.name, column, rule = &**text,
                        "a rule hides a column that a table does not have; if it was renamed, messages show it"
                    );
                }
            }
            for table in of_rule {
                for key in &table.key {
                    rules.check_key(&table.name, key)?;
                }
            }
        }
        Ok(())
    }

    /// What messages show of a table of that source with these columns.
    pub(crate) fn rules_for(&self, source: &str, table: &Table) -> Result<TableRules, SelectError> {
        let mut of_table = TableRules::all(table.columns.len());
        for (text, rules) in &self.rules {
            let pattern = Pattern::new(text)?;
            if !pattern.fits(&table.name) {
                continue;
            }
            // A pattern of several tables may name a column that only some of them have.
            let must_have = pattern.is_literal();
            rules.apply(table, must_have, self.hash_key.as_ref(), &mut of_table)?;
            for column in rules.hidden() {
                if table.columns.iter().any(|one| *one.name == *column) {
                    self.seen.add(source, &table.name, column);
                } else if self.seen.has(source, &table.name, column) {
                    return Err(SelectError::HiddenColumnGone {
                        table: table.name.to_string(),
                        column: column.to_owned(),
                        pattern: text.clone(),
                    });
                }
            }
        }
        Ok(of_table)
    }
}

/// Those of the tables that do not have the column.
fn lacking<'a>(
    tables: &'a [&'a SourceTable],
    column: &'a str,
) -> impl Iterator<Item = &'a SourceTable> {
    let has = |table: &SourceTable| table.columns.iter().any(|name| **name == *column);
    tables.iter().copied().filter(move |table| !has(table))
}

/// What is wrong with a selection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// No pattern says what to capture.
    #[error("no table is selected; name tables as in `shop.holes` or `shop.*`")]
    NoTables,
    /// A text that is no pattern.
    #[error("`{pattern}` is no pattern of tables: {why}")]
    Pattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A text that is no filter.
    #[error("the row filter `{filter}` cannot be used: {why}")]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The source has no table that fits.
    #[error(
        "the source has no captured table that fits `{pattern}`; correct the name, or take the line out"
    )]
    UnknownTable {
        /// The pattern.
        pattern: String,
    },
    /// A rule names a column that is not there.
    #[error(
        "a rule names the column `{column}`, which {table} does not have; correct the name, since a column that was \
         to be hidden may have been renamed"
    )]
    UnknownColumn {
        /// The table or pattern.
        table: String,
        /// The column.
        column: String,
    },
    /// A filter looks at a column that is not there.
    #[error(
        "a row filter looks at the column `{column}`, which {table} does not have; correct the name, or write the filter for \
         the tables that have the column"
    )]
    FilterColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column that a rule hides was in a table, and is not there now.
    #[error(
        "the column `{column}` of {table}, which the rule for `{pattern}` hides, is not there now; if it was renamed, name \
         it as it is called now, and if it was dropped, start again"
    )]
    HiddenColumnGone {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The tables of the rule.
        pattern: String,
    },
    /// A rule would hide a column of the key.
    #[error(
        "the column `{column}` is part of the key of {table} and cannot be {what}: its changes could no longer be told \
         apart; hash it, or leave it"
    )]
    KeyColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What the rule does.
        what: &'static str,
    },
    /// A column is to be hashed, and there is no key.
    #[error("a column is to be hashed, and no hash key is set; set a secret of at least 16 bytes")]
    NoHashKey,
    /// A hash key that can be guessed.
    #[error("the hash key has {length} bytes; a key of fewer than 16 bytes can be guessed")]
    HashKeyTooShort {
        /// How many it has.
        length: usize,
    },
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.patterns.join(" "))
    }
}

#[cfg(test)]
mod tests;
