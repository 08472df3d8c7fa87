//! How the rows of a job that differ are found, as the caller says it.
//!
//! A scan goes by a column of the source. The plan shows which one it is, and whether a scan can go by it.

use std::time::Duration;

use super::sweep::Sweep;
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Form, Fraction, Rounding},
    plan::SidePlan,
    table::{ColumnClass, Family, SideColumn},
};

/// How the rows of a job that differ are found.
#[derive(Clone, Debug)]
pub(crate) struct Scans {
    pub(crate) fresh: Option<FreshScan>,
    pub(crate) look_back: Duration,
    pub(crate) updated: Option<UpdatedScan>,
    pub(crate) sweep: Option<Sweep>,
    pub(crate) topics: Vec<String>,
}

impl Default for Scans {
    fn default() -> Self {
        Self {
            fresh: None,
            look_back: Duration::from_secs(10 * 60),
            updated: None,
            sweep: None,
            topics: Vec::new(),
        }
    }
}

impl Scans {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_none()
            && self.updated.is_none()
            && self.sweep.is_none()
            && self.topics.is_empty()
    }

    /// Whether they fit the source.
    ///
    /// # Errors
    ///
    /// Fails if ids are no numbers, or if the column of the last update has no times.
    pub(crate) fn fit(&self, source: &SidePlan) -> Reconciled<()> {
        if let Some(fresh) = &self.fresh {
            fresh.ids(source)?;
        }
        if let Some(updated) = &self.updated {
            updated.times(source)?;
        }
        Ok(())
    }
}

/// Rows with new ids.
#[derive(Clone, Debug)]
pub(crate) struct FreshScan {
    pub(crate) every: Duration,
    /// The source's column with the ids. Without one it is the key.
    pub(crate) column: Option<String>,
    /// Where a scan without a stored position begins.
    pub(crate) first: Option<i64>,
}

/// Rows that were updated.
#[derive(Clone, Debug)]
pub(crate) struct UpdatedScan {
    pub(crate) column: String,
    pub(crate) every: Duration,
    pub(crate) overlap: Duration,
}

impl FreshScan {
    /// The column of the source that has the ids.
    ///
    /// # Errors
    ///
    /// Fails if the ids are no whole numbers, or if the key is not one number.
    pub(crate) fn ids<'s>(&self, source: &'s SidePlan) -> Reconciled<&'s SideColumn> {
        let refused = |key: &str, why: &str| {
            ReconcileError::Key {
            side: source.table.shown.clone(),
            key: key.to_owned(),
            why: why.to_owned(),
            cure: "name a column of whole numbers by `fresh_ids_by`, or find new rows by `updated`, by a sweep or by \
                   changes"
                .into(),
        }
        };
        let column = match &self.column {
            Some(name) => source.table.column(name).ok_or_else(|| {
                let side = source.table.shown.clone();
                ReconcileError::NoColumn {
                    side,
                    column: name.to_owned(),
                    hint: ", which is to have the ids".into(),
                }
            })?,
            None => match (source.keys.as_slice(), source.columns.first()) {
                ([_], Some(column)) => column,
                _ => {
                    return Err(refused(
                        "of several columns",
                        "fresh ids need a key of one whole number",
                    ));
                }
            },
        };
        match matches!(column.class, ColumnClass::Integer { .. }) {
            true => Ok(column),
            false => Err(refused(&column.name, "fresh ids have to be whole numbers")),
        }
    }
}

/// A column with the times of updates.
pub(crate) struct Times<'s> {
    pub(crate) column: &'s SideColumn,
    /// The form in which times are in the order of the column's index.
    pub(crate) form: Form,
    /// Whether its values have a zone.
    pub(crate) is_moment: bool,
}

impl UpdatedScan {
    /// The column of the source that has the times of updates.
    ///
    /// # Errors
    ///
    /// Fails if there is no such column, or if it has no times.
    pub(crate) fn times<'s>(&self, source: &'s SidePlan) -> Reconciled<Times<'s>> {
        let (table, name) = (&source.table, &self.column);
        let column = table.column(name).ok_or_else(|| ReconcileError::NoColumn {
            side: table.shown.clone(),
            column: name.to_owned(),
            hint: ", which is to have the time of the last update".into(),
        })?;
        let cut = |precision| {
            Form::DateTime(Fraction {
                digits: precision,
                rounding: Rounding::Cut,
            })
        };
        let times = match (table.family, column.class) {
            // SQLite compares times as the texts that they are.
            (Family::Sqlite, ColumnClass::DateTime { .. } | ColumnClass::Text { .. }) => {
                Some((Form::Text { trim: false }, false))
            }
            (Family::Sqlite, _) => None,
            (_, ColumnClass::DateTime { precision }) => Some((cut(precision), false)),
            (_, ColumnClass::Moment { precision }) => Some((cut(precision), true)),
            _ => None,
        };
        let (form, is_moment) = times.ok_or_else(|| ReconcileError::NoColumn {
            side: table.shown.clone(),
            column: name.to_owned(),
            hint: format!(
                " that has times: its type is {}; name a column with the day and the time of the last update",
                column.declared
            ),
        })?;
        Ok(Times {
            column,
            form,
            is_moment,
        })
    }
}
