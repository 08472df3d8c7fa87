//! The key by which rows of both sides belong together.
//!
//! Input: two tables and a mapping. Output: the columns of the key in the order of the source's index; whether ranges of
//! the key have the same rows on both sides.
//!
//! The key has to be that of a unique index on both sides. Without one, rows could not be told apart, and each chunk
//! would read the whole table.

use super::{
    columns::{Pair, find},
    mapping::Mapping,
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::Form,
    table::{ColumnClass, Family, KeyOrder, SideColumn, SideTable, UniqueIndex},
};

/// The columns of the key: source and target.
pub(super) fn names(
    source: &SideTable,
    target: &SideTable,
    mapping: &Mapping,
) -> Reconciled<Vec<(String, String)>> {
    let mapped = |name: &String| {
        let column = mapping.columns.iter().find(|(from, _)| from == name);
        let to = column.and_then(|(_, mapped)| mapped.name.clone());
        (name.clone(), to.unwrap_or_else(|| name.clone()))
    };
    let wanted = match mapping.keys.is_empty() {
        false => mapping.keys.clone(),
        true => {
            let primary = source.unique.iter().find(|index| index.is_primary);
            let primary = primary.ok_or_else(|| ReconcileError::Key {
                side: source.shown.clone(),
                key: "none".into(),
                why: "it has no primary key".into(),
                cure: cure(source),
            })?;
            primary.columns.iter().map(mapped).collect()
        }
    };
    let spelled = wanted.iter().map(|(from, to)| {
        let (from, to) = (find(source, from)?, find(target, to)?);
        Ok((from.name.clone(), to.name.clone()))
    });
    let wanted = spelled.collect::<Reconciled<Vec<(String, String)>>>()?;
    let index = index_of(source, wanted.iter().map(|(from, _)| from))?;
    index_of(target, wanted.iter().map(|(_, to)| to))?;
    let in_order = index
        .columns
        .iter()
        .filter_map(|name| wanted.iter().find(|(from, _)| from == name));
    Ok(in_order.cloned().collect())
}

/// The unique index that has these columns and no others.
fn index_of<'t, 'n>(
    table: &'t SideTable,
    names: impl Iterator<Item = &'n String> + Clone,
) -> Reconciled<&'t UniqueIndex> {
    let count = names.clone().count();
    let is_of_key = |index: &&UniqueIndex| {
        index.columns.len() == count && names.clone().all(|name| index.columns.contains(name))
    };
    table.unique.iter().find(is_of_key).ok_or_else(|| {
        let names: Vec<&str> = names.clone().map(String::as_str).collect();
        ReconcileError::Key {
            side: table.shown.clone(),
            key: names.join(", "),
            why: "no unique index has exactly these columns".into(),
            cure: cure(table),
        }
    })
}

fn cure(table: &SideTable) -> String {
    let known: Vec<String> = table.unique.iter().map(UniqueIndex::to_string).collect();
    match known.is_empty() {
        true => "create a unique index; it has none now".into(),
        false => format!(
            "create a unique index, or take the key of one that is there: {}",
            known.join("; ")
        ),
    }
}

/// Whether keys can be looked up: what was read of a key has to find its row again.
pub(super) fn check(
    source: &SideTable,
    target: &SideTable,
    pairs: &[Pair],
    length: usize,
) -> Reconciled<()> {
    for pair in pairs.iter().take(length) {
        let sides = [(source, &pair.source), (target, &pair.target)];
        for (table, column) in sides {
            if let Some(why) = why_not(table.family, pair, column) {
                return Err(ReconcileError::Key {
                    side: table.shown.clone(),
                    key: column.name.clone(),
                    why: why.into(),
                    cure: "take another key".into(),
                });
            }
        }
    }
    Ok(())
}

fn why_not(family: Family, pair: &Pair, column: &SideColumn) -> Option<&'static str> {
    let precision = |class| match class {
        ColumnClass::Time { precision }
        | ColumnClass::DateTime { precision }
        | ColumnClass::Moment { precision } => Some(precision),
        _ => None,
    };
    match pair.form {
        Form::Float { .. } => Some("a float is not exact"),
        Form::Json { .. } => Some("JSON cannot be looked up"),
        Form::Text { trim: true } => {
            Some("texts cannot be looked up without the spaces at their end")
        }
        Form::Time(_) | Form::DateTime(_) | Form::Date | Form::Number | Form::Decimal { .. }
            if family == Family::Sqlite =>
        {
            Some("SQLite may have written the same value in several ways")
        }
        Form::Time(_) | Form::DateTime(_)
            if precision(pair.source.class) != precision(pair.target.class) =>
        {
            Some("the sides have different digits of a second")
        }
        Form::Decimal { scale } => match column.class {
            ColumnClass::Decimal { scale: Some(own) } if own > scale => {
                Some("rounded numbers cannot be looked up")
            }
            ColumnClass::Float { .. } => Some("a float is not exact"),
            _ => None,
        },
        _ if column.class == ColumnClass::Words && family != Family::Postgres => {
            Some("its server orders it by number and compares it as text")
        }
        _ if column.class == ColumnClass::Other => Some("its type has no rule of its own"),
        _ => None,
    }
}

/// Why ranges of the key do not have the same rows on both sides.
pub(super) fn no_ranges(pairs: &[Pair], length: usize) -> Option<String> {
    let order = |pair: &Pair, column: &SideColumn| match (pair.form, column.class) {
        (Form::Uuid, ColumnClass::Uuid) if matches!(column.order, KeyOrder::Own(_)) => {
            column.order.clone()
        }
        (Form::Uuid, _) => KeyOrder::Uuid,
        _ => column.order.clone(),
    };
    let unlike = pairs
        .iter()
        .take(length)
        .find(|pair| order(pair, &pair.source) != order(pair, &pair.target))?;
    Some(format!(
        "`{}` and `{}` are ordered differently ({:?} and {:?})",
        unlike.source.name,
        unlike.target.name,
        order(unlike, &unlike.source),
        order(unlike, &unlike.target)
    ))
}
