//! How much of a list is read at once.
//!
//! Input: the rows of a list in their order, by their numbers and sizes. State: what was taken. Output: the numbers of
//! the rows that are read as a whole.
//!
//! ```text
//!   next: behind which number, how many ─▶ numbers and sizes ─▶ take ─┬─ not full, and more may come ─▶ next
//!                                                                     └─ otherwise ─▶ seqs
//! ```
//!
//! A list of messages of any size must not fill the memory. So their sizes are asked for first, and few at once:
//! MySQL reads the whole of a large value to tell its length.

use super::columns;

/// How many bytes the messages of one list have at most, beyond its first one.
const LIST_BYTES: i64 = 16 * 1024 * 1024;

/// How many sizes one statement asks for.
const STEP: u64 = 100;

/// The columns of a [`SizedRow`]. Headers count in characters where a database counts texts in these.
pub(crate) const SIZED: &str =
    "seq, CAST(LENGTH(payload) + COALESCE(LENGTH(headers), 0) AS {int}) AS bytes";

columns! {
    /// A row by its number and its size.
    pub(crate) struct SizedRow {
        seq: i64,
        bytes: i64,
    }
}

/// The rows of a list that fit.
#[derive(Debug)]
pub(crate) struct Fitting {
    /// Behind which number the list begins.
    after: i64,
    seqs: Vec<i64>,
    bytes: i64,
    /// How many rows are wanted besides.
    left: u64,
}

impl Fitting {
    /// A list of so many rows at most, behind a number.
    pub(crate) fn of(most: u64, after: i64) -> Self {
        Self {
            after,
            seqs: Vec::new(),
            bytes: 0,
            left: most,
        }
    }

    /// Behind which number the next rows are, and how many are to be looked at. `None` if the list has its end.
    pub(crate) fn next(&self) -> Option<(i64, u64)> {
        let after = self.seqs.last().copied().unwrap_or(self.after);
        (self.left > 0).then(|| (after, self.left.min(STEP)))
    }

    /// Takes those of the next rows that fit.
    pub(crate) fn take(&mut self, rows: Vec<SizedRow>) {
        let wanted = self.left.min(STEP);
        let is_last = (rows.len() as u64) < wanted;
        self.left -= wanted;
        for SizedRow { seq, bytes } in rows {
            self.bytes = self.bytes.saturating_add(bytes);
            if self.bytes > LIST_BYTES && !self.seqs.is_empty() {
                self.left = 0;
                return;
            }
            self.seqs.push(seq);
        }
        if is_last {
            self.left = 0;
        }
    }

    /// The numbers of the rows.
    pub(crate) fn seqs(self) -> Vec<i64> {
        self.seqs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a list takes of a table whose rows have these sizes.
    fn taken(most: u64, sizes: &[i64]) -> Vec<i64> {
        let rows = (1..).zip(sizes.iter().copied());
        let mut list = Fitting::of(most, 0);
        while let Some((after, count)) = list.next() {
            let rows = rows.clone().filter(|(seq, _)| *seq > after);
            let rows = rows.map(|(seq, bytes)| SizedRow { seq, bytes });
            list.take(rows.take(usize::try_from(count).unwrap()).collect());
        }
        list.seqs()
    }

    #[test]
    fn rows_are_taken_up_to_the_limit_of_bytes_and_the_first_one_in_any_case() {
        let half = LIST_BYTES / 2;

        assert_eq!(taken(9, &[half, half, 1]), [1, 2]);
        assert_eq!(taken(9, &[1, LIST_BYTES, 1]), [1]);
        assert_eq!(taken(9, &[LIST_BYTES + 1, 1]), [1]);
        assert_eq!(taken(9, &[i64::MAX, i64::MAX]), [1]);
        assert!(taken(9, &[]).is_empty());
        assert!(taken(0, &[1]).is_empty());
    }

    #[test]
    fn small_rows_are_taken_up_to_the_limit_of_their_number() {
        for (most, there) in [(250, 1_000), (1_000, 250), (200, 200), (1, 3)] {
            let sizes = vec![1; there];
            let wanted = there.min(usize::try_from(most).unwrap());

            assert_eq!(taken(most, &sizes).len(), wanted, "{most} of {there}");
        }
    }
}
