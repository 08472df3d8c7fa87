//! Which columns that rules hide were seen in tables.
//!
//! Input: source, table and column of each rule that fits. State: a number for each of them, for the life of the
//! process. Output: whether a table had such a column before. A rule for many tables names columns that some of them
//! never had, so only this memory tells a renamed column from one that was never there.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use crate::table::TableName;

/// How many are remembered, which takes about 16 MB. Later ones are not.
const MOST: usize = 1_000_000;

/// Columns that were seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    numbers: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Seen {
    /// Remembers a column.
    pub(super) fn add(&self, source: &str, table: &TableName, column: &str) {
        let number = self.hasher.hash_one((source, table, column));
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.len() < MOST {
            numbers.insert(number);
        }
    }

    /// Whether it was seen.
    pub(super) fn has(&self, source: &str, table: &TableName, column: &str) -> bool {
        let number = self.hasher.hash_one((source, table, column));
        let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.contains(&number)
    }
}
