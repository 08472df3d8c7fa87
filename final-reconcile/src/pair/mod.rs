//! Two tables side by side: the rows of both, and what is said about a row after a look.
//!
//! Input: both sides, and the plan that they share. Output: rows of both by their keys; what differs in them.
//!
//! | part | has |
//! | --- | --- |
//! | [`difference`] | a row that differs |
//! | [`judge`] | what is said about a row after a look |
//! | [`printed`] | whole rows of the source, as its server prints them |

pub(crate) mod difference;
pub(crate) mod judge;
pub(crate) mod printed;

use std::{collections::HashMap, sync::Arc};

use self::{difference::DifferentColumn, printed::Printed};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Form, Hash, Row, here::readable},
    plan::Plan,
    side::{Found, Reader, Side, Writer},
};

/// How much of a value an example has.
const MOST_TEXT: usize = 200;

/// Which of both rows is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The target is read last, so that it cannot be older than the source.
    SourceFirst,
    /// The source is read last. If it is as it was before the mirror had passed it, the target has had all of it.
    TargetFirst,
}

impl Order {
    /// The order of a look: with a heartbeat, or without one.
    pub(crate) fn of(has_heartbeat: bool) -> Self {
        match has_heartbeat {
            true => Self::TargetFirst,
            false => Self::SourceFirst,
        }
    }
}

/// Rows by their keys, of the source and of the target.
pub(crate) type Both = (HashMap<Row, Found>, HashMap<Row, Found>);

/// Both tables, ready to be read.
pub(crate) struct Sides {
    pub(crate) source: Arc<dyn Reader>,
    pub(crate) target: Arc<dyn Reader>,
    /// Writes the target, for a job that repairs by SQL. It connects when it is used.
    pub(crate) writer: Arc<dyn Writer>,
    pub(crate) forms: Vec<Form>,
    /// The names of the source's columns, and how many of them are the key.
    pub(crate) names: Vec<String>,
    pub(crate) keys: usize,
    /// The columns of the key of both sides, and their forms.
    pub(crate) key_form: Arc<str>,
    /// Whole rows of the source.
    pub(crate) printed: Printed,
    /// What both sides hash with.
    pub(crate) hash: Hash,
}

impl Sides {
    pub(crate) fn new(source: &Side, target: &Side, plan: Plan) -> Self {
        let names = plan.source.columns.iter();
        Self {
            forms: plan.source.forms.clone(),
            names: names.map(|column| column.name.clone()).collect(),
            keys: plan.source.keys.len(),
            key_form: plan.key().into(),
            printed: Printed::new(source, &plan.source),
            hash: plan.source.hash,
            source: source.reader(plan.source),
            writer: target.writer(plan.target.clone()),
            target: target.reader(plan.target),
        }
    }

    /// Reads the rows with these keys.
    pub(crate) async fn both(&self, keys: &[Row], order: Order) -> Reconciled<Both> {
        let (source, target) = match order {
            Order::SourceFirst => {
                let source = self.source.rows(keys).await?;
                (source, self.target.rows(keys).await?)
            }
            Order::TargetFirst => {
                let target = self.target.rows(keys).await?;
                (self.source.rows(keys).await?, target)
            }
        };
        Ok((by_key(source), by_key(target)))
    }

    /// The forms of the key.
    pub(crate) fn key_forms(&self) -> &[Form] {
        self.forms.get(..self.keys).unwrap_or_default()
    }

    /// The source's names of the key's columns.
    pub(crate) fn key_names(&self) -> &[String] {
        self.names.get(..self.keys).unwrap_or_default()
    }

    /// The columns that differ, with their values if these are to be shown.
    pub(crate) fn columns(
        &self,
        source: Option<&Found>,
        target: Option<&Found>,
        values: bool,
    ) -> Vec<DifferentColumn> {
        let fields = |found: Option<&'_ Found>| -> Option<Vec<Option<Vec<u8>>>> {
            let fields = found?.row.as_ref()?.fields(&self.forms)?;
            Some(
                fields
                    .into_iter()
                    .map(|field| field.map(<[u8]>::to_vec))
                    .collect(),
            )
        };
        let (Some(source), Some(target)) = (fields(source), fields(target)) else {
            return Vec::new();
        };
        let columns = self.names.iter().zip(&self.forms);
        let pairs = source.iter().zip(&target).zip(columns);
        let different = pairs.filter(|((a, b), _)| a != b);
        let value = |form: Form, value: &Option<Vec<u8>>| match values {
            true => shown(form, value.as_deref()),
            false => None,
        };
        different
            .map(|((a, b), (name, form))| DifferentColumn {
                name: name.clone(),
                source: value(*form, a),
                target: value(*form, b),
            })
            .collect()
    }

    /// The source's names of the columns that differ; none of a row that one side lacks.
    pub(crate) fn differing(&self, source: Option<&Found>, target: Option<&Found>) -> Vec<String> {
        let columns = self.columns(source, target, false).into_iter();
        columns.map(|column| column.name).collect()
    }

    /// A key for people: the source's columns with their values in canonical form.
    pub(crate) fn named(&self, key: &Row) -> Vec<(String, String)> {
        let fields = key.fields(self.key_forms()).unwrap_or_default();
        let values = self.key_forms().iter().zip(fields);
        let values = values.map(|(form, field)| shown(*form, field).unwrap_or_default());
        self.key_names().iter().cloned().zip(values).collect()
    }
}

/// Looks at the keys of both tables. Whether they can be compared range by range.
///
/// # Errors
///
/// Fails if a row has no key.
pub(crate) async fn prepared(
    source: &Side,
    target: &Side,
    mut plan: Plan,
) -> Reconciled<(Sides, bool)> {
    let sides = Sides::new(source, target, plan.clone());
    for side in [&sides.source, &sides.target] {
        if side.has_null_key().await? {
            return Err(ReconcileError::Key {
                side: side.shown().to_owned(),
                key: sides.key_names().join(", "),
                why: "it has rows without a key (NULL), which belong to no row of the other side"
                    .into(),
                cure: "give these rows a key, remove them, or take another key".into(),
            });
        }
    }
    let (in_source, in_target) = tokio::try_join!(
        sides.source.has_misplaced_key(),
        sides.target.has_misplaced_key()
    )?;
    if in_source || in_target {
        plan.order_by_digits(in_source, in_target);
        return Ok((Sides::new(source, target, plan), false));
    }
    Ok((sides, plan.no_ranges.is_none()))
}

/// Rows by their keys.
fn by_key(found: Vec<Found>) -> HashMap<Row, Found> {
    found
        .into_iter()
        .map(|found| (found.key.clone(), found))
        .collect()
}

/// The beginning of a value, as a person reads it.
fn shown(form: Form, value: Option<&[u8]>) -> Option<String> {
    let text = readable(form, value?);
    Some(text.chars().take(MOST_TEXT).collect())
}
