//! What is said about a row after a look at both sides.
//!
//! Input: what both sides have now. State: what they had at the last look, and how often that was the same. Output: a
//! [`Verdict`].
//!
//! A difference counts only if neither row has changed for twice the time that a copy may take. Where the mirror tells how
//! far it is, it has to pass two looks in a row instead.

use std::{collections::HashMap, time::Duration};

use super::{DifferenceKind, DifferentColumn, Sides};
use crate::{
    form::{Form, Row, RowHash, here::readable},
    side::Found,
};

/// How often both rows have to be the same as before.
const LOOKS: u32 = 2;

/// How often a row may change between two looks before nothing is said about it.
const CHANGES: u32 = 10;

/// How much of a value an example has.
const MOST_TEXT: usize = 200;

/// How often both rows have to be the same as before. Where nothing is written there is nothing to wait for. A heartbeat
/// proves that the copy had its time, but not that the row has rested: its value may have changed and come back.
pub(crate) fn needed(settle: Duration, has_heartbeat: bool) -> u32 {
    match settle.is_zero() && !has_heartbeat {
        true => 1,
        false => LOOKS,
    }
}

/// What the looks at a row have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looks {
    /// What both sides had at the last look. None if there was no look.
    pub(crate) last: Option<(Option<RowHash>, Option<RowHash>)>,
    /// How often it was the same as before.
    pub(crate) same: u32,
    /// How often it was not.
    pub(crate) changes: u32,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Both rows are equal.
    Equal,
    /// It is too early to say.
    Again,
    /// The row differs.
    Differs,
    /// The row changes faster than its copy settles.
    Restless,
}

impl Looks {
    /// After a first look.
    pub(crate) fn begun(source: Option<RowHash>, target: Option<RowHash>) -> Self {
        Self {
            last: Some((source, target)),
            ..Self::default()
        }
    }

    /// Takes one look more. Both rows have to be the same as before so often.
    pub(crate) fn judge(
        &mut self,
        source: Option<&Found>,
        target: Option<&Found>,
        needed: u32,
    ) -> Verdict {
        let hash = |found: Option<&Found>| found.map(|found| found.hash.clone());
        let now = (hash(source), hash(target));
        if now.0 == now.1 {
            return Verdict::Equal;
        }
        match &self.last {
            Some(last) if *last == now => self.same += 1,
            Some(_) => {
                self.same = 0;
                self.changes += 1;
            }
            None => {}
        }
        self.last = Some(now);
        match () {
            () if self.same >= needed => Verdict::Differs,
            () if self.changes > CHANGES => Verdict::Restless,
            () => Verdict::Again,
        }
    }
}

/// What is wrong with a row that differs.
pub(crate) fn kind(source: Option<&Found>, target: Option<&Found>) -> DifferenceKind {
    match (source, target) {
        (_, None) => DifferenceKind::Missing,
        (None, _) => DifferenceKind::Extra,
        _ => DifferenceKind::Different,
    }
}

/// Rows by their keys.
pub(crate) fn by_key(found: Vec<Found>) -> HashMap<Row, Found> {
    found
        .into_iter()
        .map(|found| (found.key.clone(), found))
        .collect()
}

/// The columns that differ, with their values if these are to be shown.
pub(crate) fn columns(
    sides: &Sides,
    source: Option<&Found>,
    target: Option<&Found>,
    values: bool,
) -> Vec<DifferentColumn> {
    let fields = |found: Option<&'_ Found>| -> Option<Vec<Option<Vec<u8>>>> {
        let fields = found?.row.as_ref()?.fields(&sides.forms)?;
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
    let columns = sides.names.iter().zip(&sides.forms);
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

/// The beginning of a value, as a person reads it.
pub(crate) fn shown(form: Form, value: Option<&[u8]>) -> Option<String> {
    let text = readable(form, value?);
    Some(text.chars().take(MOST_TEXT).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(hash: u8) -> Option<Found> {
        Some(Found {
            key: Row(vec![1]),
            hash: RowHash(vec![hash]),
            row: None,
            bytes: 1,
        })
    }

    fn judged(looks: &mut Looks, source: u8, target: u8) -> Verdict {
        looks.judge(found(source).as_ref(), found(target).as_ref(), LOOKS)
    }

    #[test]
    fn a_difference_counts_only_if_both_rows_are_the_same_twice() {
        let mut looks = Looks::default();
        let verdicts = [(1, 2), (1, 2), (1, 3), (1, 3), (1, 3)]
            .map(|(source, target)| judged(&mut looks, source, target));
        use Verdict::*;
        assert_eq!(verdicts, [Again, Again, Again, Again, Differs]);
        assert_eq!(judged(&mut looks, 3, 3), Equal);
    }

    #[test]
    fn nothing_is_said_about_a_row_that_changes_between_all_looks() {
        let mut looks = Looks::default();
        let verdicts: Vec<Verdict> = (1..=12).map(|hash| judged(&mut looks, hash, 0)).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Restless));
        assert!(
            verdicts[..11]
                .iter()
                .all(|verdict| *verdict == Verdict::Again)
        );
    }
}
