//! Which columns are compared, and as what.
//!
//! Input: two tables, a mapping, and the key. Output: pairs with their forms, those of the key first.
//!
//! A mapping that names no columns means all of them. Then a column that one side lacks is an error, because a
//! difference in it would never be found.

use super::mapping::Mapping;
use crate::{
    error::{NoForm, ReconcileError, Reconciled},
    form::{Form, agree},
    table::{SideColumn, SideTable},
};

/// Two columns and their form.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) source: SideColumn,
    pub(super) target: SideColumn,
    pub(super) form: Form,
}

pub(super) fn pairs(
    source: &SideTable,
    target: &SideTable,
    mapping: &Mapping,
    key: &[(String, String)],
) -> Reconciled<Vec<Pair>> {
    let mut names = key.to_vec();
    for (from, mapped) in &mapping.columns {
        let to = mapped.name.as_ref().unwrap_or(from);
        let pair = (from.clone(), target.spelled(to));
        if !names.contains(&pair) {
            names.push(pair);
        }
    }
    if mapping.columns.is_empty() || mapping.rest {
        others(source, target, mapping, &mut names)?;
    }
    let is_key = |name: &String| key.iter().any(|(from, _)| from == name);
    names
        .into_iter()
        .map(|(from, to)| {
            let a = find(source, &from)?;
            let b = find(target, &to)?;
            let wish = mapping.columns.iter().find(|(name, mapped)| {
                *name == from && mapped.name.as_deref().is_none_or(|name| name == to)
            });
            let wish = wish.and_then(|(_, mapped)| mapped.wish);
            let form = agree((source.family, a), (target.family, b), wish).map(|form| match form {
                // A key is looked up as it is written. The side that pads gives it without the padding by itself.
                Form::Text { trim: true } if wish.is_none() && is_key(&from) => {
                    Form::Text { trim: false }
                }
                form => form,
            });
            let form = form.map_err(|cure| {
                ReconcileError::NoForm(Box::new(NoForm {
                    source_side: source.shown.clone(),
                    source_column: from,
                    source_type: a.declared.clone(),
                    target_side: target.shown.clone(),
                    target_column: to,
                    target_type: b.declared.clone(),
                    cure,
                }))
            })?;
            Ok(Pair {
                source: a.clone(),
                target: b.clone(),
                form,
            })
        })
        .collect()
}

/// All columns of both tables that are not named, by their names.
fn others(
    source: &SideTable,
    target: &SideTable,
    mapping: &Mapping,
    names: &mut Vec<(String, String)>,
) -> Reconciled<()> {
    let is_left_out = |name: &String| mapping.except.contains(name);
    let lacks = |side: &SideTable, column: &str| {
        ReconcileError::NoColumn {
        side: side.shown.clone(),
        column: column.to_owned(),
        hint: ", and the other side has: name the columns to be compared, or leave this one out by `except`".into(),
    }
    };
    for column in &source.columns {
        let is_named = names.iter().any(|(from, _)| *from == column.name);
        if is_named || is_left_out(&column.name) {
            continue;
        }
        let Some(to) = target.column(&column.name) else {
            return Err(lacks(target, &column.name));
        };
        names.push((column.name.clone(), to.name.clone()));
    }
    let unknown = target.columns.iter().find(|column| {
        !names.iter().any(|(_, to)| *to == column.name) && !is_left_out(&column.name)
    });
    match unknown {
        Some(column) => Err(lacks(source, &column.name)),
        None => Ok(()),
    }
}

/// The column of a name. On most servers names differ in their case only by mistake, so the error shows such a one.
pub(super) fn find<'t>(table: &'t SideTable, name: &str) -> Reconciled<&'t SideColumn> {
    table.column(name).ok_or_else(|| {
        let near = table
            .columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name));
        ReconcileError::NoColumn {
            side: table.shown.clone(),
            column: name.to_owned(),
            hint: match near {
                Some(near) => format!(": did you mean `{}`?", near.name),
                None => ": look at the mapping".into(),
            },
        }
    })
}
