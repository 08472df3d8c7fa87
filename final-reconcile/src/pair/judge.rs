//! What is said about a row after a look at both sides.
//!
//! Input: what both sides have now. State: what they had at the last look, and how often that was the same. Output: a
//! [`Verdict`].
//!
//! A difference counts only if neither row has changed for twice the time that a copy may take. Where the mirror tells how
//! far it is, it has to pass two looks in a row instead.

use std::time::Duration;

use crate::{form::RowHash, side::Found};

/// How often both rows have to be the same as before.
const LOOKS: u32 = 2;

/// How often a row may change between two looks before nothing is said about it.
const CHANGES: u32 = 10;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Row;

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
