//! Counts that stop at a limit, and pages of lists.
//!
//! Input: what a statement with a limit has given. Output: a [`Count`] that says whether there are more; a [`Page`]
//! that says where the next one begins.

use std::fmt;

/// A count that stops at [`Count::MOST`], so that a table with millions of rows answers as quickly as a small one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Count {
    /// How many there are; how many were counted, if there are more.
    pub number: u64,
    /// Whether there are, or may be, more than were counted.
    pub more: bool,
}

impl Count {
    /// The highest number that is counted to.
    pub const MOST: u64 = 10_000;

    /// A count for which `counted` rows were seen: one more than [`MOST`](Self::MOST) at most.
    pub(crate) fn capped(counted: i64) -> Self {
        let counted = u64::try_from(counted).unwrap_or(0);
        Self {
            number: counted.min(Self::MOST),
            more: counted > Self::MOST,
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            number: self.number.saturating_add(other.number),
            more: self.more || other.more,
        }
    }

    /// The same, where no more than so many are meant. If fewer were counted and there may be more, it stays open how
    /// many of these are meant.
    pub(super) fn at_most(self, limit: u32) -> Self {
        match u64::from(limit) <= self.number {
            true => Self {
                number: limit.into(),
                more: false,
            },
            false => self,
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.number == 0 && !self.more
    }
}

/// `42`, or `more than 10000`.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.more {
            true => write!(f, "more than {}", self.number),
            false => self.number.fmt(f),
        }
    }
}

/// A page of a list.
///
/// A filter without an index looks at 100,000 rows at most. If it stops there, [`stopped`](Self::stopped) is true,
/// and the list goes on at [`next`](Self::next), even if the page is not full.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page<T, C> {
    /// What the page has.
    pub items: Vec<T>,
    /// Where the next page begins. `None` if nothing is left.
    pub next: Option<C>,
    /// Whether the page ends because enough rows were looked at, and not because it is full.
    pub stopped: bool,
}

impl<T, C> Page<T, C> {
    /// A page of a list that has nothing.
    pub(super) fn empty() -> Self {
        Self {
            items: Vec::new(),
            next: None,
            stopped: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_says_when_it_has_stopped() {
        assert_eq!(Count::capped(10_000).to_string(), "10000");
        assert_eq!(Count::capped(10_001).to_string(), "more than 10000");
        assert!(Count::capped(0).is_zero());
    }

    #[test]
    fn a_limit_makes_a_count_exact_only_if_so_many_were_counted() {
        let count = |number, more| Count { number, more };

        assert_eq!(count(7, false).at_most(3), count(3, false));
        assert_eq!(count(7, false).at_most(7), count(7, false));
        assert_eq!(count(7, false).at_most(9), count(7, false));
        assert_eq!(count(7, true).at_most(7), count(7, false));
        // The look has stopped before it found as many as are meant.
        assert_eq!(count(7, true).at_most(9), count(7, true));
    }
}
