//! How many rows a page has.
//!
//! Input: the pages that were read. State: the size of the next one. Output: that size.
//!
//! The size of rows is not known before they are read, and they are held in memory. So the first page is small, and each
//! next one is as large as its bytes allow if its rows are like those of the last one.

use super::chunk::Found;

/// Rows of the first page.
const FIRST: u64 = 100;

/// How many times as large as the last page the next one may be.
const GROWTH: u64 = 8;

/// The bytes that a page should have.
const BYTES: u64 = 8 * 1024 * 1024;

/// The size of the next page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageSize {
    rows: u64,
    most: u64,
}

impl PageSize {
    /// Pages have at most so many rows.
    pub(crate) fn new(most: u64) -> Self {
        Self {
            rows: FIRST.min(most),
            most,
        }
    }

    pub(crate) fn rows(self) -> u64 {
        self.rows
    }

    /// Learns from a page.
    pub(crate) fn fit(&mut self, page: &[Found]) {
        let (mut rows, mut bytes) = (0, 0);
        for found in page {
            rows += 1;
            bytes += found.bytes;
        }
        self.fit_to(rows, bytes);
    }

    fn fit_to(&mut self, rows: u64, bytes: u64) {
        let fitting = rows.saturating_mul(BYTES) / bytes.max(1);
        let grown = self.rows.saturating_mul(GROWTH);
        self.rows = fitting.min(grown).min(self.most).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_where_rows_are_small_and_shrink_where_they_are_large() {
        let mut size = PageSize::new(5_000);
        let mut sizes = Vec::new();
        for bytes_of_a_row in [50, 50, 50, 1 << 20, 1 << 30, 50] {
            let rows = size.rows();
            sizes.push(rows);
            size.fit_to(rows, rows * bytes_of_a_row);
        }
        assert_eq!(sizes, [100, 800, 5_000, 5_000, 8, 1]);
        assert_eq!(size.rows(), 8);
        assert_eq!(PageSize::new(20).rows(), 20);
    }
}
