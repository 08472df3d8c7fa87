//! Reads the heartbeat of a mirror, and the source's clock after it.

use std::{slice, sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::Mutex;

use super::{
    due::Due,
    stand::{Stand, later},
    trust::Trust,
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{
        Form, Fraction, Rounding, Row, agree,
        time::{micros, micros_of},
    },
    heartbeat::Heartbeat,
    plan::{SidePlan, json::key},
    side::{Chunk, Found, Of, Reader, Side, WITHIN},
    table::{ColumnClass, Family, SideColumn, SideTable},
};

/// The form of a heartbeat: all digits of a second, in UTC.
const TIME: Form = Form::DateTime(Fraction {
    digits: 6,
    rounding: Rounding::Cut,
});

/// Reads how far the mirror of a target is.
pub(crate) struct Pulse {
    reader: Arc<dyn Reader>,
    forms: Vec<Form>,
    /// The key of the row, if the table has several.
    row: Option<Row>,
    /// What reads the source's clock.
    clock: Arc<dyn Reader>,
    /// How far the mirror may be behind.
    pub(crate) limit: Duration,
    /// What was read before. Who reads has it, so that readings are taken in their order.
    trust: Mutex<Trust>,
}

impl Pulse {
    /// Looks whether the table and the columns are there.
    ///
    /// # Errors
    ///
    /// Names what is missing, or of a wrong type.
    pub(crate) async fn new(
        heartbeat: &Heartbeat,
        (source, plan): (&Side, &SidePlan),
        target: &Side,
    ) -> Reconciled<Self> {
        let side = target.beside(&heartbeat.table);
        let table = side.describe().await?;
        if heartbeat.limit.is_zero() {
            return Err(ReconcileError::Heartbeat {
                side: table.shown,
                problem: "its `limit` is zero, and a mirror is always a little behind; name more than two beats of the \
                          source"
                    .to_owned(),
            });
        }
        let own = own_plan(heartbeat, table)?;
        let row = heartbeat.row.as_ref().zip(own.columns.first());
        let row = row.map(|((_, value), column)| {
            let key_of_row = json!({ &column.name: value }).to_string();
            key(&own, &key_of_row).map_err(|_| ReconcileError::Heartbeat {
                side: own.table.shown.clone(),
                problem: format!(
                    "its `{}` ({}) cannot have the value that names the row",
                    column.name, column.declared
                ),
            })
        });
        Ok(Self {
            row: row.transpose()?,
            forms: own.forms.clone(),
            reader: side.reader(own),
            clock: source.reader(plan.clone()),
            limit: heartbeat.limit,
            trust: Mutex::default(),
        })
    }

    /// Where the mirror stands. The clock is read last, so it cannot be behind the heartbeat.
    pub(crate) async fn look(&self) -> Reconciled<Stand> {
        let mut trust = self.trust.lock().await;
        let found = match &self.row {
            Some(key) => self.reader.rows(slice::from_ref(key)).await?,
            None => {
                let all = Chunk::default();
                self.reader.page(&all, 2, Of::Rows).await?
            }
        };
        let at = match found.as_slice() {
            [] => None,
            [row] => self.at(row)?,
            _ => {
                return Err(self.wrong(
                    "it has several rows; name the column and the value of the mirror's own row",
                ));
            }
        };
        let clock = self.clock.clock().await?;
        let now = micros(&clock.utc).ok_or_else(|| self.wrong("the source's clock is no time"))?;
        let mut stand = Stand {
            at,
            now,
            clock,
            is_trusted: true,
        };
        stand.is_trusted = at.is_none_or(|at| trust.takes(at, now, stand.is_ahead()));
        Ok(stand)
    }

    /// When rows are looked at again that were read just now.
    pub(crate) async fn due(&self, settle: Duration) -> Reconciled<Due> {
        let clock = self.clock.clock().await?;
        let now = micros(&clock.utc).ok_or_else(|| self.wrong("the source's clock is no time"))?;
        Ok(Due::Passed(later(now).saturating_add(micros_of(settle))))
    }

    /// The table, for people.
    pub(crate) fn shown(&self) -> &str {
        self.reader.shown()
    }

    /// The statement that reads the heartbeat.
    pub(crate) fn statement(&self) -> String {
        let all = self.reader.statements().into_iter();
        let (_, sql) = all.last().unwrap_or_default();
        let row = match &self.row {
            Some(_) => "<the row of the mirror>",
            None => "1 = 1",
        };
        sql.replace(WITHIN, row)
    }

    fn at(&self, row: &Found) -> Reconciled<Option<i64>> {
        let fields = row.row.as_ref().and_then(|row| row.fields(&self.forms));
        let Some(Some(field)) = fields.as_ref().and_then(|fields| fields.last()) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(field).ok();
        match text.and_then(micros) {
            Some(at) => Ok(Some(at)),
            None => Err(self.wrong("its time is not written as 2024-02-29 10:00:00.500000")),
        }
    }

    fn wrong(&self, problem: &str) -> ReconcileError {
        ReconcileError::Heartbeat {
            side: self.shown().to_owned(),
            problem: problem.to_owned(),
        }
    }
}

/// When rows are looked at again that were read just now.
pub(crate) async fn due(pulse: Option<&Pulse>, settle: Duration) -> Reconciled<Due> {
    match pulse {
        None => Ok(Due::After(settle)),
        Some(pulse) => pulse.due(settle).await,
    }
}

/// What is read: the column that names the row, if there is one, and the time.
fn own_plan(heartbeat: &Heartbeat, table: SideTable) -> Reconciled<SidePlan> {
    let column = |name: &str, what: &str| {
        let column = table.column(name).cloned();
        column.ok_or_else(|| ReconcileError::NoColumn {
            side: table.shown.clone(),
            column: name.to_owned(),
            hint: format!(", which is to {what}"),
        })
    };
    let wrong = |problem: String| ReconcileError::Heartbeat {
        side: table.shown.clone(),
        problem,
    };
    let at = column(&heartbeat.column, "have the time of the mirror's heartbeat")?;
    if !has_times(table.family, &at) {
        return Err(wrong(format!(
            "its column `{}` has no times: its type is {}; name a column with a day and a time of day",
            at.name, at.declared
        )));
    }
    let mut columns = vec![(at, TIME)];
    if let Some((name, _)) = &heartbeat.row {
        let named = column(name, "name the row of the mirror")?;
        let is_it = |index: &crate::table::UniqueIndex| index.columns.iter().eq([&named.name]);
        if !table.unique.iter().any(is_it) {
            return Err(wrong(format!(
                "its column `{}` is to name one row, and it has no unique index of its own",
                named.name
            )));
        }
        let form = agree((table.family, &named), (table.family, &named), None).map_err(|_| {
            wrong(format!(
                "its column `{}` ({}) cannot name a row; take a number or a text",
                named.name, named.declared
            ))
        })?;
        columns.insert(0, (named, form));
    }
    Ok(SidePlan::of_columns(table, columns))
}

/// SQLite keeps times as texts, or as seconds since 1970.
fn has_times(family: Family, column: &SideColumn) -> bool {
    use ColumnClass::*;
    let is_time = matches!(column.class, DateTime { .. } | Moment { .. });
    let may_be = matches!(column.class, Text { .. } | Integer { .. } | Other);
    is_time || (family == Family::Sqlite && may_be)
}
