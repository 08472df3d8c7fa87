//! Reads keys of the source in the order of another column.

use std::sync::Arc;

use super::context::Tables;
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Form, Row},
    side::{Chunk, Found, Of, Reader},
    table::{ColumnClass, SideColumn},
};

/// Rows of a page.
pub(super) const PAGE: u64 = 500;

/// A row: the value of the column, the key, and both as the place to go on from.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) value: String,
    pub(super) key: Row,
    pub(super) place: Row,
}

/// Reads the rows of the source by a column.
pub(super) struct ColumnReader {
    reader: Arc<dyn Reader>,
    /// The column, as the table spells it.
    name: String,
    form: Form,
    /// The forms of columns between it and the key.
    between: Vec<Form>,
    /// The smallest whole number that the column can have.
    smallest: i64,
}

impl ColumnReader {
    pub(super) fn new(tables: &Tables, column: &SideColumn, form: Form) -> Self {
        let plan = tables.plan.source.by_column(column, form);
        let key = tables.plan.source.keys.len();
        let between = plan.forms.len().saturating_sub(key + 1);
        Self {
            between: plan.forms.iter().skip(1).take(between).copied().collect(),
            reader: tables.source.reader(plan),
            name: column.name.clone(),
            form,
            smallest: smallest(column),
        }
    }

    /// The column, as the table spells it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The place of a value, before or behind all keys that it has.
    pub(super) fn place(&self, value: &str) -> Row {
        let mut row = Row::default();
        row.push(self.form, Some(value.as_bytes()));
        row
    }

    /// The place behind all rows of an id. None if it is before all ids that the column can have: the server would refuse
    /// it, or take it for a large one.
    pub(super) fn behind(&self, id: i64) -> Option<Row> {
        let is_before_all = id == i64::MIN || id < self.smallest;
        (!is_before_all).then(|| self.place(&id.to_string()))
    }

    /// The largest value. None if there is none.
    pub(super) async fn last(&self) -> Reconciled<Option<String>> {
        match self.reader.last_key().await? {
            Some(place) => match place.split(self.form) {
                Some((Some(value), _)) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
                _ => Err(self.wrong()),
            },
            None => Ok(None),
        }
    }

    /// The next rows behind a place, up to a value. The page is the last one if it is not full.
    pub(super) async fn page(&self, after: Option<&Row>, until: &str) -> Reconciled<Vec<Placed>> {
        let chunk = Chunk {
            after: after.cloned(),
            until: Some(self.place(until)),
            buckets: None,
        };
        let page = self.reader.page(&chunk, PAGE, Of::Rows).await?;
        page.into_iter().map(|found| self.placed(found)).collect()
    }

    /// The clock of the source's database.
    pub(super) async fn clock(&self) -> Reconciled<crate::side::Clock> {
        self.reader.clock().await
    }

    pub(super) fn shown(&self) -> &str {
        self.reader.shown()
    }

    /// The row has the column, and the key behind it.
    fn placed(&self, found: Found) -> Reconciled<Placed> {
        let parts = found.row.as_ref().and_then(|row| row.split(self.form));
        let placed = parts.and_then(|(value, mut key)| {
            for form in &self.between {
                key = key.split(*form)?.1;
            }
            Some(Placed {
                value: String::from_utf8(value?.to_vec()).ok()?,
                key,
                place: found.key.clone(),
            })
        });
        placed.ok_or_else(|| self.wrong())
    }

    fn wrong(&self) -> ReconcileError {
        ReconcileError::Row {
            side: self.shown().to_owned(),
            problem: "a key cannot be taken apart".into(),
        }
    }
}

fn smallest(column: &SideColumn) -> i64 {
    match (column.class, column.declared.as_str()) {
        (ColumnClass::Integer { unsigned: true, .. }, _) => 0,
        // PostgreSQL refuses what its type has no room for. The others take any number.
        (_, "smallint") => i16::MIN.into(),
        (_, "integer") => i32::MIN.into(),
        _ => i64::MIN,
    }
}
