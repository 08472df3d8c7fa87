//! Finds the rows that differ in the texts of a chunk.
//!
//! Input: the rows of both sides in canonical form, one behind the other as each index has them. Output: rows that look
//! different.
//!
//! Rows that are equal and stand at the same place, which are most, are skipped without a copy. Where they do not, one of
//! both may have a row more; what is left over in the end is brought together by its key, so no order is relied on.

use std::collections::HashMap;

use crate::form::{Form, Hash, Row, RowHash, split};

/// A row that looks different: its key, and what both sides have.
pub(super) type Unlike = (Row, Option<RowHash>, Option<RowHash>);

/// How many rows the source has, and those that differ. None if a text is not of such rows.
pub(super) fn unlike(
    source: &[u8],
    target: &[u8],
    forms: &[Form],
    keys: usize,
    hash: Hash,
) -> Option<(u64, Vec<Unlike>)> {
    let source = split(source, forms, keys)?;
    let target = split(target, forms, keys)?;
    let (mut left, mut right) = (HashMap::new(), HashMap::new());
    let (mut at, mut to) = (0, 0);
    loop {
        match (source.get(at), target.get(to)) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => {}
            (Some(a), None) => drop(left.insert(a.0, a.1)),
            (None, Some(b)) => drop(right.insert(b.0, b.1)),
            (Some(a), Some(b)) => {
                let is_extra = target.get(to + 1).is_some_and(|next| next.0 == a.0);
                let is_missing = source.get(at + 1).is_some_and(|next| next.0 == b.0);
                if !is_extra {
                    left.insert(a.0, a.1);
                    at += 1;
                }
                if !is_missing || is_extra {
                    right.insert(b.0, b.1);
                    to += 1;
                }
                continue;
            }
        }
        at += 1;
        to += 1;
    }
    let hashed = |row: &[u8]| RowHash(hash.of(row));
    let mut unlike = Vec::new();
    for (key, row) in left {
        let other = right.remove(key);
        if other != Some(row) {
            let key = Row(key.to_vec());
            unlike.push((key, Some(hashed(row)), other.map(hashed)));
        }
    }
    let extra = right.into_iter();
    unlike.extend(extra.map(|(key, row)| (Row(key.to_vec()), None, Some(hashed(row)))));
    Some((source.len() as u64, unlike))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const FORMS: [Form; 2] = [Form::Integer, Form::Text { trim: false }];

    fn text(rows: &[(u8, u8)]) -> Vec<u8> {
        let mut text = Row::default();
        for (key, value) in rows {
            text.push(FORMS[0], Some(key.to_string().as_bytes()));
            text.push(FORMS[1], Some(&[*value]));
        }
        text.0
    }

    fn found(source: &[(u8, u8)], target: &[(u8, u8)]) -> Vec<Unlike> {
        let (rows, mut found) = unlike(&text(source), &text(target), &FORMS, 1, Hash::Md5).unwrap();
        assert_eq!(rows, source.len() as u64);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// The same by keys alone.
    fn expected(source: &[(u8, u8)], target: &[(u8, u8)]) -> Vec<Unlike> {
        let by_key = |rows: &[(u8, u8)]| -> BTreeMap<Row, RowHash> {
            let rows = rows.iter().map(|row| {
                let whole = text(&[*row]);
                let key = Row(whole.clone()).first(&FORMS[..1]).unwrap();
                (key, RowHash(Hash::Md5.of(&whole)))
            });
            rows.collect()
        };
        let (source, target) = (by_key(source), by_key(target));
        let keys: std::collections::BTreeSet<&Row> = source.keys().chain(target.keys()).collect();
        let both = keys.into_iter().map(|key| {
            (
                key.clone(),
                source.get(key).cloned(),
                target.get(key).cloned(),
            )
        });
        both.filter(|(_, a, b)| a != b).collect()
    }

    #[test]
    fn a_text_that_is_cut_says_nothing() {
        let whole = text(&[(1, 1), (2, 2)]);
        let cut = &whole[..whole.len() - 1];
        assert_eq!(unlike(&whole, cut, &FORMS, 1, Hash::Md5), None);
    }

    proptest! {
        #[test]
        fn the_rows_that_differ_are_found_in_any_order(
            rows in prop::collection::btree_map(any::<u8>(), 0_u8..3, 0..40),
            other in prop::collection::btree_map(any::<u8>(), 0_u8..3, 0..6),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            is_turned in any::<bool>(),
        ) {
            let source: Vec<(u8, u8)> = rows.clone().into_iter().collect();
            let mut target = rows;
            target.extend(other);
            let mut target: Vec<(u8, u8)> = target.into_iter().collect();
            for index in gone {
                if !target.is_empty() {
                    target.remove(index.index(target.len()));
                }
            }
            if is_turned {
                target.reverse();
            }
            prop_assert_eq!(found(&source, &target), expected(&source, &target));
        }
    }
}
