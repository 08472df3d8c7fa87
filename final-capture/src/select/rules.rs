//! What messages show of a row.
//!
//! Input: rules by column names. Output: for a table with its columns, [`Show`] for each column, and the row filter.

use std::{collections::BTreeMap, sync::Arc};

use super::{Filter, HashKey, SelectError, filter::TableFilter};
use crate::table::{Table, TableName};

/// The text in place of a masked value.
const MASK: &str = "***";

/// Rules for the columns of tables, see [`Selection::columns`](super::Selection::columns).
#[derive(Clone, Debug, Default)]
pub struct ColumnRules {
    columns: BTreeMap<String, Rule>,
    filter: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Drop,
    Mask(Arc<str>),
    Hash,
}

impl ColumnRules {
    /// No rules yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves the column out.
    #[must_use]
    pub fn drop(self, column: impl Into<String>) -> Self {
        self.with(column, Rule::Drop)
    }

    /// Shows `***` in place of each value. NULL stays NULL.
    #[must_use]
    pub fn mask(self, column: impl Into<String>) -> Self {
        self.mask_with(column, MASK)
    }

    /// Shows a text in place of each value. NULL stays NULL.
    #[must_use]
    pub fn mask_with(self, column: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        self.with(column, Rule::Mask(text.into()))
    }

    /// Shows a keyed hash in place of each value: HMAC-SHA-256 in hex, by the
    /// [hash key](super::Selection::hash_key). NULL stays NULL.
    #[must_use]
    pub fn hash(self, column: impl Into<String>) -> Self {
        self.with(column, Rule::Hash)
    }

    /// Captures only the rows that fit: `status = 'paid' and region in ('eu', 'us')`.
    ///
    /// Conditions are joined by `and`. A condition compares a column with a text in single quotes, a number, `true` or
    /// `false`, by `=`, `!=`, `<`, `<=`, `>`, `>=`, `in (…)` or `not in (…)`, or asks `is null` or `is not null`. Texts are
    /// compared byte for byte. A value that does not suit the type of its column stops the capture at the first change
    /// of the table, and the error says how to write it.
    ///
    /// A row that an UPDATE brings into the filter comes as an insert, and one that it takes out as a delete. If the
    /// source did not send what the row was before, a change that leaves the row in the filter comes as an update, and
    /// one that leaves it outside as a delete.
    #[must_use]
    pub fn filter(mut self, conditions: impl Into<String>) -> Self {
        self.filter = Some(conditions.into());
        self
    }

    fn with(mut self, column: impl Into<String>, rule: Rule) -> Self {
        self.columns.insert(column.into(), rule);
        self
    }

    pub(super) fn check(&self) -> Result<(), SelectError> {
        self.filter
            .as_deref()
            .map_or(Ok(()), |text| Filter::new(text).map(drop))
    }

    pub(super) fn hashes(&self) -> bool {
        self.columns.values().any(|rule| *rule == Rule::Hash)
    }

    /// The columns that messages do not show as they are.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    /// The columns that the row filter looks at.
    pub(super) fn filtered(&self) -> Vec<String> {
        let filter = self
            .filter
            .as_deref()
            .and_then(|text| Filter::new(text).ok());
        let columns = filter.iter().flat_map(Filter::columns);
        columns.map(str::to_owned).collect()
    }

    /// Whether the rules leave a column of the key usable.
    pub(super) fn check_key(&self, table: &TableName, column: &str) -> Result<(), SelectError> {
        let what = match self.columns.get(column) {
            Some(Rule::Drop) => "dropped",
            Some(Rule::Mask(_)) => "masked",
            Some(Rule::Hash) | None => return Ok(()),
        };
        Err(SelectError::KeyColumn {
            table: table.to_string(),
            column: column.to_owned(),
            what,
        })
    }

    /// Adds these rules to those of a table.
    pub(super) fn apply(
        &self,
        table: &Table,
        must_have: bool,
        key: Option<&HashKey>,
        rules: &mut TableRules,
    ) -> Result<(), SelectError> {
        for column in table.key.iter().filter_map(|at| table.columns.get(*at)) {
            self.check_key(&table.name, &column.name)?;
        }
        for (name, rule) in &self.columns {
            let at = table
                .columns
                .iter()
                .position(|column| *column.name == **name);
            let Some(show) = at.and_then(|at| rules.show.get_mut(at)) else {
                if must_have {
                    return Err(SelectError::UnknownColumn {
                        table: table.name.to_string(),
                        column: name.clone(),
                    });
                }
                continue;
            };
            *show = match rule {
                Rule::Drop => Show::Dropped,
                Rule::Mask(text) => Show::Masked(Arc::clone(text)),
                Rule::Hash => Show::Hashed(key.ok_or(SelectError::NoHashKey)?.clone()),
            };
        }
        if let Some(text) = &self.filter {
            rules.filters.push(Filter::new(text)?.of_table(table)?);
        }
        Ok(())
    }
}

/// What messages show of a column.
#[derive(Clone, Debug)]
pub(crate) enum Show {
    /// Its value.
    Plain,
    /// Nothing.
    Dropped,
    /// A fixed text.
    Masked(Arc<str>),
    /// The hash of its value.
    Hashed(HashKey),
}

/// What messages show of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableRules {
    /// For each column.
    pub(crate) show: Vec<Show>,
    /// A row must fit all of them.
    pub(crate) filters: Vec<TableFilter>,
}

impl TableRules {
    pub(super) fn all(columns: usize) -> Self {
        Self {
            show: vec![Show::Plain; columns],
            filters: Vec::new(),
        }
    }
}
