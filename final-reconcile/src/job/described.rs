//! What was made of two tables as they were described, and when.
//!
//! A process that runs for months keeps a description instead of asking the catalogs for each row. Tables are altered
//! meanwhile: with an old description a new column is not compared, and a repair that was opened because of it looks equal.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a description is used.
const LONGEST: Duration = Duration::from_secs(60);

/// What was made of two tables.
pub(crate) struct Described<T> {
    began: Instant,
    made: Arc<T>,
}

impl<T> Described<T> {
    /// `began` is a time before the catalogs were asked.
    pub(crate) fn new(began: Instant, made: T) -> Self {
        Self {
            began,
            made: Arc::new(made),
        }
    }

    /// What was made.
    pub(crate) fn made(&self) -> Arc<T> {
        Arc::clone(&self.made)
    }

    /// What was made, unless that is too long ago for anything, or as long ago as this.
    pub(crate) fn if_newer_than(&self, age: Duration) -> Option<Arc<T>> {
        (self.began.elapsed() < LONGEST.min(age)).then(|| self.made())
    }

    /// What was made, unless that is too long ago.
    pub(crate) fn if_present(&self) -> Option<Arc<T>> {
        self.if_newer_than(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_used_for_a_minute_and_not_for_what_was_found_after_it() {
        let of_age = |seconds| {
            let began = Instant::now().checked_sub(Duration::from_secs(seconds));
            Described::new(began.unwrap(), ())
        };
        assert!(of_age(0).if_present().is_some());
        assert!(of_age(59).if_present().is_some());
        assert!(of_age(60).if_present().is_none());
        assert!(of_age(5).if_newer_than(Duration::from_secs(6)).is_some());
        assert!(of_age(5).if_newer_than(Duration::from_secs(5)).is_none());
    }
}
