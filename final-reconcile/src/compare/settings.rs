//! What a caller can set of a comparison.

use std::time::Duration;

/// What a caller can set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) settle: Duration,
    pub(crate) examples: usize,
    pub(crate) values: bool,
    /// How many of the rows that differ are kept to be repaired.
    pub(crate) keep: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(2),
            examples: 20,
            values: false,
            keep: 0,
        }
    }
}
