//! The savepoints of an open transaction, and what it has undone.
//!
//! Input: savepoints by their names, and that the transaction goes back to one, each with how many events have come. State: the
//! savepoints that are set, by name and by age. Output: the ranges of events that are undone, in their order.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use super::super::wire::CannotRead;

/// How many bytes the savepoints of one transaction may take: some 500,000 of them. The log never tells that one is
/// released, and a framework may set one for each row.
const MOST_BYTES: usize = 64 << 20;
/// What a savepoint takes beside its name, and what a range takes.
const ENTRY: usize = 120;
const RANGE: usize = size_of::<Range<u64>>();

#[derive(Debug, Default)]
pub(super) struct Savepoints {
    /// The number of each, by its name in lower case.
    numbers: HashMap<Arc<str>, u64>,
    /// Their names and the counts where they were set, by their numbers. A younger one has a higher number.
    set: BTreeMap<u64, (Arc<str>, u64)>,
    next: u64,
    names: usize,
    undone: Vec<Range<u64>>,
}

impl Savepoints {
    /// Sets one. It replaces an older one of the same name.
    pub(super) fn set(&mut self, name: &str, count: u64) -> Result<(), CannotRead> {
        let name: Arc<str> = name.to_ascii_lowercase().into();
        if let Some(older) = self.numbers.remove(&name) {
            self.remove(older);
        }
        self.names += name.len();
        self.numbers.insert(Arc::clone(&name), self.next);
        self.set.insert(self.next, (name, count));
        self.next += 1;
        self.check()
    }

    /// Undoes what came after one. Those that were set later are gone.
    pub(super) fn roll_back_to(&mut self, name: &str, count: u64) -> Result<(), CannotRead> {
        let number = self.numbers.get(&*name.to_ascii_lowercase()).copied();
        let found = number.and_then(|number| Some((number, self.set.get(&number)?.1)));
        let Some((number, since)) = found else {
            return Err(CannotRead::new(
                "it goes back to a savepoint that it has not set",
            ));
        };
        while let Some((&younger, _)) = self.set.last_key_value()
            && younger > number
        {
            if let Some(name) = self.remove(younger) {
                self.numbers.remove(&name);
            }
        }
        // Ranges inside of the new one are part of it.
        while self.undone.last().is_some_and(|range| range.start >= since) {
            self.undone.pop();
        }
        if since < count {
            self.undone.push(since..count);
        }
        self.check()
    }

    /// The events that are undone.
    pub(super) fn undone(self) -> Vec<Range<u64>> {
        self.undone
    }

    fn remove(&mut self, number: u64) -> Option<Arc<str>> {
        let (name, _) = self.set.remove(&number)?;
        self.names -= name.len();
        Some(name)
    }

    fn check(&self) -> Result<(), CannotRead> {
        let bytes = self.names + ENTRY * self.set.len() + RANGE * self.undone.len();
        if bytes <= MOST_BYTES {
            return Ok(());
        }
        Err(CannotRead(format!(
            "it has {} savepoints, which take more than {} MiB",
            self.set.len(),
            MOST_BYTES >> 20
        )))
    }
}

/// Whether a number is in one of the ranges, which are in their order.
pub(super) fn is_in(ranges: &[Range<u64>], count: u64) -> bool {
    let at = ranges.partition_point(|range| range.end <= count);
    ranges.get(at).is_some_and(|range| range.contains(&count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the server does it: a list of savepoints, and a mark on each event.
    #[derive(Default)]
    struct Plain {
        set: Vec<(String, usize)>,
        undone: Vec<bool>,
    }

    proptest! {
        #[test]
        fn events_are_undone_as_by_the_server(steps in proptest::collection::vec((0..3_u8, 0..6_u8), 0..200)) {
            let (mut ours, mut plain) = (Savepoints::default(), Plain::default());
            for (step, name) in steps {
                let name = ["a", "B", "b", "c", "C", "d"][usize::from(name)];
                let count = plain.undone.len() as u64;
                let lower = name.to_lowercase();
                match step {
                    0 => plain.undone.push(false),
                    1 => {
                        plain.set.retain(|(older, _)| *older != lower);
                        plain.set.push((lower, plain.undone.len()));
                        ours.set(name, count).unwrap();
                    }
                    _ => match plain.set.iter().position(|(older, _)| *older == lower) {
                        None => prop_assert!(ours.roll_back_to(name, count).is_err()),
                        Some(at) => {
                            plain.set.truncate(at + 1);
                            let since = plain.set[at].1;
                            plain.undone[since..].fill(true);
                            ours.roll_back_to(name, count).unwrap();
                        }
                    },
                }
            }
            let undone = ours.undone();
            let marks: Vec<bool> = (0..plain.undone.len()).map(|at| is_in(&undone, at as u64)).collect();
            prop_assert_eq!(marks, plain.undone);
        }
    }

    #[test]
    fn a_savepoint_for_each_of_many_rows_is_kept() {
        let mut savepoints = Savepoints::default();
        for row in 0..300_000 {
            savepoints.set(&format!("s140212_x{row}"), row).unwrap();
        }
        savepoints.roll_back_to("s140212_x17", 300_000).unwrap();
        let undone = savepoints.undone();
        assert!(!is_in(&undone, 16) && is_in(&undone, 17) && is_in(&undone, 299_999));
    }

    #[test]
    fn savepoints_without_end_are_refused() {
        let mut savepoints = Savepoints::default();
        let refused =
            (0..1_000_000).find_map(|row| savepoints.set(&format!("s{row:0100}"), row).err());
        assert!(refused.unwrap().0.contains("64 MiB"));
    }
}
